"""What one process knows while calls run: how budgets stand, which directives hold, what is under way.

Nothing in here asks a store or a clock; whoever does tells what came of it. For every combination of
what the rules ask about a call there is a *plan*: the counters it touches, its ladder, its throttles. A
plan is worked out once and holds until a window ends or a rule begins or ends, so an ordinary call costs
one look into a dictionary.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

from collector.domain.credit import Counter, Standing
from collector.domain.policy.asking import Ask
from collector.domain.policy.budget import Budget, Directive, DirectiveKind, Raise
from collector.domain.policy.counting import counter_of, subject_of
from collector.domain.policy.experience import Experience
from collector.domain.policy.holding import Extension
from collector.domain.policy.levels import level_after
from collector.domain.policy.plans import (
    ACTIVE,
    FOREVER,
    Allow,
    Crossed,
    Plan,
    Policy,
    Slot,
    key_by,
    ladder_for,
)
from collector.domain.policy.rate import poured
from collector.domain.policy.windows import BUCKETS, span_at

_PLANS = 4096
"""Kinds of calls whose plan is remembered."""


class State:
    """Mutable, for one process and its one thread; bounded."""

    __slots__ = (
        "_answered",
        "_asked",
        "_capacity",
        "_directives",
        "_full_us",
        "_key",
        "_plans",
        "_raises",
        "_running",
        "_slots",
        "_trust_us",
        "_untold",
        "experience",
        "policy",
    )

    def __init__(
        self,
        policy: Policy,
        *,
        experience: Experience | None = None,
        trust_us: int = FOREVER,
        capacity: int = 16_384,
    ) -> None:
        """Begin with nothing spent.

        Args:
            policy: the rules.
            experience: how long replies were so far.
            trust_us: how long what a shared store said may be relied on to refuse a call; for ever
                when this process is the store.
            capacity: counters that are remembered.
        """
        self.policy = policy
        self.experience = experience if experience is not None else Experience()
        self._capacity = capacity
        self._trust_us = trust_us
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._asked: Ask | None = None
        self._answered: Plan | None = None
        self._slots: OrderedDict[str, Slot] = OrderedDict()
        self._directives: dict[str, Directive] = {}
        self._raises: dict[str, Raise] = {}
        self._full_us: OrderedDict[Hashable, int] = OrderedDict()
        self._running: dict[Hashable, int] = {}
        self._untold: list[Crossed] = []
        """Thresholds that were reached because a raise ended or a limit fell, until somebody asks."""
        self._forget_plans()

    # -- rules

    def follow(self, policy: Policy) -> None:
        """Take up a new configuration; what was spent stays known, and what running calls hold."""
        self.policy = policy
        for key, slot in list(self._slots.items()):
            budget = policy.by_name.get(slot.budget.name)
            if budget is None or budget.unit is not slot.budget.unit:
                del self._slots[key]
                continue
            # The same object, since running calls will settle on it.
            slot.follow(budget, slot.counter._replace(hard=budget.hard))
            slot.level = min(slot.level, len(budget.at))
            reached = self._look(slot)
            self._untold += reached
        self._forget_plans()

    def direct(self, directive: Directive) -> None:
        """Take up a directive, or a newer version of it."""
        self._directives.pop(directive.id, None)
        self._directives[directive.id] = directive
        if len(self._directives) > self._capacity:
            del self._directives[min(self._directives.values(), key=lambda one: one.expires_us).id]
        self._forget_plans()

    def withdraw(self, directive_id: str) -> bool:
        """Drop a directive before it expires; whether there was one."""
        found = self._directives.pop(directive_id, None) is not None
        self._forget_plans()
        return found

    def directives(self, now_us: int) -> tuple[Directive, ...]:
        """Those that hold."""
        return tuple(one for one in self._directives.values() if now_us < one.expires_us)

    def raise_limit(self, more: Raise) -> None:
        """Give a budget more room until the raise ends."""
        self._raises[more.id] = more
        if len(self._raises) > self._capacity:
            del self._raises[min(self._raises.values(), key=lambda one: one.until_us).id]
        self._forget_plans()

    def lower_limit(self, raise_id: str) -> bool:
        """Take a raise back; whether there was one."""
        found = self._raises.pop(raise_id, None) is not None
        self._forget_plans()
        return found

    def raises(self, now_us: int) -> tuple[Raise, ...]:
        """Those that hold or will."""
        return tuple(one for one in self._raises.values() if now_us < one.until_us)

    def directive_cutting(self, ask: Ask, now_us: int) -> Directive | None:
        """What demands that a running call ends; None when nothing does."""
        plan = self.plan(ask, now_us)
        return next((one for one in plan.directives if one.kind is DirectiveKind.CUT), None)

    # -- plans

    def plan(self, ask: Ask, now_us: int) -> Plan:
        """The rules that a call meets now."""
        # A call is looked at more than once, and nothing that a plan depends on changes in an ask.
        if ask is self._asked:
            plan = self._answered
        else:
            self._asked, key = ask, self._key(ask)
            plan = self._answered = self._plans.get(key)
        if plan is None or not plan.from_us <= now_us < plan.until_us:
            plan = self._answered = self._plans[self._key(ask)] = self._planned(ask, now_us)
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return plan

    def _forget_plans(self) -> None:
        self._plans.clear()
        self._asked = self._answered = None
        names = set(self.policy.names)
        for directive in self._directives.values():
            names.update(directive.match.names)
        self._key = key_by(sorted(names))

    def _planned(self, ask: Ask, now_us: int) -> Plan:
        for kept in (self._directives, self._raises):
            ended = [key for key, one in kept.items() if _end_of(one) <= now_us]
            for key in ended:
                del kept[key]
        policy = self.policy
        until = [FOREVER]
        slots, spared = [], []
        begins = 0
        for budget in policy.budgets:
            counter = counter_of(budget, ask, now_us) if budget.match.accepts(ask) else None
            if counter is None:
                continue
            slots.append(self._slot(budget, counter, now_us, until))
            spared.append(any(match.accepts(ask) for match in budget.never_for))
            begins = max(begins, counter.starts_us + max(0, BUCKETS - 1) * counter.bucket_us)
            until.append(slots[-1].bucket_ends_us if counter.ends_us is None else counter.ends_us)
        plan = Plan(tuple(slots), tuple(spared), ladder_for(policy.ladders, ask))
        plan.throttles = tuple(
            (rule, (rule.name, subject_of(rule.each, ask)))
            for rule in policy.throttles
            if rule.match.accepts(ask)
        )
        plan.caps = tuple(
            (rule, (rule.name, subject_of(rule.each, ask))) for rule in policy.caps if rule.match.accepts(ask)
        )
        plan.directives = tuple(one for one in self._directives.values() if one.match.accepts(ask))
        plan.guarded = bool(plan.throttles or plan.caps or plan.directives or plan.paced) or any(
            slot.budget.refuse_unpriced for slot in slots
        )
        plan.from_us = begins
        # A directive that does not match now may still not match later: only matching ones bound the plan.
        plan.until_us = min((*until, *(one.expires_us for one in plan.directives)))
        return plan

    def _slot(self, budget: Budget, counter: Counter, now_us: int, until: list[int]) -> Slot:
        slot = self._slot_of(budget, counter)
        full = budget.limit
        for one in self._raises.values():
            if one.budget == budget.name and one.subject in ("", counter.subject):
                if one.from_us <= now_us:
                    full += one.amount
                    until.append(one.until_us)
                else:
                    until.append(one.from_us)
        rolled = slot.roll(counter)
        if full != slot.full:
            slot.limit_to(slot.counter, full)
            rolled = True
        if rolled:
            reached = self._look(slot)
            self._untold += reached
        return slot

    def _slot_of(self, budget: Budget, counter: Counter) -> Slot:
        slot = self._slots.get(counter.key)
        if slot is None:
            slot = self._slots[counter.key] = Slot(budget, counter)
            if self._trust_us < FOREVER:
                slot.exact_until_us = 0
            if len(self._slots) > self._capacity:
                self._forget_slots()
        else:
            self._slots.move_to_end(counter.key)
        return slot

    def _forget_slots(self) -> None:
        # Many at once, since every plan has to be worked out anew; those that hold something stay.
        idle = [key for key, slot in self._slots.items() if not slot.held]
        for key in idle[: max(1, self._capacity // 4)]:
            del self._slots[key]
        self._plans.clear()
        self._asked = self._answered = None

    # -- what came of it

    def claimed(self, allow: Allow, now_us: int) -> None:
        """Every claim was granted: the call runs."""
        claims, _, _, _, _, slots, pours, seats = allow
        place = 0
        for slot in slots:  # counting is faster here than zip
            slot.held += claims[place][1]
            place += 1  # noqa: SIM113
        for seat in seats:
            self._running[seat] = self._running.get(seat, 0) + 1
        for pour in pours:
            self._pour(pour.key, pour.amount, pour.per_minute, now_us)

    def leave_seats(self, allow: Allow) -> None:
        """For a moment the call does not count against the caps on how many may run."""
        for seat in allow.seats:
            self._running[seat] = self._running.get(seat, 0) - 1

    def take_seats(self, allow: Allow) -> None:
        """It counts again."""
        for seat in allow.seats:
            self._running[seat] = self._running.get(seat, 0) + 1

    def extended(self, allow: Allow, more: Extension) -> None:
        """An extension was granted."""
        for index, claim in zip(allow.growing, more.claims, strict=True):
            allow.slots[index].held += claim.amount

    def settled(
        self, allow: Allow, held: Sequence[int], charges: Sequence[int], cost_nano: int, now_us: int
    ) -> tuple[Crossed, ...]:
        """A call has ended; the thresholds that its charges reached.

        Args:
            allow: what let it in.
            held: what it held at its end, for each claim.
            charges: what it cost, for each claim.
            cost_nano: what it cost in all, in nano-USD.
            now_us: since the Unix epoch.
        """
        crossed, self._untold = self._untold, []
        claims, _, _, _, _, slots, pours, seats = allow
        place = 0
        for slot in slots:  # counting is faster here than zip
            left = slot.held - held[place]
            slot.held = left if left > 0 else 0
            if slot.buckets is None:
                slot.spent += charges[place]
            else:
                slot.charge(claims[place].counter, charges[place])
            if slot.told:
                crossed += self._look(slot)
            place += 1  # noqa: SIM113
        for seat in seats:
            left = self._running.get(seat, 0) - 1
            if left > 0:
                self._running[seat] = left
            else:
                self._running.pop(seat, None)
        for pour in pours:
            actual = cost_nano if pour.claim < 0 else charges[pour.claim]
            self._pour(pour.key, actual - pour.amount, pour.per_minute, now_us)
        return tuple(crossed)

    def corrected(self, counter: Counter, amount: int) -> tuple[Crossed, ...]:
        """What a counter spent was corrected by ``amount``; the thresholds that are reached by it."""
        slot = self._slots.get(counter.key)
        if slot is None:
            return ()
        slot.charge(counter, amount)
        return tuple(self._look(slot))

    def note(self, standing: Standing, now_us: int) -> tuple[Crossed, ...]:
        """A store said how a counter stands; the thresholds that are reached by it."""
        budget = self.policy.by_name.get(standing.counter.budget)
        if budget is None:
            return ()
        slot = self._slot_of(budget, standing.counter)
        slot.spent, slot.held = standing.spent, standing.held
        slot.exact_until_us = self._trusted_until(slot, now_us) if standing.exact else 0
        if slot.buckets is not None:
            slot.roll(standing.counter)
            # When it was spent is not said: it counts until the window has passed, or the store says less.
            slot.buckets = {slot.counter.starts_us // slot.counter.bucket_us + BUCKETS - 1: standing.spent}
            slot.spent = standing.spent
        crossed, self._untold = self._untold, []
        return (*crossed, *self._look(slot))

    def refused(self, counter: Counter, room: int, now_us: int) -> None:
        """A store had no room: asked again soon, :func:`decide` knows that too."""
        slot = self._slots.get(counter.key)
        if slot is None:
            return
        stop = slot.counter.limit
        slot.held = max(0, stop - slot.spent - room)
        slot.spent = min(slot.spent, stop - room)
        slot.exact_until_us = self._trusted_until(slot, now_us)

    def _trusted_until(self, slot: Slot, now_us: int) -> int:
        # What leaves a rolling window at the end of a bucket only the store knows, once it was asked.
        return min(now_us + self._trust_us, slot.bucket_ends_us)

    def _look(self, slot: Slot) -> list[Crossed]:
        thresholds = slot.budget.at
        level = level_after(thresholds, slot.level, slot.spent, slot.full)
        if level == slot.level:
            return []
        reached = thresholds[slot.level : level]
        if level < slot.level and self._untold:
            left = thresholds[level:]
            self._untold = [
                one
                for one in self._untold
                if one.counter.key != slot.counter.key or one.threshold not in left
            ]
        slot.level = level
        slot.active = 0
        for threshold in thresholds[:level]:
            slot.active |= ACTIVE.get(threshold.action, 0)
        return [Crossed(slot.counter, threshold, slot.spent, slot.full) for threshold in reached]

    # -- throttles and caps

    def full_us(self, key: Hashable) -> int:
        """When a throttle's bucket is full again."""
        return self._full_us.get(key, 0)

    def running(self, seat: Hashable) -> int:
        """Calls that count against a cap now."""
        return self._running.get(seat, 0)

    def _pour(self, key: Hashable, amount: int, per_minute: int, now_us: int) -> None:
        self._full_us[key] = poured(self._full_us.get(key, 0), now_us, amount, per_minute)
        if len(self._full_us) > self._capacity:
            self._full_us.popitem(last=False)

    # -- for people

    def standings(self, now_us: int) -> tuple[Standing, ...]:
        """How every counter stands that is known here."""
        for slot in self._slots.values():
            if slot.buckets is not None:
                span = span_at(slot.budget.window, now_us)
                slot.roll(slot.counter._replace(starts_us=span.starts_us))
        return tuple(slot.standing for slot in self._slots.values())

    def slots(self) -> tuple[Slot, ...]:
        """Every counter that is known here."""
        return tuple(self._slots.values())

    def full_at(self, slot: Slot, now_us: int) -> int:
        """The limit of a counter with the raises that hold, as the next call will meet it."""
        counter = slot.counter
        return slot.budget.limit + sum(
            one.amount
            for one in self._raises.values()
            if one.budget == counter.budget
            and one.subject in ("", counter.subject)
            and one.from_us <= now_us < one.until_us
        )

    def slots_of(self, ask: Ask, now_us: int) -> tuple[Slot, ...]:
        """The counters that a call would touch."""
        return self.plan(ask, now_us).slots


def _end_of(rule: Directive | Raise) -> int:
    return rule.expires_us if isinstance(rule, Directive) else rule.until_us
