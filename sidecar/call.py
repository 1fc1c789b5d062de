"""One call, and the order of work on it.

The stages are a list in one place (``sidecar/app.py``). Each knows its own job and the one
word *onward*: it may change the call, answer it without going onward, or look at the reply.
It never holds a stream back.
"""

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from collector.domain.ids import TraceParent, parse_traceparent, uuid7
from collector.domain.price import TokenPrice
from collector.domain.record import CacheResult, Charges, Outcome
from collector.domain.usage import NOTHING
from collector.pricing.book import Quote
from sidecar import clock
from sidecar.http import HeaderList, Request, Responder
from sidecar.native import native
from sidecar.routes import Route
from sidecar.wire import Meter, ReplyFacts, RequestFacts

if TYPE_CHECKING:
    from collector.domain.stitching import Placed
    from sidecar.routing import Target

_random = random.SystemRandom()
# Ids need to be unique, not secret; a system call for each would cost more than the rest of them.
_bits = random.Random(_random.getrandbits(256)).getrandbits  # noqa: S311


_BYPASS: Final = CacheResult.BYPASS  # looking a member up takes a while
_FAILED: Final = Outcome.FAILED


def drawn_ids_in_python(unix_ms: int, drawn: bytes) -> tuple[str, str, str, str]:
    """A call's id, two span ids and a trace id, of the time and 48 random bytes."""
    call_id = uuid7(unix_ms, int.from_bytes(drawn[:16]))
    return call_id, drawn[16:24].hex(), drawn[24:32].hex(), drawn[32:].hex()


drawn_ids: Final[Callable[[int, bytes], tuple[str, str, str, str]]] = (
    drawn_ids_in_python if native is None else native.drawn_ids
)

_NO_TAGS: dict[str, str] = {}
_NO_CHARGES: Charges = {}


class Caller(NamedTuple):
    """Who and what a call is for; empty where nobody said. A tuple, for most calls have one of their own."""

    tenant: str = ""
    team: str = ""
    user: str = ""
    agent: str = ""
    conversation: str = ""
    conversation_source: str = ""
    task: str = ""
    tags: dict[str, str] = _NO_TAGS
    """Never changed."""
    key_id: str = ""
    models: frozenset[str] | None = None
    """Models that the key may ask for; None for all."""
    capture: bool = False
    """Whether the key opted in to capturing content."""
    owns_tenant: bool = False
    """Whether the key fixes the tenant; else it is only what the call says."""


NOBODY = Caller()


class Attempt:
    """One try at one upstream, while it runs and after."""

    __slots__ = (
        "charges", "cost_pico", "ended_ns", "error_type", "first_chunk_ns", "grade", "hold_input",
        "hold_output", "list_pico", "model", "price_grade", "price_version", "provider", "quote", "replica",
        "sent_ns", "span_id", "started_at_us", "started_ns", "status", "upstream", "usage",
    )  # fmt: skip

    def __init__(self, upstream: str, replica: str, provider: str, model: str, quote: Quote) -> None:
        self.upstream = upstream
        self.replica = replica
        self.provider = provider
        self.model = model
        self.quote = quote
        self.span_id = _bits(64).to_bytes(8).hex()
        self.started_at_us = (time.time_ns() - clock.ahead_ns) // 1000
        self.started_ns = time.monotonic_ns()
        self.sent_ns = self.first_chunk_ns = self.ended_ns = 0
        self.status: int | None = None
        self.error_type = ""
        self.grade = self.price_grade = self.price_version = ""
        """Of its usage and its price; empty as long as nothing was consumed."""
        self.usage = NOTHING
        self.list_pico = self.cost_pico = 0
        self.charges = _NO_CHARGES
        self.hold_input = self.hold_output = 0

    def note_sent(self) -> None:
        """The first byte of the request is about to leave."""
        self.sent_ns = self.sent_ns or time.monotonic_ns()


class Reused:
    """What the reuse of answers does with one call."""

    __slots__ = ("as_sent", "avoided_pico", "keep", "waited_ns")

    def __init__(self) -> None:
        self.keep = False
        """Whether its answer is wanted for others."""
        self.as_sent = False
        """Whether what is captured of the reply is in the agent's own dialect."""
        self.avoided_pico = 0
        """What is not owed because its answer was there already."""
        self.waited_ns = 0
        """Spent waiting for the answer to an identical call."""


class Call:
    """One logical request of an agent, on its way."""

    __slots__ = (
        "api",
        "attempts",
        "cache",
        "call_id",
        "caller",
        "captured_output",
        "cut",
        "downgraded_from",
        "error_type",
        "facts",
        "gen_ai_span_id",
        "go_on",
        "hold",
        "measured",
        "meter",
        "metered",
        "notice",
        "on_close",
        "outcome",
        "outcome_reason",
        "parent_span_id",
        "paused_ns",
        "placement",
        "recorded",
        "reply_facts",
        "request",
        "responder",
        "reuse",
        "room_nano",
        "route",
        "sampled",
        "settle_credit",
        "span_id",
        "started_at_us",
        "started_ns",
        "target",
        "trace_id",
        "watch",
        "watch_room",
    )  # fmt: skip

    def __init__(self, request: Request, responder: Responder, route: Route) -> None:
        now_ns = time.time_ns() - clock.ahead_ns
        self.request = request
        self.responder = responder
        self.route = route
        self.api = route.api
        self.started_at_us = now_ns // 1000
        self.started_ns = request.received_ns
        # Drawn and written out at once.
        self.call_id, self.span_id, self.gen_ai_span_id, trace_id = drawn_ids(
            now_ns // 1_000_000, _bits(384).to_bytes(48)
        )
        header = request.header(b"traceparent")
        parent: TraceParent | None = parse_traceparent(header.decode("latin-1")) if header else None
        if parent is None:
            self.trace_id, self.parent_span_id, self.sampled = trace_id, "", True
        else:
            self.trace_id, self.parent_span_id, self.sampled = parent
        self.caller = NOBODY
        self.facts: RequestFacts | None = None
        self.reply_facts: ReplyFacts | None = None
        self.meter: Meter | None = None
        self.attempts: list[Attempt] = []
        self.cache = _BYPASS
        self.outcome = _FAILED
        self.downgraded_from = self.outcome_reason = self.error_type = ""
        self.target: Target | None = None
        """Where it goes; None until somebody has decided."""
        self.watch: Callable[[], bool] | None = None
        """Asked whenever more of a stream has been read; False holds it back (:meth:`Relay.run`)."""
        self.watch_room: Callable[[], int] | None = None
        """Bytes of text before there is anything to ask it; None: it is to be asked each time."""
        self.measured: Mapping[str, TokenPrice] | None = None
        self.go_on: Callable[[], None] | None = None
        """Forwards what was held back; None while no stream runs."""
        self.hold: tuple[int, int, int] | None = None
        """Input and output tokens and pico-USD that credit control holds for it; None without budgets."""
        self.room_nano: int | None = None
        """What the tightest budget has left besides, in nano-USD; None where none is in money."""
        self.settle_credit: Callable[[Call, int], None] | None = None
        """Told once that the call has ended, with its record's sequence in the journal (0: it left none)."""
        self.placement: Placed | None = None
        """Where its conversation stands; None where nobody looked."""
        self.paused_ns = 0
        """Spent waiting until a provider that turned it away may be asked again."""
        self.notice = b""
        """What ``x-bursar-runaway`` says; empty for nothing."""
        self.recorded = False
        self.reuse: Reused | None = None
        """None where no answer can be reused or kept."""
        self.captured_output: bytearray | None = None
        """The reply so far, as the upstream sent it, while somebody wants to keep it."""
        self.metered = True
        """Whether it asks a model; a list of models, say, does not, and leaves no record."""
        self.cut: Callable[[str], bool] | None = None
        """Ends the running stream for the reason given, and says whether it did: of one that is all here
        nothing can be cut. None while none runs."""
        self.on_close: Callable[[Call], None] | None = None
        """Called once, when the call has been recorded."""

    def let_go(self) -> None:
        """It has ended: whoever looked on, or could have cut it, holds on to it, and need not any more."""
        self.watch = self.watch_room = self.cut = self.go_on = None


class Stream(Protocol):
    """A reply's body that is still coming."""

    def run(self, on_end: Callable[[], None]) -> Awaitable[None]:
        """Relay it to the client; ``on_end`` is called once, before the last bytes are handed over."""
        ...


class Reply:
    """What the agent gets: a head, and a body that is whole or still coming."""

    __slots__ = ("body", "headers", "status", "stream")

    def __init__(
        self, status: int, headers: HeaderList, body: bytes = b"", stream: Stream | None = None
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.stream = stream


Onward = Callable[[Call], Awaitable[Reply]]


class Stage(Protocol):
    """One step on a call's way to the provider and back."""

    def __call__(self, call: Call, onward: Onward) -> Awaitable[Reply]:
        """Do one job, then go onward, or answer."""
        ...


def compose(stages: Sequence[Stage], provider: Onward) -> Onward:
    """Run ``stages`` in the order listed, then ``provider``."""
    onward: Onward = provider
    for stage in reversed(stages):
        onward = _ahead(stage.__call__, onward)
    return onward


def _ahead(step: Callable[[Call, Onward], Awaitable[Reply]], onward: Onward) -> Onward:
    # The interpreter goes through a closure without leaving its loop; a partial costs it three times as much.
    def go(call: Call) -> Awaitable[Reply]:
        return step(call, onward)

    return go
