"""A decision waits for its store 50 ms and no longer, whatever the store does: exact, by a clock of our own.

The store is the one of several workers, in this loop and over a real socket; between it and us, answers
are kept back, replaced or swallowed.
"""

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from support.clock import run

from collector.domain.credit import Answer, Claim, Granted, Refused
from sidecar.budgets.keeper.serving import Client, Store
from sidecar.budgets.redis_store import RedisStore
from sidecar.budgets.store import PATIENCE_S
from sidecar.commands.keeper import bound
from tests.sidecar.budgets.redis_server import until
from tests.sidecar.budgets.world import USD, budget

BOUND_S = 0.060

Fault = Callable[[list[bytes]], tuple[float, bytes | None] | None]
"""What becomes of a command: a delay, and what is answered in place of the truth. None: nothing special."""


class FaultyStore(Store):
    """Keeps answers back, or gives others; each client gets its answers in order."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.fault: Fault = lambda words: None
        self.due: dict[Client, float] = {}
        self.kept: dict[Client, deque[bytes]] = {}

    def answer(self, words: list[bytes], client: Client) -> bytes:  # type: ignore[override]
        delay_s, said = self.fault(words) or (0.0, None)
        if said is None:
            said = super().answer(words, client)
        loop = asyncio.get_running_loop()
        # What is kept back keeps back all that comes after it.
        due = self.due[client] = max(self.due.get(client, 0.0), loop.time() + delay_s)
        kept = self.kept.setdefault(client, deque())
        if due <= loop.time() and not kept:
            return said
        # Timers of one time strike in any order, so each takes the oldest.
        kept.append(said)
        loop.call_at(due, lambda: client.write(kept.popleft()))
        return b""


@contextlib.asynccontextmanager
async def joined(folder: Path, *, escrow: bool = False) -> AsyncIterator[tuple[FaultyStore, RedisStore]]:
    faulty = FaultyStore("run")
    path = folder / "s.sock"
    server = await asyncio.get_running_loop().create_unix_server(lambda: Client(faulty), sock=bound(path))
    store = RedisStore(f"unix://{path}", "source", escrow=escrow)
    await store.start()
    async with asyncio.timeout(10):
        await store.tag("acme").opened.wait()
    yield faulty, store
    faulty.fault = lambda words: None
    await store.close()
    server.close()
    for client in list(faulty.clients):
        client.close()
    await server.wait_closed()


async def answered(asked: Answer | Awaitable[Answer]) -> tuple[Answer, float]:
    """The answer, and how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer = asked if isinstance(asked, Granted | Refused) else await asked
    return answer, loop.time() - began


def is_script(words: list[bytes]) -> bool:
    return words[0] in (b"EVALSHA", b"EVAL")


NOSCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
FAULTS: dict[str, Fault] = {
    "silent": lambda words: (3600.0, None) if is_script(words) else None,
    "slow": lambda words: (0.049, None) if is_script(words) else None,
    "too slow": lambda words: (0.2, None) if is_script(words) else None,
    "forgets its scripts slowly": lambda words: (
        (0.045, NOSCRIPT) if words[0] == b"EVALSHA" else (0.045, None) if words[0] == b"EVAL" else None
    ),
    "forgets its scripts and falls silent": lambda words: (
        (0.01, NOSCRIPT) if words[0] == b"EVALSHA" else (3600.0, None) if words[0] == b"EVAL" else None
    ),
    "forgets them again and again": lambda words: (0.02, NOSCRIPT) if is_script(words) else None,
    "busy with a script": lambda words: (
        (0.0, b"-BUSY Redis is busy running a script.\r\n") if is_script(words) else None
    ),
    "busy after a while": lambda words: (
        (0.049, b"-BUSY Redis is busy running a script.\r\n") if is_script(words) else None
    ),
    "moved": lambda words: (0.01, b"-MOVED 866 127.0.0.1:1\r\n") if is_script(words) else None,
    "read only": lambda words: (
        (0.01, b"-READONLY You can't write against a read only replica.\r\n") if is_script(words) else None
    ),
    "out of memory": lambda words: (0.01, b"-OOM command not allowed\r\n") if is_script(words) else None,
    "another epoch": lambda words: (0.01, b"*2\r\n:-1\r\n:0\r\n") if is_script(words) else None,
    "lost writes": lambda words: (0.01, b"*2\r\n:-2\r\n:0\r\n") if is_script(words) else None,
    "nonsense": lambda words: (0.01, b"+what?\r\n") if is_script(words) else None,
    "too short": lambda words: (0.01, b"*2\r\n:1\r\n:1\r\n") if is_script(words) else None,
}


@pytest.mark.parametrize("name", FAULTS)
def test_no_decision_waits_longer_than_its_patience(name: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with joined(tmp_path) as (faulty, store):
            hard, soft = budget("hard", 100 * USD), budget("soft", 100 * USD, hard=False)
            assert isinstance((await answered(store.reserve("a", [Claim(hard, 5)], 60.0)))[0], Granted)
            faulty.fault = FAULTS[name]
            for number in range(12):
                answer, took = await answered(store.reserve(f"h{number}", [Claim(hard, 5)], 60.0))
                assert took <= BOUND_S, f"call {number} waited {took * 1000:.0f} ms"
                assert isinstance(answer, Granted) or answer.reason == "store_lost"
                answer, took = await answered(store.reserve(f"s{number}", [Claim(soft, 5)], 60.0))
                assert took <= BOUND_S, f"call {number} waited {took * 1000:.0f} ms"
                assert isinstance(answer, Granted)
                await asyncio.sleep(0.02)
            # And a stream that runs already.
            answer, took = await answered(store.extend("a", [Claim(hard, 5)], 60.0))
            assert took <= BOUND_S
            # Once it is well again it is trusted again, and nothing is held for nobody.
            faulty.fault = lambda words: None
            await until(lambda: store.healthy, timeout_s=30)
            for lease in list(store.leases):
                store.release(lease)
            await until(lambda: not store.tag("acme").to_release, timeout_s=30)
            standings = await store.standings([hard, soft])
            assert [(one.spent, one.held, one.exact) for one in standings] == [(0, 0, True)] * 2

    run(scene())


HOUR_MS = 3_600_000


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS, 24 * HOUR_MS])
def test_a_store_whose_clock_jumps_loses_nothing_and_gives_nothing_away(jump_ms: int, tmp_path: Path) -> None:
    async def scene() -> None:
        async with joined(tmp_path) as (faulty, store):
            counter = budget("b", 1000)
            for lease in ("a", "b"):
                assert isinstance(
                    (await answered(store.reserve(lease, [Claim(counter, 400)], 60.0)))[0], Granted
                )
            began = faulty.values.wall_ms()
            faulty.values.wall_ms = lambda: began + jump_ms
            # Long enough for whoever looks for leases that ran out.
            await asyncio.sleep(3)
            [standing] = await store.standings([counter])
            assert standing.spent + standing.held == 800
            # Nobody gets the room that running calls hold, whether it is held or charged.
            answer, _ = await answered(store.reserve("c", [Claim(counter, 201)], 60.0))
            assert isinstance(answer, Refused)
            assert (answer.reason, answer.room) == ("budget_exceeded", 200)
            store.settle("a", [Claim(counter, 100)], 1)
            store.settle("b", [Claim(counter, 50)], 2)
            await until(lambda: not store.tag("acme").outbox, timeout_s=30)
            [standing] = await store.standings([counter])
            assert (standing.spent, standing.held) == (150, 0)
            # And back again: what was spent stays spent.
            faulty.values.wall_ms = lambda: began
            answer, _ = await answered(store.reserve("d", [Claim(counter, 850)], 60.0))
            assert isinstance(answer, Granted)
            [standing] = await store.standings([counter])
            assert (standing.spent, standing.held) == (150, 850)

    run(scene())


@pytest.mark.parametrize("waited_s", [0.0, 0.03, 0.049])
def test_all_tries_of_one_decision_share_its_patience(waited_s: float, tmp_path: Path) -> None:
    async def scene() -> None:
        async with joined(tmp_path) as (faulty, store):
            counter = budget("b", 100 * USD)
            await answered(store.reserve("first", [Claim(counter, 5)], 60.0))
            faulty.fault = FAULTS["silent"]
            loop = asyncio.get_running_loop()
            until_s = loop.time() + PATIENCE_S
            await asyncio.sleep(waited_s)
            answer, _ = await answered(store.reserve("again", [Claim(counter, 5)], 60.0, until_s))
            assert isinstance(answer, Refused)
            assert answer.reason == "store_lost"
            assert loop.time() <= until_s + 0.002

    run(scene())


def test_a_frozen_store_keeps_three_calls_waiting_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A minute at a hundred calls a second: the breaker opens, and the log stays short."""

    async def scene() -> None:
        async with joined(tmp_path) as (faulty, store):
            counter = budget("b", 100 * USD)
            await answered(store.reserve("first", [Claim(counter, 5)], 60.0))
            faulty.fault = lambda words: (3600.0, None)
            waits = []
            with caplog.at_level(logging.INFO):
                caplog.clear()
                for number in range(6_000):
                    _, took = await answered(store.reserve(f"c{number}", [Claim(counter, 5)], 60.0))
                    waits.append(took)
                    await asyncio.sleep(0.01)
            assert max(waits) <= BOUND_S
            assert sum(took > 0.001 for took in waits) <= 4
            assert 1 <= len(caplog.records) <= 4

    run(scene())


def test_refusals_of_two_kinds_in_turn_are_each_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with joined(tmp_path) as (faulty, store):
            counter = budget("b", 100 * USD)
            await answered(store.reserve("first", [Claim(counter, 5)], 60.0))
            refusals = itertools.cycle((b"-OOM command not allowed\r\n", b"-WRONGTYPE no hash\r\n"))
            faulty.fault = lambda words: (0.0, next(refusals)) if is_script(words) else None
            caplog.clear()
            for number in range(100):
                answer, _ = await answered(store.reserve(f"c{number}", [Claim(counter, 5)], 60.0))
                assert isinstance(answer, Refused)
                await asyncio.sleep(0.01)
            assert len(caplog.records) == 2

    run(scene())
