"""The texts of a request that did not come from its operator: what users wrote and what tools returned.

A body is read as a whole where it is whole, by the shapes of each dialect. Of a body that was cut (only its
end is there) every text literal that is left is taken: a system prompt stands at the beginning.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

INBOUND_ROLES: Final = frozenset({"user", "tool", "function"})
_decode = msgspec.json.Decoder().decode

_LITERAL: Final = re.compile(rb'"(?:content|text|output|input)"\s{0,8}:\s{0,8}"((?:[^"\\]|\\.)*+)"')
"""A text by the names that dialects give it. Possessive and without alternatives that overlap: linear."""


def inbound_texts(body: bytes, *, is_cut: bool = False) -> list[str]:
    """Texts of users and tools, oldest first; none where the body is not what an API defines."""
    if is_cut:
        return [text for match in _LITERAL.finditer(body) if (text := _text_of(match[1]))]
    try:
        request = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []
    if not isinstance(request, dict):
        return []
    texts = [*_of_messages(request.get("messages")), *_of_input(request.get("input"))]
    prompt = request.get("prompt")
    texts += [prompt] if isinstance(prompt, str) else _strings(prompt)
    return [text for text in texts if text.strip()]


def _text_of(literal: bytes) -> str:
    try:
        found = _decode(b'"' + literal + b'"')
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return found if isinstance(found, str) else ""


def _of_messages(messages: Any) -> Iterator[str]:
    """Chat completions and Anthropic's messages."""
    if not isinstance(messages, list):
        return
    for message in messages:
        if isinstance(message, dict) and message.get("role") in INBOUND_ROLES:
            yield from _of_content(message.get("content"))


def _of_input(given: Any) -> Iterator[str]:
    """Responses: a text, or items; also the texts of an embedding."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, list):
        for item in given:
            if isinstance(item, str):
                yield item
            elif isinstance(item, dict):
                if item.get("role", "user") in INBOUND_ROLES:
                    yield from _of_content(item.get("content"))
                yield from _of_content(item.get("output"))


def _of_content(content: Any) -> Iterator[str]:
    """A text, or parts; a part of Anthropic's holds a tool's result, with parts of its own."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            elif isinstance(part, dict):
                text = part.get("text")
                if isinstance(text, str):
                    yield text
                if part.get("type") == "tool_result" and isinstance(part.get("content"), str | list):
                    inner = part["content"]
                    yield from [inner] if isinstance(inner, str) else _texts(inner)


def _texts(parts: list[Any]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]


def _strings(given: Any) -> list[str]:
    return [item for item in given if isinstance(item, str)] if isinstance(given, list) else []
