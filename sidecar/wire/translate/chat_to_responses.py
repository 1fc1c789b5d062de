"""A chat request as a responses request."""

from typing import Any, Final

from sidecar.wire.translate.common import CACHE_HINTS, Asked, Json, cannot, listed, only_keys, said, text_of

TARGET: Final = "OpenAI's responses"


def chat_to_responses(fields: Json) -> Json:
    """The same request for the Responses API; nothing is stored there, as with a chat.

    Raises:
        InvalidRequest: it asks for something that the Responses API has not; names the field.
    """
    asked = Asked(fields, TARGET)
    items: list[Json] = []
    for number, message in enumerate(listed(asked.take("messages"), "messages")):
        items += _items(message, f"messages[{number}]")
    newer, older = asked.take("max_completion_tokens"), asked.take("max_tokens")
    body: Json = {"model": asked.take("model"), "input": items}
    body["store"] = asked.take("store", False)
    body |= said(max_output_tokens=newer if newer is not None else older)
    for name in ("stream", "temperature", "top_p", "parallel_tool_calls", "user", "safety_identifier"):
        body |= said(**{name: asked.take(name)})
    for name in ("service_tier", "metadata", *CACHE_HINTS):
        body |= said(**{name: asked.take(name)})
    effort = asked.take("reasoning_effort")
    if effort is not None:
        body["reasoning"] = {"effort": effort}
    text = said(format=_format(asked.take("response_format")), verbosity=asked.take("verbosity"))
    if text:
        body["text"] = text
    _tools(asked, body)
    asked.only("n", 1)
    asked.only("frequency_penalty", 0)
    asked.only("presence_penalty", 0)
    asked.only("logprobs", False)
    asked.only("top_logprobs", 0)
    asked.only("stop", [])
    asked.only("functions", [])
    asked.only("function_call", "auto", "none")
    asked.only("modalities", ["text"])
    asked.only("logit_bias", {})
    asked.ignore("stream_options")
    asked.rest()
    return body


def _items(message: Json, place: str) -> list[Json]:
    role = message.get("role")
    if role in ("system", "developer", "user"):
        only_keys(message, place, TARGET, ("role", "content"))
        return [
            {"type": "message", "role": role, "content": _content(message.get("content"), f"{place}.content")}
        ]
    if role == "tool":
        identity = text_of(message.get("tool_call_id"), f"{place}.tool_call_id")
        output = _texts(message.get("content"), f"{place}.content")
        return [{"type": "function_call_output", "call_id": identity, "output": output}]
    if role != "assistant":
        raise cannot(f"{place}.role", TARGET)
    known = ("role", "content", "tool_calls", "refusal", "reasoning_content", "reasoning", "thinking_blocks")
    only_keys(message, place, TARGET, (*known, "annotations"))
    items: list[Json] = []
    text = _texts(message.get("content"), f"{place}.content") + (message.get("refusal") or "")
    if text:
        items.append({"type": "message", "role": "assistant", "content": text})
    for number, call in enumerate(message.get("tool_calls") or ()):
        where = f"{place}.tool_calls[{number}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise cannot(where, TARGET, "only functions can be called")
        items.append(
            {
                "type": "function_call",
                "call_id": text_of(call.get("id"), f"{where}.id"),
                "name": text_of(function.get("name"), f"{where}.function.name"),
                "arguments": text_of(function.get("arguments"), f"{where}.function.arguments"),
            }
        )
    return items


def _texts(content: Any, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for number, part in enumerate(listed(content, place)):
        if part.get("type") not in ("text", "refusal"):
            raise cannot(f"{place}[{number}].type", TARGET, f"it is {part.get('type')!r}")
        texts.append(text_of(part.get(part["type"]), f"{place}[{number}].{part['type']}"))
    return "".join(texts)


def _content(content: Any, place: str) -> Any:
    if isinstance(content, str):
        return content
    return [_part(part, f"{place}[{number}]") for number, part in enumerate(listed(content, place))]


def _part(part: Json, place: str) -> Json:
    kind = part.get("type")
    if kind == "text":
        return {"type": "input_text", "text": text_of(part.get("text"), f"{place}.text")}
    if kind == "image_url":
        image = part.get("image_url")
        image = image if isinstance(image, dict) else {"url": image}
        url = text_of(image.get("url"), f"{place}.image_url.url")
        return {"type": "input_image", "image_url": url, "detail": image.get("detail") or "auto"}
    if kind == "file" and isinstance(part.get("file"), dict):
        return {"type": "input_file", **part["file"]}
    raise cannot(f"{place}.type", TARGET, f"it is {kind!r}")


def _format(wanted: Any) -> Json | None:
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_schema" and isinstance(wanted.get("json_schema"), dict):
        return {"type": "json_schema", **wanted["json_schema"]}
    return {"type": wanted.get("type")}


def _tools(asked: Asked, body: Json) -> None:
    tools = asked.take("tools")
    if tools:
        body["tools"] = []
        for number, tool in enumerate(listed(tools, "tools")):
            function = tool.get("function")
            if tool.get("type") != "function" or not isinstance(function, dict):
                raise cannot(f"tools[{number}].type", TARGET, f"it is {tool.get('type')!r}")
            # Chat is lenient where nothing is said, the Responses API strict.
            body["tools"].append({"type": "function", "strict": False, **function})
    choice = asked.take("tool_choice")
    if isinstance(choice, dict):
        function = choice.get("function")
        if not isinstance(function, dict):
            raise cannot("tool_choice", TARGET)
        choice = {"type": "function", "name": function.get("name")}
    body |= said(tool_choice=choice)
