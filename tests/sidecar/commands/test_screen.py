"""What `bursar top` shows, without a terminal."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
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


def drawn(shown: Figures, choices: Choices | None = None, height: int = 40, width: int = 120) -> str:
    console = Console(width=width, height=height, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(page(shown, choices or Choices(), height, width))
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
                        "scope": {"agent": "crawler"},
                        "detail": '{"summary": "it runs in circles (agent crawler)"}'}],
        )
    )  # fmt: skip
    assert "search crawler" in text
    assert "[############....]  80 %" in text  # 12.8 of 16 cells
    assert "H200" in text
    assert "busy  50 %   memory 60/140 GiB   412 W" in text
    assert "SpendAnomaly agent=crawler: it runs in circles\n" in text.replace(" \n", "\n")


def test_a_small_window_holds_what_matters_and_says_what_is_left_out() -> None:
    rows = [ROWS[0] | {"agent": f"agent-{n}", "effective_cost_usd": Decimal(n)} for n in range(50)]
    lines = drawn(figures(rows=rows), height=16).rstrip("\n").split("\n")
    assert len(lines) <= 16
    assert any("and " in line and " more" in line for line in lines)
    assert "q quit" in lines[-1]


def incident(severity: str, hour: int, state: str = "open") -> dict[str, Any]:
    return {"state": state, "severity": severity, "since_at": f"2026-11-29T{hour:02d}:00:00",
            "detected_at": None, "alertname": f"{severity}-{hour}.", "signal": "spend",
            "detail": "{}"}  # fmt: skip


OVERSPENT = {
    "name": "agents", "subject": "a-rather-long-subject", "limit": "25.000000000000", "unit": "usd",
    "spent": "52.058158800000", "held": "0",
}  # fmt: skip
FULL: dict[str, Any] = {
    "rows": [ROWS[0] | {"agent": f"agent-{n}"} for n in range(50)],
    "budgets": [OVERSPENT] * 9,
    "incidents": [incident("page", hour) for hour in range(9)],
    "troubles": ["the collector on 127.0.0.1:4010 does not answer; run `bursar up`"],
}


@pytest.mark.parametrize(("width", "height"), [(200, 50), (100, 30), (60, 24), (40, 16), (20, 14)])
def test_no_line_is_wider_than_the_window_and_the_keys_are_always_on_it(width: int, height: int) -> None:
    lines = drawn(figures(**FULL), height=height, width=width).rstrip("\n").split("\n")
    assert len(lines) <= height
    assert max(len(line.rstrip()) for line in lines) <= width
    assert lines[-1].startswith("q ")
    assert any("agent" in line for line in lines)


def test_amounts_are_told_as_people_write_them_in_the_budget_s_unit() -> None:
    calls = {"name": "few", "limit": "30", "spent": "12", "held": "0", "unit": "calls"}
    text = drawn(figures(budgets=[OVERSPENT, calls]))
    assert "208 %  $52.06 of $25.00" in text
    assert "40 %  12 of 30 calls" in text
    assert "lost" not in text
    assert "its store is lost" in drawn(figures(budgets=[calls | {"exact": False}]))


def test_alerts_that_page_come_first_and_what_is_left_out_is_counted() -> None:
    told = [incident("warn", 11), incident("page", 8), incident("page", 9), incident("info", 12),
            incident("page", 13, "closed"), *(incident("info", hour) for hour in range(4))]  # fmt: skip
    text = drawn(figures(incidents=told))
    places = [text.index(name) for name in ("page-9.", "page-8.", "warn-11.", "info-12.", "info-3.")]
    assert places == sorted(places)
    assert "page-13." not in text
    assert "and 3 more open" in text


def test_another_dimension_is_said_to_be_asked_for_until_its_figures_are_there() -> None:
    choices = Choices()
    choices.press("b")
    assert "asking by team ..." in drawn(figures(), choices)
    assert "asking" not in drawn(figures(by="team"), choices)


def test_who_does_not_answer_is_named() -> None:
    text = drawn(figures(recent={}, rows=[], troubles=["the collector on 127.0.0.1:4010 does not answer"]))
    assert "! the collector on 127.0.0.1:4010 does not answer" in text
    assert "no figures" in text
    assert "$0.00" not in text  # what nobody told is no zero
    assert "no calls in this time" in drawn(figures(rows=[]))
