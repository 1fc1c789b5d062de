"""A reader that fails stops no bytes: they pass, and the reply counts as incomplete."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.accounting import Known, usage_of
from sidecar.native import native
from sidecar.wire import Meter, ReplyFacts, RequestFacts
from sidecar.wire.dialects import CHAT, Dialect
from sidecar.wire.eventstream import frame_bytes
from sidecar.wire.passing import PassingMeter
from sidecar.wire.reading import Reading
from tests.sidecar.wire.conftest import JSON, SSE, bytewise, chat_chunk, new_meter, run

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
STREAM = (
    chat_chunk("one") + chat_chunk("two", odd=True) + chat_chunk("three", usage=USAGE) + b"data: [DONE]\n\n"
)
WHOLE = json.dumps({"id": "c", "model": "m", "odd": True, "choices": [], "usage": USAGE}).encode()
FRAMES = [(b"content-type", b"application/vnd.amazon.eventstream")]


class Fault(Exception):
    """Something that nobody foresaw."""


def read_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    if event.get("odd"):
        raise Fault("sk-secret")
    return CHAT.event(name, event, reading)


def read_body(body: Mapping[str, Any], reading: Reading) -> None:
    raise Fault("sk-secret")


FAULTY = Dialect("chat", read_body, read_event)


def faulty(headers: list[tuple[bytes, bytes]]) -> Meter:
    meter = PassingMeter("openai.chat", "/x", 200, dict(headers), RequestFacts("openai.chat", "m"), False)
    meter._dialect = FAULTY
    meter._ordinary = None
    return meter


@pytest.mark.parametrize("data,headers", [(STREAM, SSE), (WHOLE, JSON)])
@pytest.mark.parametrize("cut", [bytewise, lambda data: [data], lambda data: [data[:300], data[300:]]])
def test_bytes_pass_and_what_was_read_is_no_final_word(data: bytes, headers: Any, cut: Any) -> None:
    forwarded, facts = run(faulty(headers), cut(data))

    assert forwarded == data
    assert facts.unread.startswith("Fault at test_unread.py:")
    assert not facts.complete
    assert "unread" in facts.usage_flags
    assert facts.usage is not None and facts.usage.input_tokens == 11
    assert "sk-secret" not in str(facts)


def test_events_after_the_one_that_could_not_be_read_are_read() -> None:
    _, facts = run(faulty(SSE), [STREAM])
    assert facts.output_text_bytes == len("onethree")
    assert facts.chunks == 4


def test_bytes_that_were_held_back_go_before_those_after_the_fault() -> None:
    meter = new_meter()
    calls = 0

    def told(text: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Fault

    meter.watch(told)
    pieces = [STREAM[:200], STREAM[200:250], STREAM[250:]]
    forwarded, facts = run(meter, pieces)

    assert forwarded == STREAM
    assert facts.unread


@pytest.mark.skipif(native is None, reason="the extension in C is not built here")
def test_what_the_lane_has_read_passes_though_nobody_can_be_told_of_it() -> None:
    meter = new_meter()
    event = chat_chunk("one")
    meter.feed(event)
    lane = meter.lane()
    assert lane is not None

    def told(text: bytes) -> None:
        raise Fault

    meter.watch(told)
    assert lane.take(b"%x\r\n%b\r\n" % (len(event), event))
    meter.catch_up()

    assert meter.feed(event) == event
    assert not lane.take(b"%x\r\n%b\r\n" % (len(event), event))
    assert meter.facts().unread


def test_facts_that_cannot_be_summed_up_are_those_that_can() -> None:
    meter = PassingMeter("openai.chat", "/x", 200, dict(SSE), RequestFacts("openai.chat", "m"), False)
    meter.feed(STREAM)
    meter.reading.finish = {0: "stop", "one": "stop"}  # type: ignore[dict-item]

    facts = meter.facts()

    assert (facts.response_model, facts.unread[:9], facts.complete) == ("m", "TypeError", False)


@pytest.mark.parametrize("index", [[1], {"a": 1}, None, "0"])
def test_a_block_with_a_strange_number_is_read(index: Any) -> None:
    kinds = ("content_block_start", "content_block_delta", "content_block_stop")
    delta = {"type": "text_delta", "text": "a"}
    events = [{"type": kind, "index": index, "delta": delta} for kind in kinds]
    data = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()

    forwarded, facts = run(new_meter("anthropic.messages"), [data])

    assert forwarded == data
    assert (facts.unread, facts.output_text_bytes) == ("", 1)


def test_a_chunk_of_bedrock_that_is_no_base64_is_flagged() -> None:
    data = frame_bytes({":message-type": "event", ":event-type": "chunk"}, '{"bytes":"\u00e9"}'.encode())
    forwarded, facts = run(new_meter("raw", headers=FRAMES), [data])
    assert forwarded == data
    assert facts.usage_flags == ("unreadable_event",)


def test_an_unread_reply_is_charged_by_what_is_known_of_it() -> None:
    def charged(facts: ReplyFacts, seen: int) -> tuple[int, int, str]:
        usage, grade = usage_of(Known("openai.chat", True, 200, True, facts, 40, seen, 40, 900))
        return usage.input_tokens, usage.output_tokens, str(grade)

    assert charged(ReplyFacts(unread="x"), 0) == (40, 900, "assumed")
    assert charged(ReplyFacts(unread="x"), 12) == (40, 12, "estimated")
    _, facts = run(faulty(SSE), [STREAM])
    assert charged(facts, 9) == (11, 9, "estimated")
