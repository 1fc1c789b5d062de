"""A chat request is read in C as it is in Python, or handed on to it: whatever the body is."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.alike import often

from sidecar.native import native
from sidecar.wire.chat_request import read_chat_in_c, read_chat_request, read_typed_chat
from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.request_fields import check_fields
from sidecar.wire.strict import top_level

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "é\\n"}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
ORDINARY: list[dict[str, Any]] = [
    {"model": "m", "messages": []},
    {"model": "m", "messages": [{"role": "user", "content": "Hi."}], "stream": True, "max_tokens": 5},
    {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Today is 2026-11-29, 12:05."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "One\n"}, {"type": "text", "text": "twö 😀"}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [CALL, {**CALL, "id": "call_2", "index": 1}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Error: not there"},
            {
                "role": "tool",
                "tool_call_id": "call_2",
                "content": [{"type": "text", "text": '{"ok": false}'}],
            },
        ],
        "tools": [TOOL],
        "tool_choice": "auto",
        "temperature": 0.7,
        "top_p": 1,
        "frequency_penalty": -0.5,
        "presence_penalty": 0,
        "seed": -7,
        "max_completion_tokens": 100,
        "max_tokens": 7,
        "reasoning_effort": "low",
        "service_tier": "flex",
        "user": "u-1",
        "stop": ["END"],
        "stream_options": {"include_usage": True},
        "response_format": {"type": "json_schema", "json_schema": {}},
    },
    {
        "messages": [{"content": " \t x 7 \n", "role": "developer", "name": None, "refusal": "no"}],
        "model": "é m",
    },
    {"model": "m", "messages": [{"role": "tool", "content": "failed: 1"}], "n": 2, "stream": None},
]


def in_python(body: bytes, before: RequestFacts | None = None) -> RequestFacts | None:
    """What Python says; None where it refuses the body."""
    try:
        fields = top_level(body)
        check_fields(fields)
        if before is not None:
            return read_typed_chat(fields, body, before)
        return read_chat_request(fields, body)
    except InvalidRequest:
        return None


def same_or_handed_on(body: bytes, before: RequestFacts | None = None) -> bool:
    """Whether C read ``body``; it has then read it as Python does."""
    try:
        read = read_chat_in_c(body, before)
    except InvalidRequest:
        assert in_python(body, before) is None
        return True
    if read is None:
        return False
    facts, start, end = read
    assert facts == in_python(body, before)
    assert list(facts.attributes) == list(in_python(body, before).attributes)  # type: ignore[union-attr]
    assert body[start:end] == bytes(top_level(body)["messages"])
    return True


def written(body: dict[str, Any]) -> list[bytes]:
    """In the ways that clients write."""
    return [
        json.dumps(body).encode(),
        json.dumps(body, separators=(",", ":")).encode(),
        json.dumps(body, ensure_ascii=False).encode(),
    ]


@pytest.mark.parametrize("body", ORDINARY[:-2])
def test_an_ordinary_body_is_read_in_c(body: dict[str, Any]) -> None:
    assert all(same_or_handed_on(text) for text in written(body))


@pytest.mark.parametrize("body", ORDINARY)
def test_messages_that_go_on_from_others_are_read_alike(body: dict[str, Any]) -> None:
    before = in_python(json.dumps(ORDINARY[2]).encode())
    for text in written(body):
        same_or_handed_on(text, before)


@pytest.mark.parametrize("body", ORDINARY)
def test_a_body_with_any_byte_missing_or_another_is_read_alike_or_handed_on(body: dict[str, Any]) -> None:
    chance = random.Random(7)
    for text in written(body)[1:2]:
        for place in range(len(text)):
            same_or_handed_on(text[:place])
            same_or_handed_on(text[:place] + text[place + 1 :])
            same_or_handed_on(
                text[:place]
                + bytes([chance.choice(b'"\\{}[],: 0e-\x00\x7f\x80\xc3\xed\xf4u')])
                + text[place + 1 :]
            )


words = st.text(max_size=12) | st.sampled_from(["", "1999", "\ud800", "\u2028", "error:", 'a"b\\', "😀"])
parts = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": words}), max_size=3)
calls = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "id": words | st.none(),
            "type": words,
            "function": st.fixed_dictionaries({}, optional={"name": words, "arguments": words}) | st.none(),
            "index": st.integers(0, 9) | st.floats(0, 2),
        },
    ),
    max_size=2,
)
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(
            ["system", "user", "assistant", "tool", "function", "developer", "x" * 40, "é"]
        )
    },
    optional={
        "content": words | parts | st.none(),
        "tool_calls": calls | st.none(),
        "tool_call_id": words | st.none(),
        "name": words,
        "audio": st.none(),
    },
)
bodies = st.fixed_dictionaries(
    {"model": words, "messages": st.lists(messages, max_size=5)},
    optional={
        "stream": st.booleans() | st.none(),
        "max_tokens": st.integers(-2, 1 << 70) | st.none() | st.floats(),
        "max_completion_tokens": st.integers(0, 99) | st.none(),
        "temperature": st.floats() | st.integers() | st.none(),
        "top_p": st.floats(0, 1),
        "seed": st.integers() | st.none(),
        "user": words,
        "n": st.integers(0, 3),
        "stop": words | st.lists(words),
        "tools": st.lists(st.just(TOOL)) | st.none(),
        "store": st.booleans(),
        "logit_bias": st.dictionaries(words, st.integers(), max_size=20),
        "metadata": st.dictionaries(words, words, max_size=2),
        "api_base": words,
    },
)


@often
@given(bodies, st.sampled_from([None, (",", ":")]), st.booleans())
def test_any_body_is_read_alike_or_handed_on(
    body: dict[str, Any], separators: tuple[str, str] | None, ascii_only: bool
) -> None:
    text = json.dumps(body, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    same_or_handed_on(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"model":"m"}',
        b'{"model":"m","messages":[],"messages":[]}',
        b'{"model":"m", "messages":[]}',
        b' {"model":"m","messages":[]}',
        b'{"model":"m","messages":[]} ',
        b'{"model":"m","messages":[{"role":"user","role":"system"}]}',
        b'{"model":"m","messages":[{}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b'{"model":" ","messages":[]}',
        b'{"model":"m","messages":[],"tools":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"model":"m","messages":[],"store":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"model":"m","messages":[],"temperature":-0}',
        b'{"model":"m","messages":[],"temperature":1e999}',
        b'{"model":"m","messages":[],"temperature":01}',
        b'{"model":"m","messages":[],"api_base":"http://x"}',
    ],
)
def test_what_is_unusual_is_left_to_python(text: bytes) -> None:
    assert read_chat_in_c(text) is None


def test_a_long_conversation_is_read_alike() -> None:
    message = {"role": "user", "content": 'The quick brown fox 42 jumps, "it" said.\n' * 60}
    body = {"model": "m", "messages": [message, {**message, "role": "assistant"}] * 20}
    assert all(same_or_handed_on(text) for text in written(body))


@pytest.mark.parametrize("given", [(), (b"{}",), ("{}", 0), (b"{}", "0")])
def test_what_is_no_body_is_refused(given: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        native.read_chat(*given)
