"""Windows follow each other without a gap, whatever clocks do, and every local day is one."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.domain.policy import Window, WindowKind, span_at

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # changed at midnight
    "America/Havana",  # a midnight that came twice
    "Asia/Beirut",  # a midnight that was skipped
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Apia",  # a whole day was skipped
    "Asia/Kathmandu",
    "Africa/Casablanca",
)
CALENDAR = (WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH)


def us(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def names(kind: WindowKind, zone: str, at_us: int) -> object:
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).astimezone(ZoneInfo(zone))
    if kind is WindowKind.HOUR:
        return local.date(), local.hour, local.utcoffset()
    if kind is WindowKind.DAY:
        return local.date()
    return local.isocalendar()[:2] if kind is WindowKind.WEEK else (local.year, local.month)


moments = st.integers(us("2005-01-01T00:00:00+00:00"), us("2037-12-31T00:00:00+00:00"))


@settings(max_examples=300, deadline=None)
@given(at_us=moments, zone=st.sampled_from(ZONES), kind=st.sampled_from(CALENDAR))
def test_a_window_is_all_of_its_local_date_and_the_next_begins_where_it_ends(
    at_us: int, zone: str, kind: WindowKind
) -> None:
    window = Window(kind, zone)

    span = span_at(window, at_us)

    assert span.ends_us is not None
    assert span.starts_us <= at_us < span.ends_us
    for inside in (span.starts_us, span.ends_us - 1):
        assert names(kind, zone, inside) == names(kind, zone, at_us)
        assert span_at(window, inside) == span
    following = span_at(window, span.ends_us)
    assert following.starts_us == span.ends_us
    assert following.name != span.name
    assert span_at(window, span.starts_us - 1).ends_us == span.starts_us


@pytest.mark.parametrize(
    ("window", "at", "starts", "ends", "name"),
    [
        # 23 hours: the clock goes from 02:00 to 03:00
        ("day", "2026-03-29T12+02", "2026-03-29T00+01", "2026-03-30T00+02", "day:2026-03-29"),
        # 25 hours
        ("day", "2026-10-25T12+01", "2026-10-25T00+02", "2026-10-26T00+01", "day:2026-10-25"),
        # the hour from 02:00 comes twice, and is two windows
        ("hour", "2026-10-25T02:30+02", "2026-10-25T02+02", "2026-10-25T02+01", "hour:2026-10-25T02+0200"),
        ("hour", "2026-10-25T02:30+01", "2026-10-25T02+01", "2026-10-25T03+01", "hour:2026-10-25T02+0100"),
        ("week", "2027-01-01T08+01", "2026-12-28T00+01", "2027-01-04T00+01", "week:2026-W53"),
        ("month", "2026-10-31T23:59+01", "2026-10-01T00+02", "2026-11-01T00+01", "month:2026-10"),
        ("month", "2028-02-29T00+01", "2028-02-01T00+01", "2028-03-01T00+01", "month:2028-02"),
    ],
)
def test_calendar_windows_of_berlin(window: str, at: str, starts: str, ends: str, name: str) -> None:
    span = span_at(Window.parse(window, "Europe/Berlin"), us(at))

    assert (span.starts_us, span.ends_us) == (us(starts), us(ends))
    assert span.name == f"{name}@Europe/Berlin"


def test_a_day_that_an_island_skipped_is_no_window() -> None:
    """Samoa went from 29 December 2011 straight to the 31st."""
    window = Window.parse("day", "Pacific/Apia")

    last = span_at(window, us("2011-12-29T12:00-10:00"))
    assert last.ends_us is not None
    after = span_at(window, last.ends_us)

    assert (last.name, after.name) == ("day:2011-12-29@Pacific/Apia", "day:2011-12-31@Pacific/Apia")


def test_a_day_of_utc_has_a_plain_name() -> None:
    assert span_at(Window.parse("day"), us("2026-11-22T12:00+00:00")).name == "day:2026-11-22"


def test_a_rolling_window_has_24_buckets_and_no_end() -> None:
    quarter = 15 * 60 * 1_000_000

    span = span_at(Window.parse("rolling 6h"), us("2026-11-22T12:05+00:00"))

    assert span == ("rolling:6h", us("2026-11-22T06:15+00:00"), None, quarter)
    assert (
        span_at(Window.parse("rolling 6h"), us("2026-11-22T12:15+00:00")).starts_us
        == span.starts_us + quarter
    )


def test_a_lifetime_is_named_after_what_lives() -> None:
    assert span_at(Window.parse("conversation"), 1, "c-7").name == "conversation:c-7"
    assert span_at(Window.parse("task"), 1, "t-7").name == "task:t-7"


@pytest.mark.parametrize("text", ["fortnight", "rolling", "rolling 6", "rolling 1s", "rolling 400d", ""])
def test_what_is_no_window_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"rolling"):
        Window.parse(text)


def test_an_unknown_zone_is_told() -> None:
    with pytest.raises(ValueError, match=r"'Europe/Berln' is not a time zone"):
        Window.parse("day", "Europe/Berln")
    with pytest.raises(ValueError, match="not a time zone"):
        Window.parse("day", "../../etc/passwd")
