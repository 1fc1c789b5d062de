"""Numbers keep their digits, names keep their characters."""

import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dashboards import display

MARKUP = "\\`*_{}[]()<>#+-.!|~$:&"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "0.000000000000"),
        ("0.000000000001", "0.000000000001"),
        ("1234.5", "1,234.500000000000"),
        ("0.12345678901234", "0.12345678901234"),  # finer than a pico-dollar: nothing is cut off
        ("98765432109876.543210987654", "98,765,432,109,876.543210987654"),
    ],
)
def test_an_exact_amount_shows_every_digit_to_the_pico_dollar(amount: str, shown: str) -> None:
    assert display.usd_exact(Decimal(amount)) == shown


@given(some.decimals(min_value=0, max_value=10**15, places=12))
def test_no_exact_amount_changes_by_being_shown(amount: Decimal) -> None:
    assert Decimal(display.usd_exact(amount).replace(",", "")) == amount


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "$0.00"),
        ("0.0000000123", "$0.0000000123"),
        ("0.0123456", "$0.0123"),
        ("0.9", "$0.900"),
        ("1234.567", "$1,234.57"),
        ("1234567.8", "$1,234,568"),
        ("-0.5", "-$0.500"),
    ],
)
def test_an_amount_at_a_glance_keeps_three_significant_digits(amount: str, shown: str) -> None:
    assert display.usd(Decimal(amount)) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (9_999, "9,999"), (12_345, "12.3 k"), (4_560_000, "4.56 M"), (7 * 10**9, "7.00 G")],
)
def test_a_large_count_is_shortened(number: int, shown: str) -> None:
    assert display.count(number) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, "–"),
        (0, 10, "0.0 %"),
        (1, 1_000_000, "< 0.1 %"),
        (999_999, 1_000_000, "> 99.9 %"),
        (1, 3, "33.3 %"),
    ],
)
def test_a_share_that_is_there_never_reads_as_nothing(part: int, whole: int, shown: str) -> None:
    assert display.share(part, whole) == shown


def test_a_change_needs_an_earlier_figure() -> None:
    assert display.change(5, 0) is None
    assert display.change(5, 4) == "+25.0 %"
    assert display.change(3, 4) == "-25.0 %"
    assert display.change(Decimal("42"), Decimal("3")) == "14×"
    assert display.points(None, Decimal("0.5")) is None
    assert display.points(Decimal("0.6"), Decimal("0.5")) == "+10.0 pts"


def test_what_draws_nothing_is_written_out() -> None:
    assert display.plain("evil\u202egnp.exe") == "evil⟨U+202E⟩gnp.exe"
    assert display.plain("a\u200bb\r\nc\x00") == "a⟨U+200B⟩b⟨U+000D⟩⟨U+000A⟩c⟨U+0000⟩"
    assert display.plain("") == display.plain(None) == "(none)"
    assert display.plain("x" * 500, limit=10) == "x" * 9 + "…"


@given(some.text())
def test_plain_text_has_nothing_invisible_and_one_line(text: str) -> None:
    shown = display.plain(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
    assert len(shown) <= 160


@given(some.text(alphabet=some.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1))
def test_every_character_that_means_something_in_markdown_is_escaped(text: str) -> None:
    escaped = display.escaped(text)
    assert escaped.replace("\\", "").replace("\u2060", "") == text.replace("\\", "")
    for position, character in enumerate(escaped):
        if character in MARKUP and character != "\\":
            assert escaped[position - 1] == "\\"


@pytest.mark.parametrize(
    "text",
    ["https://evil.example", "see www.evil.example", "ada@evil.example", ":material/home:", ":streamlit:",
     "a->b", "a<-b", "a--b", "1>=0", "1<=2", "1~=1"],
)  # fmt: skip
def test_what_streamlit_makes_links_and_signs_of_is_held_together(text: str) -> None:
    """It did so with text that was escaped, too; the test in a browser looks at what is drawn."""
    kept = display.escaped(text).replace("\\", "")
    assert kept.replace("\u2060", "") == text
    assert kept.count("\u2060") == 1


@pytest.mark.parametrize("text", ["2026-11-28 22:13:00", "a:b", "x - y > z", "user_id-7", "1,234.5 USD"])
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert "\u2060" not in display.escaped(text)


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(None, "–"), (0.25, "0.25 ms"), (12.4, "12 ms"), (1534, "1.53 s"), (125_000, "2 min 5 s")],
)
def test_a_duration_has_a_fitting_unit(milliseconds: float | None, shown: str) -> None:
    assert display.duration(milliseconds) == shown


def test_a_moment_is_told_in_the_reader_s_zone_and_the_ledger_s_own_times_are_utc() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert display.moment(datetime(2026, 7, 1, 12, tzinfo=UTC), berlin) == "2026-07-01 14:00:00 CEST"
    assert display.moment(datetime(2026, 7, 1, 12), berlin) == "2026-07-01 14:00:00 CEST"
    assert display.moment(None, berlin) == "–"
