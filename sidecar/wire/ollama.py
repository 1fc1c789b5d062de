"""Ollama's native API: what a reply says. Streams are one JSON object a line."""

from collections.abc import Mapping
from typing import Any

from sidecar.wire.reading import Reading


def read_ollama_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one line of a stream; never one of usage alone."""
    read_ollama_body(event, reading)
    return False


def read_ollama_body(body: Mapping[str, Any], reading: Reading) -> None:
    """Read a whole reply, or one line of a stream."""
    reading.identify(None, body.get("model"))
    message = body.get("message")
    if isinstance(message, dict):
        reading.say(message.get("content"))
        reading.think(message.get("thinking"))
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                reading.call_tool("", function.get("name"))
                reading.argue(str(function.get("arguments") or ""), -1)
    reading.say(body.get("response"))
    if body.get("done") is True:
        reading.finished(body.get("done_reason"))
        reading.complete = True
    if "prompt_eval_count" in body or "eval_count" in body:
        reading.use(body)
    reading.fail(body.get("error"))
