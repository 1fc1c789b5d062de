"""A stream that says again what it has said is counted once."""

import json
from typing import Any

import pytest

from sidecar.wire import ReplyFacts
from tests.sidecar.wire.conftest import JSON, SSE, bytewise, new_meter, run

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def chunk(usage: dict[str, Any] | None = None, **choice: Any) -> bytes:
    body = {"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": None} | choice]}
    return b"data: " + json.dumps(body | ({"usage": usage} if usage else {})).encode() + b"\n\n"


def read(api: str, data: bytes) -> ReplyFacts:
    facts = [
        run(new_meter(api, headers=SSE), pieces)[1]
        for pieces in ([data], bytewise(data), [event + b"\n\n" for event in data.split(b"\n\n")[:-1]])
    ]
    assert facts[0] == facts[1] == facts[2]
    return facts[0]


@pytest.mark.parametrize("api", ["openai.chat", "raw"])
@pytest.mark.parametrize("counted", [True, False])
def test_a_chunk_with_all_text_so_far_beside_what_is_new_says_what_is_new(api: str, counted: bool) -> None:
    said = "".join(
        chunk(
            USAGE if counted else None,
            message={"role": "assistant", "content": "x" * size},
            delta={"role": "assistant", "content": "x"},
        ).decode()
        for size in range(1, 20)
    )
    last = chunk(USAGE, finish_reason="stop", message={"content": "x" * 19}, delta={"content": ""})

    facts = read(api, said.encode() + last)

    assert facts.output_text_bytes == 19
    assert facts.finish_reasons == ["stop"]
    assert facts.usage is not None and facts.usage.output_tokens == 20


@pytest.mark.parametrize("api", ["openai.chat", "raw"])
def test_the_whole_message_at_the_end_of_a_stream_adds_its_usage_and_no_text(api: str) -> None:
    call = {"id": "call_1", "function": {"name": "look", "arguments": '{"at":1}'}}
    other = {"id": "call_2", "function": {"name": "see", "arguments": "{}"}}
    data = (
        chunk(delta={"role": "assistant", "content": "hel"})
        + chunk(delta={"content": "lo"})
        + chunk(delta={"tool_calls": [{"index": 0, **call}]})
    )
    last = {"role": "assistant", "content": "hello", "reasoning_content": "hm", "tool_calls": [call, other]}

    facts = read(api, data + chunk(USAGE, finish_reason="tool_calls", message=last))

    assert facts.tool_names == ["look", "see"]
    assert facts.output_text_bytes == len('hellolook{"at":1}see{}')
    assert facts.finish_reasons == ["tool_calls"]
    assert facts.usage is not None and facts.usage.output_tokens == 20


@pytest.mark.parametrize("api", ["openai.chat", "raw"])
def test_a_stream_of_one_whole_message_is_read(api: str) -> None:
    facts = read(api, chunk(USAGE, finish_reason="stop", delta={}, message={"content": "hello"}))
    assert facts.output_text_bytes == 5


def test_a_message_counts_where_a_delta_is_beside_it_in_a_whole_reply() -> None:
    choice = {"index": 0, "message": {"content": "hello"}, "delta": {"role": "assistant", "content": ""}}
    body = {"id": "c", "model": "m", "choices": [choice], "usage": USAGE | {"cost": {"total_cost": 0.1}}}

    _, facts = run(new_meter(headers=JSON), [json.dumps(body).encode()])

    assert facts.output_text_bytes == 5
