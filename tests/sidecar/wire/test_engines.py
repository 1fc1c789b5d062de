"""Engines as they answer: as recorded of a llama.cpp server, as documented and reported of the others.

SGLang counts cached tokens only with ``--enable-cache-report``; llama.cpp adds ``timings``; TGI's errors are
a text with a kind beside it. vLLM and llama.cpp are run for real (tests/live).
"""

import json
from typing import Any

import pytest

from sidecar.wire import ReplyFacts, meter_for, read_request

API = "openai.chat"


def facts(reply: bytes, *, stream: bool, status: int = 200) -> ReplyFacts:
    asked = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}]}
    request = read_request(API, json.dumps(asked).encode())
    kind = b"text/event-stream" if stream and status == 200 else b"application/json"
    meter = meter_for(
        API, path="", status=status, headers=[(b"content-type", kind)], request=request, withhold_usage=False
    )
    meter.feed(reply)
    meter.finish()
    return meter.facts()


def events(*found: Any) -> bytes:
    return b"".join(b"data: %s\n\n" % (json.dumps(one).encode()) for one in found) + b"data: [DONE]\n\n"


def chunk(**delta: Any) -> dict[str, Any]:
    return {
        "id": "c", "object": "chat.completion.chunk", "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }  # fmt: skip


def last(usage: Any, **more: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": usage, **more}


ENDS = pytest.mark.parametrize(
    ("engine", "usage", "more", "counted"),
    [
        # prompt, output, of the prompt cached
        (
            "sglang",
            {"prompt_tokens": 31, "completion_tokens": 9, "total_tokens": 40, "reasoning_tokens": 3,
             "prompt_tokens_details": {"cached_tokens": 24}},
            {},
            (31, 9, 24),
        ),
        (
            "sglang without a cache report",
            {"prompt_tokens": 31, "completion_tokens": 9, "total_tokens": 40, "prompt_tokens_details": None},
            {},
            (31, 9, 0),
        ),
        (
            "llama.cpp",
            {"prompt_tokens": 2143, "completion_tokens": 4, "total_tokens": 2147,
             "prompt_tokens_details": {"cached_tokens": 2126}},
            {"timings": {"cache_n": 2126, "prompt_n": 17, "prompt_ms": 98.6, "predicted_n": 4}},
            (2143, 4, 2126),
        ),
        (
            "llama.cpp that tells its cache beside the usage",
            {"prompt_tokens": 2143, "completion_tokens": 4, "total_tokens": 2147},
            {"timings": {"cache_n": 2126, "prompt_n": 17, "prompt_ms": 98.6, "predicted_n": 4}},
            (2143, 4, 2126),
        ),
        (
            "llama.cpp of before",
            {"prompt_tokens": 28, "completion_tokens": 22, "total_tokens": 50},
            {"timings": {"prompt_n": 28, "prompt_ms": 447.9, "predicted_n": 22}},
            (28, 22, 0),
        ),
        ("tgi", {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}, {}, (12, 20, 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip


@ENDS
def test_the_end_of_a_stream_tells_its_usage(
    engine: str, usage: Any, more: Any, counted: tuple[int, int, int]
) -> None:
    told = facts(
        events(chunk(role="assistant", content=None), chunk(content="hi"), last(usage, **more)), stream=True
    )

    assert told.usage is not None and told.error is None
    found = told.usage.input_tokens, told.usage.output_tokens, told.usage.cache_read_input_tokens
    assert found == counted


@ENDS
def test_a_whole_reply_tells_the_same(
    engine: str, usage: Any, more: Any, counted: tuple[int, int, int]
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage, **more}
    told = facts(json.dumps(body).encode(), stream=False)

    assert told.usage is not None
    found = told.usage.input_tokens, told.usage.output_tokens, told.usage.cache_read_input_tokens
    assert found == counted


@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (429, {"error": "Model is overloaded", "error_type": "overloaded"}, "overloaded"),  # TGI
        (200, {"error": "Model is overloaded", "error_type": "overloaded"}, "overloaded"),  # inside a stream
        (200, {"error": {"message": "Inference failed", "http_status_code": 500}}, "server_error"),
        (
            503,  # SGLang
            {"object": "error", "message": "busy", "type": "ServiceUnavailableError", "code": 503},
            "overloaded",
        ),
        (503, {"error": {"code": 503, "message": "Loading", "type": "unavailable_error"}}, "overloaded"),
        (
            400,  # llama.cpp, as the one before
            {"error": {"code": 400, "message": "the request exceeds the available context size",
                       "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}},
            "context_length",
        ),
    ],
)  # fmt: skip
def test_an_error_is_known_for_what_it_is(status: int, body: Any, error_class: str) -> None:
    stream = status == 200
    told = facts(events(body) if stream else json.dumps(body).encode(), stream=stream, status=status)

    assert told.error is not None
    assert told.error.error_class == error_class
