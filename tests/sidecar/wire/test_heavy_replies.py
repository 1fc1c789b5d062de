"""Whole replies of very many members: usage and words are found, and what nobody wants is not decoded."""

import json
from typing import Any

import pytest

from sidecar.wire import ReplyFacts, RequestFacts
from sidecar.wire.heavy_reply import MOST_DECODED, is_heavy_reply, read_heavy
from tests.sidecar.wire.conftest import JSON, new_meter, run

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -0.5}] * 5}
LOGPROBS = {"content": [TOKEN] * 8_000}
NUMBERS = [0.25] * (MOST_DECODED + 1)


def read(body: bytes, api: str = "openai.chat", path: str = "/v1/chat/completions") -> ReplyFacts:
    assert is_heavy_reply(body)
    request = RequestFacts(api, "m", message_hashes=[5])
    meter = new_meter(api, path=path, headers=JSON, request=request)
    pieces = [body[place : place + 65_536] for place in range(0, len(body), 65_536)]
    forwarded, facts = run(meter, pieces)
    assert forwarded == body
    return facts


def chat(logprobs: Any, **more: Any) -> bytes:
    message = {
        "role": "assistant",
        "content": "hello",
        "tool_calls": [{"id": "c", "function": {"name": "look"}}],
    }
    choice = {"index": 0, "logprobs": logprobs, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "a", "model": "m", "choices": [choice], "usage": USAGE} | more).encode()


def facts_of(body: bytes) -> ReplyFacts:
    request = RequestFacts("openai.chat", "m", message_hashes=[5])
    return run(new_meter("openai.chat", headers=JSON, request=request), [body])[1]


def test_a_chat_with_the_probabilities_of_its_tokens_says_all_that_it_says_without() -> None:
    facts = read(chat(LOGPROBS))

    assert facts == facts_of(chat(None))
    assert facts.usage is not None and facts.usage.output_tokens == 7
    assert (facts.tool_names, facts.finish_reasons, facts.output_text_bytes) == (["look"], ["stop"], 9)


@pytest.mark.parametrize("api", ["openai.embeddings", "raw"])
def test_numbers_of_embeddings_are_not_decoded(api: str) -> None:
    # Whoever decodes them stumbles over one that no float can hold.
    data = json.dumps([{"index": 0, "embedding": NUMBERS}]).replace("0.25]", "1e999]")
    body = f'{{"object":"list","data":{data},"model":"m","usage":{{"prompt_tokens":11,"total_tokens":11}}}}'

    facts = read(body.encode(), api, "/v1/embeddings")

    assert facts.usage is not None and facts.usage.input_tokens == 11
    assert (facts.complete, facts.usage_flags) == (True, ())


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (
            "openai.responses",
            {
                "id": "a",
                "output": [
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "hello", "logprobs": NUMBERS}],
                    }
                ],
                "usage": {"input_tokens": 11, "output_tokens": 7},
            },
        ),
        (
            "anthropic.messages",
            {
                "id": "a",
                "type": "message",
                "content": [{"type": "text", "text": "hello"}, {"type": "odd", "x": NUMBERS}],
                "usage": {"input_tokens": 11, "output_tokens": 7},
            },
        ),
        (
            "raw",
            {
                "candidates": [
                    {"content": {"parts": [{"text": "hello"}]}, "logprobsResult": {"chosen": [TOKEN] * 8_000}}
                ],
                "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7},
            },
        ),
        (
            "raw",
            {"message": {"content": "hello"}, "x": NUMBERS, "done": True}
            | {"prompt_eval_count": 11, "eval_count": 7},
        ),
        (
            "raw",
            {
                "output": {"message": {"content": [{"text": "hello"}]}},
                "trace": NUMBERS,
                "stopReason": "end_turn",
                "usage": {"inputTokens": 11, "outputTokens": 7},
            },
        ),
    ],
)
def test_usage_and_text_are_found_in_every_dialect(api: str, body: dict[str, Any]) -> None:
    facts = read(json.dumps(body).encode(), api, "/x")

    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (11, 7)
    assert (facts.output_text_bytes, facts.complete) == (5, True)


def test_an_error_with_very_much_in_it_keeps_its_words() -> None:
    facts = read(json.dumps({"error": {"message": "no room", "type": "server_error", "x": NUMBERS}}).encode())

    assert facts.error is not None and facts.error.message == "no room"


@pytest.mark.parametrize("oddity", [b'"\\ud83d"', b"NaN", b"-Infinity", b'"a\tb"', b'"\xff"'])
def test_what_is_nearly_json_is_read_too(oddity: bytes) -> None:
    assert read(chat(LOGPROBS, x="odd").replace(b'"odd"', oddity)) == facts_of(chat(None))


def test_what_is_no_json_is_not_looked_through_for_objects() -> None:
    facts = read(chat(LOGPROBS)[:-1] + b"?")

    assert (facts.usage, facts.complete) == (None, False)
    assert facts.usage_flags == ("body_too_large",)


def members_of(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + len(value) + sum(map(members_of, value.values() if isinstance(value, dict) else value))
    return 0


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{}] * (MOST_DECODED + 1)},
        {"choices": [{"message": {"tool_calls": [{"id": "a"}] * 5_000, "content": NUMBERS}}] * 50},
        {"usage": {f"k{number}": number for number in range(MOST_DECODED + 1)}},
        [[[[[[[0] * 100] * 100] * 100]]]],
        NUMBERS,
    ],
)
def test_no_more_is_decoded_than_may_be(body: Any) -> None:
    assert members_of(read_heavy(json.dumps(body).encode())) <= 2 * MOST_DECODED
