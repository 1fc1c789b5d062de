"""What goes out of a meter is what went in, whatever it is and wherever it is cut."""

import gzip
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.wire.eventstream import frame_bytes
from tests.sidecar.wire.conftest import chat_chunk, new_meter

FRAME_NAMES = {":message-type": "event", ":event-type": "contentBlockDelta"}
BODIES = [
    b"",
    b'{"a":1}',
    json.dumps({"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}).encode(),
    b'[{"usageMetadata":{"promptTokenCount":1}},\r\n{"candidates":[]}]',
    b'{"response":"a","done":false}\n{"response":"b","done":true}\n',
    chat_chunk("a") + chat_chunk("\u00fc") + b": wait\n\n" + chat_chunk("c") + b"data: [DONE]\n\n",
    chat_chunk("a").replace(b"\n", b"\r\n") + b"data: [DONE]\r\n\r\n",
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m"}}\n\n',
    b'event: x\ndata: {"type":"response.output_text.delta","delta":"a"}\n\ndata: {"cut',
    frame_bytes(FRAME_NAMES, b'{"delta":{"text":"a"}}') * 2,
    gzip.compress(b'{"usage":{"input_tokens":1}}'),
    b"<html>",
    b"\x00\xff\xfe",
]
BEFORE = [b"", b"", b" ", b"\n", b"\r\n  ", b"\n" * 5000, b"\xef\xbb\xbf", b"\n\xef\xbb\xbf"]
APIS = ["openai.chat", "openai.embeddings", "openai.responses", "anthropic.messages", "raw"]
KINDS = [
    b"application/json", b"text/event-stream", b"application/x-ndjson", b"application/vnd.amazon.eventstream",
    b"text/plain", b"text/html", b"audio/mpeg", b"",
]  # fmt: skip


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_every_byte_passes_once_and_in_its_order(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(BEFORE)) + data.draw(st.sampled_from(BODIES))
    cuts = sorted(data.draw(st.lists(st.integers(0, min(len(body), 200)), max_size=8)))
    headers = [(b"content-type", data.draw(st.sampled_from(KINDS)))]
    headers += data.draw(st.sampled_from([[], [], [], [(b"content-encoding", b"gzip")]]))
    path = data.draw(st.sampled_from(["/v1/x", "/v1beta/models/m:streamGenerateContent", "/v1/rerank"]))
    status = data.draw(st.sampled_from([200, 200, 200, 429, 500]))
    meter = new_meter(data.draw(st.sampled_from(APIS)), path=path, status=status, headers=headers)
    out = b""
    for start, end in pairwise([0, *cuts, len(body)]):
        out += meter.feed(body[start:end])
        if data.draw(st.booleans()):
            meter.facts()

    assert out + meter.finish() == body


@pytest.mark.parametrize("api", ["raw", "openai.chat"])
def test_blanks_before_json_that_come_alone_pass_once(api: str) -> None:
    meter = new_meter(api, headers=[(b"content-type", b"application/json")])
    out = meter.feed(b"\n   ")
    meter.facts()

    assert out + meter.feed(b'{"a":1}') + meter.finish() == b'\n   {"a":1}'
