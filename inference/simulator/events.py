"""What a dialect hands to the service: whole bodies as bytes, streams as paced pieces."""

from dataclasses import dataclass

import msgspec

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One server-sent event, and how much of the reply it carries."""

    data: bytes
    """The event's whole bytes, blank line included."""
    tokens: int = 0
    """Tokens that the model took to make it: its share of the pace."""
    is_usage: bool = False
    """Whether its only purpose is the usage."""


def data_event(payload: object, tokens: int = 0, *, is_usage: bool = False) -> StreamEvent:
    """An event of OpenAI's chat and completions: ``data:`` alone."""
    return StreamEvent(b"data: " + encode(payload) + b"\n\n", tokens, is_usage)


def named_event(name: str, payload: object, tokens: int = 0) -> StreamEvent:
    """An event with a name, as Anthropic and the Responses API send them."""
    return StreamEvent(b"event: " + name.encode() + b"\ndata: " + encode(payload) + b"\n\n", tokens)
