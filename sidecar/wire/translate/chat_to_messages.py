"""A chat request as Anthropic's messages request."""

from typing import Any, Final

from sidecar.wire.facts import InvalidRequest
from sidecar.wire.translate.common import (
    CACHE_HINTS,
    DEFAULT_MAX_TOKENS,
    Asked,
    Json,
    arguments_of,
    cannot,
    listed,
    only_keys,
    said,
    split_data_url,
    text_of,
)

TARGET: Final = "Anthropic's messages"

THINKING_BUDGETS: Final = {"low": 1024, "medium": 4096, "high": 16384, "xhigh": 32768}
"""Tokens of thought for OpenAI's words; Anthropic takes 1024 at least, and fewer than ``max_tokens``."""
_LEAST_THINKING: Final = 1024
_NO_THINKING: Final = ("none", "minimal")


def chat_to_messages(fields: Json) -> Json:
    """The same request in Anthropic's words.

    Raises:
        InvalidRequest: it asks for something that Anthropic's API has not; names the field.
    """
    asked = Asked(fields, TARGET)
    system, messages = _messages(listed(asked.take("messages"), "messages"))
    newer, older = asked.take("max_completion_tokens"), asked.take("max_tokens")
    cap = newer if newer is not None else older
    body: Json = {
        "model": asked.take("model"),
        "max_tokens": DEFAULT_MAX_TOKENS if cap is None else cap,
        "messages": messages,
        **({"system": system} if system else {}),
        **said(stream=asked.take("stream"), top_p=asked.take("top_p"), temperature=_temperature(asked)),
    }
    stop = asked.take("stop")
    if stop is not None and stop != []:
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    _tools(asked, body)
    _format(asked.take("response_format"), body)
    owner = asked.take("safety_identifier") or asked.take("user")
    if owner is not None:
        body["metadata"] = {"user_id": owner}
    _thinking(asked, body)
    asked.only("n", 1)
    asked.only("frequency_penalty", 0)
    asked.only("presence_penalty", 0)
    asked.only("logprobs", False)
    asked.only("top_logprobs", 0)
    asked.only("functions", [])
    asked.only("function_call", "auto", "none")
    asked.only("modalities", ["text"])
    asked.only("service_tier", "auto", "default")
    asked.only("store", False)
    asked.only("verbosity", "medium")
    asked.only("logit_bias", {})
    # Read by us, or a hint about caches that Anthropic has no place for.
    asked.ignore("user", "stream_options", "metadata", *CACHE_HINTS)
    asked.rest()
    return body


def _temperature(asked: Asked) -> Any:
    temperature = asked.take("temperature")
    if isinstance(temperature, int | float) and temperature > 1:
        raise cannot("temperature", TARGET, "it ends at 1 there")
    return temperature


def _messages(messages: list[Json]) -> tuple[list[Json], list[Json]]:
    """The system prompt's blocks, and the turns; neighbours of one role become one turn."""
    system: list[Json] = []
    turns: list[Json] = []
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        role = message.get("role")
        if role in ("system", "developer"):
            if turns:
                raise cannot(f"{place}.role", TARGET, "instructions stand at the beginning there")
            only_keys(message, place, TARGET, ("role", "content"))
            system += content_blocks(message.get("content"), f"{place}.content")
            continue
        if role == "user":
            only_keys(message, place, TARGET, ("role", "content"))
            blocks = content_blocks(message.get("content"), f"{place}.content")
        elif role == "assistant":
            blocks = _assistant(message, place)
        elif role == "tool":
            blocks, role = [_tool_result(message, place)], "user"
        else:
            raise cannot(f"{place}.role", TARGET)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return system, turns


def _assistant(message: Json, place: str) -> list[Json]:
    # Reasoning of earlier turns need not come back, unless a tool is at work.
    known = ("role", "content", "tool_calls", "refusal", "reasoning_content", "reasoning", "thinking_blocks")
    only_keys(message, place, TARGET, (*known, "annotations"))
    blocks: list[Json] = [
        dict(block) for block in message.get("thinking_blocks") or () if isinstance(block, dict)
    ]
    blocks += content_blocks(message.get("content"), f"{place}.content")
    if message.get("refusal"):
        blocks.append({"type": "text", "text": text_of(message["refusal"], f"{place}.refusal")})
    for number, call in enumerate(message.get("tool_calls") or ()):
        where = f"{place}.tool_calls[{number}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise cannot(where, TARGET, "only functions can be called")
        blocks.append(
            {
                "type": "tool_use",
                "id": text_of(call.get("id"), f"{where}.id"),
                "name": text_of(function.get("name"), f"{where}.function.name"),
                "input": arguments_of(function.get("arguments"), f"{where}.function.arguments"),
            }
        )
    return blocks


def _tool_result(message: Json, place: str) -> Json:
    only_keys(message, place, TARGET, ("role", "content", "tool_call_id", "name"))
    return {
        "type": "tool_result",
        "tool_use_id": text_of(message.get("tool_call_id"), f"{place}.tool_call_id"),
        "content": content_blocks(message.get("content"), f"{place}.content"),
    }


def content_blocks(content: Any, place: str) -> list[Json]:
    """A message's content as blocks; empty texts, which Anthropic refuses, are left out.

    Raises:
        InvalidRequest: a part cannot be carried over.
    """
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = []
    for number, part in enumerate(listed(content, place)):
        block = _block(part, f"{place}[{number}]")
        if block is not None:
            blocks.append(block)
    return blocks


def _block(part: Json, place: str) -> Json | None:
    kind = part.get("type")
    marked = said(cache_control=part.get("cache_control"))
    if kind in ("text", "refusal"):
        only_keys(part, place, TARGET, ("type", "text", "refusal", "cache_control"))
        text = text_of(part.get(kind), f"{place}.{kind}")
        return {"type": "text", "text": text, **marked} if text else None
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if isinstance(image, dict) and image.get("detail") not in (None, "auto", "high", "original"):
            raise cannot(f"{place}.image_url.detail", TARGET, "images are always seen in full there")
        return {"type": "image", "source": _source(text_of(url, f"{place}.image_url.url")), **marked}
    if kind == "file":
        file = part.get("file")
        data = split_data_url(file["file_data"]) if isinstance(file, dict) and file.get("file_data") else None
        if data is None or data[0] != "application/pdf":
            raise cannot(f"{place}.file", TARGET, "only PDF given as data can be")
        source = {"type": "base64", "media_type": data[0], "data": data[1]}
        assert isinstance(file, dict)
        return {"type": "document", "source": source, **said(title=file.get("filename")), **marked}
    raise cannot(f"{place}.type", TARGET, f"it is {kind!r}")


def _source(url: str) -> Json:
    data = split_data_url(url)
    if data is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": data[0], "data": data[1]}


def _tools(asked: Asked, body: Json) -> None:
    tools = asked.take("tools")
    if tools:
        body["tools"] = [
            _tool(tool, f"tools[{number}]") for number, tool in enumerate(listed(tools, "tools"))
        ]
    choice = _choice(asked.take("tool_choice"))
    if asked.take("parallel_tool_calls") is False and tools:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    if choice is not None:
        body["tool_choice"] = choice


def _tool(tool: Json, place: str) -> Json:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise cannot(f"{place}.type", TARGET, f"it is {tool.get('type')!r}")
    return {
        "name": text_of(function.get("name"), f"{place}.function.name"),
        **said(description=function.get("description")),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
        **({"strict": True} if function.get("strict") else {}),
        **said(cache_control=tool.get("cache_control")),
    }


def _choice(choice: Any) -> Json | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return {"type": "any" if choice == "required" else choice}
    function = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(function, dict) and function.get("name"):
        return {"type": "tool", "name": function["name"]}
    raise cannot("tool_choice", TARGET)


def _format(wanted: Any, body: Json) -> None:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if wanted is None or kind == "text":
        return
    schema = wanted.get("json_schema") if isinstance(wanted, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
        raise cannot("response_format", TARGET, "only a JSON schema can be asked for")
    body["output_config"] = {"format": {"type": "json_schema", "schema": schema["schema"]}}


def _thinking(asked: Asked, body: Json) -> None:
    effort, given = asked.take("reasoning_effort"), asked.take("thinking")
    if given is not None:
        body["thinking"] = given
        return
    if effort is None or effort in _NO_THINKING or _in_a_turn_without_thoughts(body["messages"]):
        return
    budget = THINKING_BUDGETS.get(effort)
    if budget is None:
        raise cannot("reasoning_effort", TARGET)
    budget = min(budget, body["max_tokens"] - 1) if isinstance(body["max_tokens"], int) else budget
    if budget < _LEAST_THINKING:
        raise InvalidRequest(
            f"reasoning_effort {effort!r} needs max_completion_tokens above {_LEAST_THINKING} at {TARGET}.",
            "max_completion_tokens",
        )
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _in_a_turn_without_thoughts(turns: list[Json]) -> bool:
    """Whether tools are at work that were called without showing a thought: Anthropic allows none then."""
    if len(turns) < 2 or not any(block["type"] == "tool_result" for block in turns[-1]["content"]):
        return False
    return not any(block["type"] in ("thinking", "redacted_thinking") for block in turns[-2]["content"])
