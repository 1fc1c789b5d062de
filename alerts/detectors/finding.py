"""What a detector is shown, and what it says.

A detector is a pure fold: it is shown one :class:`Point` a minute for one subject, in order
of time, and answers with a :class:`Finding` for as long as an incident is open, else with
None. It has no clock, no client and no randomness, so the same history gives the same
findings, live, in a test, and over last month's minutes. What it knows is plain data
(``to_dict``, ``from_dict``): numbers, texts and lists that fit into JSON.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol, Self

from collector.domain.attribution import Subject as Subject
from collector.domain.money import usd

State = dict[str, Any]
"""What a detector remembers, as JSON would hold it."""

LATENCY_BUCKETS = 42
"""Calls by how long they took, as the ledger counts them: bucket n begins at 2^(n/2) ms."""


class Kind(StrEnum):
    """What is not as it used to be. One incident has one kind: the first signal that moved."""

    SPEND_RATE = "spend_rate"
    """More money an hour than this subject ever spends at this time: a runaway loop, mostly."""
    CALL_RATE = "call_rate"
    """Many more calls than usual, though they cost little."""
    COST_PER_CALL = "cost_per_call"
    """A call costs more than it did: a price, another model."""
    UNIT_PRICE = "unit_price"
    """The same tokens cost more than they did, whatever their number."""
    INPUT_PER_CALL = "input_tokens_per_call"
    OUTPUT_PER_CALL = "output_tokens_per_call"
    RETRIES = "attempts_per_call"
    ERROR_RATE = "error_rate"
    CACHE_HITS = "cache_hit_rate"
    """A smaller part of the input is read from the provider's prompt cache."""
    LATENCY = "latency"
    STOP = "stop"
    """No calls where there always are some."""
    SLOW_LEAK = "slow_leak"
    """Spend creeps up by the hour or the day, each step too small to see."""
    SATURATION = "gpu_saturation"
    """Requests wait for a place on the GPU."""
    LEVEL = "level"
    """A generic series behaves as it never did."""


def subject(**labels: str) -> Subject:
    """A subject from its labels: ``subject(agent="crawler", team="search")``."""
    return tuple(sorted(labels.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One minute of one subject. A minute without calls is a point too, all zero."""

    at: int
    """Start of the step, in seconds since 1970."""
    calls: int = 0
    failed: int = 0
    attempts: int = 0
    cost_pico: int = 0
    """Effective cost, pico-USD."""
    input_tokens: int = 0
    """Cached ones included."""
    output_tokens: int = 0
    cache_read_tokens: int = 0
    """Part of ``input_tokens``."""
    latency: tuple[tuple[int, int], ...] = ()
    """(bucket, calls) of the buckets that hold any; see :data:`LATENCY_BUCKETS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An incident that is open now. The same ``id`` until it ends, however often it is said."""

    kind: Kind
    subject: Subject
    at: int
    """The minute that this was found or confirmed at, seconds since 1970."""
    since: int
    """When it began, seconds since 1970: the first minute of the run that looks strange."""
    severity: float
    """How far outside what was seen before, 0 to 1; comparable between kinds."""
    excess_pico_per_hour: int = 0
    """Money an hour above the baseline, pico-USD; 0 where the incident costs none."""
    value: float = 0.0
    """What the signal is now, in its own unit (``evidence["unit"]``)."""
    baseline: float = 0.0
    """What it is expected to be, in the same unit."""
    evidence: Mapping[str, str | int | float] = field(default_factory=dict)
    """What else a reader wants to see: counts, window lengths, which rule was in force."""
    confirmed: bool = True
    """False for a candidate that ranks and explains but must not page by itself."""

    @property
    def id(self) -> str:
        """Stable name of the incident: what kind, whose, since when."""
        text = "\n".join((self.kind, *(f"{k}={v}" for k, v in self.subject), str(self.opened)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    opened: int = 0
    """The minute it was first reported, seconds since 1970."""

    @property
    def labels(self) -> dict[str, str]:
        """The subject as labels."""
        return dict(self.subject)

    @property
    def usd_per_hour(self) -> Decimal:
        """Money an hour above the baseline, in USD."""
        return usd(self.excess_pico_per_hour)

    @property
    def since_time(self) -> datetime:
        """``since`` as a time, UTC."""
        return datetime.fromtimestamp(self.since, UTC)


class Detector(Protocol):
    """Something that watches one series."""

    def observe(self, point: Point) -> Finding | None:
        """The incident that is open after this minute, if one is.

        Points come in order of time; a minute that is left out counts as one without calls.
        """

    def to_dict(self) -> State:
        """What it remembers."""

    @classmethod
    def from_dict(cls, state: State) -> Self:
        """The same detector again.

        Raises:
            ValueError: the state is not one of this detector and version; start afresh then.
        """
