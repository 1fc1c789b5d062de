"""The operator's side of several workers: each is asked for itself, and their answers are put together.

A worker answers operators on a loopback port that nobody else is told of; where, stands in a file in the
data directory. What holds for all (directives, raises) is told to one of them, for they share it; what each
keeps for itself (its cache, its replicas, its conversations) is told to every one.
"""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import msgspec

from collector.logs import get
from sidecar.config import BursarConfig
from sidecar.http import Request
from sidecar.operators import BUDGETS, CORRECTIONS, DIRECTIVES, RAISES, RUNAWAYS, SIMULATE

log = get("bursar.sidecar")

TIMEOUT_S = 5.0
TOLD_TO_ONE = (CORRECTIONS, DIRECTIVES, RAISES, SIMULATE)
_KEPT_BACK = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding", b"expect"})
_LISTS = {BUDGETS: "budgets", RUNAWAYS: "stopped"}
"""Pages that are lists, of which each worker knows a part."""

Answer = tuple[int, bytes]


def run_dir(config: BursarConfig) -> Path:
    """Where the workers of one sidecar leave what the process that speaks for all must know."""
    return config.data_dir / "run"


def control_socket(config: BursarConfig, worker: int) -> socket.socket:
    """A loopback port for operators of one worker; where it is, is written down."""
    folder = run_dir(config)
    folder.mkdir(parents=True, exist_ok=True)
    sock = socket.create_server(("127.0.0.1", 0))
    part = folder / f"worker-{worker}.part"
    part.write_text(str(sock.getsockname()[1]))
    part.replace(part.with_suffix(".port"))
    return sock


class Workers:
    """Asks the workers of one sidecar."""

    def __init__(self, config: BursarConfig) -> None:
        self._folder = run_dir(config)
        for old in self._folder.glob("worker-*.port"):
            old.unlink(missing_ok=True)

    async def answer(self, request: Request) -> Answer:
        """What they say to one request of an operator."""
        ports = await asyncio.to_thread(self._ports)
        path = request.path
        if request.method != "GET" and path.startswith(TOLD_TO_ONE):
            return await self._first(ports, request)
        if request.method != "GET" or path in _LISTS:
            found = await asyncio.gather(*(asyncio.to_thread(ask, port, request) for port in ports))
            answers = [answer for answer in found if answer is not None]
            return put_together(path, answers) if answers else _NOBODY
        return await self._first(ports, request)

    async def _first(self, ports: list[int], request: Request) -> Answer:
        for port in ports:
            answer = await asyncio.to_thread(ask, port, request)
            if answer is not None:
                return answer
        return _NOBODY

    def _ports(self) -> list[int]:
        found = []
        for path in sorted(self._folder.glob("worker-*.port")):
            with contextlib.suppress(OSError, ValueError):
                found.append(int(path.read_text()))
        return found


_NOBODY: Answer = (503, b'{"error":"no worker answers; they may be starting"}')


def ask(port: int, request: Request) -> Answer | None:
    """What one worker says; None when it says nothing. Blocking."""
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in request.headers
        if name.lower() not in _KEPT_BACK
    }
    import http.client  # Several workers have operators; one alone has nobody to ask, and memory to save.

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    target = request.path + (f"?{request.query}" if request.query else "")
    try:
        connection.request(request.method, target, body=request.body or None, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except (OSError, http.client.HTTPException) as error:
        log.warning("a worker does not answer", reason=f"{type(error).__name__}: {error}"[:200])
        return None
    finally:
        connection.close()


def put_together(path: str, answers: list[Answer]) -> Answer:
    """One answer of several: of lists each item once, otherwise the best that any of them said."""
    best = min(answers, key=lambda answer: answer[0])
    field = _LISTS.get(path)
    if field is None or best[0] != 200:
        return best
    said: dict[str, Any] = {}
    items: dict[bytes, Any] = {}
    for status, body in answers:
        if status == 200:
            part = msgspec.json.decode(body)
            said = part | said
            for item in part.get(field, []):
                items.setdefault(_name_of(path, item), item)
    return 200, msgspec.json.encode({**said, field: list(items.values())})


def _name_of(path: str, item: dict[str, Any]) -> bytes:
    """What makes an item the same as another worker's: its counter, for amounts may change in between."""
    named = [item.get("name"), item.get("subject"), item.get("window")] if path == BUDGETS else item
    return msgspec.json.encode(named)
