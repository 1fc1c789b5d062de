"""The end of a stream that we cut: the dialect's own last events, valid after any whole event.

A cut looks to the agent like a reply that reached its token limit: ``length``,
``max_tokens``, ``response.incomplete``. A comment before it names the reason. What the
provider itself had said already stands: a reply that had given its reason to stop keeps it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from collector.domain.usage import Usage
from sidecar.wire.eventstream import frame_bytes
from sidecar.wire.facts import ReplyFacts
from sidecar.wire.sse import comment_bytes, event_bytes

_BYTES_A_TOKEN: Final = 4
DONE: Final = b"data: [DONE]\n\n"

_encode: Final = msgspec.json.Encoder().encode


def terminal_events(
    api: str, facts: ReplyFacts | None, reason: str, *, usage: Usage | None = None, choices: int = 1
) -> bytes:
    """What to send last when a stream is cut; empty when it had already ended.

    Args:
        api: the dialect the agent speaks; ``raw`` goes by what the stream turned out to be.
        facts: the reply so far, from :meth:`Meter.facts`; ``None`` when nothing came.
        reason: for people, as an SSE comment.
        usage: what the call is charged for, where the dialect's last event carries usage;
            otherwise what the provider said, or an estimate from the bytes delivered.
        choices: how many the agent asked for, each of which needs its end.
    """
    facts = facts or ReplyFacts()
    if facts.complete:
        return b""
    place = facts.place
    if place.framing == "frames":
        return _end_frames()
    if place.framing == "array":
        return (b"," if facts.chunks else b"[") + _gemini_end() + b"]"
    dialect = _DIALECT_OF.get(api) or place.dialect
    end = _ENDS.get(dialect)
    lead = b"\n\n" if place.inside_event else b""
    said = comment_bytes(reason)
    return lead + said + end(_Cut(api, facts, usage, choices)) if end is not None else lead + said


class _Cut(NamedTuple):
    """A stream at the moment at which it is cut."""

    api: str
    facts: ReplyFacts
    usage: Usage | None
    choices: int


def _output_tokens(facts: ReplyFacts, usage: Usage | None) -> int:
    told = usage or facts.usage
    least = told.output_tokens if told else 0
    return max(least, -(-facts.output_text_bytes // _BYTES_A_TOKEN) if usage is None else 0)


def _end_chat(cut: _Cut) -> bytes:
    facts, usage = cut.facts, cut.usage
    whole = cut.api == "openai.completions"
    chunk: dict[str, Any] = {
        "id": facts.response_id or "chatcmpl-cut",
        "object": "text_completion" if whole else "chat.completion.chunk",
        "created": facts.place.created,
        "model": facts.response_model,
        "choices": [],
    }
    last = b""
    if len(facts.finish_reasons) < cut.choices:
        # With some of several choices ended, which is not known: all are, the last word holds.
        for index in range(cut.choices):
            chunk["choices"] = [_last_choice(index, whole=whole, first=not facts.chunks)]
            last += event_bytes(_encode(chunk))
    if usage is not None:
        chunk["choices"] = []
        total = usage.input_tokens + usage.output_tokens
        chunk["usage"] = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": total,
        }
        last += event_bytes(_encode(chunk))
    return last + DONE


def _last_choice(index: int, *, whole: bool, first: bool) -> dict[str, Any]:
    """The end of one choice; where nothing came before it, also its beginning."""
    if whole:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": "length"}
    delta = {"role": "assistant", "content": ""} if first else {}
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": "length"}


def _end_messages(cut: _Cut) -> bytes:
    facts, usage = cut.facts, cut.usage
    events: list[dict[str, Any]] = []
    if not facts.response_id:  # A ping may have come, the message not yet.
        message: dict[str, Any] = {
            "id": "msg_cut",
            "type": "message",
            "role": "assistant",
            "model": facts.response_model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": usage.input_tokens if usage else 0, "output_tokens": 0},
        }
        events.append({"type": "message_start", "message": message})
    events += [{"type": "content_block_stop", "index": index} for index in facts.place.open_blocks]
    if not facts.finish_reasons:
        events.append(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
                "usage": {"output_tokens": _output_tokens(facts, usage)},
            }
        )
    events.append({"type": "message_stop"})
    return b"".join([event_bytes(_encode(event), event["type"]) for event in events])


def _end_responses(cut: _Cut) -> bytes:
    facts, usage = cut.facts, cut.usage
    number = max(facts.place.sequence_number, facts.chunks - 1)
    made = _output_tokens(facts, usage)
    read = usage.input_tokens if usage else facts.usage.input_tokens if facts.usage else 0
    response: dict[str, Any] = {
        "id": facts.response_id or "resp_cut",
        "object": "response",
        "created_at": facts.place.created,
        "model": facts.response_model,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }
    last = b""
    if not facts.response_id:
        number += 1
        created = {"type": "response.created", "sequence_number": number, "response": response}
        last = event_bytes(_encode(created), "response.created")
    response["status"] = "incomplete"
    response["incomplete_details"] = {"reason": "max_output_tokens"}
    response["usage"] = {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + made,
    }
    event = {"type": "response.incomplete", "sequence_number": number + 1, "response": response}
    return last + event_bytes(_encode(event), "response.incomplete")


def _gemini_end() -> bytes:
    candidate = {
        "content": {"role": "model", "parts": [{"text": ""}]},
        "finishReason": "MAX_TOKENS",
        "index": 0,
    }
    return _encode({"candidates": [candidate]})


def _end_gemini(cut: _Cut) -> bytes:
    return event_bytes(_gemini_end())


def _end_frames() -> bytes:
    headers = {":event-type": "messageStop", ":content-type": "application/json", ":message-type": "event"}
    return frame_bytes(headers, b'{"stopReason":"max_tokens"}')


_DIALECT_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "openai.chat": "chat",
        "openai.completions": "chat",
        "openai.responses": "responses",
        "anthropic.messages": "messages",
    }
)

_ENDS: Final[Mapping[str, Callable[[_Cut], bytes]]] = MappingProxyType(
    {"chat": _end_chat, "messages": _end_messages, "responses": _end_responses, "gemini": _end_gemini}
)
