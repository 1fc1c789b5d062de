"""Anthropic messages: cached tokens are counted beside the input; stream figures are running totals.

https://docs.claude.com/en/api/messages and /messages-streaming
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from collector.domain.usage import Usage
from inference.simulator.answers import Answer, Asked, Tool
from inference.simulator.events import StreamEvent, encode, named_event
from inference.simulator.openai_chat import output_cap
from inference.simulator.prompts import InvalidPrompt, Prompt
from inference.simulator.tokens import count_tokens

_STOP = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use"}
_SIGNATURE = "c2ltdWxhdGVk"
_CHOICES = {"any": "required", "none": "none", "auto": "auto"}


def asked(body: Mapping[str, Any], prompt: Prompt) -> Asked:
    """What a messages request asks for."""
    cap = output_cap(body, "max_tokens")
    if cap is None:
        raise InvalidPrompt("max_tokens: Field required", "max_tokens")
    choice = body.get("tool_choice") or {"type": "auto"}
    output_format = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return Asked(
        model=str(body["model"]),
        stream=bool(body.get("stream")),
        prompt_tokens=prompt.tokens,
        last_user_text=prompt.last_user_text,
        answers_a_tool=prompt.answers_a_tool,
        output_cap=cap,
        tools=tuple(
            Tool(tool["name"], tool.get("input_schema") or {})
            for tool in body.get("tools") or ()
            if isinstance(tool, Mapping) and "name" in tool
        ),
        tool_choice=str(choice.get("name") or _CHOICES.get(str(choice.get("type")), "auto")),
        json_schema=output_format.get("schema"),
        reasoning=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
    )


def usage_of(usage: Usage) -> dict[str, Any]:
    """``usage`` in Anthropic's shape: uncached input, cache reads and cache writes do not overlap."""
    return {
        "input_tokens": usage.uncached_input_tokens,
        "cache_creation_input_tokens": usage.cache_write_input_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_input_tokens - usage.cache_write_1h_input_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_output_tokens},
        "service_tier": "standard",
        "inference_geo": "global",
    }


def whole(answer: Answer, usage: Mapping[str, Any] | None) -> bytes:
    """A message in one body."""
    message = _message(answer, _content(answer), _STOP[answer.finish])
    if usage is not None:
        message["usage"] = usage
    return encode(message)


def events(answer: Answer, usage: Mapping[str, Any] | None) -> list[StreamEvent]:
    """The same as a stream: the input's figures open it, the output's running total closes it."""
    message = _message(answer, [], None)
    if usage is not None:
        message["usage"] = {name: value for name, value in usage.items() if name != "output_tokens_details"}
        message["usage"]["output_tokens"] = min(1, usage["output_tokens"])
    stream = [named_event("message_start", {"type": "message_start", "message": message})]
    for index, block in enumerate(_content(answer)):
        stream += _block_events(answer, index, block)
        if index == 0:
            stream.insert(2, named_event("ping", {"type": "ping"}))
    delta = {"stop_reason": _STOP[answer.finish], "stop_sequence": None}
    last: dict[str, Any] = {"type": "message_delta", "delta": delta}
    if usage is not None:
        told = (
            "input_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "output_tokens",
            "output_tokens_details",
        )
        last["usage"] = {name: usage[name] for name in told}
    stream.append(named_event("message_delta", last))
    stream.append(named_event("message_stop", {"type": "message_stop"}))
    return stream


def error_of(kind: str, message: str, key: str) -> bytes:
    """Anthropic's error body."""
    error = {"type": kind, "message": message}
    return encode({"type": "error", "error": error, "request_id": f"req_sim{key}"})


def _content(answer: Answer) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if answer.reasoning_text:
        content.append({"type": "thinking", "thinking": answer.reasoning_text, "signature": _SIGNATURE})
    for call in answer.tool_calls:
        tool_id = f"toolu_sim{call.call_id}"
        content.append(
            {"type": "tool_use", "id": tool_id, "name": call.name, "input": Raw(call.arguments.encode())}
        )
    if not answer.tool_calls:
        content.append({"type": "text", "text": answer.texts[0]})
    return content


def _block_events(answer: Answer, index: int, block: Mapping[str, Any]) -> list[StreamEvent]:
    def delta(kind: str, field: str, piece: str, tokens: int) -> StreamEvent:
        payload = {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: piece}}
        return named_event("content_block_delta", payload, tokens)

    match block["type"]:
        case "thinking":
            empty = dict(block) | {"thinking": "", "signature": ""}
            # Thinking has its time before the first token; see Answer.first_token_s.
            filled = [
                delta("thinking_delta", "thinking", piece, 0) for piece in answer.pieces(block["thinking"])
            ]
            filled.append(delta("signature_delta", "signature", block["signature"], 0))
        case "tool_use":
            empty = dict(block) | {"input": {}}
            arguments = bytes(block["input"]).decode()
            filled = [
                delta("input_json_delta", "partial_json", piece, count_tokens(piece))
                for piece in ["", *answer.pieces(arguments)]
            ]
        case _:
            empty = dict(block) | {"text": ""}
            filled = [
                delta("text_delta", "text", piece, count_tokens(piece))
                for piece in answer.pieces(block["text"])
            ]
    start = {"type": "content_block_start", "index": index, "content_block": empty}
    stop = {"type": "content_block_stop", "index": index}
    return [named_event("content_block_start", start), *filled, named_event("content_block_stop", stop)]


def _message(answer: Answer, content: list[dict[str, Any]], stop_reason: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_sim{answer.key}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
    }
