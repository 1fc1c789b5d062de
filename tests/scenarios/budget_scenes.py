"""What several scenarios about budgets need: replies of a known price, and questions to a sidecar."""

import json
import urllib.error
import urllib.request
from typing import Any

from support.stack import Stack

SSE = (("content-type", "text/event-stream"),)
PRICES = {"gpt-4o-mini": {"input": 1, "output": 10}, "gpt-4.1-nano": {"input": 0.1, "output": 1}}
"""USD per million tokens."""


def chat_reply(model: str = "gpt-4o-mini") -> bytes:
    """A whole reply: 1,000 and 100 tokens, 0.002 USD by ``PRICES``."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    return json.dumps(
        {"id": "c1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
    ).encode()


def chat_event(text: str) -> bytes:
    """One event of a chat stream."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-4o-mini", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def standings(stack: Stack, **who: str) -> list[dict[str, Any]]:
    """The budgets of a caller, as an agent is shown them."""
    headers = {f"x-bursar-{name}": value for name, value in who.items()}
    request = urllib.request.Request(f"{stack.url}/bursar/v1/budgets", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return list(json.load(reply)["budgets"])


def operate(stack: Stack, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One request of an operator, on the control port."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(stack.control_url + path, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
