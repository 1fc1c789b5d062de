"""A whole reply is read by type; what the meter of everything makes of it must be the same."""

import json
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.wire import ReplyFacts, RequestFacts, meter_for
from sidecar.wire.passing import PassingMeter
from sidecar.wire.whole import MOST_BODY, WholeMeter
from sidecar.wire.whole_readers import WHOLE_READERS, read_whole_message
from tests.sidecar.wire.conftest import JSON, Case, new_meter, reply_bytes, run

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"ü"}'}}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 7,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": " Grüße \n",
                "refusal": None,
                "annotations": [],
                "reasoning_content": "hm",
                "tool_calls": [CALL],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_1",
}
COMPLETION = {
    "id": "cmpl-1",
    "model": "davinci-002",
    "choices": [{"index": 0, "text": "once", "finish_reason": "length"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "prompt_cache_hit_tokens": 2},
}
EMBEDDING = {
    "object": "list",
    "data": [{"index": 0, "embedding": [0.25, -1e-3]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-4-5",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "Grüße"},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": [1, 2.5]}},
    ],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_creation_input_tokens": 50,
        "cache_read_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 10},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "standard",
        "speed": "standard",
    },
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-5",
    "error": None,
    "service_tier": "default",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Grüße", "annotations": []}],
        },
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"at":"ü"}'},
    ],
    "usage": {
        "input_tokens": 36,
        "input_tokens_details": {
            "cached_tokens": 12,
            "cache_write_tokens": 9,
            "cache_write_tokens_details": {"ttl_12h_tokens": 5, "ttl_30m_tokens": 4},
        },
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 40},
        "total_tokens": 123,
    },
}
REPLIES = {
    "openai.chat": CHAT,
    "openai.completions": COMPLETION,
    "openai.embeddings": EMBEDDING,
    "openai.responses": RESPONSE,
    "anthropic.messages": MESSAGE,
}

ANYTHING: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, 0, 1, -1, 7, 2.5, 3.0, 10**9, 1 << 70, "", "x", "é" * 300, [], {}, [{}], [None],
        {"message": "no"}, [{"type": "text", "text": "more"}], {"total_cost": 0.5}, "gemini-2.5-flash",
        [{"type": "url_citation"}],
    ]
).map(deepcopy)  # fmt: skip
NAMES = st.sampled_from(
    [
        "cost", "cost_in_usd_ticks", "num_search_queries", "citation_tokens", "reasoning_tokens",
        "cached_tokens", "cache_read_input_tokens", "cache_write_tokens", "cache_creation_tokens",
        "image_tokens", "cached_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens",
        "thinking_tokens", "output_tokens_details", "total_tokens",
        "error", "x_groq", "usage", "type", "completion", "refusal", "input", "text", "function_call",
        "name", "id", "model", "index", "role", "summary", "arguments", "content", "reasoning",
        "annotations", "message", "prompt_cache_hit_tokens", "input_tokens", "prompt_tokens", "service_tier",
    ]
)  # fmt: skip


def containers(value: Any) -> list[Any]:
    found = [value] if isinstance(value, dict | list) else []
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += containers(member)
    return found


@st.composite
def altered(draw: st.DrawFn, reply: Any) -> bytes:
    """``reply`` with up to three members changed, added, doubled or taken away."""
    body = deepcopy(reply)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(containers(body)))
        act = draw(st.sampled_from(("change", "change", "add", "drop")))
        if isinstance(place, dict):
            if act == "add" or not place:
                place[draw(NAMES)] = draw(ANYTHING)
            else:
                key = draw(st.sampled_from(sorted(place)))
                if act == "drop":
                    del place[key]
                else:
                    place[key] = draw(ANYTHING)
        elif act == "add" or not place:
            place.append(deepcopy(place[0]) if place else draw(ANYTHING))
        elif act == "drop":
            place.pop()
        else:
            place[draw(st.integers(0, len(place) - 1))] = draw(ANYTHING)
    return json.dumps(body, ensure_ascii=draw(st.booleans())).encode()


def asked(api: str) -> RequestFacts:
    return RequestFacts(api, "asked", message_hashes=[17, 23])


def passing(api: str, body: bytes) -> ReplyFacts:
    return run(PassingMeter(api, "/v1/x", 200, dict(JSON), asked(api), False), [body])[1]


def whole(api: str, body: bytes) -> ReplyFacts:
    meter = meter_for(api, path="/v1/x", status=200, headers=JSON, request=asked(api), withhold_usage=False)
    assert isinstance(meter, WholeMeter)
    return run(meter, [body])[1]


@pytest.mark.parametrize("api", REPLIES)
def test_an_ordinary_reply_is_read_by_type(api: str) -> None:
    body = json.dumps(REPLIES[api]).encode()

    facts = WHOLE_READERS[api](body, asked(api))

    assert facts == passing(api, body)
    assert facts.complete
    assert facts.usage is not None


@pytest.mark.parametrize("api", REPLIES)
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_a_reply_holds_both_meters_agree(api: str, data: st.DataObject) -> None:
    body = data.draw(altered(REPLIES[api]))

    assert whole(api, body) == passing(api, body)


@given(cuts=st.lists(st.integers(0, 900), max_size=4), heard=st.integers(0, 900))
@settings(max_examples=100, deadline=None)
def test_a_reply_cut_anywhere_or_cut_off_reads_as_the_other_meter_reads_it(
    cuts: list[int], heard: int
) -> None:
    body = json.dumps(CHAT).encode()
    places = [0, *sorted(cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(places)]
    broken = new_meter(headers=JSON, request=asked("openai.chat"))
    other = PassingMeter("openai.chat", "/v1/x", 200, dict(JSON), asked("openai.chat"), False)

    forwarded, facts = run(new_meter(headers=JSON, request=asked("openai.chat")), pieces)
    for meter in (broken, other):
        meter.feed(body[:heard])

    assert forwarded == body
    assert facts == passing("openai.chat", body)
    assert broken.facts() == other.facts()
    assert broken.feed(body[heard:]) == body[heard:]
    broken.finish()
    assert broken.facts() == facts


def test_a_reply_too_long_to_be_kept_is_read_as_it_passes() -> None:
    body = json.dumps({**CHAT, "padding": "x" * MOST_BODY}).encode()

    assert whole("openai.chat", body) == passing("openai.chat", body)


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"<html>", b"data: {}\n\n", b"[]", b'{"a":1}\n{"b":2}\n', b"\xff"]
)
@pytest.mark.parametrize("api", REPLIES)
def test_what_is_no_reply_is_left_to_the_other_meter(api: str, body: bytes) -> None:
    meter = new_meter(api, headers=JSON, request=asked(api))

    forwarded, facts = run(meter, [body])

    assert forwarded == body
    assert facts == passing(api, body)
    assert not meter.first_content_seen


def test_every_recorded_json_reply_reads_the_same_with_both_meters(cases: list[Case]) -> None:
    compared = 0
    for case in cases:
        if case["status"] != 200 or case.get("sse") is not None:
            continue
        for api in REPLIES:
            body = reply_bytes(case)
            assert whole(api, body) == passing(api, body), case.get("id")
            compared += 1
    assert compared > 100


@pytest.mark.parametrize("told", ["us", "global", "not_available", None])
def test_where_a_message_was_made_is_read_whole_and_streamed(told: str | None) -> None:
    usage = {"input_tokens": 5, "output_tokens": 3, "inference_geo": told}
    body = {"id": "m", "type": "message", "role": "assistant", "model": "claude-opus-5", "content": []}
    whole = json.dumps(body | {"stop_reason": "end_turn", "usage": usage}).encode()
    events = [
        {"type": "message_start", "message": body | {"usage": usage}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    for data, kind in ((whole, b"application/json"), (stream.encode(), b"text/event-stream")):
        meter = PassingMeter(
            "anthropic.messages", "/v1/messages", 200, {b"content-type": kind},
            RequestFacts("anthropic.messages", "claude-opus-5"), False,
        )  # fmt: skip
        meter.feed(data)
        meter.finish()
        assert meter.facts().region == (told if told in ("us", "global") else "")
    assert read_whole_message(whole, RequestFacts("anthropic.messages", "")).region == meter.facts().region


@pytest.mark.parametrize("streamed", [False, True])
def test_what_an_image_model_makes_is_tokens_of_images(streamed: bool) -> None:
    usage = {
        "total_tokens": 1050, "input_tokens": 50, "output_tokens": 1000,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    }  # fmt: skip
    body = {"created": 1, "data": [{"b64_json": "aGk="}], "usage": usage}
    data, kind = json.dumps(body).encode(), b"application/json"
    if streamed:
        event = {"type": "image_generation.completed", "b64_json": "aGk=", "usage": usage}
        data, kind = (
            f"event: image_generation.completed\ndata: {json.dumps(event)}\n\n".encode(),
            b"text/event-stream",
        )
    meter = PassingMeter(
        "raw",
        "/v1/images/generations",
        200,
        {b"content-type": kind},
        RequestFacts("raw", "gpt-image-1.5"),
        False,
    )
    meter.feed(data)
    meter.finish()

    facts = meter.facts()
    assert facts.complete
    assert facts.usage is not None
    assert (facts.usage.image_input_tokens, facts.usage.image_output_tokens) == (40, 1000)
