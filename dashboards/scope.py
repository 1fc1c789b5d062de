"""What a reader looks at: a stretch of time and filters on who and what.

A scope is made once per drawing of a page and handed to every question of that page,
so that all its figures are about the same calls.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal

Bucket = Literal["minute", "hour", "day"]

NONE = "(none)"
"""How the empty value of a dimension is written in filters and tables."""

DIMENSIONS: Mapping[str, str] = {
    "team": "Team",
    "agent": "Agent",
    "request_model": "Model",
    "provider_name": "Provider",
    "upstream": "Upstream",
    "outcome": "Outcome",
    "tenant": "Tenant",
    "user_id": "User",
    "response_model": "Answering model",
    "api": "API",
    "cache": "Cache",
    "usage_grade": "Usage grade",
    "price_grade": "Price grade",
    "key_id": "Key",
    "conversation_id": "Conversation",
    "task_id": "Task",
    "tag": "Tag",
}
"""What calls can be filtered by: the read API's name and ours for people, in the filter panel's order."""

SPANS: Mapping[str, timedelta] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
}
"""The ranges that end now."""

COMPARISONS: Mapping[str, str] = {
    "vs period before": "the period before",
    "vs day before": "a day earlier",
    "vs week before": "a week earlier",
    "vs 4 weeks before": "4 weeks earlier",
    "vs year before": "52 weeks earlier",
}
"""What figures can be compared with: as it is chosen, and in a sentence. Whole weeks, so that weekdays meet
weekdays."""

_EARLIER: Mapping[str, timedelta] = {
    "vs day before": timedelta(days=1),
    "vs week before": timedelta(days=7),
    "vs 4 weeks before": timedelta(days=28),
    "vs year before": timedelta(days=364),
}

DEFAULT_COMPARISON = "vs period before"

CUSTOM = "custom"
DEFAULT_RANGE = "24h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time, ``since`` included and ``until`` not; both are aware.

    Raises:
        ValueError: it would be empty.
    """

    since: datetime
    until: datetime
    name: str
    """Which range was asked for: a key of ``SPANS``, or ``custom``."""

    def __post_init__(self) -> None:
        if self.since >= self.until:
            raise ValueError(f"empty window: {self.since} to {self.until}")

    @property
    def span(self) -> timedelta:
        """How long it is."""
        return self.until - self.since

    def earlier(self, comparison: str) -> "Window":
        """The stretch of the same length that this one is compared with: a key of ``COMPARISONS``."""
        shift = _EARLIER.get(comparison, self.span)
        return Window(since=self.since - shift, until=self.until - shift, name=self.name)

    @property
    def roughly(self) -> "Window":
        """The same stretch widened to whole 24ths of it: for questions that are dear and need not be sharp.

        It stays the same while the window moves on by one 24th.
        """
        grain = int(self.span / timedelta(seconds=24)) or 1
        first = int(self.since.timestamp()) // grain * grain
        last = -(-int(self.until.timestamp()) // grain) * grain
        return replace(
            self, since=datetime.fromtimestamp(first, UTC), until=datetime.fromtimestamp(last, UTC)
        )

    @property
    def bucket(self) -> Bucket:
        """The grain that draws this window in 24 to 200 steps."""
        if self.span <= timedelta(hours=3):
            return "minute"
        return "hour" if self.span <= timedelta(days=7, hours=1) else "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A window and the values that calls must have to be counted."""

    window: Window
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Read API dimension and its allowed values; ``""`` is the value of a call that has none."""
    zone_name: str = "UTC"
    """IANA name of the reader's time zone: days begin at its midnight."""
    comparison: str = DEFAULT_COMPARISON
    """What the window is compared with: a key of ``COMPARISONS``."""

    def params(self) -> tuple[tuple[str, str], ...]:
        """The filters as query parameters; repeated where several values are allowed."""
        return tuple((dimension, value) for dimension, values in self.filters for value in values)

    def only(self, dimension: str, values: Sequence[str]) -> "Scope":
        """The same, but of ``dimension`` these values alone; without any, as it is."""
        if not values:
            return self
        others = tuple((name, wanted) for name, wanted in self.filters if name != dimension)
        return replace(self, filters=(*others, (dimension, tuple(sorted(values)))))

    @property
    def compared(self) -> Window:
        """The window that this one's figures are compared with."""
        return self.window.earlier(self.comparison)

    @property
    def is_filtered(self) -> bool:
        """Whether anything but time limits what is shown."""
        return any(values for _, values in self.filters)


def recent(name: str, now: datetime) -> Window:
    """The range ``name`` of ``SPANS``, ending just after ``now``.

    The end is rounded up to a whole minute: every call so far is inside, and all who look
    within that minute ask the same question, which then is answered once.
    """
    until = _minute_after(now)
    return Window(since=until - SPANS[name], until=until, name=name)


def days(first: date, last: date, zone: tzinfo) -> Window:
    """From the start of ``first`` to the end of ``last``, both in ``zone``."""
    if last < first:
        first, last = last, first
    since = datetime.combine(first, time(), zone)
    until = datetime.combine(last + timedelta(days=1), time(), zone)
    return Window(since=since.astimezone(UTC), until=until.astimezone(UTC), name=CUSTOM)


def filters_from(chosen: Mapping[str, Sequence[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Chosen values per dimension, as a scope keeps them: known dimensions only, in a fixed order."""
    return tuple(
        (dimension, tuple(sorted("" if value == NONE else value for value in chosen[dimension])))
        for dimension in DIMENSIONS
        if chosen.get(dimension)
    )


def steps(window: Window, zone: tzinfo) -> Iterator[datetime]:
    """The start of every bucket that touches ``window``, in UTC, without gaps.

    Minutes and hours are counted in UTC, days at midnight in ``zone`` (so that a day of
    23 or 25 hours is still one step).
    """
    if window.bucket == "day":
        day = window.since.astimezone(zone).date()
        while (start := datetime.combine(day, time(), zone).astimezone(UTC)) < window.until:
            yield start
            day += timedelta(days=1)
        return
    width = timedelta(minutes=1) if window.bucket == "minute" else timedelta(hours=1)
    start = window.since.astimezone(UTC).replace(second=0, microsecond=0)
    if window.bucket == "hour":
        start = start.replace(minute=0)
    while start < window.until:
        yield start
        start += width


def _minute_after(now: datetime) -> datetime:
    whole = now.astimezone(UTC).replace(second=0, microsecond=0)
    return whole + timedelta(minutes=1)
