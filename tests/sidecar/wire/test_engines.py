"""Engines as they answer: as recorded of a llama.cpp server, as documented and reported of the others.

SGLang counts cached tokens only with ``--enable-cache-report``; llama.cpp adds ``timings``; TGI's errors are
a text with a kind beside it. vLLM and llama.cpp are run for real (tests/live).
"""

import json
from typing import Any

import pytest

from collector.domain.usage import Usage
from sidecar.wire import ReplyFacts, meter_for, read_request
from sidecar.wire.usage import read_usage
from tests.sidecar.wire.conftest import JSON, new_meter, run

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


def counts(usage: Usage) -> tuple[int, ...]:
    return (
        usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens,
        usage.cache_write_input_tokens, usage.reasoning_output_tokens,
    )  # fmt: skip


ENDS = pytest.mark.parametrize(
    ("engine", "usage", "more", "counted"),
    [
        # prompt, output, of the prompt read from a cache and written to one
        (
            "sglang",
            {"prompt_tokens": 31, "completion_tokens": 9, "total_tokens": 40, "reasoning_tokens": 3,
             "prompt_tokens_details": {"cached_tokens": 24}},
            {},
            (31, 9, 24, 0, 3),
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
        (
            "qwen that wrote a cache of its own",
            {"prompt_tokens": 3019, "completion_tokens": 9, "total_tokens": 3028,
             "prompt_tokens_details": {"cached_tokens": 1024, "cache_creation_input_tokens": 1500,
                                       "cache_type": "ephemeral",
                                       "cache_creation": {"ephemeral_5m_input_tokens": 1500}}},
            {},
            (3019, 9, 1024, 1500),
        ),
        ("tgi", {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}, {}, (12, 20, 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip


@ENDS
def test_the_end_of_a_stream_tells_its_usage(
    engine: str, usage: Any, more: Any, counted: tuple[int, ...]
) -> None:
    told = facts(
        events(chunk(role="assistant", content=None), chunk(content="hi"), last(usage, **more)), stream=True
    )

    assert told.usage is not None and told.error is None
    assert counts(told.usage)[: len(counted)] == counted
    assert not any(counts(told.usage)[len(counted) :])


@ENDS
def test_a_whole_reply_tells_the_same(engine: str, usage: Any, more: Any, counted: tuple[int, ...]) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage, **more}
    told = facts(json.dumps(body).encode(), stream=False)

    assert told.usage is not None
    assert counts(told.usage)[: len(counted)] == counted
    assert not any(counts(told.usage)[len(counted) :])


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


def test_perplexitys_agents_tell_what_they_read_and_wrote_inside_the_input() -> None:
    details = {"cache_creation_input_tokens": 10, "cache_read_input_tokens": 60}
    usage, doubts = read_usage(
        {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "input_tokens_details": details}
    )
    assert usage is not None and counts(usage) == (100, 20, 60, 10, 0)
    assert doubts == ()


@pytest.mark.parametrize(
    ("usage", "read"), [({"total_tokens": 815}, 815), ({"prompt_tokens": 34, "completion_tokens": 0}, 34)]
)
def test_a_rerankers_results_do_not_hide_its_usage(usage: Any, read: int) -> None:
    # Jina, vLLM and Together, as they answer to /v1/rerank.
    body = {"id": "rr", "model": "m", "results": [{"index": 0, "relevance_score": 0.9}], "usage": usage}
    meter = new_meter("raw", path="/v1/rerank", headers=JSON)

    _, told = run(meter, [json.dumps(body).encode()])

    assert (told.response_id, told.response_model, told.complete) == ("rr", "m", True)
    assert told.usage is not None and counts(told.usage) == (read, 0, 0, 0, 0)


@pytest.mark.parametrize("told_again", [False, True])
@pytest.mark.parametrize("api", ["openai.chat", "raw"])
def test_usage_in_the_last_choice_stands_in_for_usage_where_it_belongs(api: str, told_again: bool) -> None:
    # Moonshot, which adds the chunk of usage only where that is asked for.
    usage = {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32, "cached_tokens": 4}
    end = chunk()
    end["choices"][0] |= {"finish_reason": "stop", "usage": usage}
    data = events(
        chunk(content="hi"), chunk(content="!"), end, *([last(usage | {"cached_tokens": 5})] * told_again)
    )

    _, told = run(new_meter(api), [data])

    assert told.usage is not None
    assert counts(told.usage) == (19, 13, 5 if told_again else 4, 0, 0)
    assert told.finish_reasons == ["stop"]


def test_usage_where_it_belongs_stands_whatever_a_choice_says_later() -> None:
    end = chunk()
    end["choices"][0] |= {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    data = events(chunk(content="hi"), last({"prompt_tokens": 19, "completion_tokens": 13}), end)

    _, told = run(new_meter(), [data])

    assert told.usage is not None and counts(told.usage) == (19, 13, 0, 0, 0)
