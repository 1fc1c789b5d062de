"""Who may ask: anybody on this machine, or whoever has the control key.

On loopback the door is open to programs of this machine, but not to web pages in its browser:
a request whose ``Host`` is not ours comes from a name that somebody pointed at 127.0.0.1, and
one with a foreign ``Origin`` from a page. Off loopback every request but the two probes needs
the key.
"""

import hmac
import json

from starlette.types import ASGIApp, Receive, Scope, Send

from collector.settings import Address

OPEN_PATHS = frozenset({"/healthz", "/readyz"})


class Guard:
    """Lets a request through to ``app``, or answers it.

    Args:
        app: what is guarded.
        listen: where we listen.
        key: the control key; required off loopback.
    """

    def __init__(self, app: ASGIApp, *, listen: Address, key: str | None) -> None:
        self._app = app
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
            await self._app(scope, receive, send)
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


def _name(host: str) -> str:
    """``host`` without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
