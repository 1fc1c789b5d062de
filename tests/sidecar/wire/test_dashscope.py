"""Qwen on DashScope, in its own dialect: what it documents, whole and streamed."""

import json
from typing import Any

import pytest

from collector.domain.usage import Usage
from sidecar.wire import read_request
from tests.sidecar.wire.conftest import JSON, SSE, bytewise, new_meter, run

PATH = "/api/v1/services/aigc/text-generation/generation"
USAGE = {"input_tokens": 3019, "output_tokens": 104, "total_tokens": 3123}
CACHED = {"prompt_tokens_details": {"cached_tokens": 2048}}
CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": "b"}'},
}


def reply(message: dict[str, Any], usage: dict[str, Any], reason: str = "stop") -> dict[str, Any]:
    choice = {"finish_reason": reason, "message": {"role": "assistant", **message}}
    return {"output": {"choices": [choice]}, "usage": usage, "request_id": "r-1"}


def event(number: int, said: dict[str, Any], name: str = "result", status: int = 200) -> bytes:
    return f"id:{number}\nevent:{name}\n:HTTP_STATUS/{status}\ndata:{json.dumps(said)}\n\n".encode()


def read_stream(data: bytes, **how: Any) -> Any:
    found = []
    for pieces in ([data], bytewise(data)):
        forwarded, facts = run(new_meter("raw", path=PATH, headers=SSE, **how), pieces)
        assert forwarded == data
        found.append(facts)
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    ("more", "usage"),
    [
        ({}, Usage(input_tokens=3019, output_tokens=104)),
        (CACHED, Usage(input_tokens=3019, output_tokens=104, cache_read_input_tokens=2048)),
        (
            {"input_tokens_details": {"cached_tokens": 2048, "text_tokens": 3019}},
            Usage(input_tokens=3019, output_tokens=104, cache_read_input_tokens=2048),
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": 1000, "cache_creation_input_tokens": 2000}},
            Usage(
                input_tokens=3019,
                output_tokens=104,
                cache_read_input_tokens=1000,
                cache_write_input_tokens=2000,
            ),
        ),
        (
            {"output_tokens_details": {"reasoning_tokens": 90, "text_tokens": 14}},
            Usage(input_tokens=3019, output_tokens=104, reasoning_output_tokens=90),
        ),
        (
            {**CACHED, "x_details": [{**USAGE, **CACHED, "x_billing_type": "response_api"}]},
            Usage(input_tokens=3019, output_tokens=104, cache_read_input_tokens=2048),
        ),
    ],
)
def test_a_whole_reply_says_what_was_used_the_cached_a_part_of_the_input(
    more: dict[str, Any], usage: Usage
) -> None:
    body = json.dumps(reply({"content": "Grüße", "reasoning_content": "hm"}, {**USAGE, **more})).encode()
    for pieces in ([body], bytewise(body)):
        forwarded, facts = run(new_meter("raw", path=PATH, headers=JSON), pieces)
        assert forwarded == body
        assert (facts.usage, facts.usage_flags, facts.complete) == (usage, (), True)
        assert (facts.response_id, facts.finish_reasons) == ("r-1", ["stop"])
        assert (facts.output_text_bytes, facts.reasoning_text_bytes) == (9, 2)


@pytest.mark.parametrize("content", ["hi there", [{"text": "hi "}, {"text": "there"}]])
def test_text_is_read_wherever_a_model_says_it(content: Any) -> None:
    bodies = [
        reply({"content": content}, USAGE),
        {"output": {"text": "hi there", "finish_reason": "stop"}, "usage": USAGE, "request_id": "r-1"},
    ]
    for body in bodies:
        _, facts = run(new_meter("raw", headers=JSON), [json.dumps(body).encode()])
        assert (facts.output_text_bytes, facts.finish_reasons) == (8, ["stop"])


TEXTS = ["It", " rains", " cats", ""]


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("thinks", [False, True])
def test_a_stream_tells_its_usage_so_far_and_its_text_once(incremental: bool, thinks: bool) -> None:
    data, so_far = b"", ""
    for number, text in enumerate(TEXTS, 1):
        so_far += text
        shown = text if incremental else so_far
        message = {"content": shown, **({"reasoning_content": shown} if thinks else {})}
        usage = {"input_tokens": 11, "output_tokens": number, "total_tokens": 11 + number, **CACHED}
        usage["prompt_tokens_details"] = {"cached_tokens": 8}
        data += event(number, reply(message, usage, "stop" if number == len(TEXTS) else "null"))
    facts = read_stream(data)
    assert facts.usage == Usage(input_tokens=11, output_tokens=4, cache_read_input_tokens=8)
    assert (facts.complete, facts.finish_reasons, facts.chunks) == (True, ["stop"], 4)
    assert facts.output_text_bytes == len("It rains cats") * (2 if thinks else 1)


def test_a_stream_that_was_cut_off_is_not_complete() -> None:
    data = event(1, reply({"content": "It"}, USAGE, "null"))
    meter = new_meter("raw", path=PATH, headers=SSE)
    meter.feed(data)
    facts = meter.facts()
    assert (facts.complete, facts.finish_reasons, facts.output_text_bytes) == (False, [], 2)
    assert facts.usage is not None


@pytest.mark.parametrize("incremental", [False, True])
def test_calls_of_tools_are_read_once_however_often_they_are_told(incremental: bool) -> None:
    parts = ['{"at"', ': "b"', "}"]
    data = b""
    for number, part in enumerate(parts, 1):
        shown = part if incremental else "".join(parts[:number])
        function = {"arguments": shown}
        if number == 1 or not incremental:
            function["name"] = "look"
        call = {**CALL, "id": "call_1" if number == 1 or not incremental else "", "function": function}
        reason = "tool_calls" if number == len(parts) else "null"
        data += event(number, reply({"content": "", "tool_calls": [call]}, USAGE, reason))
    facts = read_stream(data)
    whole = run(new_meter("raw", headers=JSON), [json.dumps(reply({"tool_calls": [CALL]}, USAGE)).encode()])[
        1
    ]
    assert facts.tool_names == whole.tool_names == ["look"]
    assert facts.tool_call_hashes == whole.tool_call_hashes
    assert facts.output_text_bytes == whole.output_text_bytes == len('look{"at": "b"}')


def test_an_error_in_a_stream_is_one() -> None:
    told = {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded", "request_id": "r-1"}
    facts = read_stream(event(1, told, "error", 429))
    assert facts.error is not None
    assert (facts.error.error_class, facts.error.code) == ("rate_limit", "Throttling.RateQuota")


@pytest.mark.parametrize(
    "odd", [[], "x", 7, None, {"message": 7}, {"message": {"content": 7, "tool_calls": 7}}]
)
def test_what_is_not_as_documented_is_passed_over(odd: Any) -> None:
    for output in ({"choices": odd}, {"choices": [odd]}, {"text": odd, "finish_reason": odd}):
        body = json.dumps({"output": output, "usage": USAGE, "request_id": "r-1"}).encode()
        forwarded, facts = run(new_meter("raw", headers=JSON), [body])
        assert forwarded == body
        assert (facts.usage, facts.unread) == (Usage(input_tokens=3019, output_tokens=104), "")


def test_embeddings_say_only_a_total() -> None:
    body = {
        "output": {"embeddings": [{"embedding": [0.1]}]},
        "usage": {"total_tokens": 27},
        "request_id": "r",
    }
    _, facts = run(new_meter("raw", headers=JSON), [json.dumps(body).encode()])
    assert facts.usage == Usage(input_tokens=27, output_tokens=0)


def test_what_is_asked_for_is_read_of_its_parameters() -> None:
    asked = {"model": "qwen-plus", "input": {"prompt": "why?"}, "parameters": {"max_tokens": 50, "n": 2}}
    facts = read_request("raw", json.dumps(asked).encode(), path=PATH)
    assert (facts.model, facts.max_output_tokens, facts.choice_count) == ("qwen-plus", 50, 2)
