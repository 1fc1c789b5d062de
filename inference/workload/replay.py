"""Drives calls through a base URL, and says what should have been counted.

Calls start when they are due, at a chosen compression of time, or as fast as the
other side allows. Those of one conversation follow one another; all others may
overlap, up to a bound.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from collector.domain.usage import Usage
from inference.workload.bodies import PATHS, Conversations, headers_of
from inference.workload.calls import TracedCall
from inference.workload.client import Client, Reply

DEFAULT_KEY = "sk-simulated"
_PROGRESS_EVERY_S = 0.1
_UNTRUE_USAGE = ("missing_usage", "stream_error", "truncated", "malformed", "empty", "reset", "drop")


@dataclass(slots=True)
class TokenSums:
    """Tokens by class, and the calls they come from."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    cache_write_1h_input_tokens: int = 0
    reasoning_output_tokens: int = 0

    def add(self, usage: Usage) -> None:
        """Count one call."""
        self.calls += 1
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cache_read_input_tokens += usage.cache_read_input_tokens
        self.cache_write_input_tokens += usage.cache_write_input_tokens
        self.cache_write_1h_input_tokens += usage.cache_write_1h_input_tokens
        self.reasoning_output_tokens += usage.reasoning_output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a replay has come."""

    elapsed_s: float
    sent: int
    """Calls started."""
    running: int
    done: int
    """Calls answered wholly."""
    failed: int
    """Calls that ended in an HTTP error, or in nothing."""
    left: int
    """Streams that we left in the middle."""
    broken: int
    """Replies that broke off, or ended without figures."""
    input_tokens: int
    """Of the calls done."""
    output_tokens: int


@dataclass(slots=True)
class ReplaySummary:
    """What became of a replay, and the sums that a meter on its way must show."""

    duration_s: float = 0.0
    sent: int = 0
    left: int = 0
    broken: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    """HTTP status of each reply; 0 where none came."""
    expected: TokenSums = field(default_factory=TokenSums)
    """Over the calls whose figures reached us wholly: exact."""
    by_model: dict[str, TokenSums] = field(default_factory=dict)
    """The same, by model."""

    @property
    def failed(self) -> int:
        """Calls that ended in an HTTP error, or in nothing."""
        return sum(count for status, count in self.by_status.items() if status != 200)


class _Replay:
    def __init__(
        self,
        client: Client,
        keys: Mapping[str, str],
        concurrency: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.summary = ReplaySummary()
        self._client = client
        self._keys = keys
        self._slots = asyncio.Semaphore(concurrency)
        # Calls that wait for their conversation's last one hold a place too, or a trace of one long
        # conversation would become a task for each call.
        self._places = asyncio.Semaphore(concurrency * 8)
        self._progress = progress
        self._conversations = Conversations()
        self._lanes: OrderedDict[tuple[str, str], asyncio.Task[None]] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._told_at = 0.0

    async def run(self, calls: Iterable[TracedCall], compression: float | None) -> None:
        for call in calls:
            if compression is not None:
                due = self._started + call.at_s / compression
                if (wait := due - self._loop.time()) > 0:
                    self._tell()
                    await asyncio.sleep(wait)
            await self._places.acquire()
            self._start(call)
        if self._running:
            await asyncio.wait(self._running)  # unlike gather, leaves them running when we are cancelled

    async def abandon(self, grace_s: float) -> None:
        """Let running calls end for a while, then leave the rest."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace_s)
            for task in late:
                task.cancel()
            self.summary.left += len(late)
            await asyncio.gather(*late, return_exceptions=True)

    def end(self) -> ReplaySummary:
        self.summary.duration_s = self._loop.time() - self._started
        self._tell(last=True)
        return self.summary

    def _start(self, call: TracedCall) -> None:
        before = self._lanes.get(call.lane) if call.conversation else None
        task = self._loop.create_task(self._one(call, before))
        self._running.add(task)
        task.add_done_callback(self._ended)
        if call.conversation:
            self._lanes[call.lane] = task
            self._lanes.move_to_end(call.lane)
            while len(self._lanes) > 20_000:
                self._lanes.popitem(last=False)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._places.release()

    async def _one(self, call: TracedCall, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        async with self._slots:
            self.summary.sent += 1
            key = self._keys.get(call.agent) or self._keys.get(call.team) or self._keys.get("") or DEFAULT_KEY
            reply = await self._client.post(
                PATHS[call.api],
                headers_of(call, key),
                self._conversations.body(call),
                leaves_after_events=call.leaves_after_events,
            )
        self._book(call, reply)
        self._tell()

    def _book(self, call: TracedCall, reply: Reply) -> None:
        self.summary.by_status[reply.status] += 1
        if reply.left:
            self.summary.left += 1
        elif reply.status == 200 and not (reply.whole and _figures_are_true(call)):
            self.summary.broken += 1
        elif reply.status == 200:
            self.summary.expected.add(call.usage)
            self.summary.by_model.setdefault(call.model, TokenSums()).add(call.usage)

    def _tell(self, *, last: bool = False) -> None:
        now = self._loop.time()
        if self._progress is None or (not last and now - self._told_at < _PROGRESS_EVERY_S):
            return
        self._told_at = now
        summary = self.summary
        self._progress(
            Progress(
                elapsed_s=now - self._started,
                sent=summary.sent,
                running=len(self._running),
                done=summary.expected.calls,
                failed=summary.failed,
                left=summary.left,
                broken=summary.broken,
                input_tokens=summary.expected.input_tokens,
                output_tokens=summary.expected.output_tokens,
            )
        )


async def replay(
    calls: Iterable[TracedCall],
    *,
    base_url: str,
    keys: Mapping[str, str] | None = None,
    compression: float | None = None,
    concurrency: int = 64,
    progress: Callable[[Progress], None] | None = None,
    until_s: float | None = None,
    grace_s: float = 5.0,
) -> ReplaySummary:
    """Make ``calls`` against ``base_url``.

    Args:
        calls: in order of ``at_s``; may be endless when ``until_s`` is set.
        base_url: of a sidecar or of the simulator, with or without ``/v1``.
        keys: API key by agent, by team, or for everyone under ``""``.
        compression: seconds of the trace in one second of the clock; None makes calls as fast as
            ``concurrency`` allows.
        concurrency: calls under way at once.
        progress: told at most ten times a second, and once at the end.
        until_s: start no more calls after so many seconds.
        grace_s: then wait so long for those under way, and leave the rest.
    """
    client = Client(base_url)
    run = _Replay(client, keys or {}, concurrency, progress)
    try:
        async with asyncio.timeout(until_s):
            await run.run(calls, compression)
    except TimeoutError:
        await run.abandon(grace_s)
    except BaseException:
        await run.abandon(0)
        raise
    finally:
        await client.close()
    return run.end()


def at_rate(calls: Iterable[TracedCall], calls_per_s: float) -> Iterable[TracedCall]:
    """The same calls in the same order, evenly spaced."""
    for number, call in enumerate(calls):
        yield replace(call, at_s=number / calls_per_s)


def _figures_are_true(call: TracedCall) -> bool:
    return not any(fault in call.fault for fault in _UNTRUE_USAGE)
