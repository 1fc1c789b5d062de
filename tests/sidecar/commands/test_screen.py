"""What `bursar top` shows, without a terminal."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.console import Console

from sidecar.commands.screen import DIMENSIONS, SORTS, Choices, Figures, ordered, page

ROWS: list[dict[str, Any]] = [
    {"agent": "b", "calls": 10, "failed_calls": 0, "input_tokens": 100, "output_tokens": 1,
     "effective_cost_usd": "3.000000000001", "p95_ms": 1500.0},
    {"agent": "a\x1b[31m", "calls": 90, "failed_calls": 9, "input_tokens": 5, "output_tokens": 5,
     "effective_cost_usd": "0.000012", "p95_ms": None},
]  # fmt: skip
TOTAL = {
    "calls": 600, "failed_calls": 30, "effective_cost_usd": "2", "avoided_cost_usd": "0.25",
    "input_tokens": 1000, "cache_read_input_tokens": 250, "output_tokens": 10,
}  # fmt: skip


def figures(**more: Any) -> Figures:
    given: dict[str, Any] = {"at": datetime(2026, 11, 29, 12, tzinfo=UTC), "window": "1h", "by": "agent"}
    return Figures(**given | {"recent": TOTAL, "rows": ROWS} | more)


def drawn(shown: Figures, choices: Choices | None = None, height: int = 40) -> str:
    console = Console(width=120, height=height, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(page(shown, choices or Choices(), height))
    return captured.get()


def test_spend_rate_calls_and_caches_are_those_of_the_last_five_minutes() -> None:
    text = drawn(
        figures(
            before={"effective_cost_usd": "1.6"},
            today={"effective_cost_usd": "12.5"},
            caches=[{"cache": "hit", "calls": 150}, {"cache": "miss", "calls": 450}],
        )
    )
    assert "spend $24.00/h (+25 %)" in text  # 2 USD in a twelfth of an hour, after 1.60
    assert "today $12.50" in text
    assert "calls 2.00/s" in text  # 600 in 300 s
    assert "failed 5.0 %" in text
    assert "answers reused 25.0 %, saving $0.250" in text
    assert "providers' caches 25.0 % of input" in text


def test_the_table_is_sorted_as_the_keys_say() -> None:
    choices = Choices()
    order = {}
    for sort in SORTS:
        rows = ordered(ROWS, "agent", SORTS[choices.sort], backwards=choices.reversed)
        order[sort] = rows[0]["agent"][0]
        choices.press("s")
    assert order == {"spend": "b", "calls": "a", "failed": "a", "tokens": "b", "p95": "b", "name": "a"}
    assert choices.sort == 0
    choices.press("r")
    assert ordered(ROWS, "agent", "spend", backwards=choices.reversed)[0]["agent"].startswith("a")


def test_other_dimensions_are_asked_for_and_a_pause_is_told() -> None:
    choices = Choices()
    assert choices.press("b")
    assert DIMENSIONS[choices.by] == "team"
    assert not choices.press("p")
    assert "PAUSED" in drawn(figures(), choices)
    assert choices.press("p")  # goes on at once
    assert not choices.press("x")


def test_a_name_never_steers_the_terminal() -> None:
    text = drawn(figures())
    assert "\x1b" not in text
    assert "a\\x1b[31m" in text


def test_budgets_gpus_and_alerts_are_told_in_words() -> None:
    text = drawn(
        figures(
            budgets=[{"name": "search", "subject": "crawler", "limit": "10", "spent": "7.5", "held": "0.5"}],
            gpus=[{"bucket": "2026-11-29T12:00:00", "gpu": "GPU-1", "host": "h1", "name": "H200",
                   "utilisation_ratio": 0.5, "memory_used_bytes": 60 << 30, "memory_total_bytes": 140 << 30,
                   "power_watts": 412.3}],
            incidents=[{"state": "open", "severity": "page", "since_at": "2026-11-29T11:30:00",
                        "detected_at": None, "alertname": "SpendAnomaly", "signal": "spend",
                        "detail": '{"summary": "agent crawler runs in circles"}'}],
        )
    )  # fmt: skip
    assert "search crawler" in text
    assert "[############....]  80 %" in text  # 12.8 of 16 cells
    assert "H200" in text
    assert "busy  50 %   memory 60/140 GiB   412 W" in text
    assert "SpendAnomaly: agent crawler runs in circles" in text


def test_a_small_window_holds_what_matters_and_says_what_is_left_out() -> None:
    rows = [ROWS[0] | {"agent": f"agent-{n}", "effective_cost_usd": Decimal(n)} for n in range(50)]
    lines = drawn(figures(rows=rows), height=16).rstrip("\n").split("\n")
    assert len(lines) <= 16
    assert any("and " in line and " more" in line for line in lines)
    assert "q quit" in lines[-1]


def test_who_does_not_answer_is_named() -> None:
    text = drawn(figures(recent={}, rows=[], troubles=["the collector on 127.0.0.1:4010 does not answer"]))
    assert "! the collector on 127.0.0.1:4010 does not answer" in text
    assert "no calls in this time" in text
