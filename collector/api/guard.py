"""Who may ask: anybody on this machine, or whoever has the control key.

On loopback the door is open to programs of this machine, but not to web pages in its browser:
a request whose ``Host`` is not ours comes from a name that somebody pointed at 127.0.0.1, and
one with a foreign ``Origin`` from a page. Off loopback every request but the two probes needs
the key.

Whoever may ask may also say for whom: the dashboard names the person who signed in, and what it then
asks is answered as far as that person's role reaches (`collector.domain.access`).
"""

import hmac
import json
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from collector.domain.access import HEADER, NoRole, Role, Viewer, viewer_of
from collector.settings import Address

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
VIEWER = "bursar.viewer"
"""Where a request's scope says who looks."""
_HEADER = HEADER.encode()


class Guard:
    """Lets a request through to ``app``, or answers it.

    Args:
        app: what is guarded.
        listen: where we listen.
        key: the control key; required off loopback.
        roles: of the people for whom the dashboard asks.
    """

    def __init__(self, app: ASGIApp, *, listen: Address, key: str | None, roles: Sequence[Role] = ()) -> None:
        self._app = app
        self._roles = tuple(roles)
        self._key = key.encode() if key else None
        self._loopback = listen.is_loopback
        self._hosts = {"127.0.0.1", "localhost", "[::1]", "::1", listen.host, f"[{listen.host}]"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))
        refusal = self._refusal(scope["path"], headers)
        if refusal is None:
            named = headers.get(_HEADER, b"").decode("utf-8", "replace")
            try:
                viewer = viewer_of(named, self._roles)
            except NoRole as error:
                refusal = 403, str(error)
            else:
                refusal = _beyond(viewer, scope["method"], scope["path"])
        if refusal is None:
            await self._app({**scope, VIEWER: viewer}, receive, send)
            return
        status, message = refusal
        body = json.dumps({"error": {"message": message}}).encode()
        sent = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            sent.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        if path in OPEN_PATHS:
            return None
        if self._loopback:
            host = _name(headers.get(b"host", b"").decode("latin-1"))
            origin = headers.get(b"origin", b"").decode("latin-1")
            if host not in self._hosts:
                return 403, "the Host header does not name this collector"
            if origin and _name(origin.partition("://")[2]) not in self._hosts:
                return 403, "not for pages of other origins"
            return None
        given = headers.get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        if self._key and scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._key):
            return None
        return 401, "the control key is required as a Bearer token"


def _beyond(viewer: Viewer, method: str, path: str) -> tuple[int, str] | None:
    """Why a viewer may not do this; people who see some tenants may ask questions and nothing else."""
    if (
        viewer.sees_all
        or path in OPEN_PATHS
        or (method in ("GET", "HEAD") and path.startswith("/v1/questions"))
        or (method == "POST" and path == "/v1/questions")
    ):
        return None
    return 403, f"{viewer.name!r} may ask questions and nothing else"


def _name(host: str) -> str:
    """``host`` without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
