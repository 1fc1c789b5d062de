"""The state machine of leases in its two homes and as a plain model, behind one interface for histories."""

import copy
import random
import socket
from typing import Any, NamedTuple

import hiredis

from collector.domain.credit import Claim, Counter, Granted, Refused, Unit
from sidecar.budgets.keeper.serving import Client, Store
from sidecar.budgets.keeper.values import Values
from sidecar.budgets.ledger import Ledger
from sidecar.budgets.redis_keys import TagKeys, tag_of
from sidecar.budgets.redis_scripts import NAMES, Script, load_scripts
from sidecar.budgets.store import BUCKETS, bucket_of

TENANT = "acme"
HOUR = 3_600_000_000

Said = tuple[Any, ...]
"""``("granted", rooms)``, ``("refused", name of the counter, room)`` or ``("mark", mark)``."""


def counters(seed: random.Random, now_us: int) -> list[Counter]:
    """Six counters with different limits: fixed windows in several units, and a rolling one."""
    names = ["team", "agent", "key", "model", "calls"]
    limits = [seed.randrange(200, 4000) for _ in names]
    fixed = [
        Counter(name, "", TENANT, "day:1", Unit.USD, limit, 0, 10**18)
        for name, limit in zip(names, limits, strict=True)
    ]
    return [*fixed, rolling(seed.randrange(500, 3000), now_us)]


def rolling(limit: int, now_us: int) -> Counter:
    """A window of 24 hours in 24 buckets, as it is at ``now_us``."""
    begins = now_us // HOUR - BUCKETS + 1
    return Counter("rolling", "", TENANT, "rolling:24h", Unit.USD, limit, begins * HOUR, None, HOUR)


class MemoryHome:
    """The ledger of one process."""

    def __init__(self, ledger: type[Ledger] = Ledger) -> None:
        self.ledger = ledger()

    def reserve(self, lease: str, claims: list[Claim], now_us: int, ttl_us: int) -> Said:
        return said(self.ledger.reserve(lease, claims, now_us, ttl_us))

    def reserve_two(
        self, leases: list[str], claims: list[list[Claim]], now_us: int, ttl_us: int
    ) -> list[Said]:
        return [self.reserve(a, b, now_us, ttl_us) for a, b in zip(leases, claims, strict=True)]

    def raise_to(self, lease: str, totals: list[Claim], now_us: int, ttl_us: int) -> Said:
        return said(self.ledger.raise_to(lease, totals, now_us, ttl_us))

    def settle(self, source: str, after: int, sequence: int, lease: str, actuals: list[Claim]) -> Said:
        return ("mark", self.ledger.settle(source, after, sequence, lease, actuals))

    def release(self, lease: str) -> None:
        self.ledger.release(lease)

    def reap(self, now_us: int) -> None:
        self.ledger.reap(now_us)

    def standing(self, counter: Counter) -> tuple[int, int, int]:
        standing = self.ledger.standing(counter)
        account = self.ledger.accounts.get(counter[:4])
        return standing.spent, standing.held, account.unsettled if account else 0

    def standings(self, counters: list[Counter]) -> list[tuple[int, int, int]]:
        return [self.standing(counter) for counter in counters]

    def snapshot(self) -> Any:
        return copy.deepcopy(self.ledger)

    def restore(self, snapshot: Any) -> None:
        self.ledger = copy.deepcopy(snapshot)


class NonAtomicMemory(MemoryHome):
    """A mutant: two callers look, then both take."""

    def reserve_two(
        self, leases: list[str], claims: list[list[Claim]], now_us: int, ttl_us: int
    ) -> list[Said]:
        answers = []
        for lease, mine in zip(leases, claims, strict=True):
            looked = copy.deepcopy(self.ledger)
            answers.append(said(looked.reserve(lease, mine, now_us, ttl_us)))
        for lease, mine, answer in zip(leases, claims, answers, strict=True):
            if answer[0] == "granted":
                self.ledger.raise_to(lease, mine, now_us, ttl_us, force=True)
        return answers


def said(answer: Granted | Refused) -> Said:
    """An answer in plain words."""
    if isinstance(answer, Granted):
        return ("granted", answer.rooms)
    return ("refused", answer.counter.budget, answer.room)


class LuaHome:
    """The scripts in a real Redis; its clock is a key, so that a history can move it."""

    def __init__(self, port: int, mutate: tuple[str, str] | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.reader = hiredis.Reader()
        self.keys = TagKeys(tag_of(TENANT))
        self.scripts = {name: mutated(load_scripts()[name], mutate) for name in NAMES}
        self.message = 0
        self.clock = f"b:{{{tag_of(TENANT)}}}:clock"
        self.ask("FLUSHDB")
        self.ask("HSET", self.keys.epoch, "id", "E", "state", "open", "n", "0")

    def close(self) -> None:
        self.sock.close()

    def ask(self, *words: str | int | bytes) -> Any:
        self.sock.sendall(hiredis.pack_command(words))
        while (reply := self.reader.gets()) is False:
            data = self.sock.recv(1 << 16)
            assert data, "Redis closed the connection"
            self.reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def call(self, name: str, keys: list[str], arguments: list[Any]) -> list[Any]:
        script = self.scripts[name]
        names = [self.keys.epoch, self.keys.marks, self.keys.due, *keys]
        try:
            return self.ask("EVALSHA", script.sha, len(names), *names, "E", 0, *arguments)
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            return self.ask("EVAL", script.text, len(names), *names, "E", 0, *arguments)

    def hold(self, lease: str, claims: list[Claim], now_us: int, ttl_us: int, *, force: bool = False) -> Said:
        self.ask("SET", self.clock, now_us // 1_000_000)
        self.message += 1
        rows: list[Any] = []
        for counter, amount in claims:
            rows += [amount, 0, counter.limit, bucket_of(counter), counter.bucket_us or 1, 0]
        names = [self.keys.lease(lease), self.keys.slices("s"), *[self.keys.counter(c) for c, _ in claims]]
        reply = self.call("hold", names, [ttl_us // 1000, "force" if force else "", self.message, *rows])
        if reply[0] == 1:
            rooms = [
                claims[at].counter.limit - reply[2 + 4 * at] - reply[3 + 4 * at] for at in range(len(claims))
            ]
            return ("granted", tuple(rooms))
        assert reply[0] == 0, reply
        return ("refused", claims[reply[2] - 1].counter.budget, reply[3])

    def reserve(self, lease: str, claims: list[Claim], now_us: int, ttl_us: int) -> Said:
        return self.hold(lease, claims, now_us, ttl_us)

    def reserve_two(
        self, leases: list[str], claims: list[list[Claim]], now_us: int, ttl_us: int
    ) -> list[Said]:
        return [self.hold(a, b, now_us, ttl_us) for a, b in zip(leases, claims, strict=True)]

    def raise_to(self, lease: str, totals: list[Claim], now_us: int, ttl_us: int) -> Said:
        return self.hold(lease, totals, now_us, ttl_us)

    def settle(self, source: str, after: int, sequence: int, lease: str, actuals: list[Claim]) -> Said:
        names = [self.keys.slices(source), self.keys.lease(lease)]
        arguments: list[Any] = [source, after, sequence, 5, 0, 0, len(actuals)]
        for counter, amount in actuals:
            names.append(self.keys.counter(counter))
            arguments += [3 + len(names), amount, bucket_of(counter), 0]
        return ("mark", self.call("settle", names, arguments)[2])

    def release(self, lease: str) -> None:
        self.message += 1
        self.call("release", [self.keys.lease(lease)], [0, self.message])

    def reap(self, now_us: int) -> None:
        self.ask("SET", self.clock, now_us // 1_000_000)
        while self.call("reap", [], [50])[2]:
            pass

    def standings(self, counters: list[Counter]) -> list[tuple[int, int, int]]:
        keys = [self.keys.counter(counter) for counter in counters]
        reply = self.call("standings", keys, [bucket_of(counter) for counter in counters])
        return list(zip(reply[2::3], reply[3::3], reply[4::3], strict=True))

    def snapshot(self) -> Any:
        return [(key, self.ask("DUMP", key)) for key in self.ask("KEYS", "*")]

    def restore(self, snapshot: Any) -> None:
        self.ask("FLUSHDB")
        for key, dump in snapshot:
            self.ask("RESTORE", key, 0, dump)


class KeeperHome(LuaHome):
    """The same scripts in the process that several workers share; its clock is ours."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.values = Values(lambda: self.now_ms)
        self.store = Store("run", self.values)
        self.client = Client(self.store)
        self.keys = TagKeys(tag_of(TENANT))
        self.scripts = load_scripts()
        self.message = 0
        self.clock = "clock"
        self.ask("HSET", self.keys.epoch, "id", "E", "state", "open", "n", "0")

    def close(self) -> None:
        pass

    def ask(self, *words: str | int | bytes) -> Any:
        if words[:2] == ("SET", "clock"):
            self.now_ms = int(words[2]) * 1000
            return b"OK"
        reader = hiredis.Reader()
        reader.feed(hiredis.pack_command(words))
        reader.feed(self.store.answer(reader.gets(), self.client))
        reply = reader.gets()
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def snapshot(self) -> Any:
        return copy.deepcopy(self.values.kept)

    def restore(self, snapshot: Any) -> None:
        self.values.kept = copy.deepcopy(snapshot)


class NonAtomicLua(LuaHome):
    """A mutant: two callers look, then both take."""

    def reserve_two(
        self, leases: list[str], claims: list[list[Claim]], now_us: int, ttl_us: int
    ) -> list[Said]:
        answers = []
        for lease, mine in zip(leases, claims, strict=True):
            before = self.snapshot()
            answers.append(self.hold(lease, mine, now_us, ttl_us))
            self.restore(before)
        for lease, mine, answer in zip(leases, claims, answers, strict=True):
            if answer[0] == "granted":
                self.hold(lease, mine, now_us, ttl_us, force=True)
        return answers


def mutated(script: Script, change: tuple[str, str] | None) -> Script:
    """``script`` with the clock in a key, and with ``change`` where it applies."""
    text = script.text.replace(
        "redis.call('TIME')", f"{{redis.call('GET', 'b:{{{tag_of(TENANT)}}}:clock'), '0'}}"
    )
    if change is not None:
        text = text.replace(*change)
    return Script(script.name, text)


class ModelLease(NamedTuple):
    """A lease of the model."""

    holds: dict[str, tuple[int, int]]
    expires_us: int
    expired: bool


class Model:
    """The rules again, as plainly as can be: every sum is made anew from the list of all that happened."""

    def __init__(self) -> None:
        self.leases: dict[str, ModelLease] = {}
        self.spends: list[tuple[str, int, int]] = []
        self.marks: dict[str, int] = {}

    def standing(self, counter: Counter) -> tuple[int, int, int]:
        first = bucket_of(counter) - BUCKETS
        charged = [
            (name, bucket, amount)
            for lease in self.leases.values()
            if lease.expired
            for name, (amount, bucket) in lease.holds.items()
        ]
        spent = sum(
            amount
            for name, bucket, amount in self.spends + charged
            if name == counter.budget and (not counter.bucket_us or bucket > first)
        )
        held = sum(x.holds.get(counter.budget, (0, 0))[0] for x in self.leases.values() if not x.expired)
        unsettled = sum(amount for name, _, amount in charged if name == counter.budget)
        return spent, held, unsettled

    def raise_to(self, lease: str, totals: list[Claim], now_us: int, ttl_us: int) -> Said:
        had = self.leases.get(lease, ModelLease({}, 0, False)).holds
        rooms, refusals = [], []
        for counter, total in totals:
            spent, held, _ = self.standing(counter)
            delta = max(0, total - had.get(counter.budget, (0, 0))[0])
            room = counter.limit - spent - held
            rooms.append(room - delta)
            if delta > max(room, 0) or (delta and room < delta):
                refusals.append((max(0, room), counter.budget))
        if refusals:
            least = min(room for room, _ in refusals)
            return ("refused", next(name for room, name in refusals if room == least), least)
        holds = dict(had)
        for counter, total in totals:
            amount, bucket = holds.get(counter.budget, (0, bucket_of(counter)))
            holds[counter.budget] = (max(amount, total), bucket)
        self.leases[lease] = ModelLease(holds, now_us + ttl_us, False)
        return ("granted", tuple(rooms))

    reserve = raise_to

    def reserve_two(
        self, leases: list[str], claims: list[list[Claim]], now_us: int, ttl_us: int
    ) -> list[Said]:
        return [self.raise_to(a, b, now_us, ttl_us) for a, b in zip(leases, claims, strict=True)]

    def settle(self, source: str, after: int, sequence: int, lease: str, actuals: list[Claim]) -> Said:
        mark = self.marks.get(source, 0)
        if sequence > mark and after == mark:
            self.marks[source] = mark = sequence
            self.leases.pop(lease, None)
            self.spends += [(counter.budget, bucket_of(counter), amount) for counter, amount in actuals]
        return ("mark", mark)

    def release(self, lease: str) -> None:
        self.leases.pop(lease, None)

    def reap(self, now_us: int) -> None:
        self.leases = {
            name: lease._replace(expired=lease.expired or lease.expires_us <= now_us)
            for name, lease in self.leases.items()
        }

    def snapshot(self) -> Any:
        return copy.deepcopy((self.leases, self.spends, self.marks))

    def restore(self, snapshot: Any) -> None:
        self.leases, self.spends, self.marks = copy.deepcopy(snapshot)
