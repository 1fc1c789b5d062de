"""What is read of a stream in C is what the meter reads of it in Python, and nothing is read by halves."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http import ChunkedDecoder
from sidecar.native import native
from sidecar.wire import Meter, ReplyFacts, meter_for, read_request

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

PATHS = {
    "openai.chat": "/v1/chat/completions",
    "anthropic.messages": "/v1/messages",
    "openai.responses": "/v1/responses",
}
REQUEST = b'{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
ASKED = b'{"model":"m","stream":true,"input":"hi"}'

texts = st.sampled_from(
    ["", " word", "\n\n", 'a "quote" \\ and \t', "é", "漢字", "😀", "data: x", "\u2028", "</s>"]
)
texts = texts | st.text(max_size=8)


def opening(api: str) -> bytes:
    """The first event, which says what the reply is."""
    if api == "openai.chat":
        return event({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant"}}]})
    if api == "anthropic.messages":
        message = {"id": "m", "model": "m", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}
        return event({"type": "message_start", "message": message}, "message_start")
    return event({"type": "response.created", "response": {"id": "r", "model": "m"}}, "response.created")


def event(body: object, name: str = "", *, ascii_only: bool = False, tight: bool = True) -> bytes:
    """One event as bytes."""
    said = json.dumps(body, ensure_ascii=ascii_only, separators=(",", ":") if tight else None)
    return (f"event: {name}\n" if name else "").encode() + b"data: " + said.encode("utf-8") + b"\n\n"


@st.composite
def chat(draw: st.DrawFn) -> object:
    """A chunk of a chat, or of something near it."""
    delta = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "content": texts | st.none(),
                "reasoning_content": texts | st.none(),
                "reasoning": texts,
                "role": st.just("assistant"),
                "refusal": st.none(),
                "annotations": st.sampled_from([None, [], [{"type": "url_citation"}], [{"type": "x"}], {}]),
                "tool_calls": st.none()
                | st.just([{"index": 0, "function": {"name": "f", "arguments": "{"}}]),
            },
        )
    )
    choice = {"index": draw(st.sampled_from([0, 0, 0, 1])), "delta": delta, "logprobs": None}
    choice["finish_reason"] = draw(st.sampled_from([None, None, None, "stop"]))
    choice |= draw(st.sampled_from([{}, {}, {}, {"error": None}, {"error": {"a": 1}}, {"message": {}}]))
    choice |= draw(st.sampled_from([{}, {}, {}, {"usage": None}, {"usage": {"prompt_tokens": 1}}]))
    more = draw(
        st.sampled_from(
            [{}, {}, {"usage": None}, {"usage": {"prompt_tokens": 1}}, {"error": {"a": 1}}, {"x_groq": None},
             {"x_groq": {"error": "over capacity"}}, {"base_resp": {"status_code": 0}},
             {"base_resp": {"status_code": 1000}}]
        )
    )  # fmt: skip
    return {"id": "c", "created": 1.5, "choices": [choice], "obfuscation": draw(texts), **more}


@st.composite
def messages(draw: st.DrawFn) -> object:
    """An event of a message, or of something near it."""
    parts = {"text": texts | st.none(), "thinking": texts, "partial_json": texts, "signature": texts}
    delta = {"type": "text_delta", **draw(st.fixed_dictionaries({}, optional=parts))}
    kind = draw(st.sampled_from(["content_block_delta"] * 4 + ["ping"]))
    return {"type": kind, "index": draw(st.integers(0, 2)), "delta": delta}


@st.composite
def responses(draw: st.DrawFn) -> object:
    """An event of a response, or of something near it."""
    kinds = ["output_text.delta", "output_text.delta", "reasoning_text.delta", "refusal.delta", "other"]
    kind = f"response.{draw(st.sampled_from(kinds))}"
    numbered = draw(st.sampled_from([{}, {"sequence_number": 7}, {"sequence_number": 12}]))
    return {"type": kind, "delta": draw(texts), "logprobs": [], "item_id": "i", **numbered}


ORDINARY = {
    "openai.chat": {"id": "c", "choices": [{"index": 0, "delta": {"content": "a\né"}}], "usage": None},
    "anthropic.messages": {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a\né"}},
    "openai.responses": {"type": "response.output_text.delta", "delta": "a\né", "sequence_number": 3},
}
DIALECTS = {"openai.chat": chat(), "anthropic.messages": messages(), "openai.responses": responses()}


def read(api: str, pieces: list[bytes], *, by_lane: bool) -> tuple[ReplyFacts, bytes, bytes, int]:
    """Facts, what was told to a watch, what was forwarded, and how many pieces the lane took."""
    facts = read_request(api, ASKED if api == "openai.responses" else REQUEST)
    headers = [(b"content-type", b"text/event-stream")]
    meter: Meter = meter_for(
        api, path=PATHS[api], status=200, headers=headers, request=facts, withhold_usage=False
    )
    heard = bytearray()
    meter.watch(heard.extend)
    out = bytearray(meter.feed(opening(api)))
    lane, taken = meter.lane() if by_lane else None, 0
    assert (lane is not None) is by_lane
    decoder = ChunkedDecoder()
    for piece in pieces:
        body = decoder.feed(piece)
        if lane is not None and lane.take(piece):
            taken += 1
            out += body
        else:
            out += meter.feed(body)
    said = meter.facts()
    return said, bytes(heard), bytes(out), taken


def chunk(body: bytes) -> bytes:
    """``body`` as one chunk of the chunked coding."""
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize("api", DIALECTS)
@settings(max_examples=25)
@given(data=st.data())
def test_events_say_the_same_however_they_are_read(api: str, data: st.DataObject) -> None:
    bodies = data.draw(st.lists(DIALECTS[api], max_size=6))
    pieces: list[bytes] = []
    for body in bodies:
        written = event(body, ascii_only=data.draw(st.booleans()), tight=data.draw(st.booleans()))
        if pieces and data.draw(st.booleans()):
            pieces[-1] += chunk(written)  # two chunks in one read
        else:
            pieces.append(chunk(written))
    assert read(api, pieces, by_lane=True)[:3] == read(api, pieces, by_lane=False)[:3]


@pytest.mark.parametrize("api", DIALECTS)
def test_bytes_of_any_kind_say_the_same_however_they_are_read(api: str) -> None:
    chance = random.Random(7)
    written = event(ORDINARY[api])
    for _ in range(400):
        changed = bytearray(written)
        for _ in range(chance.choice((1, 1, 2))):
            place = chance.randrange(len(changed))
            changed[place : place + chance.choice((0, 1))] = chance.choice(
                (
                    b"",
                    b'"',
                    b"\\",
                    b"\\u",
                    b"{",
                    b"}",
                    b",",
                    b"\n",
                    b"\r",
                    b"\xff",
                    b"\x01",
                    b"0",
                    b"null",
                    b" ",
                )
            )
        pieces = [chunk(bytes(changed)), chunk(written)]
        assert read(api, pieces, by_lane=True)[:3] == read(api, pieces, by_lane=False)[:3], bytes(changed)


@pytest.mark.parametrize("api", DIALECTS)
def test_text_alone_is_read_in_c(api: str) -> None:
    piece = chunk(event(ORDINARY[api], "any"))
    said, heard, _, taken = read(api, [piece, piece + piece], by_lane=True)
    assert (taken, said.chunks, heard) == (2, 4, "a\né".encode() * 3)


def test_the_lane_says_when_enough_is_kept_and_waits_while_an_event_is_cut() -> None:
    lane = native.Lane(0)
    piece = chunk(event({"id": "c", "choices": [{"index": 0, "delta": {"content": "four"}}]}))
    assert lane.take(piece) == 0  # not open
    lane.open, lane.limit = True, 8
    assert lane.take(piece) > 0 > lane.take(piece)
    assert lane.drain() == (2, 0, b"fourfour", 0)
    assert lane.drain() is None
    assert lane.take(piece[:-1]) == lane.take(b"0\r\n\r\n") == lane.take(b"") == 0
    assert lane.drain() is None
