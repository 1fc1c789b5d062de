"""When many high scores together are an incident.

Every traffic has texts that look like an injection and are none, some much more than others: a security
team's assistant talks about little else. So each subject is held against its own share of high scores: a
burst is a number of them within a few minutes that this share would bring about once in a million windows.
"""

import hashlib
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from alerts.detectors.finding import Subject

WINDOW_MIN: Final = 5
"""Minutes that count together."""
FEWEST: Final = 4
"""High scores below which nothing is a burst: what one curious person types."""
RARE: Final = 1e-6
"""A window this improbable is one. With 5-minute windows that is once in ten years for one subject."""
PRIOR_CALLS: Final = 200.0
PRIOR_SHARE: Final = 0.01
"""What is assumed of a subject before it is known: the share of high scores on ordinary questions."""
MEMORY_MIN: Final = 7 * 24 * 60
"""Minutes after which what was seen counts a third."""
QUIET_MIN: Final = 10
"""Minutes without a burst until the incident is over."""

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """An incident that is open now; the same ``id`` until it ends. Read like a ``Finding`` of a detector."""

    subject: Subject
    at: int
    """The minute that this was found or confirmed at, seconds since 1970."""
    since: int
    """The first minute of the window that it was found in, seconds since 1970."""
    opened: int
    """The minute it was first reported, seconds since 1970."""
    severity: float
    """0 to 1: how improbable by the subject's own past, 1 for one in 10^30 and less."""
    value: float
    """Share of calls with a high score in the window."""
    baseline: float
    """The same share before."""
    evidence: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Stable name of the incident."""
        text = "\n".join(("prompt_injection", *(f"{k}={v}" for k, v in self.subject), str(self.opened)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def labels(self) -> dict[str, str]:
        """As an alert's labels."""
        return {"alertname": "PromptInjectionBurst", "impact": "security", "severity": "warn"} | dict(
            self.subject
        )

    @property
    def annotations(self) -> dict[str, str]:
        """As an alert's annotations."""
        high, scored = self.evidence["high"], self.evidence["scored"]
        return {
            "summary": f"{high} of {scored} calls in {WINDOW_MIN} minutes carry text like a prompt injection",
            "description": (
                f"Usually {100 * self.baseline:.2g} % do, now {100 * self.value:.2g} %. The score is about "
                "words: read the conversations before acting on it. The sidecar lists the calls by id."
            ),
        }


class Bursts:
    """Watches one subject, minute by minute. Without a clock: the same minutes give the same bursts."""

    __slots__ = ("_calls", "_high", "_opened", "_quiet", "_recent", "_since", "_subject")

    def __init__(self, subject: Subject = ()) -> None:
        self._subject = subject
        self._calls = PRIOR_CALLS
        self._high = PRIOR_CALLS * PRIOR_SHARE
        self._recent: deque[tuple[int, int, int]] = deque()
        self._opened = 0
        self._since = 0
        self._quiet = 0

    @property
    def share(self) -> float:
        """The share of high scores that is usual."""
        return self._high / self._calls

    def observe(self, at: int, scored: int, high: int) -> Burst | None:
        """The burst that is open after the minute that began at ``at``, if one is.

        Minutes come in order of time; one that is left out had no calls.

        Raises:
            ValueError: more high scores than calls, or a negative count.
        """
        if not 0 <= high <= scored:
            raise ValueError(f"{high} high scores of {scored}")
        self._recent.append((at, scored, high))
        self._learn_before(at - (WINDOW_MIN - 1) * 60)
        calls = sum(row[1] for row in self._recent)
        found = sum(row[2] for row in self._recent)
        chance = tail(calls, found, self.share)
        if found >= FEWEST and chance <= RARE:
            if not self._opened:
                self._opened, self._since = at, next(row[0] for row in self._recent if row[2])
            self._quiet = at + QUIET_MIN * 60
        elif at >= self._quiet:
            self._opened = 0
        return self._burst(at, calls, found, chance) if self._opened else None

    def _burst(self, at: int, calls: int, found: int, chance: float) -> Burst:
        return Burst(
            subject=self._subject,
            at=at,
            since=self._since,
            opened=self._opened,
            severity=min(1.0, -math.log10(max(chance, 1e-30)) / 30),
            value=found / calls if calls else 0.0,
            baseline=self.share,
            evidence={"high": found, "scored": calls, "window_min": WINDOW_MIN, "chance": chance},
        )

    def _learn_before(self, first: int) -> None:
        """Make minutes that left the window part of what is usual, but for those of an incident."""
        while self._recent and self._recent[0][0] < first:
            _, scored, high = self._recent.popleft()
            if not self._opened:
                # Forgotten by minutes with calls, so that a quiet weekend does not undo a week.
                keep = 1 - 1 / MEMORY_MIN
                self._calls = max(PRIOR_CALLS, self._calls * keep) + scored
                self._high = max(PRIOR_CALLS * PRIOR_SHARE, self._high * keep) + high

    def to_dict(self) -> dict[str, Any]:
        """What it remembers."""
        return {
            "version": VERSION,
            "subject": [list(pair) for pair in self._subject],
            "usual": [self._calls, self._high],
            "recent": [list(row) for row in self._recent],
            "open": [self._opened, self._since, self._quiet],
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """The same again.

        Raises:
            ValueError: the state is not one of this version; start afresh then.
        """
        try:
            if state["version"] != VERSION:
                raise ValueError(f"state of version {state['version']}, not {VERSION}")
            found = cls(tuple((str(name), str(value)) for name, value in state["subject"]))
            found._calls, found._high = map(float, state["usual"])
            found._recent.extend((int(at), int(scored), int(high)) for at, scored, high in state["recent"])
            found._opened, found._since, found._quiet = map(int, state["open"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of a burst detector: {error!r}") from error
        return found


def tail(calls: int, found: int, share: float) -> float:
    """How probable ``found`` or more of ``calls`` are when each is one with probability ``share``.

    An upper bound (Chernoff, with the relative entropy), exact to a factor of a few, at any size.
    """
    if found <= calls * share:
        return 1.0
    rate = found / calls
    entropy = rate * math.log(rate / share)
    if rate < 1:
        entropy += (1 - rate) * math.log((1 - rate) / (1 - share))
    return math.exp(-min(700.0, calls * entropy))
