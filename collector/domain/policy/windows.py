"""When a budget begins anew: calendar windows in a time zone, rolling ones, and lifetimes.

A window has a name that is part of its counter's key, so nothing is ever reset: the next
window is another counter. Calendar windows start at the first instant of their local hour, day,
week or month, whatever daylight saving does to it, and end exactly where the next one starts.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

BUCKETS = 24
"""A rolling window is the sum of so many buckets: it forgets in steps of a 24th of its length."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HOUR_US = 3_600_000_000
_LENGTH = re.compile(r"(\d+)\s*(s|min|m|h|d|w)")
_UNITS_US = {
    "s": 1_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "h": _HOUR_US,
    "d": 24 * _HOUR_US,
    "w": 168 * _HOUR_US,
}
_SHORTEST_US = 60_000_000
_LONGEST_US = 366 * 24 * _HOUR_US


class WindowKind(StrEnum):
    """How a window is bounded."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    """From Monday (ISO 8601)."""
    MONTH = "month"
    TOTAL = "total"
    """For ever."""
    ROLLING = "rolling"
    """The time just past."""
    CONVERSATION = "conversation"
    """As long as the conversation lasts."""
    TASK = "task"
    """As long as the task lasts."""


class Window(NamedTuple):
    """How long a budget's limit is meant to last."""

    kind: WindowKind
    zone: str = "UTC"
    """IANA name of the time zone whose calendar counts."""
    length_us: int = 0
    """Of a rolling window."""
    text: str = ""
    """A rolling window's length as written, for its name."""

    @classmethod
    def parse(cls, text: str, zone: str = "UTC") -> "Window":
        """Read ``day`` or ``rolling 6h``.

        Raises:
            ValueError: it is no window, or the zone is unknown.
        """
        written = " ".join(text.split()).lower()
        zone_of(zone)
        if written.startswith("rolling"):
            match = _LENGTH.fullmatch(written[len("rolling") :].strip())
            length = int(match[1]) * _UNITS_US[match[2]] if match else 0
            if not _SHORTEST_US <= length <= _LONGEST_US:
                raise ValueError(
                    f"{text!r}: write rolling and a length from 1min to 366d, such as rolling 6h"
                )
            return cls(WindowKind.ROLLING, zone, length, written[len("rolling") :].replace(" ", ""))
        if written not in (kind.value for kind in WindowKind):
            valid = ", ".join(kind.value for kind in WindowKind if kind is not WindowKind.ROLLING)
            raise ValueError(f'{text!r} is not one of {valid}, "rolling 6h"')
        return cls(WindowKind(written), zone)

    def __str__(self) -> str:
        named = f"rolling {self.text}" if self.kind is WindowKind.ROLLING else self.kind.value
        return named if self.zone == "UTC" else f"{named} ({self.zone})"


class Span(NamedTuple):
    """One window in time."""

    name: str
    starts_us: int
    """Since the Unix epoch; of a rolling window, its oldest bucket's."""
    ends_us: int | None
    """None when it has no end."""
    bucket_us: int = 0


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """The time zone of that IANA name.

    Raises:
        ValueError: this machine knows none.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # most configurations need none

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone known here; write such as Europe/Berlin") from error


def span_at(window: Window, now_us: int, lifetime: str = "") -> Span:
    """The window that ``now_us`` lies in.

    Args:
        window: how windows follow each other.
        now_us: microseconds since the Unix epoch.
        lifetime: the conversation or task whose life is meant, for windows of those kinds.
    """
    kind = window.kind
    if kind is WindowKind.TOTAL:
        return Span("total", 0, None)
    if kind is WindowKind.ROLLING:
        bucket = -(-window.length_us // BUCKETS)
        starts = (now_us // bucket + 1 - BUCKETS) * bucket
        return Span(f"rolling:{window.text}", starts, None, bucket)
    if kind in (WindowKind.CONVERSATION, WindowKind.TASK):
        return Span(f"{kind.value}:{lifetime}", 0, None)
    zone = zone_of(window.zone)
    suffix = "" if window.zone == "UTC" else f"@{window.zone}"
    local = _local(now_us, zone)
    if kind is WindowKind.HOUR:
        return _hour(now_us, local, zone, suffix)
    today = local.date()
    if kind is WindowKind.DAY:
        first, after, name = today, today + timedelta(days=1), today.isoformat()
    elif kind is WindowKind.WEEK:
        first = today - timedelta(days=today.weekday())
        after = first + timedelta(days=7)
        year, week, _ = today.isocalendar()
        name = f"{year}-W{week:02d}"
    else:
        first = today.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
        name = f"{today.year}-{today.month:02d}"
    return Span(f"{kind.value}:{name}{suffix}", _starts(first, zone), _starts(after, zone))


def _local(at_us: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone)


def _starts(day: date, zone: tzinfo) -> int:
    # A midnight that daylight saving skips is taken with the offset before the change, which is the
    # instant of the change: the day's first. One that comes twice is taken the first time.
    return (datetime(day.year, day.month, day.day, tzinfo=zone) - _EPOCH) // _MICROSECOND


def _hour(now_us: int, local: datetime, zone: tzinfo, suffix: str) -> Span:
    """The local hour; one that comes twice is two windows, one that daylight saving cuts short is short."""
    offset = local.utcoffset() or timedelta()
    offset_us = offset // _MICROSECOND
    starts = (now_us + offset_us) // _HOUR_US * _HOUR_US - offset_us
    ends = starts + _HOUR_US
    if _local(starts, zone).utcoffset() != offset:
        starts = _change(starts, now_us, zone)
    if _local(ends - 1, zone).utcoffset() != offset:
        ends = _change(now_us, ends - 1, zone)
    return Span(f"hour:{local.strftime('%Y-%m-%dT%H%z')}{suffix}", starts, ends)


def _change(before_us: int, after_us: int, zone: tzinfo) -> int:
    """The first instant, later than ``before_us``, at the offset that holds at ``after_us``."""
    offset = _local(after_us, zone).utcoffset()
    while after_us - before_us > 1:
        middle = (before_us + after_us) // 2
        if _local(middle, zone).utcoffset() == offset:
            after_us = middle
        else:
            before_us = middle
    return after_us
