"""Captured prompts and answers in the conventions' shape: messages of a role and parts.

Only keys that opted in have content at all. It was cut at a size, so the end may be
missing: what is no longer valid JSON is told as one piece of text, and of a stream
the whole events count. Images and files are named, never carried.

Source: `gen-ai-input-messages.json` and its siblings of OTel GenAI v0.1.0.
"""

import json
from collections.abc import Iterator
from typing import Any

Part = dict[str, object]
Message = dict[str, object]

_MOST_MESSAGES = 200


def input_messages(text: str) -> tuple[list[Message], list[Part]]:
    """The messages of a captured request body, and its system instructions apart from them."""
    body = _json(text)
    if not isinstance(body, dict):
        return [_message("user", [_text(text)])] if text else [], []
    told = body.get("messages", body.get("input", body.get("prompt")))
    if isinstance(told, str):
        messages = [_message("user", [_text(told)])]
    elif isinstance(told, list):
        messages = [_read_message(item) for item in told[:_MOST_MESSAGES]]
    else:
        messages = [_message("user", [_text(text)])]
    return messages, _parts(body.get("system", body.get("instructions")))


def output_messages(text: str) -> list[Message]:
    """The messages of a captured reply, whole or streamed."""
    body = _json(text)
    if isinstance(body, dict):
        return list(_replies(body)) or [_message("assistant", [_text(text)])]
    streamed = _streamed(text)
    if streamed:
        return streamed
    return [_message("assistant", [_text(text)])] if text else []


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(role: str, parts: list[Part]) -> Message:
    return {"role": role, "parts": parts}


def _text(content: str) -> Part:
    return {"type": "text", "content": content}


def _read_message(item: Any) -> Message:
    """One message of a request, or one item of a `responses` input."""
    if not isinstance(item, dict):
        return _message("user", [_text(str(item))])
    if "role" not in item:
        return _message(
            "tool" if str(item.get("type", "")).endswith("_output") else "assistant", [_part(item)]
        )
    role = str(item["role"])
    if role == "tool":
        response = item.get("content")
        return _message(role, [_response(item.get("tool_call_id"), response)])
    parts = _parts(item.get("content"))
    if isinstance(item.get("reasoning_content"), str):
        parts.insert(0, {"type": "reasoning", "content": item["reasoning_content"]})
    for call in item.get("tool_calls") or ():
        if isinstance(call, dict) and isinstance(function := call.get("function"), dict):
            parts.append(_tool_call(call.get("id"), function.get("name"), function.get("arguments")))
    return _message(role, parts)


def _parts(content: Any) -> list[Part]:
    if isinstance(content, str):
        return [_text(content)]
    if isinstance(content, list):
        return [_part(item) for item in content]
    return []


def _part(item: Any) -> Part:
    """One content block of any dialect."""
    if not isinstance(item, dict):
        return _text(str(item))
    kind = str(item.get("type", ""))
    if isinstance(item.get("text"), str):
        return _text(item["text"])
    if isinstance(item.get("thinking"), str):
        return {"type": "reasoning", "content": item["thinking"]}
    if kind in ("tool_use", "function_call"):
        return _tool_call(
            item.get("call_id", item.get("id")), item.get("name"), item.get("input", item.get("arguments"))
        )
    if kind in ("tool_result", "function_call_output"):
        return _response(
            item.get("tool_use_id", item.get("call_id")), item.get("content", item.get("output"))
        )
    image = item.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        return {"type": "uri", "modality": "image", "uri": url}
    # A kind of our own: the convention's blob and file parts would need the data itself.
    return {"type": f"omitted_{kind or 'part'}"}


def _tool_call(call_id: Any, name: Any, arguments: Any) -> Part:
    if isinstance(arguments, str):
        parsed = _json(arguments)
        arguments = arguments if parsed is None else parsed
    return {"type": "tool_call", "id": str(call_id or ""), "name": str(name or ""), "arguments": arguments}


def _response(call_id: Any, response: Any) -> Part:
    return {"type": "tool_call_response", "id": str(call_id or ""), "response": response}


def _replies(body: dict[str, Any]) -> Iterator[Message]:
    """The messages of a whole reply."""
    for choice in body.get("choices") or ():
        if isinstance(choice, dict):
            if isinstance(message := choice.get("message"), dict):
                yield _read_message({"role": "assistant", **message})
            elif isinstance(text := choice.get("text"), str):
                yield _message("assistant", [_text(text)])
    if isinstance(body.get("content"), list):
        yield _message("assistant", _parts(body["content"]))
    if isinstance(output := body.get("output"), list):
        parts: list[Part] = []
        for item in output:
            if isinstance(item, dict) and isinstance(item.get("content"), list):
                parts += _parts(item["content"])
            else:
                parts.append(_part(item))
        yield _message("assistant", parts)


def _streamed(text: str) -> list[Message]:
    """The answer of a stream, put together from its events."""
    texts: dict[int, list[str]] = {}
    for line in text.splitlines():
        if not line.startswith("data:"):
            continue
        event = _json(line[5:])
        if not isinstance(event, dict):
            continue
        if isinstance(whole := event.get("response"), dict) and whole.get("output"):
            return list(_replies(whole))
        if event.get("type") == "content_block_delta" and isinstance(delta := event.get("delta"), dict):
            texts.setdefault(0, []).append(str(delta.get("text", "")))
        if event.get("type") == "response.output_text.delta":
            texts.setdefault(0, []).append(str(event.get("delta", "")))
        for choice in event.get("choices") or ():
            if isinstance(choice, dict):
                delta = choice.get("delta")
                said = delta.get("content") if isinstance(delta, dict) else choice.get("text")
                if isinstance(said, str):
                    texts.setdefault(int(choice.get("index") or 0), []).append(said)
    return [_message("assistant", [_text("".join(texts[index]))]) for index in sorted(texts)]
