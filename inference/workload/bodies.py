"""A call as a request in its dialect, with the figures it should have dictated in its text.

The messages grow with the conversation, as an agent's do, but stay short: the
token counts of a trace are dictated to the simulator, not sent as text.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from inference.simulator.directives import items_of, marker, usage_items
from inference.workload.calls import Attribution, TracedCall

MAX_MESSAGES = 32
"""A conversation that grows beyond this is compacted, as agents do when their context is full."""

PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.completions": "/v1/completions",
    "openai.responses": "/v1/responses",
    "openai.embeddings": "/v1/embeddings",
    "anthropic.messages": "/v1/messages",
}

_SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Conversation:
    opening: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    turns: int = 0


class Conversations:
    """What each conversation has said so far; the least recently used are forgotten."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._by_lane: OrderedDict[tuple[str, str], _Conversation] = OrderedDict()

    def body(self, call: TracedCall) -> bytes:
        """The request's body; its messages extend those of the conversation's last call."""
        text = f"Please do the next step. {_marker(call)}"
        if call.api == "openai.embeddings":
            return _encode(_with_attribution({"model": call.model, "input": text}, call))
        if call.api == "openai.completions":
            plain = {"model": call.model, "prompt": text, "max_tokens": _cap(call), "stream": call.stream}
            return _encode(_with_attribution(plain, call))
        conversation = self._conversation(call)
        conversation.turns += 1
        turn = conversation.turns
        conversation.messages.append({"role": "user", "content": f"Step {turn}. {text}"})
        body = _request(call, conversation)
        conversation.messages.append({"role": "assistant", "content": f"Step {turn} is done."})
        return _encode(_with_attribution(body, call))

    def _conversation(self, call: TracedCall) -> _Conversation:
        opening = f"You are {call.agent or 'an agent'} of {call.team or 'a team'}."
        if not call.conversation:
            return _Conversation(opening)
        conversation = self._by_lane.pop(call.lane, None) or _Conversation(opening)
        self._by_lane[call.lane] = conversation
        if len(self._by_lane) > self._limit:
            self._by_lane.popitem(last=False)
        if len(conversation.messages) >= MAX_MESSAGES:
            summary = f"Summary of {call.conversation}: {conversation.turns} steps are done."
            conversation.messages = [
                {"role": "user", "content": summary},
                {"role": "assistant", "content": "Understood."},
            ]
        elif not conversation.messages:
            # Two conversations of one agent begin alike; their first words tell them apart.
            conversation.messages = [
                {"role": "user", "content": f"This is {call.conversation}."},
                {"role": "assistant", "content": "Let us begin."},
            ]
        return conversation


def headers_of(call: TracedCall, key: str) -> dict[str, str]:
    """Headers of the request: credential, attribution, trace context."""
    headers = {"content-type": "application/json"}
    if call.api.startswith("anthropic"):
        headers |= {
            "x-api-key": key,
            "anthropic-version": "2023-06-01",
            "user-agent": "bursar-replay (anthropic)",
        }
    else:
        headers |= {"authorization": f"Bearer {key}", "user-agent": "bursar-replay (openai)"}
    if call.trace_id:
        # The agent's own span: the first half of the trace id serves, being anything but zero.
        headers["traceparent"] = f"00-{call.trace_id}-{call.trace_id[:16]}-01"
    if call.attribution is Attribution.HEADERS:
        for name in ("team", "user", "agent", "conversation", "task"):
            if value := getattr(call, name):
                headers[f"x-bursar-{name}"] = _header_value(value)
    return headers


def _header_value(text: str) -> str:
    """``text`` for a header: what is not printable ASCII is percent-encoded, line breaks above all."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=" /:;,.@+=()")


def _marker(call: TracedCall) -> str:
    items: dict[str, object] = usage_items(call.usage)
    items |= items_of(call.fault)
    if call.tools:
        items["tools"] = len(call.tools)
    if call.instant:
        items["speed"] = 0
    return marker(items)


def _request(call: TracedCall, conversation: _Conversation) -> dict[str, Any]:
    messages = conversation.messages
    match call.api:
        case "anthropic.messages":
            system = {"type": "text", "text": conversation.opening, "cache_control": {"type": "ephemeral"}}
            body = {"model": call.model, "max_tokens": _cap(call), "system": [system], "messages": messages}
            tools: list[Any] = [{"name": name, "input_schema": _SCHEMA} for name in call.tools]
        case "openai.responses":
            body = {
                "model": call.model,
                "instructions": conversation.opening,
                "input": messages,
                "max_output_tokens": _cap(call),
                "store": False,
            }
            tools = [{"type": "function", "name": name, "parameters": _SCHEMA} for name in call.tools]
        case _:
            opening = {"role": "system", "content": conversation.opening}
            body = {
                "model": call.model,
                "messages": [opening, *messages],
                "max_completion_tokens": _cap(call),
            }
            tools = [
                {"type": "function", "function": {"name": name, "parameters": _SCHEMA}} for name in call.tools
            ]
    if tools:
        body["tools"] = tools
    if call.stream:
        body["stream"] = True
    return body


def _with_attribution(body: dict[str, Any], call: TracedCall) -> Mapping[str, Any]:
    if call.attribution is not Attribution.BODY:
        return body
    if call.api.startswith("anthropic"):
        return body | {"metadata": {"user_id": call.user or call.conversation}}
    metadata = {
        name: value
        for name, value in (
            ("team", call.team),
            ("agent", call.agent),
            ("conversation_id", call.conversation),
        )
        if value
    }
    return body | {"user": call.user or call.conversation, "metadata": metadata}


def _cap(call: TracedCall) -> int:
    """What an agent would allow: a round number well above what it got."""
    cap = 1024
    while cap < call.usage.output_tokens:
        cap *= 2
    return cap
