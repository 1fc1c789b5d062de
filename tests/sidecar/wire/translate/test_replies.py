"""Recorded replies in another dialect's words, whole and in pieces of any size."""

import json
import random
import typing
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from collector.domain.usage import Usage
from sidecar.wire import RequestFacts, terminal_events
from sidecar.wire.sse import Splitter
from sidecar.wire.translate.translation import CHAT, MESSAGES, RESPONSES, Translation
from sidecar.wire.translate.usage import chat_usage, messages_usage, responses_usage
from sidecar.wire.usage import read_usage
from tests.sidecar.wire.conftest import JSON, SSE, Case, cases, meter_of, reply_bytes, run

__all__ = ["cases"]

DIALECTS = {"chat.completions": CHAT, "messages": MESSAGES, "responses": RESPONSES}
WHOLE = {CHAT: ChatCompletion, MESSAGES: Message, RESPONSES: Response}


def kinds_of(union: Any) -> dict[str, type[BaseModel]]:
    """The SDK's events, by what they call themselves."""
    members = typing.get_args(typing.get_args(union)[0])
    return {typing.get_args(member.model_fields["type"].annotation)[0]: member for member in members}


EVENTS = {MESSAGES: kinds_of(RawMessageStreamEvent), RESPONSES: kinds_of(ResponseStreamEvent)}


def check(agent: str, event: dict[str, Any]) -> None:
    """The agent's SDK knows this event, with all that it has to have."""
    kind = ChatCompletionChunk if agent == CHAT else EVENTS[agent][event["type"]]
    kind.model_validate(event)


def ways(case: Case) -> list[Translation]:
    """From the dialect of a recording into the two others."""
    spoken = DIALECTS.get(case["endpoint"])
    return [Translation(agent, spoken) for agent in WHOLE if spoken and agent != spoken]


def facts_for(way: Translation) -> RequestFacts:
    return RequestFacts(way.agent, "asked", include_usage=True, message_hashes=[7])


def events_of(stream: bytes) -> list[dict[str, Any]]:
    splitter = Splitter()
    events = [*splitter.feed(stream), *splitter.finish()]
    return [json.loads(event.data) for event in events if event.data != b"[DONE]"]


def text_in(agent: str, events: list[dict[str, Any]]) -> str:
    if agent == CHAT:
        deltas = [choice["delta"] for event in events for choice in event.get("choices", ())]
        return "".join(delta.get("content") or "" for delta in deltas)
    if agent == MESSAGES:
        return "".join(
            event["delta"].get("text", "") for event in events if "index" in event and "delta" in event
        )
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def is_played(case: Case) -> bool:
    """A good reply; of one choice, for the other dialects cannot ask for more."""
    expected = case["expected"]
    return case["status"] < 400 and not expected["error"] and case["request"].get("n") in (None, 1)


def test_whole_replies_are_what_the_sdks_expect_and_cost_what_the_provider_said(cases: list[Case]) -> None:
    seen = 0
    for case in cases:
        if case["expected"]["stream"] or not is_played(case):
            continue
        for way in ways(case):
            meter = way.meter(case["status"], JSON, facts_for(way), 1)
            out, facts = run(meter, [reply_bytes(case)])
            plain = run(meter_of(case, way.upstream), [reply_bytes(case)])[1]
            reply = WHOLE[way.agent].model_validate_json(out)
            assert facts.usage == plain.usage, case["id"]
            assert facts.finish_reasons == plain.finish_reasons
            assert len(facts.tool_names) == case["expected"]["tool_calls"], case["id"]
            told = read_usage(reply.model_dump()["usage"])[0] if getattr(reply, "usage", None) else None
            if told is not None and plain.usage is not None:
                assert (told.input_tokens, told.output_tokens) == (
                    plain.usage.input_tokens,
                    plain.usage.output_tokens,
                )
                assert told.cache_read_input_tokens == plain.usage.cache_read_input_tokens
            seen += 1
    assert seen > 100


def test_streams_are_what_the_sdks_expect_however_they_are_cut(cases: list[Case]) -> None:
    seen = 0
    for case in cases:
        if not case["expected"]["stream"] or not is_played(case) or case.get("sse") is None:
            continue
        raw = reply_bytes(case)
        for way in ways(case):
            whole, facts = run(way.meter(200, SSE, facts_for(way), 1), [raw])
            chance = random.Random(seen)
            pieces = []
            rest = raw
            while rest:
                size = chance.randint(1, 40)
                pieces.append(rest[:size])
                rest = rest[size:]
            assert run(way.meter(200, SSE, facts_for(way), 1), pieces) == (whole, facts), case["id"]
            plain = run(meter_of(case, way.upstream), [raw])[1]
            assert facts.usage == plain.usage
            events = events_of(whole)
            for event in events:
                check(way.agent, event)
            original = text_in(way.upstream, events_of(raw))
            assert text_in(way.agent, events) == original, case["id"]
            assert len(facts.tool_names) == case["expected"]["tool_calls"], case["id"]
            seen += 1
    assert seen > 50


def test_a_stream_cut_at_every_byte_gives_the_same_events(cases: list[Case]) -> None:
    case = next(
        case
        for case in cases
        if case["endpoint"] == "messages" and case["expected"]["stream"] and case["expected"]["tool_calls"]
    )
    raw = reply_bytes(case)
    for way in ways(case):
        whole = run(way.meter(200, SSE, facts_for(way), 1), [raw])[0]
        for place in range(0, len(raw), 11):
            meter = way.meter(200, SSE, facts_for(way), 1)
            assert run(meter, [raw[:place], raw[place:]])[0] == whole


def test_a_translated_stream_can_be_ended_after_any_event(cases: list[Case]) -> None:
    for endpoint in DIALECTS:
        case = next(
            case
            for case in cases
            if case["endpoint"] == endpoint and case["expected"]["stream"] and is_played(case)
        )
        raw = reply_bytes(case)
        ends = [place + 2 for place in range(len(raw) - 2) if raw[place : place + 2] == b"\n\n"]
        for way in ways(case):
            for end in ends[:: max(1, len(ends) // 12)]:
                meter = way.meter(200, SSE, facts_for(way), 1)
                got = meter.feed(raw[:end])
                last = terminal_events(way.agent, meter.facts(), "the budget is spent")
                events = events_of(got + last)
                for event in events:
                    check(way.agent, event)
                if way.agent == MESSAGES:
                    assert events[-1]["type"] == "message_stop"
                    opened = [event["index"] for event in events if event["type"] == "content_block_start"]
                    closed = [event["index"] for event in events if event["type"] == "content_block_stop"]
                    assert sorted(opened) == sorted(closed)
                elif way.agent == RESPONSES:
                    numbers = [event["sequence_number"] for event in events]
                    assert numbers == sorted(set(numbers))
                    assert events[-1]["type"] in ("response.incomplete", "response.completed")
                else:
                    assert (got + last).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("agent", WHOLE)
def test_errors_of_all_providers_become_errors_of_the_callers_sdk(cases: list[Case], agent: str) -> None:
    for case in cases:
        if case["status"] < 400 or DIALECTS.get(case["endpoint"]) in (None, agent):
            continue
        way = Translation(agent, DIALECTS[case["endpoint"]])
        out, facts = run(way.meter(case["status"], JSON, facts_for(way), 1), [reply_bytes(case)])
        body = json.loads(out)
        message = body["error"]["message"]
        assert message
        assert facts.error is not None
        assert (body.get("type") == "error") is (agent == MESSAGES)
        told = case["expected"]["error"]
        assert str(told.get("message") or told.get("detail")) in message or told.get("detail")


def stream(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)


def chunk(**delta: Any) -> dict[str, Any]:
    finish = delta.pop("finish", None)
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "created": 1, "model": "m", "object": "chat.completion.chunk", "choices": [choice]}


def call(place: int, arguments: str, **more: Any) -> dict[str, Any]:
    return chunk(
        tool_calls=[{"index": place, "function": {"arguments": arguments, **more}, "id": f"c{place}"}]
    )


PARALLEL = stream(
    chunk(role="assistant", reasoning_content="Hm"),
    chunk(content="Both"),
    call(0, "", name="f"),
    call(1, "", name="g"),
    call(0, '{"a":'),
    call(1, "{}"),
    call(0, "1}"),
    chunk(finish="tool_calls"),
    {"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
)


def test_parallel_calls_whose_chunks_are_mixed_stay_apart() -> None:
    way = Translation(MESSAGES, CHAT)
    out, facts = run(way.meter(200, SSE, facts_for(way), 1), [PARALLEL + b"data: [DONE]\n\n"])
    events = events_of(out)
    written: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_delta" and "partial_json" in event["delta"]:
            written[event["index"]] = written.get(event["index"], "") + event["delta"]["partial_json"]
    assert written == {2: '{"a":1}', 3: "{}"}
    assert facts.tool_names == ["f", "g"]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["input_tokens"] == 3

    way = Translation(RESPONSES, CHAT)
    out, _ = run(way.meter(200, SSE, facts_for(way), 1), [PARALLEL])  # Without [DONE], as some servers end.
    response = Response.model_validate(events_of(out)[-1]["response"])
    assert [item.type for item in response.output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    assert response.output_text == "Both"


def test_a_stream_that_breaks_off_is_not_made_to_look_whole() -> None:
    way = Translation(MESSAGES, CHAT)
    out, facts = run(
        way.meter(200, SSE, facts_for(way), 1), [stream(chunk(content="One"), chunk(content="tw"))]
    )
    assert b"message_stop" not in out
    assert not facts.complete


@pytest.mark.parametrize("broken", [b'data: {"choices": [7]}\n\n', b'data: {"choices": {"a": 1}}\n\n'])
def test_a_provider_that_does_not_speak_its_dialect_ends_the_stream_with_an_error(broken: bytes) -> None:
    way = Translation(MESSAGES, CHAT)
    out, _ = run(way.meter(200, SSE, facts_for(way), 1), [stream(chunk(content="One")), broken])
    assert events_of(out)[-1]["type"] == "error"


COUNTS = st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_a_usage_is_read_back_as_it_was_written(
    fresh: int, read: int, written: int, hour: int, visible: int, thought: int
) -> None:
    usage = Usage(
        input_tokens=fresh + read + written + hour,
        output_tokens=visible + thought,
        cache_read_input_tokens=read,
        cache_write_input_tokens=written + hour,
        cache_write_1h_input_tokens=hour,
        reasoning_output_tokens=thought,
    )
    assert read_usage(chat_usage(usage))[0] == usage
    assert read_usage(messages_usage(usage))[0] == usage
    kept = Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_input_tokens=read,
        cache_write_input_tokens=written + hour,
        reasoning_output_tokens=thought,
    )
    assert read_usage(responses_usage(usage))[0] == kept  # It knows no cache of an hour.
