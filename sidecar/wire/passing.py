"""A reply of any kind, read as its bytes pass.

A reply is one of four things, told by its content type and first byte: server-sent
events, AWS frames, JSON (whole, an array, or lines), or something we do not read.
The meter forwards what it is given. Two exceptions, both in streams of events: an
event that is not yet whole waits for its end (no client acts on half of one), so that
the stream can be ended validly at any moment; and the usage chunk that we asked for
is withheld from an agent that did not.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from sidecar.wire import bedrock, dialects
from sidecar.wire.dialects import BY_API, CHAT, MESSAGES, OTHER, RESPONSES, Dialect, hides_thinking, recognise
from sidecar.wire.encoding import Decoder
from sidecar.wire.eventstream import Deframer
from sidecar.wire.facts import ReplyFacts, RequestFacts, StreamPlace
from sidecar.wire.heavy_reply import is_heavy_reply, read_heavy
from sidecar.wire.jsonstream import Body, decode_event
from sidecar.wire.modes import FRAMES, JSON, OPAQUE, SSE, UNKNOWN, comes_in_parts, mode_of
from sidecar.wire.ordinary import Lane, lane_for, tell
from sidecar.wire.reading import Reading
from sidecar.wire.sse import BOM, Event, Splitter, place_of_data, without
from sidecar.wire.tails import Rest, usage_at_end

_decode_text: Final = msgspec.json.Decoder(str).decode
_TEXT_MARKS: Final = {"chat": b'"content":"', "messages": b'"text":"'}
_MOST_MISSES: Final = 8
"""After so many events in a row that differ in more than their text, they are no longer compared."""
_NAMED: Final = {
    ("response.", 2): RESPONSES,
    ("message_start", 2): MESSAGES,
    ("message_delta", 1): MESSAGES,
}
"""Whose usage it is that stands so deep in an event of this name."""
_CR: Final = 0x0D  # looking for a number in bytes is many times cheaper than for a byte string


class PassingMeter:
    """Reads one reply of any kind as its bytes pass. Made by :func:`sidecar.wire.meter.meter_for`."""

    __slots__ = (
        "_body", "_by_shape", "_decoder", "_dialect", "_ended", "_frames", "_given_up", "_headers", "_held",
        "_lane", "_lead", "_misses", "_mode", "_ordinary", "_path", "_prefix", "_ready", "_skip_lf",
        "_splitter", "_suffix", "_text_from", "_text_to", "_type", "_withhold", "reading",
    )  # fmt: skip

    def __init__(
        self,
        api: str,
        path: str,
        status: int,
        headers: Mapping[bytes, bytes],
        request: RequestFacts,
        withhold: bool,
    ) -> None:
        self.reading = Reading(request, status, headers)
        self._path = path
        self._withhold = withhold
        self._dialect = BY_API.get(api, OTHER)
        self._by_shape = api not in BY_API
        self._ordinary = self._dialect.ordinary
        self._type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self._mode = UNKNOWN
        self._decoder: Decoder | None = None
        encoding = headers.get(b"content-encoding", b"")
        if encoding and encoding.strip().lower() != b"identity":
            self._decoder = Decoder(encoding.decode("latin-1"))
        self._headers = headers
        self._splitter: Splitter | None = None
        self._frames: Deframer | None = None
        self._body: Body | None = None
        self._held = b""
        self._lead = b""
        self._skip_lf = False
        self._ended = False
        self._given_up = False
        self._ready = False
        """Between two events: the next bytes may be one whole event."""
        self._prefix = self._suffix = b""
        """What stood around the text of the last ordinary event, quotation marks included."""
        self._text_from = self._text_to = 0  # where the text with its marks is then; 0: nothing known
        self._misses = 0
        self._lane: Lane | None = None

    @property
    def ended(self) -> bool:
        """The reply is complete in its own terms: its terminal event has passed."""
        return self.reading.complete

    @property
    def first_content_seen(self) -> bool:
        """The model's first words (or arguments, or thoughts) have passed."""
        self.catch_up()
        return self.reading.text_bytes > 0

    @property
    def output_text_bytes(self) -> int:
        """UTF-8 bytes that the model visibly wrote so far."""
        self.catch_up()
        return self.reading.text_bytes

    def watch(self, told: Callable[[bytes], object]) -> None:
        """Have ``told`` called with all that the model visibly writes, as it is read."""
        self.reading.watch = told

    @property
    def streaming(self) -> bool:
        """The reply turned out to be a stream."""
        return self._mode in (SSE, FRAMES) or (self._body is not None and self._body.is_stream)

    @property
    def whole(self) -> bool:
        """The reply turned out to be one JSON value, whose parts are of no use alone."""
        return self._mode == JSON and self._body is not None and not self._body.is_stream

    def feed(self, data: bytes) -> bytes:
        """Read ``data``; the bytes to forward now, ``data`` itself unless something is held back."""
        if self._given_up:
            return data
        try:
            return self._take(data)
        except Exception as error:
            self._give_up(error)
            held, self._held = self._held, b""
            return held + data

    def _give_up(self, error: Exception) -> None:
        """Let all that comes pass unread: no mistake of a reader stops the bytes."""
        self.reading.give_up(error)
        self._given_up = True
        self._ready = False
        if self._lane is not None:
            self._lane.open = False

    def _take(self, data: bytes) -> bytes:
        self.catch_up()
        if self._given_up:
            return data  # Between two events, where the lane was: nothing is held.
        if self._ready:
            if self._text_from and data.startswith(self._prefix) and data.endswith(self._suffix):
                # The last event with another text: when what is between is one JSON string, all is read.
                try:
                    text = _decode_text(data[self._text_from : self._text_to])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    pass
                else:
                    self._misses = 0
                    reading = self.reading
                    reading.chunks += 1
                    if text:
                        reading.hear(text.encode("utf-8", "replace"))
                    return data
            if data.endswith(b"\n\n") and _CR not in data:
                return self._relay_whole(data)
        if self._decoder is not None:
            decoded = self._decoder.feed(data)
            if decoded:
                self._consume(decoded)
            return data
        if self._mode == SSE:
            return self._relay_events(data)
        return self._consume(data)

    def lane(self) -> Lane | None:
        """What may read this stream's chunks in our stead from here on; None where nothing may."""
        if self._lane is None and self._ready and not self._by_shape and self.reading.response_id:
            self._lane = lane_for(self._dialect.name)
            if self._lane is not None:
                self._lane.open = True
        return self._lane

    def catch_up(self) -> None:
        """Take in what the lane has read."""
        if self._lane is not None:
            try:
                tell(self._lane, self._dialect.name, self.reading)
            except Exception as error:
                self._give_up(error)

    def _relay_whole(self, data: bytes) -> bytes:
        """Read ``data``, which is whole events with plain line ends; what of it goes on."""
        gaps: list[tuple[int, int]] = []
        start = 0
        for block in data[:-2].split(b"\n\n"):
            end = start + len(block) + 2
            place = place_of_data(block)
            if not place:
                self._read_block(block, start, gaps)
            elif not self._read_ordinary(block, place) and self._read_other(
                block[7 : place - 7].decode("utf-8", "replace") if place > 6 else "", block[place:]
            ):
                self._leave_out(start, end, gaps)
            start = end
        return without(data, gaps) if gaps else data

    def _read_block(self, block: bytes, start: int, gaps: list[tuple[int, int]]) -> None:
        """Read whatever lines ``block`` has, which begins at ``start``."""
        splitter = self._splitter
        assert splitter is not None
        splitter.rebase()
        for event in splitter.feed(block + b"\n\n"):
            if self._read_event(event):
                self._leave_out(start + event.start, start + event.end, gaps)

    def _leave_out(self, start: int, end: int, gaps: list[tuple[int, int]]) -> None:
        """Withhold an event of usage alone, if it is to be."""
        if self._withhold:
            gaps.append((start, end))
            self.reading.chunks -= 1

    def _read_ordinary(self, block: bytes, place: int) -> bool:
        """Read ``block``, whose data begin at ``place``, when it only adds text; false when it does not."""
        if self._ordinary is None or not self._ordinary(block[place:], self.reading):
            return False
        self.reading.chunks += 1
        if self._misses < _MOST_MISSES:
            self._misses += 1
            self._learn(block)
        return True

    def _learn(self, data: bytes) -> None:
        """Remember what stands around the text of an ordinary event: often the next has the same."""
        mark = _TEXT_MARKS.get(self._dialect.name, b"\n")
        start = data.find(mark) + len(mark)
        end = data.find(b'"', start)
        if start > len(mark) and end > start and self.reading.text.endswith(data[start:end]):
            self._prefix, self._suffix = data[:start], data[end:] + b"\n\n"
            self._text_from, self._text_to = start - 1, 1 - len(self._suffix)

    def finish(self) -> bytes:
        """The reply has ended as it should; bytes still held back."""
        if self._ended:
            return b""
        self._ended = True
        held, self._held = self._held, b""
        try:
            return b"" if self._read_end() else held
        except Exception as error:
            self.reading.give_up(error)
            return held

    def _read_end(self) -> bool:
        """Read what is left; true when it is usage alone, to be withheld."""
        self.catch_up()
        if self._given_up:
            return False
        if self._mode == SSE:
            drop = False
            for event in self._splitter.finish() if self._splitter else ():
                drop = self._read_event(event) and self._withhold
            self.reading.chunks -= drop
            if self.reading.finish and self._by_shape:
                self.reading.complete = True
            return drop
        if self._mode in (JSON, UNKNOWN):
            self._read_body(last=True)
        elif self._mode == OPAQUE:
            self.reading.complete = True
        return False

    def facts(self) -> ReplyFacts:
        """The facts as they stand, also of a reply that was cut off."""
        reading = self.reading
        try:
            return self._sum_up()
        except Exception as error:
            reading.give_up(error)
            return ReplyFacts(
                response_id=reading.response_id,
                response_model=reading.response_model,
                error=reading.error,
                chunks=reading.chunks,
                output_text_bytes=reading.text_bytes,
                reasoning_text_bytes=reading.reasoning_bytes,
                usage_flags=tuple(reading.flags),
                unread=reading.unread,
            )

    def _sum_up(self) -> ReplyFacts:
        self.catch_up()
        reading = self.reading
        if self._mode == JSON and not self._ended and not self._given_up:
            self._read_body(last=False)
        if reading.usage_block is None and reading.complete and reading.status < 400:
            reading.use(bedrock.counts_in_headers(self._headers))
        if self._dialect is CHAT:
            reading.hidden_thinking = hides_thinking(self._path, reading.response_model)
        self._note_troubles()
        facts = reading.facts()
        if self._splitter is not None and self._splitter.oversized:
            facts.last_message_hash = 0  # Part of the message went by unread.
        if self.streaming:
            facts.place = self._place()
        return facts

    def _place(self) -> StreamPlace:
        framing = {SSE: "sse", FRAMES: "frames"}.get(self._mode, "array")
        splitter, scratch = self._splitter, self.reading.scratch
        created = scratch.get("created")
        blocks = scratch.get("open_blocks", ())
        return StreamPlace(
            dialect=self._dialect.name,
            framing=framing,
            inside_event=splitter is not None and splitter.oversized and not splitter.idle,
            created=created if type(created) is int else 0,
            open_blocks=tuple(sorted(block for block in blocks if type(block) is int)),
            sequence_number=scratch.get("sequence_number", -1),
        )

    def _note_troubles(self) -> None:
        if self._decoder is not None and self._decoder.trouble:
            self.reading.doubt(self._decoder.trouble)
        if self._splitter is not None and self._splitter.oversized:
            self.reading.doubt("event_too_large")
        if self._frames is not None and self._frames.given_up:
            self.reading.doubt("broken_frame")
        if self._body is not None and self._body.too_large:
            self.reading.doubt("body_too_large")

    def _consume(self, data: bytes) -> bytes:
        """Read decoded bytes; the bytes to forward when they are not a copy."""
        if self._mode == UNKNOWN:
            started = self._lead + data
            self._mode = self._recognise_mode(started)
            if self._mode == UNKNOWN:
                self._lead = started[-4096:]
                return data
            lead, self._lead = self._lead, b""
            if self._mode == SSE:
                self._splitter = Splitter(tails=True)
                if self._decoder is None:
                    if data.endswith(b"\n\n") and _CR not in data and not lead and data[0] < 0x80:
                        # As nearly all begin: with whole events, and no mark of the encoding.
                        self._splitter.begin()
                        self._ready = True
                        return self._relay_whole(data)
                    return self._relay_events(data, lead)
            elif self._mode == JSON:
                started = started.removeprefix(BOM)
        else:
            started = data
        if self._mode == SSE:
            self._read_events(started)
        elif self._mode == FRAMES:
            self._read_frames(started)
        elif self._mode == JSON:
            body = self._body
            assert body is not None
            body.feed(started)
            if body.is_stream:
                self._read_objects(body, last=False)
        return data

    def _recognise_mode(self, started: bytes) -> int:
        status = self.reading.status
        mode = mode_of(self._type, started, status)
        if mode == FRAMES:
            self._frames = Deframer()
        elif mode == JSON:
            self._body = Body()
            self._body.is_stream = status < 400 and comes_in_parts(self._type, started, self._path)
        return mode

    def _relay_events(self, data: bytes, lead: bytes = b"") -> bytes:
        """Read events; the bytes of whole ones, the usage chunk left out where it is withheld."""
        splitter = self._splitter
        assert splitter is not None
        held = self._held
        if not held and not self._skip_lf and splitter.idle:
            splitter.rebase()
        base = len(lead) or splitter.block_end  # Where in the splitter's count the bytes at hand begin.
        gaps: list[tuple[int, int]] = []
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 0x0A:  # The end of a withheld event whose CRLF was cut in two.
                gaps.append((0, 1))
        for event in splitter.feed(lead + data if lead else data):
            if self._read_event(event) and self._withhold:
                gaps.append((max(0, event.start - base), event.end - base))
                self.reading.chunks -= 1
        whole = max(0, splitter.block_end - base)
        out = held + data if held else data
        if whole < len(out):
            self._held = out[whole:]
            out = out[:whole]
        elif held:
            self._held = b""
        self._ready = splitter.idle and not self._held and not splitter.after_cr
        if self._lane is not None:
            self._lane.open = self._ready
        if not gaps:
            return out
        # With bytes held, the CR ends a line of theirs, not the withheld event.
        self._skip_lf = splitter.after_cr and gaps[-1][1] == whole and not self._held
        return without(out, gaps)

    def _read_events(self, data: bytes) -> None:
        for event in self._splitter.feed(data) if self._splitter else ():
            self._read_event(event)

    def _read_event(self, event: Event) -> bool:
        """Read one event; true when it carried nothing but usage."""
        if event.cut:
            self._read_tail(event.name, usage_at_end(event.data) or event.usage)
            return False
        if self._ordinary is not None and self._ordinary(event.data, self.reading):
            self.reading.chunks += 1
            return False
        return self._read_other(event.name, event.data)

    def _read_tail(self, name: str, rest: Rest | None) -> None:
        """Read the usage of an event that was too large."""
        if rest is None:
            return
        said: dict[str, Any] = rest.members
        dialect = _NAMED.get((name if name[:9] != "response." else "response.", rest.depth))
        if dialect is None:
            if rest.depth > 1 or self._dialect in (MESSAGES, RESPONSES):
                return  # Whose usage it is nobody says.
        elif not (self._by_shape or self._dialect is dialect):
            return
        else:
            self._dialect = dialect
            if dialect is RESPONSES:
                said = {"response": {"status": name.removeprefix("response."), **said}}
            elif rest.depth > 1:
                said = {"message": said}
            said["type"] = name
        try:
            self._dialect.event(name, said, self.reading)
            self.reading.fail_beside(said)
        except Exception as error:
            self.reading.give_up(error)

    def _read_other(self, name: str, data: bytes) -> bool:
        """Read an event that is not ordinary; likewise."""
        self.reading.chunks += 1
        try:
            return self._read_with_care(name, data)
        except Exception as error:
            self.reading.give_up(error)
            return False

    def _read_with_care(self, name: str, data: bytes) -> bool:
        reading = self.reading
        if data.strip() == b"[DONE]":
            reading.complete = True
            return False
        plain = self._dialect.plain
        if plain is not None and not name and not self._by_shape:
            usage_alone = plain(data, reading)
            if usage_alone is not None:
                return usage_alone
        try:
            event = decode_event(data)
        except (ValueError, RecursionError):
            if name == "error":
                reading.fail(data.decode("utf-8", "replace"))
            else:
                reading.doubt("unreadable_event")
            return False
        if isinstance(event, list):  # Google wraps errors of a stream in an array.
            event = event[0] if event else None
        if not isinstance(event, dict):
            return False
        usage_alone = self._dialect_of(event).event(name, event, reading)
        return not reading.fail_beside(event) and usage_alone

    def _dialect_of(self, body: Mapping[str, Any]) -> Dialect:
        if self._by_shape:
            self._dialect = recognise(body)
            self._ordinary = self._dialect.ordinary
        return self._dialect

    def _read_frames(self, data: bytes) -> None:
        for frame in self._frames.feed(data) if self._frames else ():
            self.reading.chunks += 1
            try:
                bedrock.read_frame(frame.headers, frame.payload, self.reading, dialects.read_recognised_event)
            except Exception as error:
                self.reading.give_up(error)

    def _read_objects(self, kept: Body, *, last: bool) -> None:
        for body in kept.new_objects(last=last):
            self.reading.chunks += 1
            try:
                self._dialect_of(body).event("", body, self.reading)
                self.reading.fail_beside(body)
            except Exception as error:
                self.reading.give_up(error)

    def _read_body(self, *, last: bool) -> None:
        kept = self._body or Body()
        if kept.is_stream:
            self._read_objects(kept, last=True)
            if last and self.reading.chunks:
                self.reading.complete = True
            return
        body = self._whole(kept, last=last)
        if body is None and not last:
            return
        self._ended = True
        reading = self.reading
        if reading.status >= 400:
            reading.complete = True
            self._read_failure(body, kept)
        elif isinstance(body, dict):
            reading.complete = True
            try:
                self._dialect_of(body).body(body, reading)
            except Exception as error:
                reading.give_up(error)
                OTHER.body(body, reading)
            reading.fail_beside(body)
        elif isinstance(body, list):
            reading.complete = True
            for member in body:
                if isinstance(member, dict):
                    self._dialect_of(member).body(member, reading)
        elif not kept.too_large:
            self._read_objects(kept, last=True)  # Perhaps an object a line, under some other content type.
            kept.is_stream = reading.chunks > 1

    def _whole(self, kept: Body, *, last: bool) -> Any:
        """As :meth:`Body.whole`; of a body with very many members, no more than readers look at."""
        if not is_heavy_reply(kept.bytes):
            return kept.whole(last=last)
        body = read_heavy(bytes(kept.bytes))
        if body is None and last:
            kept.too_large = True  # Nor is it looked through for objects.
        return body

    def _read_failure(self, body: Any, kept: Body) -> None:
        if isinstance(body, list) and body:
            body = body[0]
        error = body
        if isinstance(body, dict):
            inner = body.get("error")
            if isinstance(inner, dict) or (isinstance(inner, str) and "message" not in body):
                error = inner
        if not isinstance(error, dict | str) or not error:
            text = kept.text(200).strip()
            error = {"message": text if text and text[0] != "<" else f"HTTP {self.reading.status}"}
        self.reading.fail(error)
