"""Chunks read by type say what they say when read with care, or are left to that."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import RequestFacts
from sidecar.wire.chunks import read_plain_chunk
from sidecar.wire.openai_chat import read_chat_event
from sidecar.wire.reading import Reading

TEXTS = st.sampled_from(["", "word", "Gr\u00fc\u00dfe", "\U0001f600", "x" * 300])
ODD = st.sampled_from([None, 0, 1, True, 2.5, [], {}, {"a": 1}, "odd"])
USAGES = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 50), "completion_tokens": st.integers(0, 50)},
    optional={
        "total_tokens": st.integers(0, 99),
        "prompt_tokens_details": st.none() | st.fixed_dictionaries({"cached_tokens": st.integers(0, 60)}),
        "completion_tokens_details": st.fixed_dictionaries(
            {"reasoning_tokens": st.none() | st.integers(0, 60)}
        ),
        "cost": st.floats(0, 1),
        "queue_time": st.floats(0, 1),
    },
)
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant"),
        "content": st.none() | TEXTS | ODD,
        "reasoning_content": st.none() | TEXTS,
        "reasoning": st.none() | TEXTS,
        "refusal": st.none() | TEXTS,
        "tool_calls": st.none()
        | st.just([{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]),
        "function_call": st.none() | st.just({"name": "f"}),
        "annotations": st.just([{"type": "url_citation"}]) | ODD,
    },
)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([0, 0, 0, 1, None]),
        "delta": DELTAS | st.none(),
        "text": st.none() | TEXTS,
        "finish_reason": st.sampled_from([None, "", "stop", "tool_calls"]) | ODD,
        "stop_reason": st.sampled_from([None, 7, "</s>"]),
        "message": st.none() | st.just({"content": "whole"}),
        "logprobs": st.none(),
        "error": st.none() | st.just({"message": "no"}),
        "usage": st.none() | st.just({"prompt_tokens": 3, "completion_tokens": 4}),
    },
)
CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXTS | ODD,
        "model": TEXTS | ODD,
        "created": st.sampled_from([0, 1_750_000_000, None, 1.5, "now"]),
        "object": st.just("chat.completion.chunk"),
        "choices": st.lists(CHOICES, max_size=2) | st.none() | ODD,
        "service_tier": st.none() | TEXTS,
        "system_fingerprint": st.none() | TEXTS,
        "usage": st.none() | USAGES | ODD,
        "error": st.none() | st.just({"message": "broken"}) | st.just("broken"),
        "x_groq": st.none() | st.just({"usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
        "timings": st.none() | st.just({"cache_n": 3}),
    },
)


def read(chunks: list[dict[str, Any]]) -> tuple[Reading, Reading, list[bool | None], list[bool]]:
    """What both ways come to."""
    request = RequestFacts("openai.chat", "m", True, message_hashes=[7])
    typed, careful = Reading(request), Reading(request)
    quick, slow = [], []
    for chunk in chunks:
        payload = msgspec.json.encode(chunk)
        event = msgspec.json.decode(payload)
        said = read_plain_chunk(payload, typed)
        quick.append(said)
        slow.append(read_chat_event("", event, careful))
        if said is None:
            read_chat_event("", event, typed)
    return typed, careful, quick, slow


def state(reading: Reading) -> dict[str, Any]:
    """All that it holds but what is known beforehand of its usage."""
    return {name: getattr(reading, name) for name in Reading.__slots__ if name != "usage"}


@given(chunks=st.lists(CHUNKS, min_size=1, max_size=4), hidden=st.booleans())
def test_both_ways_come_to_the_same(chunks: list[dict[str, Any]], hidden: bool) -> None:
    typed, careful, quick, slow = read(chunks)
    assert quick == [None if one is None else other for one, other in zip(quick, slow, strict=True)]
    assert state(typed) == state(careful)
    typed.hidden_thinking = careful.hidden_thinking = hidden
    assert typed.facts() == careful.facts()


FIRST: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1_750_000_000,
    "model": "gpt-4o-mini",
    "service_tier": "default",
    "system_fingerprint": "fp",
    "choices": [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ],
    "usage": None,
}
LAST = {**FIRST, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]}
USED = {
    **FIRST,
    "choices": [],
    "usage": {
        "prompt_tokens": 64,
        "completion_tokens": 72,
        "total_tokens": 136,
        "prompt_tokens_details": {"cached_tokens": 32, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 0},
    },
}


@pytest.mark.parametrize("chunk", [FIRST, LAST, USED])
def test_what_every_stream_has_is_read_by_type(chunk: dict[str, Any]) -> None:
    typed, careful, quick, slow = read([chunk])
    assert quick == slow
    assert typed.facts() == careful.facts()


def test_the_usage_is_that_of_the_last_block() -> None:
    other = {**USED, "usage": {"prompt_tokens": 70, "completion_tokens": 1, "unheard_of": 3}}
    typed, careful, quick, _ = read([USED, other])
    assert quick == [True, None]
    assert typed.facts() == careful.facts()
    assert typed.facts().usage is not None and typed.facts().usage.input_tokens == 70
