"""What is nearly JSON, or comes under a wrong name, is read as what it was meant to be."""

import json
from typing import Any

import pytest

from tests.sidecar.wire.conftest import JSON, SSE, bytewise, chat_chunk, new_meter, run

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
FAULTS = [b"hi\\ud83d", b"hi\\udc00 there", b"a\tb", b"a\x01b", b"caf\xe9", b"\xff\xfe"]


def cuts(data: bytes) -> list[list[bytes]]:
    return [[data], bytewise(data), [data[:4], data[4:]], [data[:100], data[100:]]]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("api", ["openai.chat", "raw"])
def test_a_body_with_a_broken_character_is_read(api: str, fault: bytes) -> None:
    choice = {"index": 0, "message": {"content": "HERE"}, "finish_reason": "stop"}
    body = json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": USAGE}).encode()
    body = body.replace(b"HERE", fault)
    for pieces in cuts(body):
        forwarded, facts = run(new_meter(api, headers=JSON), pieces)
        assert forwarded == body
        assert facts.usage is not None and facts.usage.output_tokens == 7
        assert (facts.complete, facts.finish_reasons, facts.unread) == (True, ["stop"], "")
        assert 2 <= facts.output_text_bytes <= 9


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("api", ["openai.chat", "raw"])
def test_an_event_with_a_broken_character_is_read(api: str, fault: bytes) -> None:
    data = chat_chunk("one") + chat_chunk("HERE", usage=USAGE).replace(b"HERE", fault) + b"data: [DONE]\n\n"
    for pieces in cuts(data):
        forwarded, facts = run(new_meter(api), pieces)
        assert forwarded == data
        assert facts.usage is not None and facts.usage.output_tokens == 7
        assert facts.usage_flags == ()
        assert facts.output_text_bytes > 3


def test_a_line_of_json_with_a_broken_character_is_read() -> None:
    lines = b'{"response":"a\tb\\ud83d","done":false}\n{"response":"","done":true,"prompt_eval_count":5}\n'
    forwarded, facts = run(new_meter("raw", headers=[(b"content-type", b"application/x-ndjson")]), [lines])
    assert forwarded == lines
    assert facts.usage is not None and facts.usage.input_tokens == 5


@pytest.mark.parametrize("api", ["openai.chat", "raw"])
@pytest.mark.parametrize("before", [b"", b"\n", b"event: x\n"])
def test_events_that_are_said_to_be_json_are_read_as_events(api: str, before: bytes) -> None:
    data = before + chat_chunk("one") + chat_chunk("two", usage=USAGE) + b"data: [DONE]\n\n"
    for pieces in cuts(data):
        for asked in (False, True):
            meter = new_meter(api, headers=JSON)
            out = b""
            for piece in pieces:
                out += meter.feed(piece)
                if asked:
                    meter.facts()
            assert out + meter.finish() == data
            facts = meter.facts()
            assert facts.usage is not None and facts.usage.output_tokens == 7
            assert (facts.complete, facts.output_text_bytes, facts.chunks) == (True, 6, 3)


@pytest.mark.parametrize("body", [b"denied", b"d", b"even", b"data", b"data: ", b"NaN", b"{"])
@pytest.mark.parametrize("status", [200, 503])
def test_other_words_are_no_events(body: bytes, status: int) -> None:
    for pieces in cuts(body):
        forwarded, facts = run(new_meter("raw", headers=JSON, status=status), pieces)
        assert forwarded == body
        assert (facts.usage, facts.error is not None) == (None, status == 503)


def test_what_is_no_json_at_all_is_flagged_still() -> None:
    _, facts = run(new_meter(headers=SSE), [chat_chunk("a") + b"data: {no json\n\n"])
    assert facts.usage_flags == ("unreadable_event",)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_has_not_got_are_no_counts(number: str) -> None:
    body = b'{"usage":{"prompt_tokens":11,"completion_tokens":7,"cost":' + number.encode() + b"}}"
    _, facts = run(new_meter("raw", headers=JSON), [body])
    counted: Any = facts.usage and facts.usage.output_tokens
    assert counted in (7, None)
    assert facts.provider_cost_pico is None
