"""Cohere, versions 1 and 2: what a reply says."""

from collections.abc import Mapping
from typing import Any

from sidecar.wire.reading import Reading


def read_cohere_body(body: Mapping[str, Any], reading: Reading) -> None:
    """Read a chat reply, an embedding or a rerank."""
    reading.identify(
        body.get("id") or body.get("response_id") or body.get("generation_id"), body.get("model")
    )
    _finished(body.get("finish_reason"), body.get("error"), reading)
    message = body.get("message")
    if isinstance(message, dict):
        _read_message(message, reading)
    reading.say(body.get("text"))
    _read_calls(body.get("tool_calls"), reading)
    generations = body.get("generations")
    for place, generation in enumerate(generations if isinstance(generations, list) else ()):
        if isinstance(generation, dict):
            reading.say(generation.get("text"), place)
            reading.finished(generation.get("finish_reason"), place)
    reading.use(body.get("usage") or _counted(body.get("meta")))


def _finished(reason: object, error: object, reading: Reading) -> None:
    """Note why it ended; ``ERROR`` is one, whether or not it is told which."""
    reading.finished(reason)
    reading.fail(
        error or ({"code": reason, "message": "the reply ended in an error"} if reason == "ERROR" else None)
    )


def _counted(meta: object) -> object:
    return meta if isinstance(meta, dict) and ("tokens" in meta or "billed_units" in meta) else None


def _read_message(message: dict[str, Any], reading: Reading) -> None:
    content = message.get("content")
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict):
            reading.say(part.get("text"))
            reading.think(part.get("thinking"))
        else:
            reading.say(part)
    reading.think(message.get("tool_plan"))
    _read_calls(message.get("tool_calls"), reading)


def _read_calls(calls: object, reading: Reading) -> None:
    for call in calls if isinstance(calls, list) else [calls]:
        if isinstance(call, dict):
            function = call.get("function")
            function = function if isinstance(function, dict) else call
            if call.get("id") or function.get("name"):
                reading.call_tool(call.get("id"), function.get("name"))
            reading.argue(function.get("arguments") or str(function.get("parameters") or ""), -1)


def read_cohere_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one event of either version's stream; never one of usage alone."""
    kind = event.get("type") or event.get("event_type")
    if isinstance(response := event.get("response"), dict):  # version 1: stream-end repeats everything
        counted = reading.text_bytes, bytes(reading.text)
        reading.forget_tools()
        read_cohere_body(response, reading)
        if counted[0]:
            reading.text_bytes, reading.text = counted[0], bytearray(counted[1])
        reading.complete = True
    elif kind == "text-generation":
        reading.say(event.get("text"))
    elif kind == "stream-start":
        reading.identify(event.get("generation_id"), None)
    elif kind in ("message-start", "message-end") or isinstance(event.get("delta"), dict):
        reading.identify(event.get("id"), None)
        delta = event.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        _finished(delta.get("finish_reason"), delta.get("error"), reading)
        reading.use(delta.get("usage"))
        if isinstance(message := delta.get("message"), dict):
            _read_message(message, reading)
        reading.complete = reading.complete or kind == "message-end"
    if event.get("error"):
        reading.fail(event["error"])
    return False
