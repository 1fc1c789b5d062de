"""Amazon Bedrock: Converse and InvokeModel, whole and as AWS event streams.

Converse has one format for all models. InvokeModel wraps each model's own: the
chunks of its stream are base64 of that model's JSON, and the last one brings
Bedrock's own metrics, which are what is billed.
"""

from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from sidecar.wire.reading import Reading

METRICS: Final = "amazon-bedrock-invocationMetrics"

_COUNT_HEADERS: Final = {
    b"x-amzn-bedrock-input-token-count": "inputTokenCount",
    b"x-amzn-bedrock-output-token-count": "outputTokenCount",
    b"x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokenCount",
    b"x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokenCount",
}

_CLAUDE_NAMES: Final = {
    "input_tokens": "inputTokenCount",
    "output_tokens": "outputTokenCount",
    "cache_read_input_tokens": "cacheReadInputTokenCount",
    "cache_creation_input_tokens": "cacheWriteInputTokenCount",
}

EventReader = Callable[[str, Mapping[str, Any], Reading], bool]


def counts_in_headers(headers: Mapping[bytes, bytes]) -> dict[str, int] | None:
    """Token counts that InvokeModel gives in headers, for models that give them nowhere else."""
    counts = {
        name: int(headers[header])
        for header, name in _COUNT_HEADERS.items()
        if headers.get(header, b"").isdigit() and len(headers[header]) < 20
    }
    return counts or None


def read_converse_body(body: Mapping[str, Any], reading: Reading) -> None:
    """Read a Converse reply, or Nova's own, which looks the same."""
    output = body.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            reading.say(block.get("text"))
            _read_reasoning(block.get("reasoningContent"), reading)
            if isinstance(tool := block.get("toolUse"), dict):
                reading.call_tool(tool.get("toolUseId"), tool.get("name"))
                reading.argue(msgspec.json.encode(tool.get("input")).decode(), -1)
    reading.finished(body.get("stopReason"))
    reading.use(body.get("usage"))


def _read_reasoning(block: object, reading: Reading) -> None:
    if isinstance(block, dict):
        inner = block.get("reasoningText")
        reading.think(inner.get("text") if isinstance(inner, dict) else block.get("text"))


def read_converse_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one event of a Converse stream; never one of usage alone."""
    if len(event) == 1:  # Nova's own stream wraps each event in its name.
        key, member = next(iter(event.items()))
        if isinstance(member, dict) and key in (
            "contentBlockDelta",
            "contentBlockStart",
            "messageStop",
            "metadata",
        ):
            name, event = key, member
    if name == "contentBlockDelta":
        delta = event.get("delta")
        if isinstance(delta, dict):
            reading.say(delta.get("text"))
            _read_reasoning(delta.get("reasoningContent"), reading)
            if isinstance(tool := delta.get("toolUse"), dict):
                reading.argue(tool.get("input"), -1)
    elif name == "contentBlockStart":
        start = event.get("start")
        tool = start.get("toolUse") if isinstance(start, dict) else None
        if isinstance(tool, dict):
            reading.call_tool(tool.get("toolUseId"), tool.get("name"))
    elif name == "messageStop":
        reading.finished(event.get("stopReason"))
    elif name == "metadata":
        reading.use(event.get("usage"))
        reading.complete = True
    return False


def read_frame(headers: Mapping[str, str], payload: bytes, reading: Reading, inner: EventReader) -> None:
    """Read one frame of an AWS event stream.

    Args:
        headers: the frame's own headers.
        payload: its JSON.
        reading: where to write.
        inner: reads the model's own JSON inside a chunk of InvokeModel.
    """
    kind = headers.get(":message-type")
    if kind == "error":
        reading.fail({"code": headers.get(":error-code"), "message": headers.get(":error-message")})
        return
    try:
        event = msgspec.json.decode(payload) if payload else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reading.doubt("unreadable_event")
        return
    if not isinstance(event, dict):
        return
    if kind == "exception":
        reading.fail({"type": headers.get(":exception-type", ""), **event})
    elif isinstance(encoded := event.get("bytes"), str):
        try:
            chunk = msgspec.json.decode(a2b_base64(encoded))
        except (ValueError, RecursionError):  # Not base64, or not JSON.
            reading.doubt("unreadable_event")
            return
        if isinstance(chunk, dict):
            _read_chunk(chunk, reading, inner)
    else:
        read_converse_event(headers.get(":event-type", ""), event, reading)


def _read_chunk(chunk: dict[str, Any], reading: Reading, inner: EventReader) -> None:
    inner("", chunk, reading)
    metrics = chunk.get(METRICS)
    if isinstance(metrics, dict):
        reading.complete = True
        if "input_tokens" in (reading.usage_block or {}):
            # Claude said its own counts before; the metrics are what is billed (tool calls differ).
            reading.add_usage({name: metrics.get(counted) for name, counted in _CLAUDE_NAMES.items()})
        else:
            reading.use(metrics)


def read_invoked_body(body: Mapping[str, Any], reading: Reading) -> None:
    """Read what Titan, Llama and Mistral text models answer to InvokeModel, whole or one chunk.

    Rerankers outside of Bedrock answer with ``results`` as well, and with an id, a model and usage.
    """
    reading.identify(body.get("id"), body.get("model"))
    reading.use(body.get("usage"))
    for name, reason in (("generation", "stop_reason"), ("outputText", "completionReason")):
        reading.say(body.get(name))
        if isinstance(body.get(name), str):
            reading.finished(body.get(reason))
    for members, text, reason in (
        ("results", "outputText", "completionReason"),
        ("outputs", "text", "stop_reason"),
    ):
        parts = body.get(members)
        for place, part in enumerate(parts if isinstance(parts, list) else ()):
            if isinstance(part, dict):
                reading.say(part.get(text), place)
                reading.finished(part.get(reason), place)
    if not body.keys().isdisjoint(("prompt_token_count", "generation_token_count", "inputTextTokenCount")):
        counts = {name: value for name, value in body.items() if "oken" in name or name == "results"}
        reading.add_usage(counts)
