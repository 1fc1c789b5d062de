"""The process that litellm runs in: a small HTTP server on a socket that the sidecar owns.

    python -m sidecar.providers.litellm_worker       (started by :mod:`sidecar.providers.worker`)

Its standard input brings one line, the :class:`Assignment`, and then stays open: when it closes, the
sidecar is gone, and so are we. Its standard output says in one line that we are ready, or why not.
It serves ``POST /{upstream}/chat/completions`` and ``/{upstream}/embeddings``, and ``GET /healthz``.
"""

import asyncio
import contextlib
import hmac
import os
import resource
import signal
import socket
import sys
from typing import Any

import msgspec

from collector import logs
from sidecar import __version__
from sidecar.http import Deadlines, HeaderList, Limits, Request, Responder, Server
from sidecar.providers import tap as taps
from sidecar.providers import via_litellm
from sidecar.providers.litellm_settings import Account, Assignment
from sidecar.providers.tap import Tap
from sidecar.providers.via_litellm import Answer, BrokenOff, Failure

MISSING = 3
"""Exit code: litellm is not installed where we run."""
OTHER_VERSION = 4
"""Exit code: we are another version of Bursar than the sidecar."""

TOKEN_HEADER = b"x-bursar-worker"
_JSON: HeaderList = [(b"content-type", b"application/json")]
_EVENTS: HeaderList = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]

log = logs.get("bursar.litellm")
_encode = msgspec.json.Encoder().encode


class Worker:
    """Answers the sidecar's requests."""

    def __init__(self, assignment: Assignment) -> None:
        self._token = assignment.token.encode()
        self._timeout_s = assignment.timeout_s
        self._accounts = {account.name: account for account in assignment.accounts}

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer one request."""
        if request.path == "/healthz":
            responder.send(200, _JSON, b"{}")
            return
        if not hmac.compare_digest(request.header(TOKEN_HEADER) or b"", self._token):
            stranger = Failure(401, "this is not for you", kind="authentication_error")
            responder.send(401, _JSON, error_of(stranger))
            return
        name, _, what = request.path[1:].partition("/")
        what = what.removeprefix("v1/")  # On pass-through the agent wrote it.
        account = self._accounts.get(name)
        try:
            if account is None or request.method != "POST" or what not in ("chat/completions", "embeddings"):
                served = "chat completions and embeddings are"
                message = f"{request.method} /{what} is not served through litellm: {served}"
                raise Failure(404, message, kind="not_found_error", code="unknown_path")
            asked = read(request.body)
        except Failure as failure:
            responder.send(failure.status, _JSON, error_of(failure))
            return
        task = asyncio.current_task()
        assert task is not None
        responder.on_disconnect(task.cancel)
        tap = Tap(str(asked["model"]))
        taps.current.set(tap)
        try:
            await self._answer(what, account, asked, tap, responder)
        except asyncio.CancelledError:
            responder.abort()
        finally:
            await tap.close()

    async def _answer(
        self, what: str, account: Account, asked: dict[str, Any], tap: Tap, responder: Responder
    ) -> None:
        ask = via_litellm.chat if what == "chat/completions" else via_litellm.embeddings
        try:
            answer = await ask(account, asked, self._timeout_s, tap)
        except Failure as failure:
            responder.send(failure.status, _JSON + lines(failure.headers), error_of(failure))
            return
        except BrokenOff as broken:
            say_broken(account, broken)
            responder.abort()  # As the provider did with us: what it may have done is charged.
            return
        if answer.chunks is None:
            responder.send(200, _JSON + lines(answer.headers), _encode(answer.body))
        else:
            await self._relay(answer, account, responder)

    async def _relay(self, answer: Answer, account: Account, responder: Responder) -> None:
        assert answer.chunks is not None
        flowing = asyncio.Event()
        flowing.set()
        responder.on_flow(flowing.clear, flowing.set)
        responder.start(200, _EVENTS + lines(answer.headers), length=None)
        try:
            async for chunk in answer.chunks:
                responder.write(b"data: %b\n\n" % _encode(chunk))
                await flowing.wait()
        except Failure as failure:
            responder.finish(b"data: %b\n\ndata: [DONE]\n\n" % error_of(failure))
        except BrokenOff as broken:
            say_broken(account, broken)
            responder.abort()
        else:
            responder.finish(b"data: [DONE]\n\n")


def say_broken(account: Account, broken: BrokenOff) -> None:
    """A provider broke off, or litellm could not make sense of its answer."""
    log.error("no whole answer", upstream=account.name, provider_name=account.provider, reason=str(broken))


def read(body: bytes) -> dict[str, Any]:
    """The request's fields.

    Raises:
        Failure: they are not to be had.
    """
    try:
        asked = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Failure(400, "the body is not a JSON object", code="invalid_request") from None
    if not isinstance(asked.get("model"), str) or not asked["model"]:
        raise Failure(400, "model is missing", code="invalid_request")
    return asked


def error_of(failure: Failure) -> bytes:
    """A failure as OpenAI would word it, without the secrets that providers repeat."""
    message = logs.redact(str(failure))
    return _encode(
        {"error": {"message": message, "type": failure.kind, "param": None, "code": failure.code or None}}
    )


def lines(headers: dict[str, str]) -> HeaderList:
    """Headers as our server takes them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def refused(request: Request | None, path: str, status: int, message: str) -> tuple[HeaderList, bytes]:
    """What the server itself refuses."""
    return _JSON, error_of(Failure(status, message))


async def serve(assignment: Assignment, say: Any) -> int:
    """Answer until the sidecar is gone, or tells us to stop."""
    worker = Worker(assignment)
    patient = assignment.timeout_s + 60
    server = Server(
        worker.handle,
        limits=Limits(body_bytes=assignment.body_bytes + (1 << 20), write_buffer=16 << 20),
        deadlines=Deadlines(body_s=patient, stalled_client_s=patient, keep_alive_s=patient),
        error_body=refused,
    )
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), stop.set)  # Nothing more is ever written there: this is its end.
    await server.start("", 0, sock=socket.socket(fileno=assignment.listener))
    say({"ready": True})
    await stop.wait()
    loop.remove_reader(sys.stdin.fileno())
    await server.drain(1.0)
    return 0


def main() -> int:
    """Take the assignment, import litellm, serve."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    assignment = msgspec.json.decode(sys.stdin.buffer.readline(), type=Assignment)
    speaks = os.fdopen(os.dup(1), "wb", buffering=0)
    errors = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
    # What a library prints goes nowhere: it may be a prompt, or a key.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    logs.configure("litellm", secrets=assignment.secrets, stream=errors)

    def say(what: dict[str, Any]) -> None:
        speaks.write(_encode(what) + b"\n")

    if assignment.version != __version__:
        say({"version": __version__})
        return OTHER_VERSION
    try:
        version = via_litellm.load()
    except ImportError as error:
        say({"missing": error.name or "litellm"})
        return MISSING
    log.info("ready", version=version, count=len(assignment.accounts))
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(serve(assignment, say))
    return 0


if __name__ == "__main__":
    sys.exit(main())
