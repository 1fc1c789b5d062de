"""OTLP over HTTP: ``POST /v1/traces``, in protobuf or JSON, plain or gzip.

Answers as the specification has them: 200 with an empty or a partial success, 400 for what
should not be sent again, 503 with Retry-After for what should.
"""

import asyncio
import threading
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from collector import logs
from collector.api.guard import Guard
from collector.ingest.otlp.intake import Full
from collector.ingest.otlp.protobuf import Malformed
from collector.ingest.otlp.requests import JSON, PROTOBUF, SIGNALS, Requests, TooLarge, status, success
from collector.settings import Address

_log = logs.get("collector.otlp")

_PATHS: Final = {f"/v1/{signal}": signal for signal in SIGNALS}
_INVALID_ARGUMENT, _NOT_FOUND, _UNAVAILABLE = 3, 5, 14
_MOST_CONNECTIONS: Final = 256


class _TooLong(Exception):
    """The body went on beyond its limit."""


class OtlpApp:
    """The ASGI application."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        content_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        code, answer, more = await self._answer(scope, headers, content_type, receive)
        sent = [
            (b"content-type", (JSON if content_type == JSON else PROTOBUF).encode()),
            (b"content-length", str(len(answer)).encode()),
            *more,
        ]
        await send({"type": "http.response.start", "status": code, "headers": sent})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(
        self, scope: Scope, headers: dict[bytes, bytes], content_type: str, receive: Receive
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        signal = _PATHS.get(scope["path"])
        if signal is None:
            return 404, status(_NOT_FOUND, "send to /v1/traces", content_type), []
        if scope["method"] != "POST":
            return 405, status(_INVALID_ARGUMENT, "use POST", content_type), [(b"allow", b"POST")]
        if content_type not in (PROTOBUF, JSON):
            return 415, status(_INVALID_ARGUMENT, f"send {PROTOBUF} or {JSON}", content_type), []
        try:
            body = await _body(receive, self._requests.limits.body_bytes)
            encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
            if signal == "logs":
                await asyncio.to_thread(
                    self._requests.take_logs, body, encoding=encoding, content_type=content_type
                )
                return 200, success(0, content_type), []
            if signal != "traces":
                self._requests.set_aside(signal)
                return 200, success(0, content_type), []
            rejected = await asyncio.to_thread(
                self._requests.take, body, encoding=encoding, content_type=content_type
            )
        except Full as error:
            retry = [(b"retry-after", str(error.retry_after_s).encode())]
            return 503, status(_UNAVAILABLE, "the queue is full; come back later", content_type), retry
        except (TooLarge, _TooLong) as error:
            return 413, status(_INVALID_ARGUMENT, str(error), content_type), [(b"connection", b"close")]
        except Malformed as error:
            return 400, status(_INVALID_ARGUMENT, str(error)[:500], content_type), []
        return 200, success(rejected, content_type), []


async def _body(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Malformed("the client left")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _TooLong(f"at most {most >> 20} MiB")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


class HttpServer:
    """Serves OTLP over HTTP in a thread of its own.

    Args:
        requests: what is done with requests.
        listen: where; a port of 0 takes a free one.
        key: the control key; required off loopback, as on the read API.
    """

    def __init__(self, requests: Requests, listen: Address, key: str | None) -> None:
        self._app = Guard(OtlpApp(requests), listen=listen, key=key)
        self._listen = listen
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self.address = listen
        """Where it listens in truth, once started."""

    def start(self) -> None:
        """Listen and serve.

        Raises:
            OSError: the address is taken.
        """
        import socket

        import uvicorn

        family = socket.AF_INET6 if ":" in self._listen.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._listen.host, self._listen.port))
            # From here on who connects waits, until the thread below answers.
            listener.listen(_MOST_CONNECTIONS)
        except OSError:
            listener.close()
            raise
        self.address = Address(self._listen.host, listener.getsockname()[1])
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=3,
                server_header=False,
            )
        )
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._server.serve(sockets=[listener])), name="otlp-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Answer what is being asked, then end."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(10)
