"""Recorded exchanges, and a way to run a reply through a meter."""

import base64
import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sidecar.wire import Meter, ReplyFacts, RequestFacts, meter_for

Case = dict[str, Any]

APIS_BY_ENDPOINT = {
    "chat.completions": "openai.chat",
    "completions": "openai.completions",
    "responses": "openai.responses",
    "embeddings": "openai.embeddings",
    "messages": "anthropic.messages",
    "messages.count_tokens": "anthropic.count_tokens",
}

SSE = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]


def reply_bytes(case: Case) -> bytes:
    """The reply's body as it was recorded."""
    if case.get("sse") is not None:
        return case["sse"].encode()
    if case.get("body_base64"):
        return base64.b64decode(case["body_base64"])
    return case["body"].encode() if isinstance(case["body"], str) else json.dumps(case["body"]).encode()


def meter_of(case: Case, api: str) -> Meter:
    headers = [(name.encode(), value.encode()) for name, value in case["headers"].items()]
    return meter_for(
        api,
        path=urlsplit(case["url"]).path,
        status=case["status"],
        headers=headers,
        request=RequestFacts(api, "asked"),
        withhold_usage=False,
    )


def new_meter(
    api: str = "openai.chat",
    *,
    path: str = "/v1/chat/completions",
    status: int = 200,
    headers: list[tuple[bytes, bytes]] | None = None,
    request: RequestFacts | None = None,
    withhold: bool = False,
) -> Meter:
    return meter_for(
        api,
        path=path,
        status=status,
        headers=SSE if headers is None else headers,
        request=request or RequestFacts(api, "asked"),
        withhold_usage=withhold,
    )


def run(meter: Meter, pieces: Iterable[bytes]) -> tuple[bytes, ReplyFacts]:
    """Feed ``pieces``; what was forwarded, and the facts at the end."""
    forwarded = b"".join([meter.feed(piece) for piece in pieces])
    forwarded += meter.finish()
    return forwarded, meter.facts()


def read(data: bytes, **how: Any) -> ReplyFacts:
    """The facts of one reply fed whole."""
    return run(new_meter(**how), [data])[1]


def bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def chat_chunk(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "choices": [choice],
    }
    return b"data: " + json.dumps(body | more, ensure_ascii=False).encode() + b"\n\n"


@pytest.fixture(scope="session")
def cases(shared_data: Path) -> list[Case]:
    with gzip.open(shared_data / "provider_responses" / "cases.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def usage_blocks(shared_data: Path) -> list[Case]:
    with gzip.open(shared_data / "provider_responses" / "usage_blocks.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


Reader = Callable[..., ReplyFacts]
