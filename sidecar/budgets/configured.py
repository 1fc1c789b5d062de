"""Budgets, downgrades, throttles and caps as ``bursar.yaml`` gives them, and as the policy takes them.

Each is read like every other setting, so that a mistake is told with its line; what only shows when the
parts are seen together (two budgets of one name) is told when they are put together by :func:`policy_of`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from decimal import Decimal
from typing import Any, Literal

from collector.domain.credit import Unit
from collector.domain.policy.budget import (
    Action,
    Budget,
    ConcurrencyCap,
    Crossing,
    HoldSize,
    Ladder,
    Threshold,
    Throttle,
)
from collector.domain.policy.matching import DIMENSIONS, TAG, Match
from collector.domain.policy.plans import Policy
from collector.domain.policy.windows import Window
from collector.frozen import dataclass
from collector.settings import Duration
from sidecar.budgets.amounts import Amount, Dimension, Money, Rate, WindowText, ZoneName

_SHARE = re.compile(r"(\d+(?:\.\d{1,2})?)\s*%")

_TOTAL = WindowText("total")
_UTC = ZoneName("UTC")
_NOTHING, _KEY = Dimension(""), Dimension("key")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchConfig:
    """Which calls a rule is for: all that are named must fit; one value or a list; ``*`` for any text."""

    tenant: tuple[str, ...] = ()
    """Tenants."""
    team: tuple[str, ...] = ()
    """Teams."""
    user: tuple[str, ...] = ()
    """Users."""
    agent: tuple[str, ...] = ()
    """Agents."""
    conversation: tuple[str, ...] = ()
    """Conversations."""
    task: tuple[str, ...] = ()
    """Tasks."""
    key: tuple[str, ...] = ()
    """Ids of virtual keys."""
    model: tuple[str, ...] = ()
    """Models, as the call asks for them."""
    upstream: tuple[str, ...] = ()
    """Upstreams."""
    tag: Any = field(default_factory=dict)
    """Tags: ``{env: prod}``, ``env=prod``, or ``env`` for a bare tag."""

    def __post_init__(self) -> None:
        self.match()

    def match(self) -> Match:
        """As the policy knows it.

        Raises:
            ValueError: a tag cannot be read.
        """
        wanted: dict[str, Sequence[str]] = {
            name: values for name in DIMENSIONS if (values := getattr(self, name))
        }
        for name, values in _tags(self.tag).items():
            wanted[f"{TAG}{name}"] = values
        return Match.of(wanted)


def _tags(given: Any) -> dict[str, tuple[str, ...]]:
    if isinstance(given, Mapping):
        return {
            str(name): tuple(_word(item) for item in value) if isinstance(value, list) else (_word(value),)
            for name, value in given.items()
        }
    found: dict[str, tuple[str, ...]] = {}
    for text in given if isinstance(given, list) else str(given).split(","):
        name, _, value = str(text).partition("=")
        if not name.strip():
            raise ValueError(f"tag: {given!r} is not a tag; write {{env: prod}} or env=prod")
        # A bare tag's value is ``true``, in the header that agents send too.
        found[name.strip()] = (*found.get(name.strip(), ()), value.strip() or "true")
    return found


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetConfig:
    """A limit over a match and a window."""

    name: str
    """What it is called wherever it is spoken of."""
    limit: Amount
    """``25 USD``, ``2M tokens`` or ``1000 calls``."""
    window: WindowText = _TOTAL
    """``hour``, ``day``, ``week``, ``month``, ``total``, ``rolling 6h``, or the life of a ``conversation`` or
    ``task``."""
    timezone: ZoneName = _UTC
    """Whose calendar counts, such as ``Europe/Berlin``."""
    match: MatchConfig = field(default_factory=MatchConfig)
    """Calls that it is for; all where nothing is named."""
    each: Dimension = _NOTHING
    """One counter for each value of this: a dimension, or ``tag:NAME``."""
    at: dict[str, Action] = field(default_factory=dict)
    """What happens at which share: ``{50%: notify, 80%: downgrade, 100%: cut}``."""
    mode: Literal["hard", "soft"] = "hard"
    """A hard one closes when its store is lost; a soft one stays open, and is written to the journal."""
    hold: Literal["auto", "whole", "progressive", "learned"] = "auto"
    """How much a call holds at first: what it may cost at most, a little that grows with the stream, or what
    99 in 100 calls like it cost. Auto: progressive where nothing may exceed the limit, else learned."""
    crossing: Literal["auto", "refuse", "finish"] = "auto"
    """Whether the call that would cross the limit is refused, or may finish as the last one. Auto: finish for
    what one conversation or task may cost, else refuse."""
    unpriced: Literal["charge", "refuse"] = "charge"
    """Whether a model without a known price is charged a careful guess, or refused."""
    lower_max_tokens: bool = False
    """Lower a call's max_tokens to what the room affords."""
    never_for: list[MatchConfig] = field(default_factory=list)
    """Calls that this budget never downgrades."""
    pace: bool = False
    """Make spending last until the window ends, by downgrading a share of the calls."""
    throttle: Rate | None = None
    """How fast calls may spend once ``throttle`` is reached; else what is left, evenly over the window."""

    def __post_init__(self) -> None:
        self.budget()

    def budget(self) -> Budget:
        """As the policy knows it.

        Raises:
            ValueError: its parts do not fit together.
        """
        if self.throttle is not None and self.limit.unit is not Unit.USD:
            raise ValueError("throttle: is in USD, so the limit must be too")
        return Budget(
            name=self.name,
            limit=self.limit.amount,
            unit=self.limit.unit,
            window=Window.parse(self.window, self.timezone),
            match=self.match.match(),
            each=self.each,
            at=tuple(Threshold(_share(text), action) for text, action in self.at.items()),
            hard=self.mode == "hard",
            hold=None if self.hold == "auto" else HoldSize(self.hold),
            crossing=None if self.crossing == "auto" else Crossing(self.crossing),
            refuse_unpriced=self.unpriced == "refuse",
            lower_max_tokens=self.lower_max_tokens,
            never_for=tuple(item.match() for item in self.never_for),
            pace=self.pace,
            throttle_per_minute=self.throttle,
        )


def _share(text: str) -> int:
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"at: {text!r} is not a share; write 80%")
    return int(Decimal(match[1]) * 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class DowngradeConfig:
    """Which models may stand in for others, the best first."""

    from_: tuple[str, ...]
    """Models that may be replaced."""
    to: tuple[str, ...]
    """Models to try, in this order."""
    match: MatchConfig = field(default_factory=MatchConfig)
    """Calls that it is for; all calls of those models where nothing is named."""
    never_for: list[MatchConfig] = field(default_factory=list)
    """Calls that are never downgraded."""

    def __post_init__(self) -> None:
        if not self.from_ or not self.to:
            raise ValueError("needs a model under from and one under to")
        if self.match.model:
            raise ValueError("match.model: the models are those under from")

    def ladder(self) -> Ladder:
        """As the policy knows it."""
        source = Match((("model", self.from_), *self.match.match().wanted))
        return Ladder(source=source, to=self.to, never_for=tuple(item.match() for item in self.never_for))


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleConfig:
    """How fast calls may spend. Each worker of each sidecar counts for itself, so that no call waits for a
    store: of four workers, all four may spend at this rate."""

    name: str
    """What it is called wherever it is spoken of."""
    rate: Rate
    """``0.50 USD/min`` or ``10 USD/hour``."""
    burst: Money | None = None
    """What may be spent at once after a quiet time; one minute's worth where nothing is said."""
    match: MatchConfig = field(default_factory=MatchConfig)
    """Calls that it is for."""
    each: Dimension = _NOTHING
    """One bucket for each value of this."""

    def throttle(self) -> Throttle:
        """As the policy knows it."""
        burst = self.rate if self.burst is None else self.burst
        match = self.match.match()
        return Throttle(
            name=self.name, per_minute=int(self.rate), burst=int(burst), match=match, each=self.each
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyConfig:
    """How many calls may run at once. Each worker of each sidecar counts for itself: four workers may run
    four times as many."""

    name: str
    """What it is called wherever it is spoken of."""
    limit: int
    """Calls."""
    match: MatchConfig = field(default_factory=MatchConfig)
    """Calls that it is for."""
    each: Dimension = _KEY
    """Counted for each value of this."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit: {self.limit} lets nothing through")

    def cap(self) -> ConcurrencyCap:
        """As the policy knows it."""
        return ConcurrencyCap(name=self.name, most=self.limit, match=self.match.match(), each=self.each)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffTrackConfig:
    """What happens to streams that repeat themselves without end or run far past their like."""

    action: Literal["off", "flag", "cut"] = "flag"
    """Whether they are left alone, noted in their record, or ended."""
    match: MatchConfig = field(default_factory=MatchConfig)
    """Calls that it is for."""
    runaway: Literal["off", "flag", "cut"] = "flag"
    """The same for a reply that is only far longer than others of its model and agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunawayConfig:
    """What happens to conversations that run in circles: the same calls, the same results, growing bills."""

    action: Literal["off", "flag", "downgrade", "pause", "cut"] = "flag"
    """``flag`` notes them among the budgets' events; ``downgrade`` sends what follows to a cheaper model, by
    the ladders of ``downgrades``; ``pause`` refuses what follows until somebody lets it go on; ``cut`` also
    ends streams that run."""
    score: Decimal = Decimal(8)
    """Where it acts. A step that repeats an earlier one adds 1 to 1.5, a fresh one takes away; an agent whose
    conversations often stand still is stopped later than others."""
    match: MatchConfig = field(default_factory=MatchConfig)
    """Calls that it is for."""
    never_for: list[MatchConfig] = field(default_factory=list)
    """Calls whose conversations are never stopped."""
    lasts: Duration = Duration(86_400)
    """How long it holds, unless somebody lets the conversation go on before."""

    def __post_init__(self) -> None:
        if not 1 <= self.score <= 40:
            raise ValueError(f"score: {self.score} is not between 1 and 40")


def policy_of(
    budgets: Sequence[BudgetConfig],
    downgrades: Sequence[DowngradeConfig] = (),
    throttles: Sequence[ThrottleConfig] = (),
    concurrency: Sequence[ConcurrencyConfig] = (),
) -> Policy:
    """The policy that a configuration describes.

    Raises:
        ValueError: two rules of one kind have the same name.
    """
    for kind, rules in (("throttles", throttles), ("concurrency", concurrency)):
        names = [rule.name for rule in rules]
        if len(set(names)) < len(names):
            raise ValueError(f"{kind}: two have the same name")
    return Policy(
        budgets=[item.budget() for item in budgets],
        ladders=[item.ladder() for item in downgrades],
        throttles=[item.throttle() for item in throttles],
        caps=[item.cap() for item in concurrency],
    )
