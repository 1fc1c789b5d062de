"""A byte order mark before JSON is no part of it: replies are read behind it, our own requests go without."""

import json
from typing import Any

import pytest

from sidecar.wire import APIS, InvalidRequest, RequestFacts, read_request, with_include_usage
from sidecar.wire.sse import BOM
from sidecar.wire.translate.translation import Translation
from tests.sidecar.wire.conftest import JSON, SSE, bytewise, chat_chunk, new_meter, run

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
ITS_USAGE = {"input_tokens": 11, "output_tokens": 7}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
CHAT = {"id": "c", "object": "chat.completion", "model": "m", "choices": [CHOICE], "usage": USAGE}
ITEM = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
RESPONSE = {"id": "r", "object": "response", "model": "m", "output": [ITEM], "usage": ITS_USAGE}
MESSAGE = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": ITS_USAGE,
}
REPLIES = [
    ("openai.chat", CHAT),
    ("openai.responses", RESPONSE),
    ("anthropic.messages", MESSAGE),
    ("raw", CHAT),
    ("raw", MESSAGE),
]


def cuts(data: bytes) -> list[list[bytes]]:
    return [[data], bytewise(data), [data[:1], data[1:]], [data[:3], data[3:]]]


@pytest.mark.parametrize("content_type", [b"application/json", b"application/json; charset=utf-16", b""])
@pytest.mark.parametrize(("api", "reply"), REPLIES)
def test_a_reply_behind_a_byte_order_mark_is_read_and_passes_unchanged(
    api: str, reply: dict[str, Any], content_type: bytes
) -> None:
    body = BOM + json.dumps(reply).encode()
    for pieces in cuts(body):
        forwarded, facts = run(new_meter(api, headers=[(b"content-type", content_type)]), pieces)
        assert forwarded == body
        assert facts.usage is not None
        assert (facts.usage.input_tokens, facts.usage.output_tokens) == (11, 7)
        assert (facts.complete, facts.output_text_bytes, facts.usage_flags) == (True, 2, ())


def test_an_array_behind_a_byte_order_mark_is_read() -> None:
    said = {"candidates": [], "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7}}
    body = BOM + json.dumps([said]).encode()
    for pieces in cuts(body):
        meter = new_meter("raw", path="/v1beta/models/gemini:streamGenerateContent", headers=JSON)
        forwarded, facts = run(meter, pieces)
        assert forwarded == body
        assert facts.usage is not None and facts.usage.output_tokens == 7


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"application/json", b"text/plain", b""])
def test_events_behind_a_byte_order_mark_are_read(content_type: bytes) -> None:
    data = BOM + chat_chunk("one") + chat_chunk("two", usage=USAGE) + b"data: [DONE]\n\n"
    for pieces in cuts(data):
        forwarded, facts = run(new_meter(headers=[(b"content-type", content_type)]), pieces)
        assert forwarded == data
        assert facts.usage is not None and facts.usage.output_tokens == 7
        assert (facts.complete, facts.output_text_bytes, facts.chunks) == (True, 6, 3)


def test_an_error_behind_a_byte_order_mark_is_read() -> None:
    body = BOM + b'{"error":{"code":"invalid_api_key","message":"no"}}'
    for pieces in cuts(body):
        forwarded, facts = run(new_meter(headers=JSON, status=401), pieces)
        assert forwarded == body
        assert facts.error is not None and (facts.error.error_class, facts.error.message) == ("auth", "no")


@pytest.mark.parametrize("body", [BOM, BOM[:2], BOM + b" ", BOM + b"no", b"\xef\xbc\x8c is a comma"])
@pytest.mark.parametrize("status", [200, 503])
def test_what_only_resembles_it_passes_unread(body: bytes, status: int) -> None:
    for pieces in cuts(body):
        forwarded, facts = run(new_meter("raw", headers=JSON, status=status), pieces)
        assert forwarded == body
        assert (facts.usage, facts.error is not None) == (None, status == 503)


def test_a_reply_behind_a_byte_order_mark_is_translated() -> None:
    way = Translation("anthropic.messages", "openai.chat")
    request = RequestFacts("anthropic.messages", "m")
    out, facts = run(way.meter(200, JSON, request, 1), [BOM + json.dumps(CHAT).encode()])
    assert json.loads(out)["content"] == [{"type": "text", "text": "hi"}]
    assert facts.usage is not None and facts.usage.output_tokens == 7


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"Text/Event-Stream; charset=UTF-8"])
def test_a_stream_is_translated_as_one_however_its_type_is_written(content_type: bytes) -> None:
    way = Translation("anthropic.messages", "openai.chat")
    request = RequestFacts("anthropic.messages", "m", stream=True)
    data = BOM + chat_chunk("one") + chat_chunk("two", usage=USAGE) + b"data: [DONE]\n\n"
    meter = way.meter(200, [(b"content-type", content_type)], request, 1)
    out, facts = run(meter, [data])
    assert meter.content_type == SSE[0][1]
    assert out.startswith(b"event: message_start\n")
    assert facts.usage is not None and facts.usage.output_tokens == 7


ASKED = {"model": "m", "stream": True, "max_tokens": 5, "input": "x", "prompt": "x"}
BODY = BOM + json.dumps({**ASKED, "messages": [{"role": "user", "content": "x"}]}).encode()


@pytest.mark.parametrize("api", [name for name in APIS if name not in ("raw", "anthropic.count_tokens")])
def test_a_request_with_a_byte_order_mark_is_refused_by_that_name(api: str) -> None:
    with pytest.raises(InvalidRequest, match="begins with a byte order mark"):
        read_request(api, BODY)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/somewhere/else"])
def test_one_on_pass_through_is_understood_all_the_same(path: str) -> None:
    facts = read_request("raw", BODY, path=path)
    assert (facts.model, facts.stream, facts.max_output_tokens) == ("m", True, 5)


def test_usage_can_be_asked_for_behind_a_byte_order_mark() -> None:
    asking = with_include_usage(BODY)
    assert asking.startswith(BOM)
    assert json.loads(asking.removeprefix(BOM))["stream_options"] == {"include_usage": True}
