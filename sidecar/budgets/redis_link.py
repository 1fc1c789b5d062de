"""A lasting link to one Redis server, with a breaker: a decision never waits for a server that is ill.

The link is *connected* while a connection stands; what runs in the background then uses it, with
patience. It is *quick* while the server also answers within the time that a call can wait. After
three answers that did not come in time it is not, until a probe is answered in time again.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence

import hiredis

from collector.logs import get
from sidecar import clock
from sidecar.budgets.redis_connection import (
    RedisAddress,
    RedisConnection,
    RedisLost,
    RedisRefused,
    Reply,
    connect,
    fulfil,
)
from sidecar.budgets.redis_keys import slot_of
from sidecar.budgets.redis_scripts import Script, load_scripts
from sidecar.budgets.store import PATIENCE_S

log = get("bursar.budgets")

BACKGROUND_S = 2.0
"""How long everything else does."""
TRIPS = 3
"""Answers that may fail to come in time before the breaker opens."""
PROBE_S = 0.1
"""Between two probes of a server that was slow."""
SILENT_S = 2.0
"""A connection on which nothing came for so long, though something was asked, is given up."""
RETRY_S = (0.05, 0.1, 0.2, 0.4)
"""Waits between attempts to connect; the last one repeats."""
RETRY_HERE_S = (0.005, 0.005, 0.01, 0.01, 0.02)
"""The same for a socket on this machine, where an attempt costs next to nothing."""
RETURNING_S = 1.0
"""A server whose connection broke no longer ago may be back at once: calls wait as long as they may."""
MAX_COMPLAINTS = 16
"""Kinds of refusal that are told until the server works again: what a server says may vary without end."""


class UnsuitableRedis(Exception):
    """The server may drop counters on its own, so it cannot keep budgets."""


class Link:
    """Keeps a connection to one server."""

    def __init__(self, address: RedisAddress, on_up: Callable[["Link"], None] | None = None) -> None:
        self.address = address
        self.connection: RedisConnection | None = None
        self.run_id = ""
        """Names this run of the server; another one may have lost writes."""
        self.quick = False
        self._broke_at = -math.inf
        self.unsuitable: UnsuitableRedis | None = None
        self.connected = asyncio.Event()
        self._on_up = on_up
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._complaints: set[str] = set()
        self.scripts = load_scripts()

    def start(self) -> None:
        """Begin to connect; never raises."""
        if self._task is None:
            self._task = asyncio.create_task(self._tend(), name=f"redis-link-{self.address}")

    async def close(self) -> None:
        """Give the connection up."""
        self.quick = False
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._drop()

    @property
    def returning(self) -> bool:
        """Whether the server worked a moment ago, and may do so again in the next one."""
        return asyncio.get_running_loop().time() - self._broke_at < RETURNING_S

    # -- commands

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[str | int],
        on_reply: Callable[[Reply], None],
        timeout_s: float,
        late: Callable[[Reply], None] | None = None,
    ) -> None:
        """Run ``script``; a server that has forgotten it is told its text again, within the same time."""
        connection = self.connection
        if connection is None:
            on_reply(RedisRefused("Redis is not reachable"))
            return
        counts = timeout_s <= PATIENCE_S
        loop = connection.loop
        deadline = loop.time() + timeout_s

        def replied(reply: Reply) -> None:
            if isinstance(reply, Exception):
                if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                    left_s = deadline - loop.time()
                    if left_s > 0:
                        connection.send(script.whole_command(keys, arguments), finished, left_s, late)
                        return
                self._failed(reply, counts)
            on_reply(reply)

        def finished(reply: Reply) -> None:
            if isinstance(reply, Exception):
                self._failed(reply, counts)
            on_reply(reply)

        connection.send(script.command(keys, arguments), replied, timeout_s, late)

    async def ask(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[str | int],
        timeout_s: float = BACKGROUND_S,
    ) -> Reply:
        """The reply of ``script``.

        Raises:
            RedisLost: none came within ``timeout_s``.
            hiredis.ReplyError: the server said no.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.run(script, keys, arguments, lambda reply: fulfil(future, reply), timeout_s)
        return await future

    async def command(self, *parts: str | bytes | int, timeout_s: float = BACKGROUND_S) -> Reply:
        """The reply to a plain command; raises like ``ask``."""
        if self.connection is None:
            raise RedisRefused("Redis is not reachable")
        return await self.connection.ask(*parts, timeout_s=timeout_s)

    async def compare_clocks(self) -> None:
        """See what time it is there.

        Raises:
            RedisLost: it does not say.
        """
        before_ns = time.time_ns()
        # A user that may not ask keeps its machine's time.
        with contextlib.suppress(hiredis.ReplyError):
            seconds, micros = await self.command("TIME", timeout_s=1.0)
            clock.compare(before_ns, int(seconds) * 1_000_000 + int(micros), time.time_ns())

    def _failed(self, error: Exception, counts: bool) -> None:
        connection = self.connection
        if isinstance(error, hiredis.ReplyError):
            self.complain(str(error).split(" ", 1)[0])
        elif counts and self.quick and connection is not None and connection.timeouts >= TRIPS:
            self.quick = False
            log.warning(
                "Redis is slow: budgets are decided from what is held in advance", address=str(self.address)
            )

    def complain(self, what: str) -> None:
        """Say once what the server refuses, until it works again."""
        if what not in self._complaints and len(self._complaints) < MAX_COMPLAINTS:
            self._complaints.add(what)
            log.warning("Redis refuses", address=str(self.address), reason=what)

    # -- staying connected

    async def _tend(self) -> None:
        attempt = 0
        while True:
            try:
                await self._connect()
            except (OSError, RedisLost, hiredis.ReplyError, UnsuitableRedis) as error:
                if isinstance(error, UnsuitableRedis):
                    self.unsuitable = error
                self._drop()
                self.complain(f"{type(error).__name__}: {error}")
                waits = RETRY_HERE_S if self.address.path else RETRY_S
                await asyncio.sleep(waits[min(attempt, len(waits) - 1)])
                attempt += 1
                continue
            attempt = 0
            self.unsuitable = None
            if self._complaints:
                self._complaints.clear()
                log.info("Redis is back", address=str(self.address))
            await self._watch()
            self._drop()

    async def _connect(self) -> None:
        lost = self._lost = asyncio.Event()

        def over() -> None:
            lost.set()
            if lost is self._lost:
                if self.quick:
                    self._broke_at = asyncio.get_running_loop().time()
                self._not_quick()

        connection = await connect(self.address, over, timeout_s=1.0)
        self.connection = connection
        said = info_of(await connection.ask("INFO", timeout_s=1.0))
        check_suitable(said)
        self.run_id = said.get("run_id", "")
        for script in self.scripts.values():
            await connection.ask("SCRIPT", "LOAD", script.text, timeout_s=1.0)
        await self.compare_clocks()
        with contextlib.suppress(RedisLost):
            await connection.ask("PING", timeout_s=PATIENCE_S)
            self.quick = True
        self.connected.set()
        if self._on_up is not None:
            self._on_up(self)

    async def _watch(self) -> None:
        """Until the connection is lost: probe it while it is slow, give it up when it is silent."""
        loop = asyncio.get_running_loop()
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await self._lost.wait()
            connection = self.connection
            if connection is None or not connection.open:
                return
            if connection.waiting and loop.time() - connection.heard > SILENT_S:
                return
            if not self.quick:
                with contextlib.suppress(RedisLost, hiredis.ReplyError):
                    await connection.ask("PING", timeout_s=PATIENCE_S)
                    self.quick = True
                    connection.timeouts = 0
                    log.info("Redis answers in time again", address=str(self.address))

    def _drop(self) -> None:
        self._not_quick()
        self.connected.clear()
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _not_quick(self) -> None:
        if self.quick:
            self.quick = False
            log.warning(
                "Redis is lost: budgets are decided from what is held in advance", address=str(self.address)
            )


class Links:
    """The servers behind one address: one, or the nodes of a Cluster as they name each other."""

    def __init__(self, address: RedisAddress, on_up: Callable[[Link], None] | None = None) -> None:
        self.seed = Link(address, on_up)
        self._on_up = on_up
        self._nodes: dict[tuple[str, int], Link] = {(address.host, address.port): self.seed}
        self._slots: dict[int, Link] = {}

    def of(self, tag: str) -> Link:
        """The link to where keys with this hash tag live."""
        return self._slots.get(slot_of(f"{{{tag}}}"), self.seed) if self._slots else self.seed

    def moved(self, error: Exception) -> Link | None:
        """The node that a ``MOVED`` reply names, remembered for its slot; None for any other reply."""
        words = str(error).split(" ")
        if len(words) < 3 or words[0] != "MOVED" or not isinstance(error, hiredis.ReplyError):
            return None
        host, _, port = words[2].rpartition(":")
        where = (host or self.seed.address.host, int(port))
        link = self._nodes.get(where)
        if link is None:
            from dataclasses import replace

            link = self._nodes[where] = Link(
                replace(self.seed.address, host=where[0], port=where[1]), self._on_up
            )
            link.start()
        self._slots[int(words[1])] = link
        return link

    async def close(self) -> None:
        """Close all."""
        for link in self._nodes.values():
            await link.close()


def info_of(reply: Reply) -> dict[str, str]:
    """The fields of an ``INFO`` reply."""
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def check_suitable(said: dict[str, str]) -> None:
    """Refuse a server that forgets on its own.

    Raises:
        UnsuitableRedis: it evicts keys when its memory is full.
    """
    policy = said.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and said.get("maxmemory", "0") != "0":
        raise UnsuitableRedis(
            f"maxmemory-policy is {policy}: counters would be dropped when memory is full; "
            "budgets need noeviction (keep a cache in another instance)"
        )
