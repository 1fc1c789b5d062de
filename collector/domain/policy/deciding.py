"""Whether a call may go: allow, downgrade, throttle or refuse, always with the reason.

:func:`decide` reads the policy and what is known, and changes nothing. Its caller claims what an ``Allow``
asks of the store, all or nothing; a store without room is told to ``State.refused`` and the call decided
again. The order: what forbids the call altogether, what asks for a cheaper model, what makes it wait, and
last whether there is room on every budget at once.
"""

from typing import NamedTuple

from collector.domain.credit import Claim, Counter, Unit
from collector.domain.policy.asking import Ask
from collector.domain.policy.budget import WHOLE, Action, Budget, DirectiveKind
from collector.domain.policy.experience import NOTHING_KNOWN, Expected
from collector.domain.policy.holding import affordable_output, amount_of, initial_hold, least_hold
from collector.domain.policy.pacing import pace_share, pick, place_of
from collector.domain.policy.plans import (
    DOWNGRADING,
    FIRST,
    SIZES,
    THROTTLING,
    Allow,
    Plan,
    Policy,
    Pour,
    Slot,
)
from collector.domain.policy.rate import wait_us
from collector.domain.policy.state import State
from collector.domain.policy.windows import BUCKETS, WindowKind
from collector.domain.policy.wording import resets_text, time_text, used_up

FINISHING_OUTPUT = 4096
"""Output tokens held, while nothing is known, where the call that crosses the limit may finish anyway."""
LEAST_OUTPUT = 1024
"""``max_tokens`` is not lowered below this: an answer cut shorter is money spent for nothing."""
_FAIR_PART = 64
"""A call whose cap is lowered takes this part of the room, or twice what its like need."""
_AMPLE = 8
"""Where the first hold of a stream is more than this part of the room, it holds the least instead."""
_PERMILLE = 1000
_MINUTE_US = 60_000_000
_SEAT_WAIT_US = 1_000_000
_HELD_WAIT_US = 2_000_000
_tuple = tuple.__new__
"""Makes a named tuple without its own constructor, which costs three times as much."""


class Downgrade(NamedTuple):
    """The call should go to a cheaper model; decide again for the first of these that can do what it asks.

    Where none can, decide again with ``may_downgrade`` off.
    """

    to: tuple[str, ...]
    reason: str
    """``threshold``, ``directive``, ``pace`` or ``no_room``."""
    rule: str
    """The budget's name, or the directive's id."""


class Throttled(NamedTuple):
    """The call may be tried again later: HTTP 429."""

    retry_after_us: int
    reason: str
    """``throttled``, ``too_many_running``, ``room_held``."""
    rule: str
    message: str


class Refuse(NamedTuple):
    """The call must not go, and trying again will not help: HTTP 402."""

    reason: str
    """``budget_exceeded``, ``unpriced_model``, ``paused``, ``store_lost``."""
    rule: str
    """The budget's name, or the directive's id."""
    message: str
    counter: Counter | None = None
    limit: int = 0
    spent: int = 0
    held: int = 0
    resets_us: int | None = None


Decision = Allow | Downgrade | Throttled | Refuse


def decide(policy: Policy, state: State, ask: Ask, now_us: int) -> Decision:
    """What to do with a call. ``now_us`` is the time since the Unix epoch."""
    if state.policy is not policy:
        state.follow(policy)
    plan = state.plan(ask, now_us)
    if not plan.guarded:
        for slot in plan.slots:
            if slot.active:
                break
        else:
            return _admit(state, ask, plan, (), now_us)
    early = _stopped(state, ask, plan, now_us) or _cheaper(ask, plan, now_us)
    if early is not None:
        return early
    waits = _waits(state, ask, plan, now_us)
    if isinstance(waits, Throttled):
        return waits
    return _admit(state, ask, plan, waits, now_us)


def store_lost(counter: Counter) -> Refuse:
    """What a call is told when the store of a hard budget cannot be asked."""
    return Refuse(
        "store_lost",
        counter.budget,
        f"budget {counter.budget!r} cannot be checked at the moment, and it is a hard one",
        counter,
    )


# ---- what forbids a call altogether


def _stopped(state: State, ask: Ask, plan: Plan, now_us: int) -> Refuse | Throttled | None:
    for directive in plan.directives:
        if directive.kind in (DirectiveKind.PAUSE, DirectiveKind.CUT):
            why = f": {directive.reason}" if directive.reason else ""
            message = f"calls of this kind are paused until {time_text(directive.expires_us)}{why}"
            return Refuse("paused", directive.id, message, resets_us=directive.expires_us)
    if not ask.priced:
        for slot in plan.slots:
            if slot.budget.refuse_unpriced:
                name = slot.budget.name
                message = f"model {ask.model!r} has no known price, and budget {name!r} refuses such models"
                return Refuse("unpriced_model", name, message, slot.counter)
    for cap, seat in plan.caps:
        if state.running(seat) >= cap.most:
            message = f"{cap.most} calls are running, the most that {cap.name!r} allows at once"
            return Throttled(_SEAT_WAIT_US, "too_many_running", cap.name, message)
    return None


# ---- what asks for a cheaper model


def _cheaper(ask: Ask, plan: Plan, now_us: int) -> Downgrade | None:
    if not ask.may_downgrade:
        return None
    for directive in plan.directives:
        if directive.kind is not DirectiveKind.DOWNGRADE or place_of(ask.call_id) >= directive.share:
            continue
        to = tuple(model for model in directive.to if model != ask.model) or plan.ladder
        if to:
            return Downgrade(to, "directive", directive.id)
    if not plan.ladder:
        return None
    for slot, spared in zip(plan.slots, plan.spared, strict=True):
        if slot.active & DOWNGRADING and not spared:
            return Downgrade(plan.ladder, "threshold", slot.budget.name)
    for slot, spared in zip(plan.slots, plan.spared, strict=True):
        ends = slot.counter.ends_us
        if not slot.budget.pace or spared or ends is None:
            continue
        share = pace_share(slot.spent, slot.full, now_us, slot.counter.starts_us, ends)
        to = pick(plan.ladder, ask.call_id, share)
        if to:
            return Downgrade(to, "pace", slot.budget.name)
    return None


# ---- what makes a call wait


def _waits(state: State, ask: Ask, plan: Plan, now_us: int) -> tuple[Pour, ...] | Throttled:
    expected = state.experience.expected(ask.model, ask.agent, ask.api, ask.continues)
    output = min(ask.output_cap, expected.output_typical or LEAST_OUTPUT)
    usual = amount_of(Unit.USD, ask, output, ask.input_pico)
    asked: list[tuple[Pour, int, str]] = []
    for throttle, key in plan.throttles:
        asked.append((Pour(key, throttle.per_minute, usual, -1), throttle.burst, throttle.name))
    for directive in plan.directives:
        if directive.kind is DirectiveKind.THROTTLE:
            pour = Pour(("directive", directive.id), directive.per_minute, usual, -1)
            asked.append((pour, directive.per_minute, directive.id))
    for index, slot in enumerate(plan.slots):
        if slot.active & THROTTLING:
            rate = _steered(slot, now_us)
            amount = amount_of(slot.budget.unit, ask, output, ask.input_pico)
            asked.append((Pour(("budget", slot.counter.key), rate, amount, index), rate, slot.budget.name))
    for pour, burst, name in asked:
        wait = wait_us(state.full_us(pour.key), now_us, pour.amount, pour.per_minute, burst)
        if wait:
            message = f"{name!r} slows spending down; try again in {-(-wait // 1_000_000)} s"
            return Throttled(wait, "throttled", name, message)
    return tuple(pour for pour, _, _ in asked)


def _steered(slot: Slot, now_us: int) -> int:
    """What a minute may cost under a budget that throttles."""
    if slot.budget.throttle_per_minute is not None:
        return slot.budget.throttle_per_minute
    if slot.counter.bucket_us:
        return max(1, slot.full * _MINUTE_US // (BUCKETS * slot.counter.bucket_us))
    if slot.counter.ends_us is None:
        return max(1, slot.full // 100)
    left_us = max(slot.counter.ends_us - now_us, _MINUTE_US)
    return max(1, (slot.full - slot.spent) * _MINUTE_US // left_us)


# ---- whether there is room


_Sizes = tuple[tuple[int, ...], tuple[int, ...]]
"""Output tokens, and cost of the input in pico-USD, by how budgets size a hold."""


class _Short(NamedTuple):
    """A budget without room."""

    slot: Slot
    need: int
    room: int


def _admit(state: State, ask: Ask, plan: Plan, pours: tuple[Pour, ...], now_us: int) -> Decision:
    expected = NOTHING_KNOWN
    if plan.learns:
        expected = state.experience.expected(ask.model, ask.agent, ask.api, ask.continues)
    cap = ask.output_cap
    if plan.lowers:
        cap = _lowered_cap(ask, plan.slots, expected, now_us)
    sizes = _sizes(ask, expected, cap)
    claims, short, tight = _fit(ask, plan, sizes, now_us)
    if (tight or short) and ask.stream:
        least = least_hold(cap)
        outputs, picos = sizes
        sizes = (cap, least, *outputs[2:4], least), picos
        claims, short, _ = _fit(ask, plan, sizes, now_us)
    if short:
        return _without_room(ask, plan, short, now_us)
    lowered = cap // max(1, ask.choices) if cap < ask.output_cap else None
    seats = tuple(seat for _, seat in plan.caps) if plan.caps else ()
    growing = plan.growing if ask.stream else ()
    output = sizes[0][FIRST] if growing else cap
    return _tuple(Allow, (tuple(claims), lowered, cap, output, growing, plan.slots, pours, seats))


def _sizes(ask: Ask, expected: Expected, cap: int) -> _Sizes:
    typical, high, input_high = expected
    finishing = FINISHING_OUTPUT if high is None else high
    if finishing > cap:
        finishing = cap
    if high is None or high > cap:
        high = cap
    pico = likely = ask.input_pico
    if input_high is not None and input_high < _PERMILLE:
        likely = -(-pico * input_high // _PERMILLE)
    first = initial_hold(cap, typical) if ask.stream else cap
    return (cap, first, high, finishing, first), (pico, pico, likely, likely, likely)


def _fit(ask: Ask, plan: Plan, sizes: _Sizes, now_us: int) -> tuple[list[Claim], list[_Short], bool]:
    """Claims on every budget, those without room, and whether streams should hold less."""
    claims: list[Claim] = []
    short: list[_Short] = []
    tight = False
    outputs, picos = sizes
    needs = [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1]
    for slot, kind in plan.streamed if ask.stream else plan.whole:
        need = needs[kind]
        if need < 0:
            if kind < SIZES:
                need = -(-(picos[kind] + outputs[kind] * ask.output_pico) // 1000)
            else:
                need = ask.input_tokens + outputs[kind - SIZES]
            needs[kind] = need
        if now_us < slot.exact_until_us:
            room = slot.entry - slot.spent - slot.held
            if need * _AMPLE > room:
                if need <= room:
                    tight = True
                elif slot.finishes and room > 0:
                    need = room
                else:
                    short.append(_Short(slot, need, room))
        claims.append(_tuple(Claim, (slot.counter, need)))
    return claims, short, tight


def _lowered_cap(ask: Ask, slots: tuple[Slot, ...], expected: Expected, now_us: int) -> int:
    """The call's cap, lowered where a budget says so and could not bear many calls like it."""
    cap = ask.output_cap
    for slot in slots:
        if not slot.budget.lower_max_tokens or (ask.stream and slot.grows):
            continue
        if now_us >= slot.exact_until_us:
            continue
        affordable = affordable_output(slot.budget.unit, ask, slot.room)
        if affordable < LEAST_OUTPUT or ask.output_cap * _AMPLE <= affordable:
            continue
        fair = max(affordable // _FAIR_PART, 2 * (expected.output_high or 0), LEAST_OUTPUT * ask.choices)
        cap = min(cap, fair, affordable)
    return cap


def _without_room(ask: Ask, plan: Plan, short: list[_Short], now_us: int) -> Decision:
    """The tightest budget is named: the one whose room is the smallest part of what the call needs."""
    tightest = min(short, key=lambda one: one.room * WHOLE // max(1, one.need))
    slot = tightest.slot
    if ask.may_downgrade and plan.ladder and _may_rescue(plan, short):
        return Downgrade(plan.ladder, "no_room", slot.budget.name)
    if slot.finishes and slot.spent < slot.entry:
        message = f"calls that are running hold what is left of budget {slot.budget.name!r}; try again soon"
        return Throttled(_HELD_WAIT_US, "room_held", slot.budget.name, message)
    return refusal(slot)


def _may_rescue(plan: Plan, short: list[_Short]) -> bool:
    """Whether every budget without room would rather have the call on a cheaper model."""
    spared = {id(slot) for slot, is_spared in zip(plan.slots, plan.spared, strict=True) if is_spared}
    return all(
        id(one.slot) not in spared
        and one.slot.budget.unit is Unit.USD
        and _downgrades(one.slot.budget)
        and one.room > 0
        for one in short
    )


def _downgrades(budget: Budget) -> bool:
    return budget.pace or any(threshold.action is Action.DOWNGRADE for threshold in budget.at)


def refusal(slot: Slot) -> Refuse:
    """What a call is told that found no room."""
    counter, budget = slot.counter, slot.budget
    resets = resets_text(
        counter.ends_us, str(budget.window), rolling=budget.window.kind is WindowKind.ROLLING
    )
    message = used_up(
        budget.name,
        counter.subject,
        counter.unit,
        slot.entry,
        slot.spent,
        slot.held,
        resets,
        is_entry=slot.entry < slot.full,
    )
    return Refuse(
        "budget_exceeded",
        budget.name,
        message,
        counter,
        slot.entry,
        slot.spent,
        slot.held,
        counter.ends_us,
    )
