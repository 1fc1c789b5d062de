"""Providers' errors and how long they ask to wait."""

import json
from typing import Any

import pytest

from collector.domain.usage import NOTHING, Usage, UsageGrade
from sidecar.accounting import Known, usage_of
from sidecar.wire import ReplyFacts
from sidecar.wire.errors import ERROR_CLASSES, error_class, read_error
from tests.sidecar.wire.conftest import JSON, bytewise, chat_chunk, new_meter, read, run


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (
            429,
            {
                "type": "insufficient_quota",
                "code": "insufficient_quota",
                "message": "You exceeded your current quota",
            },
            "quota",
        ),
        (
            429,
            {"type": "requests", "code": "rate_limit_exceeded", "message": "Rate limit reached"},
            "rate_limit",
        ),
        (
            429,
            {
                "code": 429,
                "status": "RESOURCE_EXHAUSTED",
                "message": "Quota exceeded for requests per minute",
            },
            "rate_limit",
        ),
        (503, {"code": 503, "status": "UNAVAILABLE", "message": "The model is overloaded."}, "overloaded"),
        (529, {"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        (
            400,
            {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API"},
            "quota",
        ),
        (
            400,
            {
                "type": "invalid_request_error",
                "message": "prompt is too long: 250000 tokens > 200000 maximum",
            },
            "context_length",
        ),
        (
            400,
            {"type": "BadRequestError", "message": "This model's maximum context length is 4096 tokens."},
            "context_length",
        ),
        (
            400,
            {
                "code": 400,
                "status": "INVALID_ARGUMENT",
                "message": "The input token count (2000000) exceeds the maximum",
            },
            "context_length",
        ),
        (400, {"code": "content_filter", "message": "filtered"}, "content_filter"),
        (402, {"message": "Insufficient Balance", "type": "unknown_error"}, "quota"),
        (401, {"type": "authentication_error", "message": "invalid x-api-key"}, "auth"),
        (403, {"type": "permission_error", "message": "not allowed"}, "permission"),
        (404, {"type": "NotFoundError", "message": "The model `nope` does not exist."}, "not_found"),
        (413, {"type": "request_too_large", "message": "too big"}, "too_large"),
        (500, {"type": "api_error", "message": "Internal server error"}, "server_error"),
        (504, {"message": "upstream"}, "timeout"),
        (200, {"message": "Provider returned error", "code": 502}, "server_error"),
        (
            200,
            {"message": "The engine is currently busy", "type": "Service Unavailable", "code": 503},
            "overloaded",
        ),
        (418, {"message": "?"}, "invalid_request"),
        (200, "something broke", "server_error"),
    ],
)
def test_an_error_is_known_by_its_name_its_words_or_its_status(
    status: int, error: Any, expected: str
) -> None:
    assert read_error(error, status, {}).error_class == expected


def test_bedrock_names_its_errors_in_a_header() -> None:
    headers = {b"x-amzn-errortype": b"ThrottlingException:http://internal.amazon.com/"}
    assert read_error({"message": "Too many requests"}, 429, headers).error_class == "rate_limit"


@pytest.mark.parametrize(
    ("headers", "error", "seconds"),
    [
        ({b"retry-after": b"7"}, {}, 7.0),
        ({b"retry-after-ms": b"250", b"retry-after": b"9"}, {}, 0.25),
        (
            {b"retry-after": b"Wed, 21 Oct 2026 07:28:30 GMT", b"date": b"Wed, 21 Oct 2026 07:28:00 GMT"},
            {},
            30.0,
        ),
        ({b"retry-after": b"Wed, 21 Oct 2026 07:28:30 GMT"}, {}, None),
        ({b"retry-after": b"soon"}, {}, None),
        ({b"retry-after": b"-4"}, {}, None),
        ({b"retry-after": b"nan"}, {}, None),
        (
            {},
            {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]},
            34.07,
        ),
        ({}, {"message": "Please try again in 6m0s."}, 360.0),
        ({}, {"message": "Please try again in 20ms."}, 0.02),
        ({}, {"message": "Please try again in 1h2m3.5s. Visit"}, 3723.5),
        ({}, {"message": "Please try again in 18.642s. Visit"}, 18.642),
        ({}, {"message": "try again later"}, None),
    ],
)
def test_how_long_to_wait_is_read_from_headers_details_or_words(
    headers: dict[bytes, bytes], error: dict[str, Any], seconds: float | None
) -> None:
    assert read_error(error, 429, headers).retry_after_s == seconds


def test_every_class_is_on_the_list() -> None:
    for status in range(300, 600):
        assert error_class(status, "", "", "") in ERROR_CLASSES


def test_a_message_of_a_megabyte_is_cut_and_costs_little() -> None:
    error = {"message": "model " * 200_000, "type": "invalid_request_error"}
    facts = read(json.dumps({"error": error}).encode(), status=400, headers=[])
    assert facts.error is not None
    assert len(facts.error.message) == 200


@pytest.mark.parametrize("api", ["openai.chat", "raw"])
@pytest.mark.parametrize(
    "more",
    [
        {"x_groq": {"id": "req_1", "error": "over capacity", "usage": {"prompt_tokens": 1}}},
        {
            "choices": [
                {"index": 0, "delta": {"content": ""}, "error": {"code": 502, "message": "over capacity"}}
            ]
        },
        {"error": {"message": "over capacity"}},
    ],
    ids=["x_groq", "choice", "chunk"],
)
def test_an_error_in_a_chunk_of_text_is_seen(api: str, more: dict[str, Any]) -> None:
    facts = read(chat_chunk("a") + chat_chunk("b") + chat_chunk("", **more), api=api)
    assert facts.error is not None
    assert facts.error.message == "over capacity"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"error": "the model is overloaded", "finish_reason": "ERROR"}, "the model is overloaded"),
        ({"finish_reason": "ERROR"}, "the reply ended in an error"),
    ],
)
def test_a_stream_of_coheres_that_ends_in_an_error_is_one(said: dict[str, Any], message: str) -> None:
    counted = {"tokens": {"input_tokens": 5, "output_tokens": 1}}
    end = {"type": "message-end", "delta": {**said, "usage": counted}}

    facts = read(b"event: message-end\ndata: " + json.dumps(end).encode() + b"\n\n", api="raw")

    assert facts.error is not None
    assert facts.error.message == message
    assert facts.error.error_class in ("overloaded", "server_error")
    assert (facts.finish_reasons, facts.complete) == (["ERROR"], True)
    assert facts.usage is not None and facts.usage.input_tokens == 5


def test_a_stream_of_coheres_that_ends_well_is_none() -> None:
    end = {"type": "message-end", "delta": {"error": None, "finish_reason": "COMPLETE"}}
    assert read(b"data: " + json.dumps(end).encode() + b"\n\n", api="raw").error is None


MINIMAX = {
    "id": "0613",
    "choices": None,
    "created": 1,
    "model": "MiniMax-M2",
    "object": "chat.completion",
    "usage": {"total_tokens": 0, "total_characters": 0},
    "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"},
}
FINE = {"status_code": 0, "status_msg": ""}
OLD = {"object": "error", "message": "max_tokens is too large", "type": "BadRequestError", "code": 400}
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
CHAT = {"id": "c", "object": "chat.completion", "model": "m", "choices": [CHOICE], "usage": USAGE}


def charged(facts: ReplyFacts, **known: Any) -> tuple[Usage, UsageGrade | None]:
    """What a call of 90 tokens of prompt is charged for a reply of these facts."""
    return usage_of(Known("openai.chat", True, 200, False, facts, 90, 0, 90, 500)._replace(**known))


@pytest.mark.parametrize("api", ["openai.chat", "raw"])
@pytest.mark.parametrize(
    "without", [(), ("usage",), ("usage", "choices", "id", "object", "model", "created")]
)
def test_minimax_says_under_200_that_a_call_failed(api: str, without: tuple[str, ...]) -> None:
    body = json.dumps({name: value for name, value in MINIMAX.items() if name not in without}).encode()
    facts = read(body, api=api, headers=JSON)
    assert facts.error is not None
    assert (facts.error.error_class, facts.error.code) == ("quota", "1008")
    assert facts.error.message == "insufficient balance"
    assert charged(facts)[0] == NOTHING


@pytest.mark.parametrize(
    ("code", "message", "error_class"),
    [
        (1001, "request timeout", "timeout"),
        (1002, "rate limit", "rate_limit"),
        (1004, "login fail", "auth"),
        (1027, "output new_sensitive", "content_filter"),
        (2013, "invalid params", "invalid_request"),
        (2013, "invalid params, context window exceeds limit", "context_length"),
        (9999, "rate limit", "rate_limit"),
    ],
)
def test_what_minimax_means_by_its_numbers(code: int, message: str, error_class: str) -> None:
    told = {"status_code": code, "status_msg": message}
    for status, body in (
        (200, {**CHAT, "base_resp": told}),
        (400, {"base_resp": told}),
        (500, MINIMAX | {"base_resp": told}),
    ):
        facts = read(json.dumps(body).encode(), headers=JSON, status=status)
        assert facts.error is not None
        assert (facts.error.error_class, facts.error.message) == (error_class, message)


@pytest.mark.parametrize("went", [FINE, {}, None, {"status_code": None}, [], "fine"])
@pytest.mark.parametrize("api", ["openai.chat", "raw"])
def test_a_call_that_minimax_says_went_well_is_one(api: str, went: Any) -> None:
    facts = read(json.dumps({**CHAT, "base_resp": went}).encode(), api=api, headers=JSON)
    assert (facts.error, facts.complete) == (None, True)
    assert facts.usage == Usage(input_tokens=11, output_tokens=7)


def events(*said: dict[str, Any]) -> bytes:
    return b"".join([b"data: " + json.dumps(event).encode() + b"\n\n" for event in said])


def test_a_stream_of_minimax_that_fails_at_its_end_keeps_what_it_was_charged() -> None:
    last = {"id": "c", "model": "m", "choices": [], "usage": USAGE}
    failed = {**last, "base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}}
    data = chat_chunk("one", base_resp=FINE) * 3 + events(failed)
    for pieces in ([data], bytewise(data)):
        forwarded, facts = run(new_meter(withhold=True), pieces)
        assert forwarded == data  # An error is for the agent, whatever stands beside it.
        assert facts.error is not None and facts.error.error_class == "content_filter"
        assert facts.output_text_bytes == 9
        assert facts.usage == Usage(input_tokens=11, output_tokens=7)
    well = chat_chunk("one", base_resp=FINE) + events({**last, "base_resp": FINE})
    forwarded, facts = run(new_meter(withhold=True), [well])
    assert (forwarded, facts.error) == (chat_chunk("one", base_resp=FINE), None)


def test_a_text_beside_an_error_of_minimax_is_read_with_it() -> None:
    data = chat_chunk("one") * 3 + chat_chunk("two", base_resp={"status_code": 1000, "status_msg": "unknown"})
    for pieces in ([data], bytewise(data), [chat_chunk("one")] * 3 + [data[3 * len(chat_chunk("one")) :]]):
        facts = run(new_meter(), pieces)[1]
        assert facts.error is not None and facts.error.code == "1000"
        assert facts.output_text_bytes == 12


def test_a_stream_of_minimax_that_is_nothing_but_a_refusal_costs_nothing() -> None:
    refused = events({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}})
    facts = read(refused)
    assert facts.error is not None and facts.error.error_class == "quota"
    assert charged(facts, stream=True) == (NOTHING, None)
    # Of one that failed for another reason it is not known what was done.
    broken = read(events({"base_resp": {"status_code": 1024, "status_msg": "internal error"}}))
    assert charged(broken, stream=True) == (Usage(input_tokens=90), UsageGrade.ESTIMATED)


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        (400, "invalid_request"),
        (404, "not_found"),
        (429, "rate_limit"),
        ("503", "overloaded"),
        (40101, "auth"),
        (42901, "rate_limit"),
        (50001, "server_error"),
        ("7" * 5000, "server_error"),
        (None, "server_error"),
    ],
)
@pytest.mark.parametrize("api", ["openai.chat", "raw"])
def test_an_object_that_is_an_error_is_one_though_its_status_was_200(
    api: str, code: object, error_class: str
) -> None:
    told = {**OLD, "message": "no", "type": "Whatever", "code": code}
    facts = read(json.dumps(told).encode(), api=api, headers=JSON)
    assert facts.error is not None
    assert (facts.error.error_class, facts.error.message) == (error_class, "no")
    assert charged(facts) == (NOTHING, None)
    assert run(new_meter(api), [events(told)])[1].error == facts.error
    beside = read(json.dumps({**CHAT, **told}).encode(), api=api, headers=JSON)
    assert beside.error == facts.error
    assert beside.usage == Usage(input_tokens=11, output_tokens=7)


@pytest.mark.parametrize(
    ("api", "reply"),
    [
        ("openai.chat", CHAT),
        ("openai.embeddings", {"data": [], "model": "m", "usage": {"prompt_tokens": 11, "total_tokens": 11}}),
        ("openai.responses", {"id": "r", "output": [], "usage": {"input_tokens": 11, "output_tokens": 7}}),
        ("anthropic.messages", {"content": [], "usage": {"input_tokens": 11, "output_tokens": 7}}),
    ],
)
def test_minimax_says_so_in_each_dialect(api: str, reply: dict[str, Any]) -> None:
    failed = {**reply, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}
    for body, expected in (({**reply, "base_resp": FINE}, None), (failed, "rate_limit")):
        facts = read(json.dumps(body).encode(), api=api, headers=JSON)
        assert (facts.error and facts.error.error_class) == expected
        assert facts.usage is not None and facts.usage.input_tokens == 11
