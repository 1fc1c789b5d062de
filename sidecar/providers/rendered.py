"""The beginning of a conversation in the order that a model reads it, from any dialect's body."""

import msgspec


class _Body(msgspec.Struct):
    tools: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")


_read = msgspec.json.Decoder(_Body).decode


def beginning_of(body: bytes, most: int) -> bytes:
    """At most ``most`` bytes: tools and system prompt, which templates put first, then the messages.

    As JSON, not as text: what matters is that calls that begin alike give the same bytes.
    """
    try:
        found = _read(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return b""
    parts: list[bytes] = []
    left = most
    for part in (
        found.tools, found.system, found.instructions, found.messages, found.input, found.prompt,
    ):  # fmt: skip
        text = bytes(memoryview(part)[:left])
        if text:
            parts.append(text)
            left -= len(text)
            if left <= 0:
                break
    return b"".join(parts)
