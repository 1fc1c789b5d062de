"""What a URL says of a question, and what is wrong with it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.store import statements
from collector.store.asking import BadParameter, parse
from collector.store.days import stretches as stretches_of
from collector.store.levels import DAY_US, HOUR_US
from collector.store.questions import CALLS_LISTED, CATALOGUE, SPEND_BY, SPEND_OVER_TIME, TOTALS, VALUES

NOW = 1_790_000_000_000_000


def asked(question=TOTALS, **given_values):
    return parse(question, {k: v if isinstance(v, list) else [v] for k, v in given_values.items()}, NOW)


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000)


def test_the_period_is_the_last_day_when_nothing_is_said():
    found = asked()
    assert (found.since_us, found.until_us) == (NOW - DAY_US, NOW)


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2026-03-01T12:00:00Z", "UTC", us("2026-03-01T12:00:00+00:00")),
        ("2026-03-01T12:00:00+02:00", "UTC", us("2026-03-01T10:00:00+00:00")),
        ("2026-03-01", "Europe/Berlin", us("2026-02-28T23:00:00+00:00")),
        ("2026-03-01T12:00", "America/New_York", us("2026-03-01T17:00:00+00:00")),
        ("1700000000", "UTC", 1_700_000_000_000_000),
        ("1700000000.000001", "UTC", 1_700_000_000_000_001),
        ("6h", "UTC", NOW - 6 * HOUR_US),
        ("7d ago", "UTC", NOW - 7 * DAY_US),
    ],
)
def test_a_time_is_iso_8601_or_seconds_or_ago(text, zone, expected):
    assert asked(since=text, tz=zone).since_us == expected


@pytest.mark.parametrize(
    ("question", "given_values", "message", "choice"),
    [
        (TOTALS, {"since": "yesterday"}, "ISO 8601", None),
        (TOTALS, {"since": "inf"}, "1970", None),
        (TOTALS, {"until": "9999-01-01"}, "2100", None),
        (TOTALS, {"since": "999999w"}, "before 1970", None),
        (TOTALS, {"team": []}, "a value is missing", None),
        (SPEND_BY, {"by": []}, "a value is missing", None),
        (CALLS_LISTED, {"limit": "9" * 5000}, "a whole number from 1", None),
        (TOTALS, {"tz": "Mars/Olympus"}, "time zone", None),
        (TOTALS, {"tz": "../../etc/passwd"}, "time zone", None),
        (TOTALS, {"teem": "a"}, "no such parameter", "team"),
        (TOTALS, {"limit": "3"}, "no such parameter", "until"),
        (TOTALS, {"tag": "prod"}, "KEY=VALUE", None),
        (TOTALS, {"team": ["x"] * 101}, "at most 100", None),
        (SPEND_BY, {"by": "wallet"}, "no dimension", "team"),
        (SPEND_BY, {"by": "tag"}, "no dimension", "tag:KEY"),
        (SPEND_BY, {"by": "agent; DROP TABLE calls"}, "no dimension", "agent"),
        (SPEND_BY, {"limit": "0"}, "whole number", None),
        (SPEND_BY, {"limit": "10001"}, "whole number", None),
        (SPEND_OVER_TIME, {"bucket": "week"}, "no 'week'", "day"),
        (SPEND_OVER_TIME, {"bucket": "minute", "since": "90d"}, "20000", "hour"),
        (CALLS_LISTED, {"order": "random"}, "no 'random'", "newest"),
        (CATALOGUE["call"], {}, "required", None),
        (VALUES, {"dimension": "password"}, "no 'password'", "agent"),
    ],
)
def test_a_parameter_that_is_not_taken_is_refused_with_what_would_be(question, given_values, message, choice):
    with pytest.raises(BadParameter, match=message) as refused:
        asked(question, **given_values)
    assert choice is None or choice in refused.value.choices


@pytest.mark.parametrize(
    ("since", "bucket"), [("2h", "minute"), ("24h", "hour"), ("4d", "hour"), ("30d", "day")]
)
def test_a_step_is_as_long_as_the_period_asks_for(since, bucket):
    assert asked(SPEND_OVER_TIME, since=since).bucket == bucket


@given(st.text(), st.text(), st.text())
def test_no_text_of_a_caller_becomes_part_of_a_statement(agent, tag, key):
    marker = "zqx"
    found = asked(
        SPEND_BY,
        agent=marker + agent,
        tag=f"{marker}{tag}={marker}",
        by=f"agent,tag:{marker}{key.replace(',', '')}",
    )
    made = statements.statement(found, {})
    assert marker not in made.sql


@given(
    st.integers(us("2020-01-01T00:00:00+00:00"), us("2030-01-01T00:00:00+00:00")),
    st.sampled_from(
        ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Kathmandu"]
    ),
    st.integers(1, 400),
)
def test_every_instant_belongs_to_the_day_that_a_calendar_of_its_zone_shows(since, name, days):
    zone = ZoneInfo(name)
    until = since + days * DAY_US
    stretches = stretches_of(since, until, zone)

    assert stretches[0].since_us <= since < stretches[0].until_us
    assert stretches[-1].until_us >= until
    for instant in range(since, until, 17 * HOUR_US + 7):
        stretch = next(stretch for stretch in stretches if instant < stretch.until_us)
        if stretch.offset_us is None:
            start = stretch.since_us
        else:
            start = (instant + stretch.offset_us) // DAY_US * DAY_US - stretch.offset_us
        local = datetime.fromtimestamp(instant / 1e6, UTC).astimezone(zone)
        shown = datetime.fromtimestamp(start / 1e6, UTC).astimezone(zone)
        assert (shown.date(), shown.hour, shown.minute) == (local.date(), 0, 0)
