"""What people can demand of spending: budgets, ladders, throttles, caps, directives, raises. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from collector.domain.credit import Unit
from collector.domain.policy.matching import DIMENSIONS, EVERY_CALL, TAG, Match
from collector.domain.policy.windows import Window, WindowKind

WHOLE = 10_000
"""Shares are whole numbers of hundredths of a percent."""

LARGEST_USD = 9_000_000
LARGEST = LARGEST_USD * 10**9
"""Largest limit of a counter, in any unit: Lua's numbers are exact up to 2**53, a little more."""


class Action(StrEnum):
    """What happens when a budget is used up to some share."""

    NOTIFY = "notify"
    DOWNGRADE = "downgrade"
    THROTTLE = "throttle"
    REFUSE = "refuse"
    """New calls are refused."""
    CUT = "cut"
    """New calls are refused and running streams end."""


class Threshold(NamedTuple):
    """A share of a limit, and what happens there."""

    share: int
    """Of :data:`WHOLE`."""
    action: Action


class HoldSize(StrEnum):
    """How much of a budget a call holds before it starts."""

    WHOLE = "whole"
    """What it may cost at most."""
    PROGRESSIVE = "progressive"
    """A stream holds little and extends its hold as it runs; what cannot be cut holds its most."""
    LEARNED = "learned"
    """As progressive, and what cannot be cut holds what calls like it cost: 99 in 100 cost no more."""


class Crossing(StrEnum):
    """What becomes of the call that would cross the limit."""

    REFUSE = "refuse"
    """It is not begun: the limit is never exceeded."""
    FINISH = "finish"
    """It takes all that is left and may exceed it; none is begun after. Suits what one conversation or
    task may cost, where an answer that is paid for in part is worth little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit over a match and a window.

    Raises:
        ValueError: the parts contradict each other; the message says which.
    """

    name: str
    limit: int
    """Nano-USD, tokens or calls."""
    unit: Unit = Unit.USD
    window: Window
    match: Match = EVERY_CALL
    each: str = ""
    """One counter for each value of this dimension or ``tag:NAME``; empty for one counter in all."""
    at: tuple[Threshold, ...] = ()
    """Kept in order of shares. Where neither refuse nor cut is named, the whole limit is where calls end;
    only a soft budget that names other actions never ends one."""
    hard: bool = True
    """Whether it closes when its store is lost; a soft one stays open."""
    hold: HoldSize | None = None
    """None: progressive when nothing may exceed the limit, learned otherwise."""
    crossing: Crossing | None = None
    """None: finish for what one conversation or task may cost, else refuse."""
    refuse_unpriced: bool = False
    """Refuse models without a known price, instead of charging the stand-in."""
    lower_max_tokens: bool = False
    """Lower a call's ``max_tokens`` to what the room affords."""
    never_for: tuple[Match, ...] = ()
    """Calls that this budget never downgrades."""
    pace: bool = False
    """Steer spending to last until the window ends, by downgrading a share of the calls."""
    throttle_per_minute: int | None = None
    """How much a minute may cost once ``throttle`` is reached; None: what is left, spread over what is left
    of the window."""

    size: HoldSize = field(init=False)
    finishes: bool = field(init=False)
    """Whether the call that crosses the limit may finish."""
    enforced: bool = field(init=False)
    """Whether it ends calls at all."""
    grows: bool = field(init=False)
    """Whether streams extend their hold, and end when they cannot."""
    entry_share: int = field(init=False)
    """Where new calls are refused."""
    stop_share: int = field(init=False)
    """Where running streams end."""

    def __post_init__(self) -> None:
        self._check()
        ends = [t for t in self.at if t.action in (Action.REFUSE, Action.CUT)]
        cuts = [t.share for t in ends if t.action is Action.CUT]
        single = self.each in ("conversation", "task") or self.window.kind in (
            WindowKind.CONVERSATION,
            WindowKind.TASK,
        )
        finishes = self.crossing is Crossing.FINISH or (self.crossing is None and single)
        size = self.hold or (HoldSize.PROGRESSIVE if self.hard and not finishes else HoldSize.LEARNED)
        derived: dict[str, Any] = {
            "at": tuple(sorted(self.at)),
            "finishes": finishes,
            "size": size,
            "enforced": self.hard or bool(ends) or not self.at,
            "grows": size is not HoldSize.WHOLE
            and self.unit is not Unit.CALLS
            and (bool(cuts) or (not finishes and (self.hard or not self.at))),
            "entry_share": min([t.share for t in ends], default=WHOLE),
            "stop_share": min(cuts, default=WHOLE),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def _check(self) -> None:
        if not self.name or not self.name.isprintable():
            raise ValueError("name: must be text that can be printed")
        if not 0 <= self.limit <= LARGEST:
            raise ValueError(f"limit: must lie between 0 and {LARGEST_USD} USD or {LARGEST} tokens or calls")
        if self.each and self.each not in DIMENSIONS and not self.each.startswith(TAG):
            raise ValueError(f"each: {self.each!r} is not one of {', '.join(DIMENSIONS)}, {TAG}NAME")
        for share, action in self.at:
            most = WHOLE if action in (Action.REFUSE, Action.CUT) else 10 * WHOLE
            if not 0 < share <= most:
                raise ValueError(f"at: {action.value} must lie between 0% and {most // 100}%")
        if len({t.share for t in self.at}) != len(self.at):
            raise ValueError("at: names a share twice")
        if self.pace and self.window.kind not in (
            WindowKind.HOUR,
            WindowKind.DAY,
            WindowKind.WEEK,
            WindowKind.MONTH,
        ):
            raise ValueError("pace: needs a window that ends: hour, day, week or month")
        if self.throttle_per_minute is not None and self.throttle_per_minute <= 0:
            raise ValueError("throttle_per_minute: must be more than nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Which models may stand in for one, the best first."""

    source: Match
    """Calls it is for: those for a model, usually."""
    to: tuple[str, ...]
    never_for: tuple[Match, ...] = ()
    """Calls that are never downgraded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """How much may be spent a minute, over a short time: a token bucket filled with money."""

    name: str
    per_minute: int
    """Nano-USD."""
    burst: int
    """What may be spent at once after a quiet time, in nano-USD."""
    match: Match = EVERY_CALL
    each: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyCap:
    """How many calls may run at once."""

    name: str
    most: int
    match: Match = EVERY_CALL
    each: str = "key"


class DirectiveKind(StrEnum):
    """What an alert or an operator may ask for."""

    DOWNGRADE = "downgrade"
    THROTTLE = "throttle"
    PAUSE = "pause"
    """New calls are refused."""
    CUT = "cut"
    """Running streams end, and new calls are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """Something asked of every sidecar until it expires.

    Raises:
        ValueError: it says nothing that could be done.
    """

    id: str
    kind: DirectiveKind
    match: Match
    expires_us: int
    """Since the Unix epoch."""
    reason: str = ""
    source: str = ""
    """Who asked: an alert's name, or an operator."""
    created_us: int = 0
    to: tuple[str, ...] = ()
    """Models for a downgrade; empty for the configured ladder."""
    per_minute: int = 0
    """Nano-USD, for a throttle."""
    share: int = WHOLE
    """How many of the calls a downgrade is for."""

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("id: is required")
        if self.kind is DirectiveKind.THROTTLE and self.per_minute <= 0:
            raise ValueError("per_minute: a throttle needs an amount")
        if not 0 < self.share <= WHOLE:
            raise ValueError(f"share: must lie between 1 and {WHOLE}")

    def plain(self) -> dict[str, Any]:
        """As JSON knows it; :meth:`of` reads it again."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "match": {name: list(values) for name, values in self.match.wanted},
            "expires_us": self.expires_us,
            "reason": self.reason,
            "source": self.source,
            "created_us": self.created_us,
            "to": list(self.to),
            "per_minute": self.per_minute,
            "share": self.share,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Directive":
        """Read what :meth:`plain` wrote.

        Raises:
            ValueError: it is not a directive.
        """
        try:
            return cls(
                id=str(plain["id"]),
                kind=DirectiveKind(plain["kind"]),
                match=Match.of(plain.get("match", {})),
                expires_us=int(plain["expires_us"]),
                reason=str(plain.get("reason", "")),
                source=str(plain.get("source", "")),
                created_us=int(plain.get("created_us", 0)),
                to=tuple(map(str, plain.get("to", ()))),
                per_minute=int(plain.get("per_minute", 0)),
                share=int(plain.get("share", WHOLE)),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a directive: {error!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """More room for a while. Kept as an event, so that it can be asked later who allowed it and why."""

    id: str
    budget: str
    amount: int
    """In the budget's unit, on top of its limit."""
    until_us: int
    """Since the Unix epoch; the limit is as before from here on."""
    subject: str = ""
    """The one counter it is for, by the value of ``each``; empty for all of them."""
    from_us: int = 0
    reason: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.amount <= 0:
            raise ValueError("amount: a raise needs an amount")
        if self.until_us <= self.from_us:
            raise ValueError("until: lies before the raise begins")
