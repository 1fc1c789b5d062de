"""A whole reply is read in C as it is in Python, or handed on to it: whatever it is."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.alike import often

from collector.domain.usage import Usage
from sidecar.native import native
from sidecar.wire.facts import ReplyFacts, RequestFacts
from sidecar.wire.whole_readers import read_whole_chat_in_c, read_whole_chat_in_python

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

REQUESTS = [
    RequestFacts("openai.chat", "m"),
    RequestFacts("openai.chat", "m", message_hashes=[17]),
    RequestFacts("openai.chat", "m", message_hashes=[17], choice_count=2),
]
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "é 12\\n"}'}}
USAGE: dict[str, Any] = {
    "prompt_tokens": 64,
    "completion_tokens": 72,
    "total_tokens": 136,
    "prompt_tokens_details": {"cached_tokens": 32, "audio_tokens": 0, "text_tokens": None},
    "completion_tokens_details": {"reasoning_tokens": 8, "accepted_prediction_tokens": 0},
}


def reply(message: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "model": "gpt-4o", "created": 1, "choices": [choice], "usage": USAGE, **more}


ORDINARY: list[dict[str, Any]] = [
    reply(
        {
            "role": "assistant",
            "content": " Grüße\n😀 ",
            "annotations": [],
            "audio": [{"a": [1.5e3, -0, True]}],
        }
    ),
    reply(
        {
            "content": None,
            "tool_calls": [CALL, {"function": {"name": "f"}}, {"id": "c", "function": {}}],
            "refusal": None,
        },
        system_fingerprint="fp",
    ),
    reply({"content": "", "reasoning_content": "", "reasoning": "hm", "refusal": "nö"}, service_tier="flex"),
    reply({"content": "x"}, base_resp={"status_code": 0, "status_msg": ""}, object="chat.completion"),
    {"data": [{"embedding": [0.5, -1e-7]}], "model": "e", "usage": {"prompt_tokens": 5, "total_tokens": 5}},
    {
        "choices": [{"text": "x", "message": None}],
        "usage": {"prompt_tokens": 3, "prompt_cache_hit_tokens": 2},
    },
    reply({"content": "x"}, usage={**USAGE, "completion_tokens": 2, "total_tokens": 74}),  # xAI's way
]
UNUSUAL: list[dict[str, Any]] = [
    reply({"content": [{"type": "text", "text": "x"}]}),
    reply({"content": "x"}, usage=None),
    reply({"content": "x"}, usage={"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.1}),
    reply({"content": "x"}, usage={"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}),
    reply({"content": "x"}, model="gemini-2.5-flash"),
    reply({"content": "x"}, error={"message": "no"}),
    reply({"content": "x", "function_call": {"name": "f"}}),
    reply({"content": "x", "annotations": [{"type": "url_citation", "url_citation": {"url": "https://h"}}]}),
    reply({"content": "x"}, id="x" * 257),
    reply({"content": None, "tool_calls": [{"function": {"name": "schön"}}]}),
    reply({"content": None, "tool_calls": [{"function": {"arguments": "{}"}}]}),
    reply({"content": "x"}, base_resp={"status_code": 1008, "status_msg": "no"}),
    reply({"content": "x"}, base_resp=[]),
    reply({"content": "x"}, object="error"),
]


def in_python(body: bytes, request: RequestFacts) -> ReplyFacts | None:
    """What Python says; None where a closer look is needed."""
    try:
        return read_whole_chat_in_python(body, request)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def same_or_handed_on(body: bytes) -> bool:
    """Whether C read ``body``; it has then read it as Python does."""
    for request in REQUESTS:
        facts = read_whole_chat_in_c(body, request)
        if facts is None:
            return False
        assert facts == in_python(body, request)
    return True


@pytest.mark.parametrize("body", ORDINARY)
def test_an_ordinary_reply_is_read_in_c(body: dict[str, Any]) -> None:
    assert same_or_handed_on(json.dumps(body).encode())
    assert same_or_handed_on(json.dumps(body, ensure_ascii=False, indent=2).encode() + b"\n")


@pytest.mark.parametrize("body", UNUSUAL)
def test_an_unusual_reply_is_left_to_python(body: dict[str, Any]) -> None:
    assert read_whole_chat_in_c(json.dumps(body).encode(), REQUESTS[0]) is None


@pytest.mark.parametrize("body", ORDINARY + UNUSUAL)
def test_a_reply_with_any_byte_missing_or_another_is_read_alike_or_handed_on(body: dict[str, Any]) -> None:
    chance = random.Random(7)
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    for place in range(len(text)):
        other = bytes([chance.choice(b'"\\{}[],: 0e-\x00\x7f\x80\xc3\xed\xf4u')])
        same_or_handed_on(text[:place])
        same_or_handed_on(text[:place] + text[place + 1 :])
        same_or_handed_on(text[:place] + other + text[place + 1 :])


words = st.text(max_size=12) | st.sampled_from(["", "gemini", "\ud800", "a" * 300, 'a"b\\'])
counts = st.integers(-1, 40) | st.integers(99_999_999, 100_000_001) | st.none() | st.floats(0, 2)
anything = st.recursive(st.none() | st.booleans() | st.integers() | words, st.lists, max_leaves=4)
prompt = st.fixed_dictionaries(
    {},
    optional={
        "cached_tokens": counts,
        "audio_tokens": counts,
        "cache_write_tokens": counts,
        "text_tokens": anything,
    },
)
output = st.fixed_dictionaries({}, optional={"reasoning_tokens": counts, "image_tokens": counts})
usages = st.fixed_dictionaries(
    {"prompt_tokens": counts},
    optional={
        "completion_tokens": counts,
        "total_tokens": counts,
        "prompt_tokens_details": prompt | st.none(),
        "completion_tokens_details": output | st.none(),
        "prompt_cache_hit_tokens": counts,
        "queue_time": anything,
    },
)
calls = st.fixed_dictionaries(
    {},
    optional={
        "id": words | st.none(),
        "function": st.fixed_dictionaries({}, optional={"name": words, "arguments": words, "more": anything}),
    },
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "content": words | st.none(),
        "tool_calls": st.lists(calls, max_size=2) | st.none(),
        "reasoning_content": words | st.none(),
        "reasoning": words,
        "refusal": words,
        "annotations": anything,
        "function_call": st.none(),
        "more": anything,
    },
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 1),
        "message": messages | st.none(),
        "text": words,
        "finish_reason": words | st.none(),
    },
)
replies = st.fixed_dictionaries(
    {"usage": usages | st.none()},
    optional={
        "id": words,
        "model": words,
        "choices": st.lists(choices, max_size=2),
        "service_tier": words | st.none(),
        "system_fingerprint": words,
        "error": st.none(),
        "more": anything,
    },
)


@often
@given(replies, st.booleans())
def test_any_reply_is_read_alike_or_handed_on(body: dict[str, Any], ascii_only: bool) -> None:
    same_or_handed_on(json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))


def test_what_is_no_reply_is_refused() -> None:
    for wrong in [(), (b"{}",), ("{}", 0), (b"{}", "0")]:
        with pytest.raises(TypeError):
            native.read_completion(*wrong)


def test_only_slots_of_the_class_itself_are_filled() -> None:
    member = vars(Usage)["input_tokens"]
    assert native.filled(Usage, (member,), (7,)).input_tokens == 7
    for wrong in [
        (Usage, (member,), ()),
        (Usage, ("x",), (7,)),
        (RequestFacts, (member,), (7,)),
        (7, (), ()),
    ]:
        with pytest.raises(TypeError):
            native.filled(*wrong)
