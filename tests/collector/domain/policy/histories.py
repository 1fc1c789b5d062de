"""Random histories of calls, budgets and raises, run through the policy and beside it through plain books.

The books do everything the long way: they look at every budget for every call, know a window by the
local date of its admission, keep money as fractions, and recount after every step. What the policy says is
compared with them; :class:`Violation` tells the first difference. Streams are produced as providers do it:
when a chunk is seen, the next one is already made and will be billed.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil
from zoneinfo import ZoneInfo

from collector.domain.credit import Claim, Counter, Unit
from collector.domain.policy import (
    Action,
    Allow,
    Ask,
    Budget,
    Crossing,
    HoldSize,
    Lease,
    Match,
    Policy,
    Raise,
    Refuse,
    State,
    Threshold,
    Throttled,
    Window,
    decide,
)

QUANTUM = 256
HOUR_US = 3_600_000_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
WINDOWS = ("hour", "day", "week", "month", "total", "conversation", "rolling 3h")
BEGINNINGS = (
    (datetime(2026, 3, 28, 20, tzinfo=UTC), "Europe/Berlin"),  # springs forward
    (datetime(2026, 10, 24, 18, tzinfo=UTC), "Europe/Berlin"),  # falls back
    (datetime(2026, 10, 25, 0, tzinfo=UTC), "Europe/Berlin"),  # in the hour that comes twice
    (datetime(2026, 11, 1, 5, tzinfo=UTC), "America/New_York"),  # the same there
    (datetime(2026, 10, 31, 20, tzinfo=UTC), "America/New_York"),  # and a month ends
    (datetime(2026, 4, 4, 14, tzinfo=UTC), "Australia/Lord_Howe"),  # by half an hour
    (datetime(2028, 2, 28, 20, tzinfo=UTC), "UTC"),  # a leap day
    (datetime(2026, 12, 31, 20, tzinfo=UTC), "Asia/Kolkata"),
)


class Violation(AssertionError):
    """The policy and the books disagree."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)


@dataclass
class Entry:
    """One counter, in the books."""

    charges: list[tuple[int, int]] = field(default_factory=list)
    """When each call was let in, and what it cost."""
    rolling_us: int = 0
    held: int = 0
    told: set[int] = field(default_factory=set)

    def spent(self, now_us: int) -> int:
        if not self.rolling_us:
            return sum(charge for _, charge in self.charges)
        bucket_us = self.rolling_us // 24
        return sum(charge for at, charge in self.charges if at // bucket_us > now_us // bucket_us - 24)


@dataclass
class Running:
    """One call under way."""

    ask: Ask
    allow: Allow
    lease: Lease
    entries: list[tuple[Budget, Entry]]
    chunks: list[int]
    """What the provider will make, if nobody stops it."""
    began_us: int
    seen: int = 0
    at: int = 0


class History:
    """One random history; ``run`` raises on the first violation."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        begins, self.zone = self.dice.choice(BEGINNINGS)
        self.now_us = int(begins.timestamp()) * 1_000_000 + self.dice.randrange(10**6)
        self.price = self.dice.randrange(101, 9_999)
        self.usual = 3_000 * self.price // 1000
        self.policy = Policy(budgets=[self.budget(number) for number in range(self.dice.randint(1, 5))])
        self.state = State(self.policy)
        self.raises: list[Raise] = []
        self.books: dict[tuple[object, ...], Entry] = {}
        self.running: list[Running] = []
        self.keys: dict[str, tuple[object, ...]] = {}
        self.decisions: dict[str, int] = {}

    def run(self, steps: int = 80) -> None:
        for _ in range(steps):
            self.step()
            self.compare()
        while self.running:
            self.go_on(self.running[0])
        self.compare()
        check(all(entry.held == 0 for entry in self.books.values()), "something is still held")

    # -- making it up

    def budget(self, number: int) -> Budget:
        dice = self.dice
        unit = dice.choice((Unit.USD, Unit.USD, Unit.USD, Unit.TOKENS, Unit.CALLS))
        scale = {Unit.USD: self.usual, Unit.TOKENS: 3_000, Unit.CALLS: 1}[unit]
        shares = sorted(dice.sample((2_500, 5_000, 7_777, 9_000), dice.randint(0, 3)))
        at = [Threshold(share, Action.NOTIFY) for share in shares]
        end = dice.choice((None, 10_000, 8_000))
        if end and end not in shares:
            at.append(Threshold(end, dice.choice((Action.REFUSE, Action.CUT))))
        return Budget(
            name=f"budget-{number}",
            limit=max(1, scale * dice.choice((1, 2, 3, 5, 8, 20)) + dice.randrange(scale)),
            unit=unit,
            window=Window.parse(dice.choice(WINDOWS), dice.choice((self.zone, dice.choice(ZONES)))),
            match=Match.of(
                dice.choice(({}, {}, {"team": "search"}, {"agent": ("a", "b")}, {"tag:env": "p*"}))
            ),
            each=dice.choice(("", "", "agent", "user", "tag:env")),
            at=tuple(at),
            hard=dice.random() < 0.8,
            hold=dice.choice((None, HoldSize.WHOLE, HoldSize.PROGRESSIVE)),
            crossing=dice.choice((None, None, Crossing.REFUSE, Crossing.FINISH)),
        )

    def ask(self) -> Ask:
        dice = self.dice
        return Ask(
            call_id=f"{dice.getrandbits(64):016x}",
            model="m",
            team=dice.choice(("search", "shop")),
            agent=dice.choice(("a", "b", "c", "")),
            user=dice.choice(("u", "v", "")),
            conversation=dice.choice(("k1", "k2", "k3", "")),
            tags=dice.choice(({}, {"env": "prod"}, {"env": "test"})),
            stream=dice.random() < 0.6,
            input_tokens=(tokens := dice.randrange(400)),
            input_pico=tokens * (self.price // 3) + dice.randrange(1000),
            output_cap=dice.choice((1, 255, 700, 1_500, 4_000, 6_000)),
            output_pico=self.price,
        )

    def step(self) -> None:
        move = self.dice.random()
        if move < 0.45:
            self.begin()
        elif move < 0.85 and self.running:
            self.go_on(self.dice.choice(self.running))
        elif move < 0.95:
            self.now_us += self.dice.choice(
                (1, 10**6, HOUR_US // 4, HOUR_US, 23 * HOUR_US // 8, 5 * HOUR_US, 13 * HOUR_US)
            )
        else:
            self.more_room()

    def more_room(self) -> None:
        budget = self.dice.choice(self.policy.budgets)
        begins = self.now_us + self.dice.choice((0, 0, HOUR_US))
        more = Raise(
            id=f"raise-{len(self.raises)}",
            budget=budget.name,
            subject=self.dice.choice(("", "", "a", "u")) if budget.each else "",
            amount=max(1, budget.limit // 2),
            from_us=begins,
            until_us=begins + self.dice.choice((HOUR_US, 6 * HOUR_US)),
        )
        self.raises.append(more)
        self.state.raise_limit(more)

    # -- the long way

    def concerned(self, ask: Ask) -> list[tuple[Budget, tuple[object, ...]]]:
        """The budgets for a call, and which of their counters it touches."""
        found = []
        for budget in self.policy.budgets:
            if not all(wanted(ask, name, accepted) for name, accepted in budget.match.wanted):
                continue
            if budget.window.kind == "conversation" and not ask.conversation:
                continue
            subject = said(ask, budget.each) if budget.each else ""
            found.append((budget, (budget.name, subject, self.window(budget, ask, self.now_us))))
        return found

    def window(self, budget: Budget, ask: Ask, at_us: int) -> object:
        utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
        local = utc.astimezone(ZoneInfo(budget.window.zone))
        kind = budget.window.kind
        if kind == "hour":
            return local.date(), local.hour, local.utcoffset()
        if kind == "day":
            return local.date()
        if kind == "week":
            return local.isocalendar()[:2]
        if kind == "month":
            return local.year, local.month
        return ask.conversation if kind == "conversation" else "for ever"

    def limit(self, budget: Budget, subject: object, share: int) -> int:
        more = sum(
            one.amount
            for one in self.raises
            if one.budget == budget.name
            and one.subject in ("", subject)
            and one.from_us <= self.now_us < one.until_us
        )
        return (budget.limit + more) * share // 10_000

    def need(self, budget: Budget, ask: Ask, output: int) -> int:
        if budget.unit is Unit.USD:
            return ceil(Fraction(ask.input_pico + output * ask.output_pico, 1000))
        return ask.input_tokens + output if budget.unit is Unit.TOKENS else 1

    def unknown(self, budget: Budget, ask: Ask) -> int:
        """Output that a call holds which does not grow, while nothing is known of its like."""
        careless = budget.finishes and budget.size is HoldSize.LEARNED
        return min(ask.output_cap, 4096) if careless else ask.output_cap

    # -- calls

    def begin(self) -> None:
        ask = self.ask()
        concerned = self.concerned(ask)
        decision = decide(self.policy, self.state, ask, self.now_us)
        self.decisions[type(decision).__name__] = self.decisions.get(type(decision).__name__, 0) + 1
        if isinstance(decision, Allow):
            self.admitted(ask, decision, concerned)
        elif isinstance(decision, Refuse | Throttled):
            self.turned_away(ask, decision, concerned)
        else:
            raise Violation(f"{decision} though nothing could be downgraded")

    def admitted(self, ask: Ask, allow: Allow, concerned: list[tuple[Budget, tuple[object, ...]]]) -> None:
        names = [claim.counter.budget for claim in allow.claims]
        check(names == [budget.name for budget, _ in concerned], f"claims on {names} only")
        entries = []
        for index, ((budget, key), claim) in enumerate(zip(concerned, allow.claims, strict=True)):
            entry = self.books.setdefault(key, Entry(rolling_us=budget.window.length_us))
            check(self.keys.setdefault(claim.counter.key, key) == key, f"{claim.counter.key} for {key}")
            self.bounds(budget, ask, claim.counter)
            grows = ask.stream and budget.grows
            check((index in allow.growing) == grows, f"{budget.name}: growing is {index in allow.growing}")
            room = self.limit(budget, key[1], budget.entry_share) - entry.spent(self.now_us) - entry.held
            output = allow.output_tokens if grows else self.unknown(budget, ask)
            need = self.need(budget, ask, output)
            if budget.enforced:
                check(room > 0 or need <= room, f"{budget.name}: let in with room {room}")
                if budget.finishes:
                    need = min(need, room)
                check(claim.amount <= room, f"{budget.name}: {claim.amount} of room {room}")
            check(claim.amount == need, f"{budget.name}: held {claim.amount} instead of {need}")
            entry.held += claim.amount
            entries.append((budget, entry))
        if allow.growing:
            check(allow.output_tokens >= min(ask.output_cap, 3 * QUANTUM), "a stream began with too little")
        self.state.claimed(allow, self.now_us)
        lease = Lease(ask, allow.claims, allow.growing, allow.output_tokens, allow.output_cap)
        self.running.append(Running(ask, allow, lease, entries, self.chunks(ask.output_cap), self.now_us))

    def bounds(self, budget: Budget, ask: Ask, counter: Counter) -> None:
        """A window is what has one local date, no more and no less."""
        if counter.bucket_us:
            oldest = self.now_us // counter.bucket_us - 23
            check(counter.starts_us == oldest * counter.bucket_us, f"{counter} is not 24 buckets")
        if counter.ends_us is None:
            return
        here = self.window(budget, ask, self.now_us)
        check(counter.starts_us <= self.now_us < counter.ends_us, f"{counter} at {self.now_us}")
        for inside in (counter.starts_us, counter.ends_us - 1):
            check(self.window(budget, ask, inside) == here, f"{counter} is too long")
        for outside in (counter.starts_us - 1, counter.ends_us):
            check(self.window(budget, ask, outside) != here, f"{counter} is too short")

    def turned_away(
        self, ask: Ask, answer: Refuse | Throttled, concerned: list[tuple[Budget, tuple[object, ...]]]
    ) -> None:
        short = []
        for budget, key in concerned:
            entry = self.books.get(key, Entry())
            room = self.limit(budget, key[1], budget.entry_share) - entry.spent(self.now_us) - entry.held
            output = self.unknown(budget, ask)
            if ask.stream and budget.grows:
                output = min(ask.output_cap, 3 * QUANTUM)
            need = self.need(budget, ask, output)
            if budget.enforced and need > room and not (budget.finishes and room > 0):
                short.append((room * 10_000 // need, budget.name))
        check(bool(short), f"{answer} though there was room")
        check(answer.rule == min(short, key=lambda one: one[0])[1], f"{answer.rule} named, of {short}")

    def chunks(self, cap: int) -> list[int]:
        left, made = self.dice.randint(0, cap), []
        while left > 0:
            made.append(min(left, self.dice.randint(1, QUANTUM) if self.dice.random() < 0.7 else QUANTUM))
            left -= made[-1]
        return made

    def go_on(self, call: Running) -> None:
        if not call.ask.stream:
            return self.end(call, sum(call.chunks))
        if call.at >= len(call.chunks):
            return self.end(call, call.seen)
        call.seen += call.chunks[call.at]
        call.at += 1
        under_way = call.chunks[call.at] if call.at < len(call.chunks) else 0
        asks = call.seen >= call.lease.extend_at
        more = call.lease.extension(call.seen)
        check(asks == (more is not None), f"extend_at {call.lease.extend_at} at {call.seen}")
        if more is not None and self.granted(call, more.claims):
            call.lease.extended(more)
            self.state.extended(call.allow, more)
            for index in call.allow.growing:
                budget, _ = call.entries[index]
                need = self.need(budget, call.ask, more.output_tokens)
                check(call.lease.amounts[index] == need, f"{budget.name}: an extension held not {need}")
        self.covers(call, call.seen + under_way)
        if call.lease.must_end(call.seen):
            return self.end(call, call.seen + under_way)
        return None

    def granted(self, call: Running, claims: tuple[Claim, ...]) -> bool:
        """What a store does: all or nothing, at the limit that the counter has now."""
        wanted = []
        for index, claim in zip(call.allow.growing, claims, strict=True):
            budget, entry = call.entries[index]
            subject = claim.counter.subject
            limit = self.limit(budget, subject, budget.stop_share)
            if budget.enforced and entry.spent(self.now_us) + entry.held + claim.amount > limit:
                return False
            check(claim.amount >= 0, "an extension that gives back")
            wanted.append((entry, claim.amount))
        for entry, amount in wanted:
            entry.held += amount
        return True

    def covers(self, call: Running, billed: int) -> None:
        """Whatever the provider may bill by now is held, unless the call may exceed the limit."""
        for index in call.allow.growing:
            budget, _ = call.entries[index]
            if not budget.finishes:
                owed = self.need(budget, call.ask, billed)
                held = call.lease.amounts[index]
                check(owed <= held, f"{budget.name}: {owed} owed, {held} held")

    def end(self, call: Running, output: int) -> None:
        self.running.remove(call)
        ask = call.ask
        cost = ask.input_pico + output * ask.output_pico
        tokens = ask.input_tokens + output
        charges = call.lease.settlement(cost, tokens)
        reached = set()
        for (budget, entry), amount in zip(call.entries, call.lease.amounts, strict=True):
            charge = self.need(budget, ask, output)
            if budget.enforced and not budget.finishes:
                check(charge <= amount, f"{budget.name}: {charge} spent, {amount} held")
            entry.held -= amount
            entry.charges.append((call.began_us, charge))
        crossed = self.state.settled(call.allow, call.lease.amounts, charges, -(-cost // 1000), self.now_us)
        for one in crossed:
            reached.add((one.counter.key, one.threshold.share))
        check(len(reached) == len(crossed), "a threshold was told twice at once")
        for (_, entry), slot in zip(call.entries, call.allow.slots, strict=True):
            for threshold in slot.budget.at:
                is_reached = Fraction(entry.spent(self.now_us), max(1, slot.full)) >= Fraction(
                    threshold.share, 10_000
                )
                was_told = threshold.share in entry.told
                told = (slot.counter.key, threshold.share) in reached
                if not self.raises and not entry.rolling_us:  # what is reached may be left again there
                    check(told == (is_reached and not was_told), f"{threshold} of {slot.counter.key}: {told}")
                if told:
                    entry.told.add(threshold.share)

    def compare(self) -> None:
        """The policy's counters are the books' counters, each once, to the unit."""
        ours = sorted(
            (name, subject, spent, entry.held)
            for (name, subject, _), entry in self.books.items()
            if (spent := entry.spent(self.now_us)) or entry.held
        )
        theirs = sorted(
            (one.counter.budget, one.counter.subject, one.spent, one.held)
            for one in self.state.standings(self.now_us)
            if one.spent or one.held
        )
        check(ours == theirs, f"books {ours}, policy {theirs}")


def said(ask: Ask, name: str) -> str:
    return str(ask.tags.get(name[4:], "") if name.startswith("tag:") else getattr(ask, name))


def wanted(ask: Ask, name: str, accepted: tuple[str, ...]) -> bool:
    value = said(ask, name)
    return any(value == text or (text.endswith("*") and value.startswith(text[:-1])) for text in accepted)


def run(seed: int) -> History:
    """One whole history."""
    history = History(seed)
    try:
        history.run()
    except Violation as violation:
        raise Violation(f"history {seed}: {violation}") from violation
    return history
