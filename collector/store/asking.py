"""The parameters of a question, as they stand in a URL, checked once and for all.

Pure: the clock is handed in. What comes out holds only names from our own lists and values
that will be bound, so no caller's text ever becomes part of a statement.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from collector.store import questions
from collector.store.agent_questions import JUDGED
from collector.store.levels import DAY_US, HOUR_US, MINUTE_US
from collector.store.question import Question
from collector.store.questions import BUCKETS, DIMENSIONS, EXTRAS, MOST_ROWS, NARROWING, OMISSIBLE

ORDERS = ("newest", "oldest", "dearest", "slowest")
MOST_BUCKETS = 20_000
MOST_VALUES = 100
MOST_SOUGHT = 256
_MOST_DIGITS = 20
DEFAULT_PERIOD_US = DAY_US


class BadParameter(ValueError):
    """A parameter is not what the question takes."""

    def __init__(self, parameter: str, problem: str, choices: Sequence[str] = ()) -> None:
        super().__init__(f"{parameter}: {problem}")
        self.parameter = parameter
        self.choices = list(choices)


class By(NamedTuple):
    """A dimension that rows are told apart by."""

    name: str
    """Column of the answer."""
    expression: str
    """SQL over a row of the calls."""
    dimension: str
    """Which dimension that is; ``tag`` for any tag."""
    summed: str = ""
    """SQL over a row of the sums, where it is another."""

    def over(self, table: str) -> str:
        """SQL over a row of ``table``."""
        return self.summed if self.summed and table != "calls" else self.expression


class Dearest(NamedTuple):
    """Which groups of very many come first."""

    places: list[int] | list[str]
    """Their hashes, or their names."""
    rows: int
    """That are theirs altogether, at most."""
    named: bool


@dataclass(slots=True, kw_only=True)
class Asked:
    """A question with its parameters, checked."""

    question: Question
    since_us: int = 0
    until_us: int = 0
    zone: tzinfo = UTC
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    by: tuple[By, ...] = ()
    bucket: str = "auto"
    order: str = "newest"
    extras: tuple[str, ...] = ()
    """Columns of `EXTRAS` that were asked for."""
    left_out: tuple[str, ...] = ()
    """Columns of `OMISSIBLE` that nobody needs."""
    values: dict[str, Any] = field(default_factory=dict)
    """Bound to the statement."""
    absent: frozenset[str] = frozenset()
    """Columns that are known not to have the text that is searched for."""
    hours: list[tuple[int, int]] | None = None
    """The only times that may have the text that is searched for, each with its end (us); None for any."""
    dearest: Dearest | None = None
    """The groups that are shown, where they are known before all else."""

    @property
    def dimensions(self) -> frozenset[str]:
        """What the calls must be told apart by to answer it."""
        return frozenset((*self.filters, *(by.dimension for by in self.by)))


def parse(question: Question, given: Mapping[str, Sequence[str]], now_us: int) -> Asked:
    """The parameters of a URL, checked.

    Args:
        question: which one.
        given: values by name, as often as they were given.
        now_us: the clock.

    Raises:
        BadParameter: one of them is unknown, or has no such value.
    """
    asked = Asked(question=question)
    known = set(question.parameters)
    filters = DIMENSIONS if "filters" in known else tuple(name for name in NARROWING if name in known)
    if "judged" in known:
        filters = (*filters, *JUDGED)
    known -= {"filters", "judged", *filters}
    for name, values in given.items():
        if name not in known and name not in filters:
            raise BadParameter(name, "no such parameter", sorted({*known, *filters}))
        if not values:
            raise BadParameter(name, "a value is missing; leave the parameter out for none")
    one = {name: values[-1].strip() for name, values in given.items() if name in known}
    if "since" in known:
        asked.zone = _zone(one.get("tz") or "UTC")
        asked.until_us = _instant("until", one.get("until") or "", now_us, asked.zone, now_us)
        before = asked.until_us - DEFAULT_PERIOD_US
        asked.since_us = _instant("since", one.get("since") or "", before, asked.zone, now_us)
    for name in filters:
        if name in given:
            asked.filters[name] = _filter(name, given[name])
    if "by" in known:
        dimensions = JUDGED if "judged" in question.parameters else DIMENSIONS
        required = question is questions.SPEND_BY
        asked.by = _dimensions(asked, one.get("by", ""), dimensions, required=required)
    if "with" in known:
        asked.extras = _columns("with", one, EXTRAS)
    if "without" in known:
        asked.left_out = _columns("without", one, OMISSIBLE)
    if "bucket" in known:
        asked.bucket = _bucket(asked, one.get("bucket") or "auto")
    if "limit" in known:
        asked.values["limit"] = _limit(one.get("limit") or "100")
    if "order" in known:
        asked.order = _choice("order", one.get("order") or "newest", ORDERS)
    if one.get("before"):
        asked.values["before"] = one["before"][:64]
    if text := one.get("search", "")[:MOST_SOUGHT]:
        asked.values |= {"sought": text, "sought_lower": text.lower()}
    if "call_id" in known:
        if not one.get("call_id"):
            raise BadParameter("call_id", "is required")
        asked.values["call_id"] = one["call_id"][:64]
    if "anomaly_id" in known:
        if not one.get("anomaly_id"):
            raise BadParameter("anomaly_id", "is required")
        asked.values["anomaly_id"] = one["anomaly_id"][:512]
    if "dimension" in known:
        name = _choice("dimension", one.get("dimension") or "", DIMENSIONS)
        asked.by = (_value_of(name),)
    return asked


# ---- one parameter ------------------------------------------------------------------------


def _zone(name: str) -> tzinfo:
    if name.upper() in ("UTC", "Z"):
        return UTC
    from zoneinfo import ZoneInfo  # It loads how Python was built: half a MiB, for those who ask in a zone.

    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError) as error:
        raise BadParameter("tz", f"{name[:64]!r} is not a time zone, such as Europe/Berlin") from error


_AGO = re.compile(r"(\d{1,6})\s*(m|min|h|d|w)(?:\s+ago)?")
_AGO_US = {"m": MINUTE_US, "min": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}
_LATEST = Decimal(4_102_444_800)  # the year 2100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _instant(name: str, text: str, default_us: int, zone: tzinfo, now_us: int) -> int:
    if not text:
        return default_us
    if ago := _AGO.fullmatch(text):
        instant = now_us - int(ago[1]) * _AGO_US[ago[2]]
        if instant < 0:
            raise BadParameter(name, f"{text[:64]!r} is before 1970")
        return instant
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        return _iso(name, text, zone)
    if not seconds.is_finite() or not 0 <= seconds <= _LATEST:
        raise BadParameter(name, "seconds since 1970 must lie between 1970 and 2100")
    return int(seconds * 1_000_000)


def _iso(name: str, text: str, zone: tzinfo) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadParameter(
            name, f"{text[:64]!r} is neither ISO 8601 nor seconds since 1970, nor 24h or 7d ago"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    if not 1970 <= moment.year <= 2100:
        raise BadParameter(name, "must lie between 1970 and 2100")
    return max(0, (moment - EPOCH) // timedelta(microseconds=1))


def _filter(name: str, values: Sequence[str]) -> tuple[str, ...]:
    if len(values) > MOST_VALUES:
        raise BadParameter(name, f"at most {MOST_VALUES} values")
    if name == "tag" and not all("=" in value for value in values):
        raise BadParameter(name, "write tag=KEY=VALUE")
    return tuple(value[:1024] for value in values)


def _dimensions(asked: Asked, text: str, dimensions: Sequence[str], *, required: bool) -> tuple[By, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names and required:
        names = ["request_model"]
    found: list[By] = []
    for position, name in enumerate(dict.fromkeys(names)):
        if name.startswith("tag:") and len(name) > 4:
            column = "tag" if not any(by.name == "tag" for by in found) else f"tag_{position + 1}"
            asked.values[f"by_{column}"] = name[4:][:256]
            key = f"$by_{column}"
            found.append(By(column, f"coalesce({tag(key)}, '')", "tag", f"coalesce({summed_tag(key)}, '')"))
        elif name in dimensions and name != "tag":
            found.append(By(name, name, name))
        else:
            raise BadParameter(
                "by",
                f"no dimension {name[:64]!r}",
                [*(known for known in dimensions if known != "tag"), "tag:KEY"],
            )
    return tuple(found)


def _value_of(name: str) -> By:
    if name == "tag":
        pairs = "unnest(list_transform(map_entries({tags}), lambda pair: pair.key || '=' || pair.value))"
        return By(
            "value",
            pairs.format(tags="tags"),
            "tag",
            pairs.format(tags="CAST(CAST(tags AS JSON) AS MAP(VARCHAR, VARCHAR))"),
        )
    return By("value", name, name)


def tag(key: str) -> str:
    """SQL for the tag of that key in a row of the calls; NULL where it has none."""
    return f"tags[{key}]"


def summed_tag(key: str) -> str:
    """The same in a row of the sums, where tags are a JSON object: by a JSON pointer (RFC 6901)."""
    return f"json_extract_string(tags, '/' || replace(replace({key}, '~', '~0'), '/', '~1'))"


def _bucket(asked: Asked, text: str) -> str:
    bucket = _choice("bucket", text, BUCKETS)
    span = max(0, asked.until_us - asked.since_us)
    if bucket == "auto":
        bucket = "minute" if span <= 3 * HOUR_US else "hour" if span <= 4 * DAY_US else "day"
    width = {"minute": MINUTE_US, "hour": HOUR_US, "day": DAY_US}[bucket]
    if span // width > MOST_BUCKETS:
        raise BadParameter(
            "bucket",
            f"the period has more than {MOST_BUCKETS} {bucket}s",
            BUCKETS[BUCKETS.index(bucket) + 1 :],
        )
    return bucket


def _limit(text: str) -> int:
    # Beyond some thousand digits Python reads no number.
    if not text.isdecimal() or len(text) > _MOST_DIGITS or not 1 <= int(text) <= MOST_ROWS:
        raise BadParameter("limit", f"a whole number from 1 to {MOST_ROWS}")
    return int(text)


def _columns(name: str, given: Mapping[str, str], choices: Sequence[str]) -> tuple[str, ...]:
    named = (column.strip() for column in given.get(name, "").split(","))
    return tuple(_choice(name, column, choices) for column in named if column)


def _choice(name: str, text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        raise BadParameter(name, f"no {text[:64]!r}", choices)
    return text


def iso(instant_us: int) -> str:
    """An instant as ISO 8601 in UTC."""
    return (EPOCH + timedelta(microseconds=instant_us)).isoformat().replace("+00:00", "Z")
