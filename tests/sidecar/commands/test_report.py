"""What `bursar report` prints for people."""

from decimal import Decimal
from typing import Any

import pytest

from sidecar.commands import report


def row(cost: str, calls: int, **names: str) -> dict[str, Any]:
    return {
        **names, "calls": calls, "failed_calls": 0, "input_tokens": 107_765_432, "output_tokens": 353_555,
        "cache_read_input_tokens": 103_811_555, "list_cost_usd": cost, "effective_cost_usd": cost,
    }  # fmt: skip


ROWS = [row("85.423077", 827, request_model="claude-opus-5"), row("52.5", 940, request_model="")]
TOTAL = {name: value if isinstance(value, str) else 3 * value for name, value in row("140", 700).items()}


def printed(capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]] = ROWS) -> str:
    report.print_table(rows, TOTAL, ("request_model",), is_cut=True)
    return capsys.readouterr().out


def test_what_goes_to_a_file_has_every_digit_and_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    assert "…" not in text
    for told in ("claude-opus-5", "(none)", "107,765,432", "85.423077", "140.000000", "323,296,296"):
        assert told in text


def test_a_file_has_every_name_whole_beside_others_that_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a-model-with-a-name-that-is-far-too-long-for-half-of-the-room"
    rows = [row("1", 1, agent="a", request_model=name)]
    report.print_table(rows, TOTAL, ("agent", "request_model"), is_cut=False)
    assert name in capsys.readouterr().out


def test_a_narrow_terminal_goes_without_columns_and_says_which_but_never_cuts_a_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": "60", "LINES": "30"}.items():
        monkeypatch.setenv(name, value)
    long = row("85.423077", 827, request_model="a-model-with-a-name-that-is-far-too-long-for-a-terminal")
    text = printed(capsys, [long, ROWS[1]])
    assert "a-model-with" in text
    for told in ("85.423077", "140.000000", "827"):
        assert told in text
    assert "list USD" in text.splitlines()[-1]  # named as left out
    assert max(map(len, text.splitlines()[:-1])) <= 60


def test_what_the_limit_left_out_is_a_row_so_that_the_rows_sum_to_the_total() -> None:
    (rest,) = report.others(ROWS, TOTAL)
    assert rest["request_model"] == "all others"
    assert rest["calls"] == 2100 - 827 - 940
    assert rest["effective_cost_usd"] == Decimal("2.076923")  # 140 - 85.423077 - 52.5
    assert report.others(ROWS, dict.fromkeys(TOTAL, 0)) == []  # rows of tags sum to more


def test_a_name_never_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, [row("1", 1, request_model="evil\x1b[2J")])
    assert "\x1b" not in text
    assert "evil\\x1b[2J" in text


def test_a_week_is_refused_where_there_is_no_statement(bursar) -> None:
    ran = bursar("report", "--week", "2026-W48")
    assert (ran.code, "--statement" in ran.err) == (2, True)
