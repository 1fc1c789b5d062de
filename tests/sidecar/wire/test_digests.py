"""What is remembered of tools, system prompts and what was said last: digests, the same in every dialect."""

import json
from typing import Any

import pytest

from sidecar.wire import Meter, RequestFacts, meter_for, read_request
from sidecar.wire.hashing import call_digest, system_digest, told_two_ways

ANTHROPIC_TOOL = {"name": "look", "input_schema": {"type": "object"}}
CHAT_TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}}


def facts_of(api: str, body: dict[str, Any]) -> RequestFacts:
    return read_request(api, json.dumps({"model": "m", **body}).encode())


def meter_of(content_type: bytes) -> Meter:
    return meter_for(
        "openai.chat",
        path="/v1/chat/completions",
        status=200,
        headers=[(b"content-type", content_type)],
        request=RequestFacts("openai.chat", "m"),
        withhold_usage=False,
    )


def shape(digest: int) -> int:
    return digest >> 32


RESULTS = {
    "openai.chat": {
        "messages": [
            {"role": "system", "content": "Today is 2026-11-29."},
            {"role": "user", "content": "Look."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "nothing at line 7"},
        ]
    },
    "openai.responses": {
        "instructions": "Today is 2026-11-29.",
        "input": [
            {"role": "user", "content": "Look."},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "nothing at line 7"},
        ],
    },
    "anthropic.messages": {
        "max_tokens": 10,
        "system": [{"type": "text", "text": "Today is 2026-11-29."}],
        "messages": [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "look", "input": {}}]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "nothing at line 7"}],
            },
        ],
    },
}


@pytest.mark.parametrize("api", RESULTS)
def test_the_system_prompt_and_the_last_result_have_the_same_digests_in_every_dialect(api: str) -> None:
    facts = facts_of(api, RESULTS[api])

    assert facts.input_role == "tool"
    assert facts.input_hash == told_two_ways(b"nothing at line 7")
    assert facts.system_hash == system_digest(b"Today is 2026-11-29.")


@pytest.mark.parametrize("api", RESULTS)
def test_another_date_changes_the_digest_of_the_system_prompt_and_not_its_shape(api: str) -> None:
    today = facts_of(api, RESULTS[api]).system_hash
    tomorrow = facts_of(api, json.loads(json.dumps(RESULTS[api]).replace("11-29", "11-30"))).system_hash

    assert today != tomorrow
    assert shape(today) == shape(tomorrow)


def test_a_tool_that_says_it_failed_is_counted() -> None:
    body = json.loads(json.dumps(RESULTS["anthropic.messages"]))
    body["messages"][-1]["content"][0]["is_error"] = True

    assert facts_of("anthropic.messages", body).tool_errors == 1


def test_tools_in_another_order_are_the_same_tools() -> None:
    messages = RESULTS["openai.chat"]["messages"]
    one = facts_of("openai.chat", {"messages": messages, "tools": [CHAT_TOOL, OTHER]}).tools_hash
    two = facts_of("openai.chat", {"messages": messages, "tools": [OTHER, CHAT_TOOL]}).tools_hash
    fewer = facts_of("openai.chat", {"messages": messages, "tools": [OTHER]}).tools_hash

    assert one != two
    assert shape(one) == shape(two) != shape(fewer)


ARGUMENTS = '{"path":"a.py","line":12}'


def chat_call(arguments: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}}


def test_a_tool_call_has_the_same_digest_whole_and_in_fragments() -> None:
    whole = {
        "id": "r",
        "model": "m",
        "choices": [{"message": {"role": "assistant", "tool_calls": [chat_call(ARGUMENTS)]}}],
    }
    pieces = [{"index": 0, **chat_call(ARGUMENTS[:9])}]
    pieces += [{"index": 0, "function": {"arguments": rest}} for rest in (ARGUMENTS[9:20], ARGUMENTS[20:])]
    chunks = [
        {"id": "r", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]}
        for piece in pieces
    ]
    stream = b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks)

    meter = meter_of(b"application/json")
    meter.feed(json.dumps(whole).encode())
    meter.finish()
    streamed = meter_of(b"text/event-stream")
    streamed.feed(stream)
    streamed.finish()

    assert meter.facts().tool_call_hashes == [call_digest("look", ARGUMENTS.encode())]
    assert streamed.facts().tool_call_hashes == meter.facts().tool_call_hashes


def test_the_next_page_of_the_same_tool_has_another_digest_of_the_same_shape() -> None:
    one, two = call_digest("look", b'{"page":1}'), call_digest("look", b'{"page":22}')

    assert one != two
    assert shape(one) == shape(two)


def test_a_clock_in_the_system_prompt_does_not_change_what_a_conversation_is_known_by() -> None:
    body = RESULTS["openai.chat"]
    later = json.loads(json.dumps(body).replace("11-29", "11-30"))
    other = json.loads(json.dumps(body).replace("Today", "Tomorrow"))

    assert facts_of("openai.chat", body).message_hashes == facts_of("openai.chat", later).message_hashes
    assert facts_of("openai.chat", body).message_hashes != facts_of("openai.chat", other).message_hashes


def test_the_shape_of_a_system_prompt_is_that_of_all_of_it() -> None:
    text = "rule " * 3000

    one, two = (
        system_digest(text.encode()),
        system_digest(text.replace("rule rule", "rule_rule", 700).encode()),
    )

    assert shape(one) != shape(two)
