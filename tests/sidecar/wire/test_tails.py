"""Usage at the end of an event that is too large is found there, and nothing that looks like it."""

import json
import random
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.domain.usage import Usage
from sidecar.wire.sse import MAX_LINE, TAIL, Splitter
from sidecar.wire.tails import MOST_MEMBERS_MET, MOST_USAGE, Passing, Rest, usage_at_end
from tests.sidecar.wire.conftest import SSE, chat_chunk, new_meter, run

DONE = b"data: [DONE]\n\n"
USAGE = {"input_tokens": 11, "output_tokens": 300_000, "input_tokens_details": {"cached_tokens": 8}}
COUNTS = Usage(input_tokens=11, output_tokens=300_000, cache_read_input_tokens=8)
LYING = 'so, "usage": {"input_tokens": 1, "output_tokens": 2}, "usage":{"input_tokens":3}'
GIANT = "word " * (MAX_LINE // 5) + LYING


def named(event: dict[str, Any], end: str = "\n", **how: Any) -> bytes:
    return f"event: {event['type']}{end}data: {json.dumps(event, **how)}{end}{end}".encode()


def completed(text: str = GIANT, kind: str = "response.completed", **more: Any) -> dict[str, Any]:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    response = {"id": "r", "status": "completed", "output": [item], "tools": [], "usage": USAGE}
    return {"type": kind, "response": {**response, "user": None, "metadata": {}}, **more}


DELTA = named({"type": "response.output_text.delta", "delta": "word ", "sequence_number": 1})


def cuts(data: bytes) -> list[list[bytes]]:
    chance = random.Random(7)
    places = sorted(chance.sample(range(1, len(data)), 9))
    some = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    return [[data], [data[start : start + 65_536] for start in range(0, len(data), 65_536)], some]


@pytest.mark.parametrize("api", ["openai.responses", "raw"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("how", [{}, {"separators": (",", ":")}])
def test_a_giant_last_event_of_a_response_tells_its_usage(api: str, end: str, how: dict[str, Any]) -> None:
    data = DELTA * 2 + named(completed(sequence_number=9), end, **how)
    for pieces in cuts(data):
        forwarded, facts = run(new_meter(api, headers=SSE), pieces)
        assert forwarded == data
        assert facts.usage == COUNTS
        assert (facts.complete, facts.finish_reasons) == (True, ["completed"])
        assert facts.usage_flags == ("event_too_large",)
        assert facts.output_text_bytes == 10
        assert (facts.unread, facts.last_message_hash) == ("", 0)


def test_a_giant_last_chunk_of_a_chat_tells_its_usage() -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": GIANT}}
    last = {"id": "c", "choices": [choice], "usage": usage, "base_resp": {"status_code": 0}}
    data = chat_chunk("a") + b"data: " + json.dumps(last).encode() + b"\n\n" + chat_chunk("b") + DONE
    for pieces in cuts(data):
        forwarded, facts = run(new_meter(withhold=True), pieces)
        assert forwarded == data
        assert facts.usage == Usage(input_tokens=11, output_tokens=7)
        assert (facts.complete, facts.output_text_bytes, facts.error) == (True, 2, None)
        assert facts.usage_flags == ("event_too_large",)


def nowhere() -> list[bytes]:
    """Giant events in which no usage stands, or not where it can be told whose it is."""
    no_usage = completed()
    del no_usage["response"]["usage"]
    inner = completed()
    inner["response"]["usage"] = None
    inner["response"]["text"] = {"schema": {"usage": {"input_tokens": 1}}}
    listed = {"type": "response.completed", "items": [{"usage": USAGE}], "text": GIANT}
    return [
        named(no_usage),
        named(inner),
        named({**listed, "text": "", "head": GIANT, "items": [{"usage": USAGE}]}),
        named(completed()).replace(b"\ndata: ", b"\n: "),
        named(completed())[:-2] + b"\ndata: {}\n\n",
        named(completed()).replace(b"event: response.completed", b"event: other"),
        named(completed())[:-30],
        b"event: response.completed\ndata: " + b"x" * MAX_LINE + b'{"usage": {}\n\n',
    ]


@pytest.mark.parametrize("place", range(8))
def test_what_is_not_surely_the_usage_of_the_reply_is_passed_over(place: int) -> None:
    data = DELTA + nowhere()[place]
    for pieces in cuts(data):
        forwarded, facts = run(new_meter("openai.responses", headers=SSE), pieces)
        assert forwarded == data
        assert (facts.usage, facts.complete, facts.unread) == (None, False, "")


def far_ahead() -> list[dict[str, Any]]:
    """Giant events whose usage does not stand at their end."""
    ahead = completed()
    ahead["response"] = {"usage": USAGE, **ahead["response"]}
    last = completed("", more=LYING, then=[{"usage": {"input_tokens": 5}}] * 9, rest=GIANT)
    return [completed(more="x" * TAIL), completed(more=GIANT), last, ahead, {"head": GIANT, **ahead}]


@pytest.mark.parametrize("api", ["openai.responses", "raw"])
@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("how", [{}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_usage_in_front_of_all_else_of_a_giant_event_is_met_as_it_passes(
    api: str, which: int, how: dict[str, Any]
) -> None:
    data = DELTA + named(far_ahead()[which], **how)
    for pieces in cuts(data):
        forwarded, facts = run(new_meter(api, headers=SSE), pieces)
        assert forwarded == data
        assert (facts.usage, facts.complete, facts.unread) == (COUNTS, True, "")
        assert facts.usage_flags == ("event_too_large",)


@pytest.mark.parametrize("api", ["anthropic.messages", "raw"])
@pytest.mark.parametrize("is_far", [False, True])
def test_giant_events_of_a_message_tell_its_usage(api: str, is_far: bool) -> None:
    began = {"input_tokens": 11, "cache_read_input_tokens": 3, "output_tokens": 1}
    counted = {"output_tokens": 77, "iterations": []}
    block = {"type": "web_search_tool_result", "encrypted_content": GIANT}
    behind = {"more": GIANT} if is_far else {}
    message = {"id": "m", "type": "message", "content": [block], "usage": began, **behind}
    start = {"type": "message_start", "message": message}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "text": GIANT}, "usage": counted}
    stop = named({"type": "message_stop"})
    for first, last in ((start, {**delta, "delta": {}}), ({**start, "message": {"usage": began}}, delta)):
        data = named(first) + named({**last, **behind}) + stop
        for pieces in cuts(data):
            forwarded, facts = run(new_meter(api, headers=SSE), pieces)
            assert forwarded == data
            assert facts.usage == Usage(input_tokens=14, output_tokens=77, cache_read_input_tokens=3)
            assert (facts.complete, facts.unread) == (True, "")


def test_a_giant_block_of_a_message_tells_no_usage() -> None:
    block = {"type": "tool_use", "input": GIANT, "usage": {"output_tokens": 9}}
    lying = {"type": "content_block_start", "index": 0, "usage": {"output_tokens": 8}, "content_block": block}
    _, facts = run(new_meter("anthropic.messages", headers=SSE), [named(lying)])
    assert facts.usage is None


def test_little_is_kept_of_a_giant_event() -> None:
    splitter = Splitter(tails=True)
    splitter.feed(b"data: ")
    for _ in range(100):
        assert splitter.feed(b"x" * 100_000) == []
    (event,) = splitter.feed(b"the end\n\n")
    assert event.cut
    assert len(event.data) == TAIL
    assert event.data.endswith(b"xthe end")
    assert Splitter().feed(b"data: " + b"x" * (MAX_LINE + 1) + b"\n\n") == []


texts = st.text('"\\usage:{},[ a', max_size=30) | st.sampled_from([LYING, '"usage"', '\\"usage\\":{'])
values = st.recursive(
    texts | st.integers(0, 9) | st.none(),
    # Of another usage that stands as deep nobody says that it is not the reply's.
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts.filter(lambda name: name != "usage"), inner, max_size=3)
    ),
    max_leaves=6,
)


def members(prefix: str) -> st.SearchStrategy[dict[str, Any]]:
    """Members of an object, each name beginning with ``prefix``."""
    return st.dictionaries(texts.map(lambda name: prefix + name), values, max_size=4)


@given(before=members("b"), after=members("a"), around=members("c"), nested=st.booleans())
@example(before={"a": LYING}, after={"b": LYING}, around={"c": LYING}, nested=True)
def test_usage_is_found_wherever_the_tail_begins_before_it_and_never_in_a_text(
    before: dict[str, Any], after: dict[str, Any], around: dict[str, Any], nested: bool
) -> None:
    inner = {**before, "usage": USAGE, **after}
    text = json.dumps({"response": inner, **around} if nested else inner).encode()
    place = text.index(b'"usage": {"input_tokens": 11,')
    for start in range(max(1, place - 1)):
        found = usage_at_end(text[start:])
        assert found is not None
        assert (found.depth, found.members) == (2 if nested else 1, {"usage": USAGE, **after})
    assert usage_at_end(json.dumps({**before, "text": LYING, **after}).encode()) is None


def met_in(pieces: list[bytes]) -> Rest | None:
    passing = Passing()
    for piece in pieces:
        passing.feed(piece)
    return passing.usage()


@given(
    before=members("b"),
    after=members("a"),
    around=members("c"),
    nested=st.booleans(),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=9),
)
@example(before={"a": LYING}, after={"b": LYING}, around={"c": "\\"}, nested=True, sizes=[1])
def test_usage_is_met_wherever_the_pieces_are_cut(
    before: dict[str, Any], after: dict[str, Any], around: dict[str, Any], nested: bool, sizes: list[int]
) -> None:
    inner = {**before, "usage": USAGE, **after}
    text = json.dumps({"response": inner, **around} if nested else inner).encode()
    pieces, place = [], 0
    while place < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[place : place + size])
        place += size

    assert met_in(pieces) == Rest(2 if nested else 1, {"usage": USAGE})
    lying = json.dumps({**before, "text": LYING, **after}).encode()
    assert met_in([lying]) is None


@pytest.mark.parametrize(
    "text",
    [
        b'{"usage":{"a":1}',
        b'{"usage":{"a":1}}}',
        b'{"usage":{"a":1},"b":"',
        b'{"usage":null}',
        b'{"usage":[{"a":1}]}',
        b'{"a":[{"usage":{"a":1}}]}',
        b'{"usage":{"a":"' + b"x" * MOST_USAGE + b'"}}',
        b'{"usage":{"a":1},"b":[' + b'{"usage":0},' * MOST_MEMBERS_MET + b"0]}",
        b'"usage":{"a":1}',
    ],
)
def test_nothing_is_met_that_is_not_surely_usage(text: bytes) -> None:
    assert met_in([text]) is None
    assert met_in([text[place : place + 1] for place in range(len(text))]) is None


def test_what_passes_is_not_kept_and_costs_little() -> None:
    passing = Passing()
    began = time.process_time()
    for piece, times in ((b'{"head":"', 1), (b"word " * 13_000, 50), (b'","b":{"usage":', 20_000)):
        for _ in range(times):
            passing.feed(piece)
            assert len(passing._rest) <= 128
            assert len(passing._usage) <= MOST_USAGE + 1

    assert time.process_time() - began < 1  # much less


def test_usage_that_comes_byte_by_byte_is_read_once() -> None:
    """Read anew at each byte, a quarter of a megabyte of it took three quarters of a minute."""
    one = b'"usage":{"a":[' + b"1," * 7000 + b"1]}"
    text = b"{" + b",".join([one] * 5) + b"}"
    began = time.process_time()
    met = met_in([text[place : place + 1] for place in range(len(text))])

    assert met == Rest(1, {"usage": {"a": [1] * 7001}})
    assert time.process_time() - began < 3  # was 11
