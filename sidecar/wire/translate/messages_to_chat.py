"""Anthropic's messages request as a chat request."""

from typing import Any, Final

from sidecar.wire.translate.common import Asked, Json, cannot, encode, listed, only_keys, said, text_of

TARGET: Final = "OpenAI's chat completions"

_EFFORTS: Final = ((2048, "low"), (8192, "medium"))
"""OpenAI's word for a budget of thought up to so many tokens; above, ``high``."""
_USUAL_TOOL: Final = {
    "defer_loading": False,
    "allowed_callers": ["direct"],
    "eager_input_streaming": False,
    "input_examples": [],
}
"""What holds anyway of a tool that does not say it."""
_LONGEST_USER: Final = 64
"""OpenAI's own limit for the name of a user."""


def messages_to_chat(fields: Json, *, cap: str = "max_tokens", extended: bool = False) -> Json:
    """The same request in OpenAI's words.

    Args:
        fields: the request.
        cap: what the upstream calls its limit on tokens.
        extended: the upstream (litellm) understands ``cache_control``, ``thinking`` and thinking blocks in
            their places; elsewhere caches need no marks, and thoughts of earlier turns are left out.

    Raises:
        InvalidRequest: it asks for something that OpenAI's API has not; names the field.
    """
    asked = Asked(fields, TARGET)
    body: Json = {"model": asked.take("model"), "messages": _system(asked.take("system"), extended)}
    for number, message in enumerate(listed(asked.take("messages"), "messages")):
        body["messages"] += _turn(message, f"messages[{number}]", extended)
    body |= said(
        **{cap: asked.take("max_tokens")},
        stream=asked.take("stream"),
        temperature=asked.take("temperature"),
        top_p=asked.take("top_p"),
        stop=asked.take("stop_sequences") or None,
    )
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}
    _tools(asked, body, extended)
    _output(asked, body, extended)
    owner = (asked.take("metadata") or {}).get("user_id")
    if isinstance(owner, str) and len(owner) <= _LONGEST_USER:
        body["user"] = owner
    asked.only("service_tier", "auto", "standard_only")
    asked.only("speed", "standard")
    asked.only("inference_geo", "global")
    asked.only("mcp_servers", [])
    asked.only("fallbacks", [])
    asked.only("context_management", {}, {"edits": []})
    if not extended:
        asked.ignore("cache_control")  # Like the marks of blocks.
    asked.rest()
    return body


def _system(system: Any, extended: bool) -> list[Json]:
    if not system:
        return []
    if isinstance(system, str):
        return [{"role": "system", "content": system}]
    parts = []
    for number, block in enumerate(listed(system, "system")):
        if block.get("type") != "text":
            raise cannot(f"system[{number}].type", TARGET)
        parts.append(_text(block, f"system[{number}]", extended))
    return [{"role": "system", "content": _plain(parts)}]


def _text(block: Json, place: str, extended: bool) -> Json:
    marked = said(cache_control=block.get("cache_control")) if extended else {}
    return {"type": "text", "text": text_of(block.get("text"), f"{place}.text"), **marked}


def _plain(parts: list[Json]) -> Any:
    """One text is a string: that is what every server of this kind understands."""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return parts[0]["text"]
    return parts


def _turn(message: Json, place: str, extended: bool) -> list[Json]:
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant", "system"):
        raise cannot(f"{place}.role", TARGET)
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    blocks = listed(content, f"{place}.content")
    if role == "assistant":
        return [_assistant(blocks, f"{place}.content", extended)]
    results: list[Json] = []
    parts: list[Json] = []
    for number, block in enumerate(blocks):
        where = f"{place}.content[{number}]"
        if block.get("type") == "tool_result":
            results.append(_tool_result(block, where))
        else:
            parts.append(_part(block, where, extended))
    return results + ([{"role": role, "content": _plain(parts)}] if parts else [])


def _assistant(blocks: list[Json], place: str, extended: bool) -> Json:
    parts: list[Json] = []
    calls: list[Json] = []
    thoughts: list[Json] = []
    for number, block in enumerate(blocks):
        where, kind = f"{place}[{number}]", block.get("type")
        if kind == "text":
            parts.append(_text(block, where, extended))
        elif kind == "tool_use":
            function = {
                "name": text_of(block.get("name"), f"{where}.name"),
                "arguments": encode(block.get("input") or {}).decode(),
            }
            identity = text_of(block.get("id"), f"{where}.id")
            calls.append({"id": identity, "type": "function", "function": function})
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append(block)
        else:
            raise cannot(f"{where}.type", TARGET, f"it is {kind!r}")
    return {
        "role": "assistant",
        "content": _plain(parts) if parts else None,
        **({"tool_calls": calls} if calls else {}),
        **({"thinking_blocks": thoughts} if thoughts and extended else {}),
    }


def _tool_result(block: Json, place: str) -> Json:
    only_keys(block, place, TARGET, ("type", "tool_use_id", "content", "is_error", "cache_control"))
    content = block.get("content")
    if content is None or isinstance(content, str):
        text = content or ""
    else:
        texts = []
        for number, inner in enumerate(listed(content, f"{place}.content")):
            if inner.get("type") != "text":
                raise cannot(f"{place}.content[{number}].type", TARGET, "results of tools are text there")
            texts.append(text_of(inner.get("text"), f"{place}.content[{number}].text"))
        text = "\n".join(texts)
    if block.get("is_error"):
        text = f"Error: {text}"  # There is no flag for it; so it is said in words.
    return {
        "role": "tool",
        "tool_call_id": text_of(block.get("tool_use_id"), f"{place}.tool_use_id"),
        "content": text,
    }


def _part(block: Json, place: str, extended: bool) -> Json:
    kind, source = block.get("type"), block.get("source")
    marked = said(cache_control=block.get("cache_control")) if extended else {}
    if kind == "text":
        return _text(block, place, extended)
    if kind == "image" and isinstance(source, dict):
        return {"type": "image_url", "image_url": {"url": _url(source, place)}, **marked}
    if kind == "document" and isinstance(source, dict):
        if source.get("type") == "text":
            return {"type": "text", "text": text_of(source.get("data"), f"{place}.source.data"), **marked}
        if source.get("type") == "base64":
            name = block.get("title") or "document.pdf"
            file = {"filename": name, "file_data": _url(source, place)}
            return {"type": "file", "file": file, **marked}
        raise cannot(f"{place}.source.type", TARGET, f"it is {source.get('type')!r}")
    raise cannot(f"{place}.type", TARGET, f"it is {kind!r}")


def _url(source: Json, place: str) -> str:
    if source.get("type") == "url":
        return text_of(source.get("url"), f"{place}.source.url")
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    raise cannot(f"{place}.source.type", TARGET, f"it is {source.get('type')!r}")


def _tools(asked: Asked, body: Json, extended: bool) -> None:
    tools = asked.take("tools")
    if tools:
        body["tools"] = [
            _tool(tool, f"tools[{number}]", extended) for number, tool in enumerate(listed(tools, "tools"))
        ]
    choice = asked.take("tool_choice")
    if choice is None:
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind in ("auto", "none"):
        body["tool_choice"] = kind
    elif kind == "any":
        body["tool_choice"] = "required"
    elif kind == "tool":
        name = text_of(choice.get("name"), "tool_choice.name")
        body["tool_choice"] = {"type": "function", "function": {"name": name}}
    else:
        raise cannot("tool_choice", TARGET)
    if choice.get("disable_parallel_tool_use"):
        body["parallel_tool_calls"] = False


def _tool(tool: Json, place: str, extended: bool) -> Json:
    if tool.get("type") not in (None, "custom"):
        raise cannot(f"{place}.type", TARGET, f"it is {tool.get('type')!r}, which Anthropic runs itself")
    known = ("type", "name", "description", "input_schema", "cache_control", "strict")
    only_keys(tool, place, TARGET, known, _USUAL_TOOL)
    function = {
        "name": text_of(tool.get("name"), f"{place}.name"),
        **said(description=tool.get("description")),
        "parameters": tool.get("input_schema") or {"type": "object", "properties": {}},
        **({"strict": True} if tool.get("strict") else {}),
    }
    marked = said(cache_control=tool.get("cache_control")) if extended else {}
    return {"type": "function", "function": function, **marked}


def _output(asked: Asked, body: Json, extended: bool) -> None:
    config = asked.take("output_config") or {}
    wanted = config.get("format") or asked.take("output_format")
    only_keys(config, "output_config", TARGET, ("format", "effort"))
    if wanted is not None:
        if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
            raise cannot("output_config.format", TARGET)
        schema = {"name": "answer", "schema": wanted.get("schema"), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    thinking = asked.take("thinking")
    effort = config.get("effort")
    if isinstance(thinking, dict) and thinking.get("type") == "enabled":
        if extended:
            body["thinking"] = thinking
            return
        budget = thinking.get("budget_tokens")
        most = budget if isinstance(budget, int) else _EFFORTS[-1][0]
        effort = effort or next((word for limit, word in _EFFORTS if most <= limit), "high")
    if effort is not None:
        body["reasoning_effort"] = "xhigh" if effort == "max" else effort
