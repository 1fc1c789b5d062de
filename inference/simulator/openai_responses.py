"""OpenAI's Responses API: typed output items, and a stream of numbered events.

https://platform.openai.com/docs/api-reference/responses
"""

from collections.abc import Iterator, Mapping
from typing import Any

from collector.domain.usage import Usage
from inference.simulator.answers import Answer, Asked, Tool, ToolCall
from inference.simulator.events import StreamEvent, encode, named_event
from inference.simulator.openai_chat import output_cap
from inference.simulator.prompts import Prompt
from inference.simulator.tokens import count_tokens


def asked(body: Mapping[str, Any], prompt: Prompt) -> Asked:
    """What a Responses request asks for."""
    choice = body.get("tool_choice") or "auto"
    text_format = (body.get("text") or {}).get("format") or {}
    effort = (body.get("reasoning") or {}).get("effort")
    return Asked(
        model=str(body["model"]),
        stream=bool(body.get("stream")),
        prompt_tokens=prompt.tokens,
        last_user_text=prompt.last_user_text,
        answers_a_tool=prompt.answers_a_tool,
        output_cap=output_cap(body, "max_output_tokens"),
        tools=tuple(
            Tool(tool["name"], tool.get("parameters") or {})
            for tool in body.get("tools") or ()
            if isinstance(tool, Mapping) and tool.get("type") == "function" and "name" in tool
        ),
        tool_choice=str(choice.get("name", "required")) if isinstance(choice, Mapping) else str(choice),
        json_schema=text_format.get("schema"),
        reasoning=None if effort is None else effort not in ("none", "minimal"),
    )


def usage_of(usage: Usage) -> dict[str, Any]:
    """``usage`` in the Responses API's shape."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def response_id(answer: Answer) -> str:
    """The id under which a later request may continue this reply."""
    return f"resp_sim{answer.key}"


def whole(answer: Answer, body: Mapping[str, Any], created: int, usage: Mapping[str, Any] | None) -> bytes:
    """A response in one body."""
    return encode(_response(answer, body, created, "finished", _items(answer), usage))


def events(
    answer: Answer, body: Mapping[str, Any], created: int, usage: Mapping[str, Any] | None
) -> list[StreamEvent]:
    """The same as a stream: each item is opened, filled and closed; the last event is the whole."""
    numbered = []
    for number, (payload, tokens) in enumerate(_payloads(answer, body, created, usage)):
        payload["sequence_number"] = number
        numbered.append(named_event(payload["type"], payload, tokens))
    return numbered


def _payloads(
    answer: Answer, body: Mapping[str, Any], created: int, usage: Mapping[str, Any] | None
) -> Iterator[tuple[dict[str, Any], int]]:
    opened = _response(answer, body, created, "in_progress", [], None)
    yield {"type": "response.created", "response": opened}, 0
    yield {"type": "response.in_progress", "response": opened}, 0
    items = _items(answer)
    calls = iter(answer.tool_calls)
    for index, item in enumerate(items):
        place = {"output_index": index}
        empty = item | {"status": "in_progress"}
        match item["type"]:
            case "reasoning":
                yield {"type": "response.output_item.added", "item": item} | place, 0
            case "message":
                yield {"type": "response.output_item.added", "item": empty | {"content": []}} | place, 0
                for payload, tokens in _text_payloads(answer, item):
                    yield payload | place, tokens
            case _:
                yield {"type": "response.output_item.added", "item": empty | {"arguments": ""}} | place, 0
                for payload, tokens in _call_payloads(answer, item, next(calls)):
                    yield payload | place, tokens
        yield {"type": "response.output_item.done", "item": item} | place, 0
    last = _response(answer, body, created, "finished", items, usage)
    yield {"type": f"response.{last['status']}", "response": last}, 0


def _text_payloads(answer: Answer, item: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], int]]:
    part = item["content"][0]
    place = {"item_id": item["id"], "content_index": 0}
    yield {"type": "response.content_part.added", "part": part | {"text": ""}} | place, 0
    for piece in answer.pieces(part["text"]):
        delta = {"type": "response.output_text.delta", "delta": piece, "logprobs": []}
        yield delta | place, count_tokens(piece)
    yield {"type": "response.output_text.done", "text": part["text"], "logprobs": []} | place, 0
    yield {"type": "response.content_part.done", "part": part} | place, 0


def _call_payloads(
    answer: Answer, item: Mapping[str, Any], call: ToolCall
) -> Iterator[tuple[dict[str, Any], int]]:
    place = {"item_id": item["id"]}
    for piece in answer.pieces(call.arguments):
        delta = {"type": "response.function_call_arguments.delta", "delta": piece}
        yield delta | place, count_tokens(piece)
    done = {"type": "response.function_call_arguments.done", "name": call.name, "arguments": call.arguments}
    yield done | place, 0


def _items(answer: Answer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.usage.reasoning_output_tokens:
        items.append({"id": f"rs_sim{answer.key}", "type": "reasoning", "summary": []})
    if answer.tool_calls:
        items += [
            {
                "id": f"fc_sim{call.call_id}",
                "type": "function_call",
                "status": "completed",
                "call_id": f"call_sim{call.call_id}",
                "name": call.name,
                "arguments": call.arguments,
            }
            for call in answer.tool_calls
        ]
    else:
        part = {"type": "output_text", "text": answer.texts[0], "annotations": [], "logprobs": []}
        items.append(
            {
                "id": f"msg_sim{answer.key}",
                "type": "message",
                "status": "incomplete" if answer.finish == "length" else "completed",
                "role": "assistant",
                "content": [part],
            }
        )
    return items


def _response(
    answer: Answer,
    body: Mapping[str, Any],
    created: int,
    status: str,
    items: list[dict[str, Any]],
    usage: Mapping[str, Any] | None,
) -> dict[str, Any]:
    cut = status == "finished" and answer.finish == "length"
    if status == "finished":
        status = "incomplete" if cut else "completed"
    return {
        "id": response_id(answer),
        "object": "response",
        "created_at": created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": answer.model,
        "output": items,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": usage,
    }
