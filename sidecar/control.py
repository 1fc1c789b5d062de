"""The operator's side, on a port of its own: metrics and health."""

import hmac
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from collector.domain.access import HEADER, NoRole, Role, Viewer, viewer_of
from collector.export.prometheus import CallMetrics
from collector.export.states import State
from collector.journal_room import Pressure
from collector.settings import Address
from sidecar.config import BursarConfig
from sidecar.http import Deadlines, HeaderList, Limits, Request, Responder, Server
from sidecar.keys import PREFIX
from sidecar.operators import OperatorPages
from sidecar.profiling import PATH as PROFILES
from sidecar.profiling import Profiling
from sidecar.providers.pages import UpstreamPages
from sidecar.stages.identify import credentials_of
from sidecar.viewers import ViewerPages
from sidecar.workers import Workers, run_dir

if TYPE_CHECKING:
    from sidecar.app import Sidecar

_VIEWER = HEADER.encode()
_TEXT: HeaderList = [(b"content-type", b"text/plain; charset=utf-8")]
_JSON: HeaderList = [(b"content-type", b"application/json")]
_METRICS: HeaderList = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]


class SharedControl:
    """The control plane of several workers: adds up the figures that each leaves every half second, and asks
    them what operators ask."""

    def __init__(self, config: BursarConfig) -> None:
        self._config = config
        self._server = Server(self.handle, limits=Limits(), deadlines=Deadlines(), error_body=plain_error)
        for old in run_dir(config).glob("*.state"):
            old.unlink(missing_ok=True)
        self._workers = Workers(config)

    async def start(self, address: Address) -> None:
        """Listen."""
        await self._server.start(address.host, address.port)

    async def close(self) -> None:
        """Stop listening."""
        await self._server.drain(1.0)

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer one request of an operator or a scraper."""
        if request.path in ("/healthz", "/readyz"):
            responder.send(200, _TEXT, b"ok\n")
        elif refused := refusal_of(request, self._config):
            responder.send(refused[0], _TEXT, refused[1])
        elif request.path == "/metrics" and request.method in ("GET", "HEAD"):
            states = [path.read_bytes() for path in sorted(run_dir(self._config).glob("*.state"))]
            merged = CallMetrics()
            merged.merge([msgspec.msgpack.decode(state, type=State) for state in states])
            responder.send(200, _METRICS, merged.render())
        elif request.path.startswith("/bursar/v1/"):
            status, body = await self._workers.answer(request)
            responder.send(status, _JSON, body)
        else:
            responder.send(404, _TEXT, b"not found\n")


def leave_state(sidecar: "Sidecar") -> None:
    """Leave this worker's figures where :class:`SharedControl` finds them."""
    folder = run_dir(sidecar.config)
    folder.mkdir(parents=True, exist_ok=True)
    # Named by run: what a worker counted before it fell stays counted, or counters would go back.
    part = folder / f"{sidecar.source}.part"
    part.write_bytes(msgspec.msgpack.encode(sidecar.metrics.state()))
    part.replace(part.with_suffix(".state"))


class Control:
    """Serves ``/metrics``, ``/healthz``, ``/readyz`` and :mod:`sidecar.operators` of one sidecar."""

    def __init__(self, sidecar: "Sidecar") -> None:
        self._sidecar = sidecar
        self._pages = OperatorPages(
            sidecar.credit,
            runaways=sidecar.runaways,
            answers=sidecar.answers,
            upstreams=UpstreamPages(lambda: sidecar.plane.upstreams),
        )
        self._viewer_pages = ViewerPages(sidecar.credit)
        self._roles = sidecar.config.access.all_roles()
        self._profiling = Profiling()
        self._server: Server | None = None

    async def start(self, address: Address, sock: socket.socket | None = None) -> None:
        """Listen there, or on a socket that is bound already."""
        self._server = Server(self.handle, limits=Limits(), deadlines=Deadlines(), error_body=plain_error)
        await self._server.start(address.host, address.port, sock=sock)

    async def close(self) -> None:
        """Stop listening."""
        await self._profiling.stop()
        if self._server is not None:
            await self._server.drain(1.0)

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer one request of an operator or a scraper."""
        if request.path in ("/healthz", "/readyz"):
            self.answer_health(request, responder)
        elif refused := refusal_of(request, self._sidecar.config):
            responder.send(refused[0], _TEXT, refused[1])
        elif (viewer := viewer_named(request, self._roles)) is None:
            responder.send(403, _TEXT, b"nobody gave this person a role\n")
        elif request.path == "/metrics" and request.method in ("GET", "HEAD") and viewer.sees_all:
            responder.send(200, _METRICS, self._sidecar.metrics.render())
        elif viewer.name:
            await self._viewer_pages.answer(viewer, request, responder)
        elif request.path == PROFILES:
            sidecar = self._sidecar
            allowed = sidecar.config.inference.profiling
            await self._profiling.answer(request, responder, sidecar.plane.upstreams, allowed=allowed)
        elif self._pages.serves(request.path):
            await self._pages.answer(request, responder)
        else:
            responder.send(404, _TEXT, b"not found\n")

    def answer_health(self, request: Request, responder: Responder) -> None:
        """Alive; ready to serve. A lost collector or store takes neither away; of the store it is said."""
        sidecar = self._sidecar
        full = sidecar.journal.pressure is Pressure.FULL and sidecar.config.journal.on_full == "refuse"
        ready = not sidecar.draining and not full
        if request.path == "/readyz" and not ready:
            why = b"draining\n" if sidecar.draining else b"journal full\n"
            responder.send(503, _TEXT, why)
        elif request.path == "/readyz" and not getattr(sidecar.credit.store, "healthy", True):
            # Only a store that is shared can be away.
            responder.send(200, _TEXT, b"ok, degraded: the store that budgets share does not decide now\n")
        else:
            responder.send(200, _TEXT, b"ok\n")


def viewer_named(request: Request, roles: Sequence[Role]) -> Viewer | None:
    """The person that the dashboard asks for; None when nobody gave that person a role."""
    named = next((value for name, value in request.headers if name.lower() == _VIEWER), b"")
    try:
        return viewer_of(named.decode("utf-8", "replace"), roles)
    except NoRole:
        return None


def refusal_of(request: Request, config: BursarConfig) -> tuple[int, bytes] | None:
    """Why an operator's request is turned away; None when it is not."""
    found = credentials_of(request.headers)
    if any(token.startswith(PREFIX) for token in found):
        return 403, b"a virtual key cannot use the control plane\n"
    if config.control.key is None:
        return None
    wanted = config.control.key.reveal().encode()
    if any(hmac.compare_digest(token.encode("utf-8", "replace"), wanted) for token in found):
        return None
    return 401, b"send the control key as a bearer token\n"


def plain_error(request: Request | None, path: str, status: int, message: str) -> tuple[HeaderList, bytes]:
    """Errors of the wire, for people."""
    return _TEXT, message.encode() + b"\n"
