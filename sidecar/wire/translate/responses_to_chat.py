"""A responses request as a chat request."""

from typing import Any, Final

from sidecar.wire.translate.common import CACHE_HINTS, Asked, Json, cannot, listed, only_keys, said, text_of

TARGET: Final = "chat completions"


def responses_to_chat(fields: Json, *, cap: str = "max_tokens") -> Json:
    """The same request as a chat.

    Args:
        fields: the request.
        cap: what the upstream calls its limit on tokens.

    Raises:
        InvalidRequest: it asks for something that a chat has not; names the field.
    """
    asked = Asked(fields, TARGET)
    instructions = asked.take("instructions")
    messages: list[Json] = []
    if instructions:
        messages.append({"role": "system", "content": text_of(instructions, "instructions")})
    given = asked.take("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    else:
        for number, item in enumerate(listed(given, "input")):
            _item(item, f"input[{number}]", messages)
    body: Json = {"model": asked.take("model"), "messages": messages}
    for name in ("stream", "temperature", "top_p", "parallel_tool_calls", "user", "safety_identifier"):
        body |= said(**{name: asked.take(name)})
    for name in ("service_tier", *CACHE_HINTS):
        body |= said(**{name: asked.take(name)})
    body |= said(**{cap: asked.take("max_output_tokens")})
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}
    _tools(asked, body)
    _text(asked.take("text") or {}, body)
    reasoning = asked.take("reasoning") or {}
    known = ("effort", "summary", "generate_summary")
    only_keys(reasoning, "reasoning", TARGET, known, {"context": "auto", "mode": "standard"})
    body |= said(reasoning_effort=reasoning.get("effort"))
    for wish in asked.take("include") or ():
        if wish != "reasoning.encrypted_content":  # Where nothing is encrypted there is nothing to add.
            raise cannot("include", TARGET, f"{wish!r} is not to be had")
    asked.only("background", False)
    asked.only("store", False)
    asked.only("truncation", "disabled")
    asked.only("top_logprobs", 0)
    asked.only("context_management", [])
    asked.ignore("metadata", "stream_options")
    asked.rest()
    return body


def _item(item: Json, place: str, messages: list[Json]) -> None:
    kind = item.get("type")
    if kind == "reasoning":
        return  # Thoughts of earlier turns need not come back.
    if kind in (None, "message"):
        role = item.get("role")
        if role not in ("user", "assistant", "system", "developer"):
            raise cannot(f"{place}.role", TARGET)
        content = _content(item.get("content"), f"{place}.content")
        messages.append({"role": "system" if role == "developer" else role, "content": content})
    elif kind == "function_call":
        function = {
            "name": text_of(item.get("name"), f"{place}.name"),
            "arguments": text_of(item.get("arguments"), f"{place}.arguments"),
        }
        identity = text_of(item.get("call_id"), f"{place}.call_id")
        call = {"id": identity, "type": "function", "function": function}
        if messages and messages[-1]["role"] == "assistant":
            messages[-1].setdefault("tool_calls", []).append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif kind == "function_call_output":
        output = item.get("output")
        content = output if isinstance(output, str) else _content(output, f"{place}.output")
        identity = text_of(item.get("call_id"), f"{place}.call_id")
        messages.append({"role": "tool", "tool_call_id": identity, "content": content})
    else:
        raise cannot(f"{place}.type", TARGET, f"it is {kind!r}")


def _content(content: Any, place: str) -> Any:
    if isinstance(content, str):
        return content
    parts = [_part(part, f"{place}[{number}]") for number, part in enumerate(listed(content, place))]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _part(part: Json, place: str) -> Json:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": text_of(part.get("text"), f"{place}.text")}
    if kind == "refusal":
        return {"type": "text", "text": text_of(part.get("refusal"), f"{place}.refusal")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        return {"type": "image_url", "image_url": said(url=part["image_url"], detail=part.get("detail"))}
    if kind == "input_file" and isinstance(part.get("file_data"), str):
        file = said(filename=part.get("filename"), file_data=part["file_data"])
        return {"type": "file", "file": file}
    raise cannot(f"{place}.type", TARGET, f"it is {kind!r}, or named by an id or an address")


def _tools(asked: Asked, body: Json) -> None:
    tools = asked.take("tools")
    if tools:
        body["tools"] = [
            _tool(tool, f"tools[{number}]") for number, tool in enumerate(listed(tools, "tools"))
        ]
    choice = asked.take("tool_choice")
    if choice in ("auto", "none", "required"):
        body["tool_choice"] = choice
    elif isinstance(choice, dict) and choice.get("type") == "function":
        body["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice is not None:
        raise cannot("tool_choice", TARGET)
    asked.only("max_tool_calls")


def _tool(tool: Json, place: str) -> Json:
    if tool.get("type") != "function":
        raise cannot(f"{place}.type", TARGET, f"it is {tool.get('type')!r}, which OpenAI runs itself")
    known = ("type", "name", "description", "parameters", "strict")
    only_keys(tool, place, TARGET, known, {"defer_loading": False, "allowed_callers": ["direct"]})
    function = said(
        name=tool.get("name"),
        description=tool.get("description"),
        parameters=tool.get("parameters"),
        strict=tool.get("strict"),
    )
    return {"type": "function", "function": function}


def _text(text: Json, body: Json) -> None:
    only_keys(text, "text", TARGET, ("format", "verbosity"))
    body |= said(verbosity=text.get("verbosity"))
    wanted = text.get("format") or {}
    kind = wanted.get("type")
    if kind == "json_schema":
        names = ("name", "description", "schema", "strict")
        schema = {name: wanted[name] for name in names if wanted.get(name) is not None}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif kind not in (None, "text"):
        raise cannot("text.format", TARGET)
