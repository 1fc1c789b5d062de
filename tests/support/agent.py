"""The simplest agent there is: one request, one reply."""

import http.client
import json
from typing import Any

from support.stack import Stack

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}


def post(
    stack: Stack, body: Any = ASK, path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, Any, bytes]:
    """One request; status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports[0], timeout=30)
    try:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, raw, {"content-type": "application/json", **names})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()
