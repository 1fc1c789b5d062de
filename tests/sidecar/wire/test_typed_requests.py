"""Messages and input items of ordinary shape are read by type; member by member gives the same facts."""

import json
from typing import Any

import pytest

from sidecar.wire import InvalidRequest, RequestFacts, read_request

TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "Grüße"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": " I look.\n", "cache_control": {"type": "ephemeral"}},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": [1, {"depth": 2.5}]}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "é"}]},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": "nothing", "is_error": True},
        ],
    },
]
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "input_text", "text": "Grüße"}]},
    {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "status": "completed",
        "content": [{"type": "output_text", "text": " I look.\n", "annotations": [], "logprobs": []}],
    },
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
    {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"at":"ü"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "é"},
]


def messages(turns: list[Any], **more: Any) -> RequestFacts:
    body = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": turns} | more
    return read_request("anthropic.messages", json.dumps(body, ensure_ascii=False).encode())


def response(items: Any) -> RequestFacts:
    return read_request("openai.responses", json.dumps({"model": "gpt-5", "input": items}).encode())


def test_turns_of_text_thinking_and_tools_read_as_they_do_member_by_member() -> None:
    unusual = [TURNS[0], {**TURNS[1], "a_new_member": 1}, TURNS[2]]

    assert messages(TURNS) == messages(unusual)
    assert len(messages(TURNS).message_hashes) == 3


def test_input_items_read_as_they_do_member_by_member() -> None:
    unusual = [{**ITEMS[0], "a_new_member": 1}, *ITEMS[1:]]

    assert response(ITEMS) == response(unusual)
    assert len(response(ITEMS).message_hashes) == 4  # Reasoning is left out.


def test_an_input_of_plain_text_is_one_message_of_the_user() -> None:
    assert response("Grüße") == response([{"role": "user", "content": "Grüße"}])


@pytest.mark.parametrize("kind", ["tool_use", "text", "thinking", "tool_result"])
def test_what_a_block_holds_as_input_may_not_nest_too_deeply_whatever_the_block_is(kind: str) -> None:
    def turns(depth: int) -> list[Any]:
        deep: Any = {}
        for _ in range(depth - 1):
            deep = {"a": deep}
        block = {"type": kind, "text": "x", "id": "t", "name": "n", "input": deep, "tool_use_id": "t"}
        return [{"role": "user", "content": [block]}]

    # The body, the list of messages, a message, its content and the block are five levels.
    assert messages(turns(59)).model == "claude-sonnet-4-5"
    with pytest.raises(InvalidRequest, match="deeper than 64"):
        messages(turns(60))


def test_a_key_repeated_in_a_body_with_spaces_is_refused_though_the_length_would_fit() -> None:
    # Six members: ", " and ": " add eleven bytes to the compact form, and so does the second "n".
    body = b'{"model":"m","messages":[],"a":1,"b":2,"stream":false,"n":1234567,"n":1234567}'
    fitted = [
        b'{"model":"m","messages":[],"a":1,"b":2,"stream":false,"n":%b,"n":1}' % (b"1" * n)
        for n in range(1, 12)
    ]

    for each in (body, *fitted):
        with pytest.raises(InvalidRequest, match="appears twice"):
            read_request("openai.chat", each)
