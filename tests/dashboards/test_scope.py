"""Which calls a page is about."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dashboards.scope import NONE, Scope, Window, days, filters_from, recent, steps

NOW = datetime(2026, 11, 22, 12, 34, 56, 789, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def test_a_recent_window_holds_every_call_so_far_and_is_the_same_for_a_whole_minute() -> None:
    window = recent("24h", NOW)
    assert window.until == datetime(2026, 11, 22, 12, 35, tzinfo=UTC)
    assert window.since == datetime(2026, 11, 21, 12, 35, tzinfo=UTC)
    assert recent("24h", NOW - timedelta(seconds=50)) == window
    assert recent("24h", window.until).until > window.until  # the end itself is outside


def test_the_window_before_ends_where_this_one_starts() -> None:
    window = recent("7d", NOW)
    assert window.earlier("vs period before").until == window.since
    assert window.earlier("vs period before").span == window.span


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="empty window"):
        Window(since=NOW, until=NOW, name="custom")


@pytest.mark.parametrize(("name", "number"), [("1h", 61), ("24h", 25), ("7d", 169), ("30d", 31), ("90d", 91)])
def test_every_range_is_drawn_in_a_few_dozen_steps_without_a_gap(name: str, number: int) -> None:
    window = recent(name, NOW)
    found = list(steps(window, ZoneInfo("UTC")))
    assert number - 1 <= len(found) <= number
    assert found[0] <= window.since < found[1]
    assert found[-1] < window.until <= found[-1] + (found[1] - found[0])


def test_a_chosen_day_runs_from_midnight_to_midnight_of_the_reader_even_when_the_clock_changes() -> None:
    window = days(date(2026, 10, 25), date(2026, 10, 25), BERLIN)  # summer time ends: 25 hours
    assert window.since == datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert window.span == timedelta(hours=25)
    month = days(date(2026, 10, 20), date(2026, 10, 31), BERLIN)
    midnights = [start.astimezone(BERLIN) for start in steps(month, BERLIN)]
    assert [start.day for start in midnights] == list(range(20, 32))
    assert {start.hour for start in midnights} == {0}


def test_days_may_be_given_in_either_order() -> None:
    assert days(date(2026, 1, 9), date(2026, 1, 2), BERLIN) == days(
        date(2026, 1, 2), date(2026, 1, 9), BERLIN
    )


def test_filters_keep_known_dimensions_and_repeat_for_several_values() -> None:
    chosen = {"agent": ["b", "a"], "team": [NONE], "password": ["x"], "tenant": []}
    scope = Scope(window=recent("1h", NOW), filters=filters_from(chosen))
    assert scope.params() == (("team", ""), ("agent", "a"), ("agent", "b"))
    assert scope.is_filtered
    assert not Scope(window=scope.window).is_filtered


def test_a_scope_can_be_narrowed_to_some_values_of_one_dimension() -> None:
    scope = Scope(window=recent("1h", NOW), filters=filters_from({"agent": ["a", "b"], "team": ["t"]}))
    assert scope.only("agent", ["b"]).params() == (("team", "t"), ("agent", "b"))
    assert scope.only("agent", []) == scope


def test_a_rough_window_holds_the_sharp_one_and_stays_for_a_24th_of_it() -> None:
    sharp = recent("24h", NOW)
    rough = sharp.roughly
    assert rough.since <= sharp.since and sharp.until <= rough.until
    assert rough.span - sharp.span <= timedelta(hours=1)
    assert recent("24h", NOW + timedelta(minutes=20)).roughly == rough
    assert recent("24h", NOW + timedelta(minutes=70)).roughly != rough
