"""Requests in another dialect's words: nothing is lost, and what has no words is refused by its name."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.wire import InvalidRequest
from sidecar.wire.translate.chat_to_messages import chat_to_messages
from sidecar.wire.translate.chat_to_responses import chat_to_responses
from sidecar.wire.translate.messages_to_chat import messages_to_chat
from sidecar.wire.translate.responses_to_chat import responses_to_chat

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
IMAGE = "data:image/png;base64,iVBORw0KGgo="
HELLO = [{"role": "user", "content": "Hello"}]

CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": IMAGE}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Two calls.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"city":"Bonn"}'}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "42"},
        {"role": "user", "content": "And?"},
    ],
    "max_completion_tokens": 500,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["END"],
    "stream": True,
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
    "user": "u-1",
}


def test_a_chat_is_said_in_anthropics_words() -> None:
    assert chat_to_messages(CHAT) == {
        "model": "m",
        "max_tokens": 500,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                    },
                    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Two calls."},
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {"city": "Bonn"}},
                    {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c1",
                        "content": [{"type": "text", "text": "sunny"}],
                    },
                    {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "42"}]},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "stream": True,
        "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "metadata": {"user_id": "u-1"},
    }


def test_a_chat_comes_back_from_anthropics_words_as_it_was() -> None:
    back = messages_to_chat(chat_to_messages(CHAT), cap="max_completion_tokens")
    assert back.pop("stream_options") == {"include_usage": True}
    assert back.pop("response_format")["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}
    expected = {name: value for name, value in CHAT.items() if name != "response_format"}
    assert back == expected


def test_a_chat_comes_back_from_the_responses_apis_words_as_it_was() -> None:
    asked = {name: value for name, value in CHAT.items() if name != "stop"}  # It knows no such thing.
    sent = chat_to_responses(asked)
    assert sent["store"] is False
    assert [item["type"] for item in sent["input"]] == [
        *("message", "message", "message", "function_call", "function_call"),
        *("function_call_output", "function_call_output", "message"),
    ]
    back = responses_to_chat(sent, cap="max_completion_tokens")
    assert back.pop("stream_options") == {"include_usage": True}
    for part in back["messages"][1]["content"][1:]:
        assert part["image_url"].pop("detail") == "auto"
    assert back["tools"][0]["function"].pop("strict") is False
    assert back == asked


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
NAME = st.text("abcdefgh_", min_size=1, max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    """Chats as agents hold them: instructions, turns, parallel calls and their results."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(TEXT)})
    identity = 0
    for _ in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(TEXT)})
        calls = []
        for _ in range(draw(st.integers(0, 3))):
            identity += 1
            arguments = json.dumps(
                draw(st.dictionaries(NAME, VALUE, max_size=3)), separators=(",", ":"), ensure_ascii=False
            )
            function = {"name": draw(NAME), "arguments": arguments}
            calls.append({"id": f"c{identity}", "type": "function", "function": function})
        content = draw(TEXT) if not calls else draw(st.none() | TEXT)
        turn: dict[str, Any] = {"role": "assistant", "content": content}
        messages.append(turn | ({"tool_calls": calls} if calls else {}))
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)} for call in calls]
    messages.append({"role": "user", "content": draw(TEXT)})
    return {"model": draw(NAME), "messages": messages, "max_tokens": draw(st.integers(1, 10**5))}


@settings(max_examples=60, deadline=None)
@given(conversations())
def test_any_conversation_survives_the_way_there_and_back(chat: dict[str, Any]) -> None:
    assert messages_to_chat(chat_to_messages(chat)) == chat
    assert responses_to_chat(chat_to_responses(chat)) == chat


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": HELLO, **fields}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (asked(seed=1), "seed"),
        (asked(n=2), "n"),
        (asked(logit_bias={"5": 1}), "logit_bias"),
        (asked(logprobs=True), "logprobs"),
        (asked(temperature=1.5), "temperature"),
        (asked(response_format={"type": "json_object"}), "response_format"),
        (asked(functions=[{"name": "f"}]), "functions"),
        (asked(tools=[{"type": "custom", "custom": {"name": "x"}}]), "tools[0].type"),
        (asked(store=True), "store"),
        (asked(invented=1), "invented"),
        (asked(messages=[*HELLO, {"role": "system", "content": "x"}]), "messages[1].role"),
        (asked(messages=[{"role": "user", "content": "x", "name": "Ann"}]), "messages[0].name"),
        (
            asked(messages=[{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]),
            "messages[0].content[0].type",
        ),
        (
            asked(
                messages=[
                    *HELLO,
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}],
                    },
                ]
            ),
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_anthropic_has_no_words_for_is_refused_by_its_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_to_messages(fields)
    assert refused.value.param == named
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (asked(top_k=5), "top_k"),
        (asked(mcp_servers=[{}]), "mcp_servers"),
        (asked(tools=[{"type": "bash_20250124", "name": "bash"}]), "tools[0].type"),
        (
            asked(messages=[{"role": "user", "content": [{"type": "document", "source": {"type": "file"}}]}]),
            "messages[0].content[0].source.type",
        ),
        (
            asked(
                messages=[
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
                    }
                ]
            ),
            "messages[0].content[0].source.type",
        ),
    ],
)
def test_what_openai_has_no_words_for_is_refused_by_its_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        messages_to_chat(fields)
    assert refused.value.param == named


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    ],
)
def test_what_a_chat_has_no_words_for_is_refused_by_its_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        responses_to_chat({"model": "m", "input": "Hello", **fields})
    assert refused.value.param == named


def tool_of(kind: str, **more: Any) -> list[dict[str, Any]]:
    """A tool in the words of ``kind``."""
    told: dict[str, dict[str, Any]] = {
        "messages": {"name": "f", "input_schema": SCHEMA},
        "responses": {"type": "function", "name": "f", "parameters": SCHEMA},
    }
    return [{**told[kind], **more}]


@pytest.mark.parametrize(
    "usual",
    [
        {"speed": "standard"},
        {"service_tier": "auto"},
        {"inference_geo": "global"},
        {"cache_control": {"type": "ephemeral"}},
        {"context_management": {"edits": []}},
        {"mcp_servers": []},
        {"stop_sequences": []},
        {"thinking": {"type": "disabled"}},
        {"top_k": None, "speed": None, "container": None},
        {"tools": []},
        {"metadata": {}},
    ],
)
def test_what_holds_anyway_of_messages_is_said_by_saying_nothing(usual: dict[str, Any]) -> None:
    assert messages_to_chat(asked(**usual)) == messages_to_chat(asked())


@pytest.mark.parametrize(
    "usual",
    [
        {"n": 1, "logprobs": False, "top_logprobs": 0, "frequency_penalty": 0.0, "presence_penalty": 0},
        {"store": False, "service_tier": "auto", "modalities": ["text"], "verbosity": "medium"},
        {"service_tier": "default", "logit_bias": {}, "stop": [], "tools": [], "parallel_tool_calls": True},
        {"functions": [], "function_call": "auto", "response_format": {"type": "text"}},
        {"prompt_cache_options": {"mode": "implicit"}, "stream_options": {"include_usage": True}},
        {"seed": None, "top_k": None, "audio": None, "prediction": None, "web_search_options": None},
    ],
)
def test_what_holds_anyway_of_a_chat_is_said_by_saying_nothing(usual: dict[str, Any]) -> None:
    assert chat_to_messages(asked(**usual)) == chat_to_messages(asked())
    carried = ("service_tier", "verbosity", "parallel_tool_calls", "prompt_cache_options", "response_format")
    said = chat_to_responses(asked(**{name: usual[name] for name in usual if name not in carried}))
    assert said == chat_to_responses(asked())


@pytest.mark.parametrize(
    "usual",
    [
        {"background": False, "store": False, "truncation": "disabled", "top_logprobs": 0, "include": []},
        {"reasoning": {"context": "auto", "mode": "standard"}, "text": {"format": {"type": "text"}}},
        {"context_management": [], "tools": [], "metadata": {}, "stream_options": {}},
        {"previous_response_id": None, "conversation": None, "prompt": None, "max_tool_calls": None},
    ],
)
def test_what_holds_anyway_of_a_response_is_said_by_saying_nothing(usual: dict[str, Any]) -> None:
    plain = {"model": "m", "input": "Hello"}
    assert responses_to_chat({**plain, **usual}) == responses_to_chat(plain)


def test_what_holds_anyway_of_a_tool_is_said_by_saying_nothing() -> None:
    direct: dict[str, Any] = {"defer_loading": False, "allowed_callers": ["direct"]}
    of_anthropic = {**direct, "eager_input_streaming": False, "input_examples": [], "strict": False}
    assert messages_to_chat(asked(tools=tool_of("messages", **of_anthropic))) == messages_to_chat(
        asked(tools=tool_of("messages"))
    )
    plain = {"model": "m", "input": "Hello"}
    assert responses_to_chat({**plain, "tools": tool_of("responses", **direct)}) == responses_to_chat(
        {**plain, "tools": tool_of("responses")}
    )


@pytest.mark.parametrize(
    ("translate", "fields", "named"),
    [
        (messages_to_chat, asked(speed="fast"), "speed"),
        (messages_to_chat, asked(inference_geo="us"), "inference_geo"),
        (messages_to_chat, asked(tools=tool_of("messages", defer_loading=True)), "tools[0].defer_loading"),
        (chat_to_messages, asked(top_logprobs=2), "top_logprobs"),
        (chat_to_messages, asked(function_call={"name": "f"}), "function_call"),
        (chat_to_responses, asked(stop=["END"]), "stop"),
        (responses_to_chat, {"model": "m", "input": "x", "reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ],
)
def test_what_does_not_hold_anyway_is_refused_by_its_name(translate: Any, fields: Any, named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        translate(fields)
    assert refused.value.param == named


def test_null_asks_for_nothing() -> None:
    assert chat_to_messages(asked(seed=None, n=None)) == chat_to_messages(asked())


def test_a_cap_is_given_where_anthropic_wants_one_and_openais_callers_give_none() -> None:
    # As many as a budget holds for a call without a cap: what is held is what may be spent.
    from sidecar.accounting import DEFAULT_OUTPUT_HOLD

    assert chat_to_messages(asked())["max_tokens"] == DEFAULT_OUTPUT_HOLD


def test_thinking_is_asked_for_within_the_cap_and_not_while_tools_work_without_thoughts() -> None:
    assert chat_to_messages(asked(reasoning_effort="low", max_tokens=2000))["thinking"] == {
        "type": "enabled",
        "budget_tokens": 1024,
    }
    assert (
        chat_to_messages(asked(reasoning_effort="high", max_tokens=2000))["thinking"]["budget_tokens"] == 1999
    )
    with pytest.raises(InvalidRequest, match="max_completion_tokens"):
        chat_to_messages(asked(reasoning_effort="low", max_tokens=100))
    at_work = [
        *HELLO,
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ]
    assert "thinking" not in chat_to_messages(asked(reasoning_effort="low", messages=at_work))


def test_a_failed_tool_is_said_in_words_where_there_is_no_flag() -> None:
    result = {"type": "tool_result", "tool_use_id": "c", "content": "no", "is_error": True}
    body = messages_to_chat(asked(messages=[{"role": "user", "content": [result]}]))
    assert body["messages"] == [{"role": "tool", "tool_call_id": "c", "content": "Error: no"}]


def test_litellm_gets_marks_for_caches_and_thoughts_others_do_not() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    marked = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    fields = asked(
        system=[marked],
        messages=[*HELLO, {"role": "assistant", "content": [thought, {"type": "text", "text": "b"}]}],
    )
    plain, extended = messages_to_chat(fields), messages_to_chat(fields, extended=True)
    assert plain["messages"][0] == {"role": "system", "content": "a"}
    assert "thinking_blocks" not in plain["messages"][2]
    assert extended["messages"][0]["content"] == [marked]
    assert extended["messages"][2]["thinking_blocks"] == [thought]
