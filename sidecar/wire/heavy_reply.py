"""Whole replies of very many members: what the readers of dialects look at, and little else of them.

Embeddings and the probabilities of tokens run to millions of numbers, which nobody here wants; and while a
reply is decoded no other call is served. So of a heavy object the names that readers know are looked up, of a
heavy list the first members, and everything else is skipped where it stands.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from sidecar.wire.jsonstream import decode_event
from sidecar.wire.members import has_more_members
from sidecar.wire.usage_shapes import SHAPES

MOST_DECODED: Final = 131_072
"""Members of a reply; decoding so many takes some 50 ms."""
_FIRST: Final = 128
"""Of a heavy list, so many members are read."""
_DEEPEST: Final = 5
_DEEPER: Final = (
    "candidates", "choices", "content", "delta", "error", "generations", "message", "meta", "output", "parts",
    "predictions", "response", "results", "tool_calls", "usage", "usageMetadata", "x_groq",
)  # fmt: skip
"""What may itself be heavy, and still has something in it that is wanted."""
_NAMES: Final = dict.fromkeys(
    (
        *_DEEPER,
        *(name for shape in SHAPES for name in (*shape.marks, *shape.tree) if name.isidentifier()),
        "action", "annotations", "arguments", "args", "b64_json", "billed_units", "call_id", "code",
        "completion", "created", "created_at", "custom", "data", "done", "done_reason", "event_type",
        "finishReason", "finish_reason", "function", "functionCall", "function_call", "generation",
        "generation_id", "groundingMetadata", "id", "index", "inference_geo", "input", "metadata", "model",
        "modelVersion", "name", "object", "outputText", "outputs", "param", "reasoning", "reasoningContent",
        "reasoning_content", "refusal", "responseId", "response_id", "role", "serviceTier", "service_tier",
        "speed", "start", "status", "stopReason", "stop_reason", "summary", "system_fingerprint", "text",
        "thinking", "thought", "timings", "tokens", "toolUse", "tool_plan", "trafficType", "type",
    )
)  # fmt: skip
_ABSENT: Final = Raw(b"")


def _decoder(names: list[str], *, of_lists: bool) -> "msgspec.json.Decoder[Any]":
    fields = [(name, Raw, _ABSENT) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("Heavy", fields, array_like=of_lists, gc=False))


_decode_object: Final = _decoder(list(_NAMES), of_lists=False).decode
_decode_list: Final = _decoder([f"member_{place}" for place in range(_FIRST)], of_lists=True).decode
_CONTROL: Final = bytes(0x20 if byte < 0x20 else byte for byte in range(256))
_HALF_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NO_NUMBERS: Final = (b"-Infinity", b"Infinity", b"NaN")


def is_heavy_reply(body: bytes | bytearray) -> bool:
    """Whether ``body`` has more members than are decoded of a reply."""
    return len(body) > MOST_DECODED and has_more_members(body, MOST_DECODED)


def read_heavy(body: bytes) -> Any:
    """What readers may want of ``body``, also where it is nearly JSON; None where it is not even that."""
    for mended in (False, True):
        try:
            return _lightened(_mended(body) if mended else body, MOST_DECODED, _DEEPEST)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
    return None


def _lightened(text: bytes | Raw, most: int, depth: int) -> Any:
    """``text`` decoded, with no more than ``most`` members.

    Raises:
        ValueError, msgspec.MsgspecError, RecursionError: it is no JSON.
    """
    if not has_more_members(text, most):
        return decode_event(bytes(memoryview(text)))
    if not depth:
        return None
    is_list = bytes(memoryview(text)[:64]).lstrip().startswith(b"[")
    found = _decode_list(text) if is_list else _decode_object(text)
    raws = {name: raw for name in found.__struct_fields__ if memoryview(raw := getattr(found, name)).nbytes}
    share = most // max(1, len(raws))
    if is_list:
        return [_lightened(raw, share, depth - 1) for raw in raws.values()]
    return {
        name: _lightened(raw, share, depth - 1)
        for name, raw in raws.items()
        if name in _DEEPER or not has_more_members(raw, share)
    }


def _mended(body: bytes) -> bytes:
    """``body`` without what servers write that is nearly JSON (:mod:`sidecar.wire.jsonstream`)."""
    text = body.decode("utf-8", "replace").encode().translate(_CONTROL)
    for word in _NO_NUMBERS:
        text = text.replace(word, b"null")
    return _HALF_PAIR.sub(rb"\\u003f", text)
