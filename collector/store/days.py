"""Days of a time zone, as SQL over instants in UTC."""

from datetime import UTC, timedelta, tzinfo
from typing import NamedTuple

from collector.store.asking import EPOCH, Asked
from collector.store.levels import DAY_US, HOUR_US

_QUARTER_US = HOUR_US // 4


def bucketed(asked: Asked) -> str:
    """The start of the bucket that an instant belongs to.

    A day of another zone is a day of ours, moved by the zone's offset; only the two days a year
    on which the offset changes are told one by one.
    """
    if asked.bucket == "auto":
        return "instant"
    if asked.bucket != "day" or asked.zone is UTC:
        return f"CAST(date_trunc('{asked.bucket}', instant) AS TIMESTAMP)"
    cases = []
    for stretch in stretches(asked.since_us, asked.until_us, asked.zone):
        if stretch.offset_us is None:
            start = f"make_timestamp({stretch.since_us}::BIGINT)"
        else:
            moved = f"to_microseconds({stretch.offset_us}::BIGINT)"
            start = f"CAST(date_trunc('day', instant + {moved}) AS TIMESTAMP) - {moved}"
        cases.append(f"WHEN instant < make_timestamp({stretch.until_us}::BIGINT) THEN {start}")
    return f"CASE {' '.join(cases)} END"


class Stretch(NamedTuple):
    """Days in a row with one offset, or the one day on which it changes."""

    since_us: int
    until_us: int
    offset_us: int | None


def stretches(since_us: int, until_us: int, zone: tzinfo) -> list[Stretch]:
    """Days of the period with one offset from UTC each, in order."""
    found: list[Stretch] = []
    start = day_start(since_us, zone)
    while start < until_us or not found:
        # Noon of the next day, whatever the length of this one, and back to its beginning.
        end = day_start(start + DAY_US + DAY_US // 2, zone)
        offset: int | None = _offset_us(start, zone)
        if offset != _offset_us(end, zone):
            offset = None
        if found and offset is not None and found[-1].offset_us == offset:
            found[-1] = found[-1]._replace(until_us=end)
        else:
            found.append(Stretch(start, end, offset))
        start = end
    return found


def step_us(asked: Asked) -> int:
    """The widest step on which every day of the period begins: an hour, or a quarter of one."""
    for instant in range(asked.since_us, asked.until_us + DAY_US, 30 * DAY_US):
        if _offset_us(instant, asked.zone) % HOUR_US:
            return _QUARTER_US
    return HOUR_US


def _offset_us(instant_us: int, zone: tzinfo) -> int:
    offset = (EPOCH + timedelta(microseconds=instant_us)).astimezone(zone).utcoffset()
    assert offset is not None
    return offset // timedelta(microseconds=1)


def day_start(instant_us: int, zone: tzinfo) -> int:
    """When the day began that an instant lies in."""
    local = (EPOCH + timedelta(microseconds=instant_us)).astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return (midnight - EPOCH) // timedelta(microseconds=1)
