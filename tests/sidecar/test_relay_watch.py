"""A watched stream: what may not be forwarded yet is held back, then goes whole, or the stream ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sidecar.books import facts_of
from sidecar.http import (
    Deadlines,
    HeaderList,
    Limits,
    Request,
    Responder,
    Server,
    UpstreamError,
    UpstreamPool,
    UpstreamReply,
)
from sidecar.native import native
from sidecar.relay import Relay, read_at_once
from sidecar.wire import ReplyFacts, RequestFacts, meter_for, terminal_events

EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%d "},"finish_reason":null}]}\n\n'
EVENTS = [EVENT % number for number in range(10)]
DONE = b"data: [DONE]\n\n"


class Scene:
    """An upstream that sends what it is told to, a relay, and an agent that reads."""

    def __init__(self, watch: Callable[[], bool] | None, meter: Any = None) -> None:
        self.watch = watch
        self.meter_of = meter or (lambda meter: meter)
        self.relay: Relay | None = None
        self.began = asyncio.Event()
        self.ended: list[str] = []
        self.upstream_left = asyncio.Event()
        self.to_send: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.got = bytearray()
        self.agent_done = asyncio.Event()
        self.upstream_writer: asyncio.StreamWriter | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self._upstream = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._upstream.sockets[0].getsockname()[1]
        self._pool = UpstreamPool("127.0.0.1", port, tls=None, connections=4, deadlines=Deadlines())
        self._server = Server(self._handle, limits=Limits(), deadlines=Deadlines(), error_body=no_body)
        await self._server.start("127.0.0.1", 0)
        reader, self._writer = await asyncio.open_connection(*self._server.addresses[0])
        self._writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self._reading = asyncio.create_task(self._read(reader))
        await asyncio.wait_for(self.began.wait(), 30)

    async def close(self) -> None:
        self._reading.cancel()
        await closed(self._writer)
        self.to_send.put_nowait(None)
        await self._server.drain(0.1)
        await self._pool.close()
        self._upstream.close()
        # Before Python 3.12 a server does not wait for its connections.
        await asyncio.gather(*self._serving, self._reading, return_exceptions=True)
        await self._upstream.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.upstream_writer = writer
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        sending = asyncio.create_task(self._send(writer))
        await reader.read(1)
        self.upstream_left.set()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await closed(writer)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        while (data := await self.to_send.get()) is not None:
            writer.write(b"%x\r\n%s\r\n" % (len(data), data) if data else b"0\r\n\r\n")
            await writer.drain()

    async def _handle(self, request: Request, responder: Responder) -> None:
        answer = await self._pool.request(b"GET", b"/", [], b"")
        facts = RequestFacts("openai.chat", "m", stream=True)
        meter = meter_for(
            "openai.chat", path="/", status=200, headers=answer.headers, request=facts, withhold_usage=False
        )
        self.meter = self.meter_of(meter)
        self.answer, self.responder = answer, responder
        self.relay = Relay(answer, self.meter, responder, None)
        self.relay.head = (200, [(b"content-type", b"text/event-stream")])
        self.began.set()
        await self.relay.run(lambda: self.ended.append("ended"), self.watch)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while True:
            size = int((await reader.readline()) or b"0", 16)
            data = await reader.readexactly(size)
            await reader.readexactly(2)
            if not size:
                self.agent_done.set()
                return
            self.got += data

    # -- what a test does and sees

    def send(self, *events: bytes) -> None:
        for event in events:
            self.to_send.put_nowait(event)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.002)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close, and wait until the socket is."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def no_body(request: Request | None, path: str, status: int, message: str) -> tuple[HeaderList, bytes]:
    return [], message.encode()


class Gate:
    """A watch that says yes or no, and counts how often it was asked."""

    def __init__(self) -> None:
        self.open = True
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.open


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def scene(gate: Gate) -> AsyncIterator[Scene]:
    made = Scene(gate)
    await made.start()
    yield made
    await made.close()


async def test_while_the_watch_agrees_everything_passes_at_once(scene: Scene, gate: Gate) -> None:
    for number in range(10):
        scene.send(EVENTS[number])
        await scene.until(lambda sent=number: bytes(scene.got) == b"".join(EVENTS[: sent + 1]))
    assert gate.asked == 10
    scene.send(DONE, b"")
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    assert bytes(scene.got) == b"".join(EVENTS) + DONE
    assert scene.ended == ["ended"]


async def test_what_the_watch_refuses_is_held_back_and_goes_whole_and_in_order_when_it_may(
    scene: Scene, gate: Gate
) -> None:
    scene.send(EVENTS[0])
    await scene.until(lambda: scene.got)
    gate.open = False
    scene.send(EVENTS[1])
    await scene.until(lambda: gate.asked == 2)
    assert bytes(scene.got) == EVENTS[0]
    assert scene.meter.output_text_bytes == 4  # read and counted, though nobody has it yet

    assert scene.relay is not None
    gate.open = True
    scene.relay.go_on()
    scene.send(EVENTS[2])
    await scene.until(lambda: bytes(scene.got) == b"".join(EVENTS[:3]))
    scene.send(DONE, b"")
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    assert bytes(scene.got) == b"".join(EVENTS[:3]) + DONE


async def test_while_it_is_held_back_the_upstream_is_not_read(scene: Scene, gate: Gate) -> None:
    gate.open = False
    scene.send(EVENTS[0])
    await scene.until(lambda: gate.asked == 1)
    flood = b": " + b"x" * 60_000 + b"\n\n"
    for _ in range(400):
        scene.send(flood)
    # 24 MB are more than the kernel's buffers take: the rest waits where it was made.
    waiting = [401, 400]
    while waiting[-1] < waiting[-2] or waiting[-1] == 400:
        await asyncio.sleep(0.05)
        waiting.append(scene.to_send.qsize())
    assert waiting[-1] > 100
    assert (bytes(scene.got), gate.asked) == (b"", 1)

    assert scene.relay is not None
    gate.open = True
    scene.relay.go_on()
    scene.send(b"")
    await asyncio.wait_for(scene.agent_done.wait(), 10)
    assert bytes(scene.got) == EVENTS[0] + 400 * flood


async def test_going_on_when_nothing_is_held_back_does_nothing(scene: Scene) -> None:
    assert scene.relay is not None
    scene.send(EVENTS[0])
    await scene.until(lambda: scene.got)
    scene.relay.go_on()
    scene.relay.go_on()
    scene.send(EVENTS[1], b"")
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    assert bytes(scene.got) == EVENTS[0] + EVENTS[1]


async def test_a_cut_ends_the_reply_validly_once_and_closes_the_upstream(scene: Scene) -> None:
    scene.send(EVENTS[0])
    await scene.until(lambda: scene.got)
    assert scene.relay is not None
    ending = terminal_events("openai.chat", scene.meter.facts(), "why", choices=1)
    assert scene.relay.cut(ending)
    assert not scene.relay.cut(ending)
    scene.relay.go_on()
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    await asyncio.wait_for(scene.upstream_left.wait(), 30)
    assert bytes(scene.got) == EVENTS[0] + ending
    assert scene.ended == ["ended"]


async def test_a_cut_while_held_back_sends_what_is_paid_for_before_the_end(scene: Scene, gate: Gate) -> None:
    gate.open = False
    scene.send(EVENTS[0])
    await scene.until(lambda: gate.asked == 1)
    assert scene.relay is not None
    scene.relay.cut(b"data: [DONE]\n\n")
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    assert bytes(scene.got) == EVENTS[0] + DONE
    assert scene.ended == ["ended"]


async def test_what_has_all_come_is_not_cut(scene: Scene) -> None:
    scene.send(EVENTS[0])
    await scene.until(lambda: scene.got)
    assert scene.relay is not None
    scene.relay._arrived(EVENTS[1] + DONE, True, None)
    assert scene.relay.is_over
    assert not scene.ended  # It waits for its turn.
    assert not scene.relay.cut(terminal_events("openai.chat", scene.meter.facts(), "why", choices=1))
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    assert bytes(scene.got) == EVENTS[0] + EVENTS[1] + DONE
    assert scene.ended == ["ended"]


async def test_what_has_come_when_the_agent_leaves_was_used(scene: Scene) -> None:
    usage = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}\n\n'
    scene.send(EVENTS[0])
    await scene.until(lambda: scene.got)
    assert scene.relay is not None
    scene.relay._arrived(usage + DONE, True, None)
    scene.relay.close()
    facts = scene.meter.facts()
    assert facts.usage is not None and facts.usage.output_tokens == 7
    assert facts.complete
    await asyncio.sleep(0.05)
    assert (bytes(scene.got), scene.ended) == (EVENTS[0], [])


async def test_a_watch_that_cuts_by_itself_ends_the_stream_from_within() -> None:
    scene: Scene

    def watch() -> bool:
        if scene.meter.output_text_bytes < 6:
            return True
        assert scene.relay is not None
        scene.relay.cut(DONE)
        return False

    scene = Scene(watch)
    await scene.start()
    scene.send(EVENTS[0])
    await scene.until(lambda: scene.got)
    scene.send(EVENTS[1])
    await scene.until(lambda: len(scene.got) > len(EVENTS[0]))
    scene.send(EVENTS[2], EVENTS[3])
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    await asyncio.wait_for(scene.upstream_left.wait(), 30)
    assert bytes(scene.got).startswith(EVENTS[0] + EVENTS[1])
    assert bytes(scene.got).endswith(DONE)
    assert bytes(scene.got).count(DONE) == 1
    assert scene.ended == ["ended"]
    await scene.close()


async def test_a_stream_that_ends_while_it_is_held_back_reaches_the_agent_whole(
    scene: Scene, gate: Gate
) -> None:
    gate.open = False
    # One read of the socket: what is after the first event comes with it.
    scene.send(EVENTS[0])
    await scene.until(lambda: gate.asked == 1)
    scene.send(EVENTS[1], DONE, b"")
    assert scene.relay is not None
    gate.open = True
    scene.relay.go_on()
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    assert bytes(scene.got) == EVENTS[0] + EVENTS[1] + DONE
    assert scene.ended == ["ended"]


async def test_without_a_watch_nothing_is_asked() -> None:
    scene = Scene(None)
    await scene.start()
    scene.send(*EVENTS, DONE, b"")
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    assert bytes(scene.got) == b"".join(EVENTS) + DONE
    await scene.close()


async def test_what_goes_by_the_gate_is_counted_and_read_like_the_rest() -> None:
    scene = Scene(None)
    await scene.start()
    odd = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"length"}]}\n\n'
    sent = b""
    for event in (*EVENTS, odd, *EVENTS):
        scene.send(event)
        sent += event
        await scene.until(lambda sent=sent: bytes(scene.got) == sent)
        assert scene.responder.bytes_written == len(sent)
    assert scene.meter.facts().chunks == 21
    assert scene.meter.output_text_bytes == 2 * 20 + 1
    if native is not None:
        assert scene.answer.gate is not None
        assert scene.answer.gate.open  # opened again behind the odd one
    scene.send(DONE, b"")
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    assert bytes(scene.got) == sent + DONE
    assert scene.responder.bytes_written == len(sent + DONE)
    await scene.close()


async def test_an_agent_that_falls_behind_shuts_the_gate_and_gets_everything_in_order() -> None:
    scene = Scene(None)
    await scene.start()
    scene.send(*EVENTS[:3])
    await scene.until(lambda: bytes(scene.got) == b"".join(EVENTS[:3]))
    scene.responder.flow(paused=True)  # as its connection says when the socket is full
    scene.send(*EVENTS[3:6])
    assert scene.answer.gate is not None
    assert not scene.answer.gate.open
    scene.responder.flow(paused=False)
    scene.send(*EVENTS[6:], DONE, b"")
    await asyncio.wait_for(scene.agent_done.wait(), 30)
    assert bytes(scene.got) == b"".join(EVENTS) + DONE
    assert scene.responder.bytes_written == len(b"".join(EVENTS) + DONE)
    await scene.close()


class BrokenOff:
    """An upstream whose reply ends in the turn of the loop after it was asked for."""

    def pipe(self, sink: Callable[[bytes, bool, UpstreamError | None], None]) -> None:
        asyncio.get_running_loop().call_soon(sink, b"", True, UpstreamError("reset", "ended", sent=True))


async def test_a_stream_that_breaks_off_as_its_opening_is_awaited_is_known_to_have_failed() -> None:
    meter = meter_for(
        "openai.chat",
        path="/",
        status=200,
        headers=[],
        request=RequestFacts("openai.chat", "m", stream=True),
        withhold_usage=False,
    )
    relay = Relay(BrokenOff(), meter, None, None)  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await relay.opening(600)
    assert relay.failed == "upstream_reset"


class Failing:
    """A meter that cannot read: from its ``feeds``-th feed on, and at its end."""

    ended = first_content_seen = streaming = False
    output_text_bytes = 0

    def __init__(self, feeds: int) -> None:
        self.feeds = feeds

    def feed(self, data: bytes) -> bytes:
        if self.feeds <= 0:
            raise TypeError("unhashable type: 'list'")
        self.feeds -= 1
        return data

    def finish(self) -> bytes:
        raise RuntimeError("no end")

    def facts(self) -> ReplyFacts:
        raise KeyError("sk-secret")

    def lane(self) -> None:
        return None

    def catch_up(self) -> None:
        return None


@pytest.mark.parametrize("feeds", range(5))
@pytest.mark.parametrize("in_one_read", [True, False])
async def test_a_stream_that_cannot_be_read_reaches_the_agent_whole(feeds: int, in_one_read: bool) -> None:
    scene = Scene(None, lambda _: Failing(feeds))
    await scene.start()
    sent = b""
    if not in_one_read:
        for event in EVENTS[:3]:
            scene.send(event)
            sent += event
            await scene.until(lambda sent=sent: bytes(scene.got) == sent)
    last = b"".join(EVENTS[3:]) + DONE
    scene.to_send.put_nowait(None)  # what follows leaves with the end of the coding, in one write
    assert scene.upstream_writer is not None
    scene.upstream_writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))
    await asyncio.wait_for(scene.agent_done.wait(), 5)
    assert bytes(scene.got) == sent + last
    assert scene.ended == ["ended"]
    await scene.close()


def test_what_a_failing_meter_does_not_say_is_told_once_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    facts = [facts_of(Failing(0)) for _ in range(2)]
    assert facts[0].unread.startswith("KeyError at test_relay_watch.py:")
    assert facts[0].usage is None and not facts[0].complete
    assert len([record for record in caplog.records if "could not be read" in record.getMessage()]) == 1
    assert "sk-secret" not in caplog.text


@pytest.mark.parametrize("feeds", [0, 1])
def test_a_whole_reply_that_cannot_be_read_reaches_the_agent(feeds: int) -> None:
    upstream = UpstreamReply(200, [], 7, Unmoved(), 0, 0)
    upstream.end(b'{"a":1}')
    assert read_at_once(upstream, Failing(feeds), None, 100) == b'{"a":1}'


class Unmoved:
    """A connection that nothing happens to."""

    reused = False
    address = "h:1"
    reply_buffer = 1 << 20
    gate = None


@pytest.mark.parametrize("feeds", range(3))
async def test_a_whole_reply_that_comes_in_pieces_reaches_the_agent(feeds: int) -> None:
    upstream = UpstreamReply(200, [], 7, Unmoved(), 0, 0)
    relay = Relay(upstream, Failing(feeds), None, None)  # type: ignore[arg-type]
    upstream.take(b'{"a')
    waiting = asyncio.create_task(relay.whole(100))
    await asyncio.sleep(0)
    upstream.take(b'":')
    upstream.end(b"1}")
    assert await asyncio.wait_for(waiting, 5) == b'{"a":1}'
