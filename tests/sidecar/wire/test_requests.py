"""Requests: strict on our own routes, forgiving on pass-through; one conversation, one chain of hashes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.wire import InvalidRequest, read_raw_request, read_request, with_include_usage, with_model
from sidecar.wire.chat_request import _read_carefully
from sidecar.wire.strict import top_level
from tests.sidecar.wire.conftest import JSON, SSE, bytewise, new_meter, run

HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": HELLO} | fields).encode()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_messages_of_no_known_shape_are_left_to_the_provider() -> None:
    facts = read_request("openai.chat", chat(messages=["hi", *HELLO]))

    assert facts.message_hashes == read_request("openai.chat", chat(messages=HELLO)).message_hashes


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"model":"m","messages":[]} x', "not valid JSON"),
        (b'{"model":"m","messages":[],"x":NaN}', "not valid JSON"),
        (b'{"model":"m","messages":[],"x":-Infinity}', "not valid JSON"),
        (b'{"model":"\xff","messages":[]}', "not valid UTF-8"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xed\xa0\x80"}]}', "not valid UTF-8"),
        (b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', "not valid JSON"),
        (b'{"model":"m","messages":[{"role":"user","content":"\\ud800 and more"}]}', "not valid JSON"),
        (b'{"model":"a","messages":[],"model":"b"}', "'model' appears twice"),
        (b'{"model": "a", "messages": [], "model": "b"}', "'model' appears twice"),
        (b'{"model":"a","messages":[],"mod\\u0065l":"b"}', "'model' appears twice"),
        (
            b'{ "model":"a","messages":[{"role":"user","role":"system","content":"x"}]}',
            "'role' appears twice",
        ),
        (b'{"messages":[]}', "model is missing"),
        (b'{"model":"","messages":[]}', "non-empty string"),
        (b'{"model":"  ","messages":[]}', "non-empty string"),
        (b'{"model":null,"messages":[]}', "non-empty string"),
        (b'{"model":7,"messages":[]}', "non-empty string"),
        (b'{"model":["a"],"messages":[]}', "non-empty string"),
        (chat(model="m" * 257), "at most 256"),
        (chat(model="m" * 1_000_000), "at most 256"),
        (b'{"model":"m"}', "messages is missing"),
        (chat(messages="hi"), "must be a list"),
        (chat(messages=HELLO * 10_001), "10001 members"),
        (chat(stream="yes"), "stream must be true or false"),
        (chat(max_tokens="100"), "max_tokens must be a whole number"),
        (chat(max_tokens=-1), "max_tokens must be a whole number"),
        (chat(max_completion_tokens=1.5), "max_completion_tokens must be a whole number"),
        (chat(n=0), "n must be a whole number"),
        (chat(n=10**6), "n must be at most 1024"),
    ],
)
def test_a_body_that_is_not_what_the_api_defines_is_refused_with_the_reason(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read_request("openai.chat", body)


@pytest.mark.parametrize("place", ["tools", "metadata", "x", "tool_choice", "response_format"])
def test_sixty_five_levels_are_refused_wherever_they_are_and_sixty_four_are_not(place: str) -> None:
    # The body itself is the first level.
    assert read_request("openai.chat", chat(**{place: nested(63)})).model == "m"
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="nested deeper than 64"):
            read_request("openai.chat", chat(**{place: nested(64)}))


@pytest.mark.parametrize("depth", [70, 60_000])
def test_messages_that_nest_too_deeply_are_refused(depth: int) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":' + b"[" * depth + b"]" * depth + b"}]}"
    with pytest.raises(InvalidRequest, match="nested deeper than 64"):
        read_request("openai.chat", body)


@pytest.mark.parametrize(
    "name",
    [
        "api_base",
        "base_url",
        "api_key",
        "custom_llm_provider",
        "extra_headers",
        "headers",
        "mock_response",
        "proxy",
        "aws_access_key_id",
        "vertex_project",
        "azure_ad_token",
        "model_list",
        "prompt_embeds",
        "endpoint_url",
    ],
)
@pytest.mark.parametrize(
    "api", ["openai.chat", "openai.responses", "anthropic.messages", "openai.embeddings"]
)
def test_a_body_that_names_a_host_or_credentials_is_refused(api: str, name: str) -> None:
    body = json.dumps(
        {"model": "m", "messages": HELLO, "input": "x", name: "http://169.254.169.254"}
    ).encode()
    with pytest.raises(InvalidRequest, match="set in the configuration") as refusal:
        read_request(api, body)
    assert refusal.value.param == name


def test_a_chat_request_says_what_it_asks() -> None:
    facts = read_request(
        "openai.chat",
        chat(
            stream=True,
            stream_options={"include_usage": True},
            max_completion_tokens=50,
            max_tokens=9,
            n=2,
            temperature=0.5,
            top_p=0.9,
            stop="END",
            seed=4,
            user="alice",
            reasoning_effort="low",
            service_tier="flex",
            metadata={"conversation_id": "c-1", "team": "search"},
            tools=[{"type": "function", "function": {"name": "f"}}],
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        ),
    )
    assert (facts.stream, facts.include_usage, facts.has_tools, facts.wants_json_schema) == (True,) * 4
    assert (facts.max_output_tokens, facts.choice_count) == (50, 2)
    assert (facts.user, facts.conversation_id) == ("alice", "c-1")
    assert facts.metadata == {"conversation_id": "c-1", "team": "search"}
    assert facts.attributes == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 4,
        "max_tokens": 50,
        "choice_count": 2,
        "stop_sequences": ["END"],
        "reasoning_level": "low",
        "service_tier": "flex",
        "output_type": "json",
    }


def test_a_request_with_images_needs_a_model_that_sees() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    facts = read_request(
        "openai.chat", chat(messages=[{"role": "user", "content": [{"type": "text", "text": "see"}, part]}])
    )
    assert facts.has_images
    assert facts.has_remote_media
    assert facts.text_bytes == 3
    inline = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    facts = read_request("openai.chat", chat(messages=[{"role": "user", "content": [inline]}]))
    assert (facts.has_images, facts.has_remote_media) == (True, False)


def test_completions_count_every_choice_that_is_generated() -> None:
    body = json.dumps({"model": "m", "prompt": ["a", "b", "c"], "n": 1, "best_of": 4}).encode()
    facts = read_request("openai.completions", body)
    assert facts.choice_count == 12  # 3 prompts, 4 candidates each
    assert facts.max_output_tokens == 16


@pytest.mark.parametrize(
    ("given", "size"), [("héllo", 6), (["ab", "c"], 3), ([1, 2, 3], 12), ([[1, 2], [3]], 12)]
)
def test_an_embedding_reads_text_or_tokens(given: Any, size: int) -> None:
    facts = read_request(
        "openai.embeddings", json.dumps({"model": "m", "input": given, "dimensions": 8}).encode()
    )
    assert (facts.text_bytes, facts.max_output_tokens) == (size, 0)
    assert facts.attributes["dimension_count"] == 8


def test_responses_in_the_background_are_known_as_such() -> None:
    body = json.dumps(
        {"model": "m", "input": "hi", "background": True, "previous_response_id": "resp_1"}
    ).encode()
    facts = read_request("openai.responses", body)
    assert facts.background
    assert facts.attributes["previous_response_id"] == "resp_1"


@pytest.mark.parametrize(
    "user",
    [
        "user_ab_account_cd_session_0f8e1c9a-1111-2222-3333-444455556666",
        '{"device_id":"x","session_id":"0f8e1c9a-1111-2222-3333-444455556666"}',
    ],
)
def test_claude_code_names_its_session(user: str) -> None:
    body = json.dumps(
        {"model": "c", "max_tokens": 5, "messages": HELLO, "metadata": {"user_id": user}}
    ).encode()
    assert read_request("anthropic.messages", body).conversation_id == "0f8e1c9a-1111-2222-3333-444455556666"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [({"speed": "fast"}, "fast"), ({"speed": "fast", "service_tier": "auto"}, "fast"),
     ({"speed": "standard", "service_tier": "auto"}, "auto"),
     ({"speed": None}, None), ({"speed": ["x"]}, None)],
)  # fmt: skip
def test_fast_mode_that_is_asked_for_is_the_tier_that_is_asked_for(
    asked: dict[str, Any], expected: Any
) -> None:
    body = json.dumps({"model": "c", "max_tokens": 5, "messages": HELLO, **asked}).encode()
    assert read_request("anthropic.messages", body).attributes.get("service_tier") == expected


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MESSAGE = st.one_of(
    st.builds(
        lambda role, text: {"role": role, "content": text},
        st.sampled_from(["user", "system", "assistant"]),
        TEXT,
    ),
    st.builds(lambda text: {"role": "user", "content": [{"type": "text", "text": text}]}, TEXT),
    st.builds(
        lambda name, arguments: {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
            ],
        },
        TEXT,
        TEXT,
    ),
    st.builds(lambda text: {"role": "tool", "tool_call_id": "c1", "content": text}, TEXT),
)


@given(st.lists(MESSAGE, max_size=5), st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_fast_and_the_careful_way_read_the_same_facts(messages: list[Any], ascii_only: bool) -> None:
    body = json.dumps(
        {"model": "m", "messages": messages, "temperature": 1.0, "max_tokens": 3}, ensure_ascii=ascii_only
    ).encode()
    fast = read_request("openai.chat", body)
    assert fast == _read_carefully(top_level(body))


def test_a_longer_conversation_begins_with_the_hashes_of_the_shorter() -> None:
    shorter = read_request("openai.chat", chat(messages=HELLO)).message_hashes
    longer = read_request(
        "openai.chat", chat(messages=[*HELLO, {"role": "assistant", "content": "hi"}, *HELLO])
    ).message_hashes
    assert longer[:1] == shorter
    assert len(set(longer)) == 3
    other = read_request("openai.chat", chat(messages=[{"role": "user", "content": "hallo"}])).message_hashes
    assert other != shorter


CHAT_REPLY = {
    "id": "1",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "Let me see. ",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
                ],
            },
        }
    ],
}
CHAT_STREAM = [
    {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"content": "Let me"}}]},
    {"choices": [{"index": 0, "delta": {"content": " see. "}}]},
    {
        "choices": [
            {
                "index": 0,
                "delta": {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "look", "arguments": ""},
                        }
                    ]
                },
            }
        ]
    },
    {
        "choices": [
            {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}}
        ]
    },
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
]
CHAT_BACK = {
    "role": "assistant",
    "content": "Let me see.",
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    ],
}

BLOCKS = [
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "text", "text": "Let me see."},
    {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}},
]
MESSAGES_REPLY = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "c",
    "content": BLOCKS,
    "stop_reason": "tool_use",
}
MESSAGES_STREAM = [
    {
        "type": "message_start",
        "message": {"id": "m1", "model": "c", "content": [], "usage": {"input_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Let me "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "see."}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "t1", "name": "look", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'},
    },
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]
MESSAGES_BACK = {"role": "assistant", "content": BLOCKS[1:]}

ITEMS = [
    {"type": "reasoning", "id": "rs", "summary": []},
    {
        "type": "message",
        "id": "ms",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}],
    },
    {
        "type": "function_call",
        "id": "fc",
        "call_id": "call_1",
        "name": "look",
        "arguments": '{"a":1}',
        "status": "completed",
    },
]
RESPONSES_REPLY = {"id": "r1", "object": "response", "model": "m", "status": "completed", "output": ITEMS}
RESPONSES_STREAM = [
    {"type": "response.created", "sequence_number": 0, "response": {"id": "r1", "model": "m", "output": []}},
    {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Let me see."},
    {"type": "response.function_call_arguments.delta", "sequence_number": 2, "delta": '{"a":1}'},
    *[
        {"type": "response.output_item.done", "sequence_number": 3 + i, "item": item}
        for i, item in enumerate(ITEMS)
    ],
    {"type": "response.completed", "sequence_number": 9, "response": RESPONSES_REPLY},
]


def sse(events: list[Any]) -> bytes:
    return b"".join(
        [f"event: {event.get('type', '')}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    )


@pytest.mark.parametrize(
    ("api", "messages", "reply", "stream", "back"),
    [
        ("openai.chat", "messages", CHAT_REPLY, CHAT_STREAM, [CHAT_BACK]),
        ("anthropic.messages", "messages", MESSAGES_REPLY, MESSAGES_STREAM, [MESSAGES_BACK]),
        ("openai.responses", "input", RESPONSES_REPLY, RESPONSES_STREAM, ITEMS),
    ],
)
def test_a_reply_hashes_to_what_the_next_request_begins_with(
    api: str, messages: str, reply: Any, stream: list[Any], back: list[Any]
) -> None:
    first = read_request(api, json.dumps({"model": "m", "max_tokens": 5, messages: HELLO}).encode())
    following = [*HELLO, *back, {"role": "user", "content": "and now?"}]
    second = read_request(api, json.dumps({"model": "m", "max_tokens": 5, messages: following}).encode())

    whole = run(new_meter(api, headers=JSON, request=first), [json.dumps(reply).encode()])[1]
    streamed = run(new_meter(api, headers=SSE, request=first), bytewise(sse(stream)))[1]

    assert whole.last_message_hash == second.message_hashes[-2]
    assert streamed.last_message_hash == second.message_hashes[-2]
    assert whole.tool_names == streamed.tool_names == ["look"]
    assert streamed.output_text_bytes == whole.output_text_bytes


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","stream":true,"messages":[]}',
        b' { "stream_options" : null, "model":"a"}',
        b'{"stream_options":{"x":1}}',
        b'{"model":"a","messages":[{"content":"\\"stream_options\\": {}"}],"seed":12345678901234567890}',
        b'{"stream_options":{"include_usage":false},"model":"a"}',
    ],
)
def test_asking_for_usage_changes_nothing_else(body: bytes) -> None:
    wished = with_include_usage(body)
    before, after = json.loads(body), json.loads(wished)
    assert after.pop("stream_options")["include_usage"] is True
    before.pop("stream_options", None)
    assert after == before
    assert with_include_usage(wished) == wished or json.loads(with_include_usage(wished)) == json.loads(
        wished
    )


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"{broken", b'{"stream_options":7}'])
def test_a_body_in_which_usage_cannot_be_asked_for_stays_as_it_is(body: bytes) -> None:
    assert with_include_usage(body) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","x":1.10}',
        b'{"model": "a", "x": 1.10}',
        b'{"x":1.10,"model":"a"}',
        b'{"model":"\\u0061","x":1.10}',
    ],
)
def test_another_model_changes_nothing_else(body: bytes) -> None:
    changed = with_model(body, 'new "one"')
    assert json.loads(changed) == json.loads(body) | {"model": 'new "one"'}
    assert b"1.10" in changed


@pytest.mark.parametrize(
    ("path", "body", "model", "stream", "cap"),
    [
        (
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
            {"contents": [{"parts": [{"text": "hello"}]}], "generationConfig": {"maxOutputTokens": 9}},
            "gemini-2.5-flash",
            True,
            9,
        ),
        (
            "/model/us.amazon.nova-lite-v1%3A0/converse-stream",
            {
                "messages": [{"role": "user", "content": [{"text": "hello"}]}],
                "inferenceConfig": {"maxTokens": 9},
            },
            "us.amazon.nova-lite-v1:0",
            True,
            9,
        ),
        (
            "/model/amazon.titan-text/invoke",
            {"inputText": "hello", "textGenerationConfig": {"maxTokenCount": 9}},
            "amazon.titan-text",
            False,
            9,
        ),
        (
            "/openai/deployments/my-gpt/chat/completions",
            {"messages": HELLO, "max_tokens": 9},
            "my-gpt",
            False,
            9,
        ),
        (
            "/v2/chat",
            {"model": "command-a", "messages": HELLO, "stream": True, "max_tokens": 9},
            "command-a",
            True,
            9,
        ),
        (
            "/api/chat",
            {"model": "llama3", "messages": HELLO, "options": {"num_predict": 9}},
            "llama3",
            False,
            9,
        ),
    ],
)
def test_pass_through_finds_model_and_cap_where_each_provider_keeps_them(
    path: str, body: Any, model: str, stream: bool, cap: int
) -> None:
    facts = read_raw_request(path, json.dumps(body).encode(), "application/json")
    assert (facts.model, facts.stream, facts.max_output_tokens) == (model, stream, cap)
    assert 5 <= facts.text_bytes <= 40


@given(
    st.binary(max_size=200),
    st.sampled_from(["/x", "/v1/chat/completions", "/model/m/invoke", "/v1/responses", ""]),
)
@settings(max_examples=150, deadline=None)
def test_pass_through_never_refuses(body: bytes, path: str) -> None:
    assert read_raw_request(path, body, "").model is not None


@given(
    st.recursive(
        st.none() | st.integers() | TEXT,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "role",
                        "content",
                        "type",
                        "text",
                        "tool_calls",
                        "function",
                        "name",
                        "input",
                        "id",
                        "source",
                        "output",
                    ]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=10,
    ),
    st.sampled_from(["openai.chat", "openai.responses", "anthropic.messages"]),
)
@settings(max_examples=300, deadline=None)
def test_strange_messages_are_read_or_refused_and_never_break_the_reader(member: Any, api: str) -> None:
    body = json.dumps({"model": "m", "messages": [member], "input": [member], "max_tokens": 1}).encode()
    try:
        assert len(read_request(api, body).message_hashes) <= 1
    except InvalidRequest as refusal:
        assert str(refusal)


def test_a_part_whose_type_is_no_text_is_read_without_a_fall() -> None:
    # A reply with such a part once broke its meter: a list has no place in a set.
    part = {"type": ["image_url"], "image_url": {"url": "https://example.org/a.png"}}
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]}).encode()
    facts = read_request("openai.chat", body)
    assert not facts.has_images
    assert facts.has_remote_media
