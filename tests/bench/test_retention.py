"""Keeping answers by value saves more money than plain LRU."""

import pytest

from tests.bench.retention import TRACE, made, recorded, saved


@pytest.mark.parametrize("room", [40_000, 120_000])
def test_made_calls_save_a_tenth_more_by_value(room: int) -> None:
    calls = list(made(2500, questions=400))
    assert saved(calls, room, by_value=True) > 1.1 * saved(calls, room, by_value=False)


@pytest.mark.slow
@pytest.mark.skipif(not TRACE.is_file(), reason=f"no recorded calls in {TRACE}")
def test_recorded_calls_save_no_less_by_value_in_any_room_and_more_where_it_is_short() -> None:
    calls = recorded()
    for room in (1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22):
        assert saved(calls, room, by_value=True) > saved(calls, room, by_value=False), room
    # All that comes again fits: there is nothing to choose.
    assert saved(calls, 1 << 23, by_value=True) >= 0.99 * saved(calls, 1 << 23, by_value=False)
