"""A chunk of a stream is read in C as it is in Python, or handed on to it: whatever it is."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.alike import often

from sidecar.native import native
from sidecar.wire.chunks import read_plain_chunk_in_c, read_plain_chunk_in_python
from sidecar.wire.facts import RequestFacts
from sidecar.wire.reading import Reading

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

CHUNK: dict[str, Any] = {
    "id": "c-1",
    "object": "chat.completion.chunk",
    "created": 1_750_000_000,
    "model": "m",
}
USAGE: dict[str, Any] = {
    "prompt_tokens": 64,
    "completion_tokens": 72,
    "total_tokens": 136,
    "prompt_tokens_details": {"cached_tokens": 32, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 8, "accepted_prediction_tokens": 0},
}


def chunk(delta: dict[str, Any] | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**CHUNK, "choices": [choice], **more}


ORDINARY: list[dict[str, Any]] = [
    chunk({"role": "assistant", "content": "", "refusal": None, "annotations": []}, usage=None),
    chunk({"content": " Grüße\n😀 "}, service_tier="default", system_fingerprint="fp"),
    chunk({"reasoning_content": "", "reasoning": "hm", "refusal": "nö", "tool_calls": None}),
    chunk({}, "stop", usage=USAGE, created=None),
    chunk(None),
    {**CHUNK, "choices": [{"text": "x", "stop_reason": None}]},
    {**CHUNK, "choices": [], "usage": USAGE},
    {**CHUNK, "choices": None, "usage": {"prompt_tokens": 3, "prompt_cache_hit_tokens": 2}},
    {"more": {"a": [1.5e3, -0, True]}},
    chunk({"content": "x"}, base_resp={"status_msg": "", "status_code": 0}),
    chunk({"content": "x"}, base_resp=None, object=None),
]
UNUSUAL: list[dict[str, Any]] = [
    chunk({"content": ["x"]}),
    chunk({"content": "x", "tool_calls": [{"index": 0, "function": {"name": "f"}}]}),
    chunk({"content": "x", "function_call": {"name": "f"}}),
    chunk({"content": "x", "annotations": [{"type": "url_citation"}]}),
    chunk({}, usage={**USAGE, "cost": 0.1}),
    chunk({}, usage={"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}),
    chunk({}, usage=7),
    chunk({}, error={"message": "no"}),
    chunk({}, x_groq={"usage": USAGE}),
    chunk({}, timings={"cache_n": 3}),
    chunk({}, base_resp={"status_code": 1027, "status_msg": "no"}),
    chunk({}, base_resp="no"),
    {"object": "error", "message": "no", "code": 400},
    chunk({}, id="x" * 257),
    {**CHUNK, "choices": [{"index": 1, "delta": {"content": "x"}}]},
    {**CHUNK, "choices": [{"delta": {"content": "x"}}, {"delta": {"content": "y"}}]},
    {**CHUNK, "choices": [{"delta": {}, "stop_reason": "</s>"}]},
    {**CHUNK, "choices": [{"message": {"content": "x"}}]},
]


def state(reading: Reading) -> dict[str, Any]:
    return {name: getattr(reading, name) for name in Reading.__slots__}


def same_or_handed_on(payload: bytes) -> bool:
    """Whether C read ``payload``; it has then read it as Python does."""
    request = RequestFacts("openai.chat", "m", True, message_hashes=[7])
    in_c, in_python = Reading(request), Reading(request)
    said = read_plain_chunk_in_c(payload, in_c)
    if said is None:
        assert state(in_c) == state(Reading(request))
        return False
    assert said == read_plain_chunk_in_python(payload, in_python)
    assert state(in_c) == state(in_python)
    return True


@pytest.mark.parametrize("body", ORDINARY)
def test_an_ordinary_chunk_is_read_in_c(body: dict[str, Any]) -> None:
    assert same_or_handed_on(json.dumps(body).encode())
    assert same_or_handed_on(json.dumps(body, ensure_ascii=False, indent=2).encode() + b"\n")


@pytest.mark.parametrize("body", UNUSUAL)
def test_an_unusual_chunk_is_left_to_python(body: dict[str, Any]) -> None:
    assert not same_or_handed_on(json.dumps(body).encode())


@pytest.mark.parametrize("body", ORDINARY + UNUSUAL)
def test_a_chunk_with_any_byte_missing_or_another_is_read_alike_or_handed_on(body: dict[str, Any]) -> None:
    chance = random.Random(7)
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    for place in range(len(text)):
        other = bytes([chance.choice(b'"\\{}[],: 0e-\x00\x7f\x80\xc3\xed\xf4u')])
        same_or_handed_on(text[:place])
        same_or_handed_on(text[:place] + text[place + 1 :])
        same_or_handed_on(text[:place] + other + text[place + 1 :])


words = st.text(max_size=12) | st.sampled_from(["", "\ud800", "a" * 300, 'a"b\\'])
counts = st.integers(-1, 40) | st.integers(99_999_999, 100_000_001) | st.none() | st.floats(0, 2)
anything = st.recursive(st.none() | st.booleans() | st.integers() | words, st.lists, max_leaves=4)
usages = st.fixed_dictionaries(
    {"prompt_tokens": counts},
    optional={
        "completion_tokens": counts,
        "total_tokens": counts,
        "prompt_tokens_details": st.fixed_dictionaries({"cached_tokens": counts}) | st.none(),
        "completion_tokens_details": st.fixed_dictionaries({"reasoning_tokens": counts}) | st.none(),
        "queue_time": anything,
    },
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": words | st.none(),
        "reasoning_content": words | st.none(),
        "reasoning": words | st.none(),
        "refusal": words,
        "annotations": anything,
        "tool_calls": st.none(),
        "more": anything,
    },
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 1),
        "delta": deltas | st.none(),
        "text": words | st.none(),
        "finish_reason": words | st.none(),
        "stop_reason": words | st.none(),
    },
)
chunks = st.fixed_dictionaries(
    {},
    optional={
        "id": words,
        "model": words,
        "created": st.integers(-5, 10**18) | st.none() | st.floats(0, 2),
        "choices": st.lists(choices, max_size=2) | st.none(),
        "usage": usages | st.none(),
        "service_tier": words | st.none(),
        "system_fingerprint": words | st.none(),
        "error": st.none(),
        "more": anything,
    },
)


@often
@given(chunks, st.booleans())
def test_any_chunk_is_read_alike_or_handed_on(body: dict[str, Any], ascii_only: bool) -> None:
    same_or_handed_on(json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))


def test_what_is_no_chunk_is_refused() -> None:
    with pytest.raises(TypeError):
        native.read_chunk("{}")
