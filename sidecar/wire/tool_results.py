"""Whether what a tool said is that it failed, in dialects that have no flag for it.

OpenAI's dialects hand results of tools over as text. What failed says so in words that frameworks put
before them, in the name of an exception, or in a member of a JSON object; only the beginning of a text is
looked at, and the end that some frameworks ask for another try with. A text that merely speaks of errors
further on is none.
"""

import re
from typing import Any, Final

import msgspec

_HEAD: Final = 200
_TAIL: Final = 80
_LARGEST: Final = 64 << 10
"""Bytes of a JSON object that is looked into."""

_BEGINNINGS: Final = (
    # OpenAI Agents SDK, LangGraph, CrewAI, AutoGen, MCP servers, and what programmers write themselves.
    *(b"error:", b"error -", b"error executing", b"error invoking", b"error calling", b"error running"),
    *(b"error while", b"error in tool", b"error occurred", b"[error", b"<error", b"<tool_error", b"**error"),
    *(b"an error occurred", b"an error has occurred", b"i encountered an error", b"exception:"),
    *(b"traceback (most recent call last)", b"tool error", b"tool failed", b"tool call failed"),
    *(b"tool execution failed", b"tool execution error", b"tool not found", b"unknown tool", b"invalid tool"),
    *(b"failed:", b"failed to ", b"failure:", b"fatal:", b"fatal error", b"command failed"),
    b"unhandled exception",
)
_ENDINGS: Final = (b"fix the errors and try again.", b"please fix your mistakes.")
"""Of Pydantic AI and of LangGraph."""
_EXCEPTION: Final = re.compile(rb"[A-Za-z_][\w.]*(?:Error|Exception|Timeout)\s*[:(]")
_WRITTEN: Final = re.compile(rb"\{\s*'(?:error|is_error|isError)'\s*:\s*+(?!None\b|False\b|''|\"\")")
"""A dict of Python's, as ``str`` writes it."""
_FAILED: Final = frozenset({"error", "failed", "failure"})


class _Said(msgspec.Struct, gc=False, rename={"is_error_too": "isError"}):
    error: Any = None
    errors: Any = None
    data: Any = None
    is_error: Any = None
    is_error_too: Any = None
    success: Any = None
    ok: Any = None
    status: Any = None


_decode: Final = msgspec.json.Decoder(_Said).decode


def says_error(text: bytes) -> bool:
    """Whether a tool's result says that the tool failed."""
    head = text[:_HEAD].lstrip()
    if not head:
        return False
    if head[:1] == b"{":
        return _object_says_error(text, head)
    return (
        head.lower().startswith(_BEGINNINGS)
        or _EXCEPTION.match(head) is not None
        or text[-_TAIL:].rstrip().lower().endswith(_ENDINGS)
    )


def _object_says_error(text: bytes, head: bytes) -> bool:
    if _WRITTEN.match(head):
        return True
    if len(text) > _LARGEST:
        return False
    try:
        said = _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    if said.error or said.is_error is True or said.is_error_too is True:
        return True
    if said.success is False or said.ok is False or (said.errors and not said.data):
        return True
    return isinstance(said.status, str) and said.status.lower() in _FAILED
