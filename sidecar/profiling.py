"""Profiles of our own model servers, asked for by an operator and always with an end.

    GET    /bursar/v1/profiles    what is being profiled, and this process's id (for py-spy)
    POST   /bursar/v1/profiles    {upstream, replica?, seconds} -> 202: vLLM's torch profiler is started
    DELETE /bursar/v1/profiles    stopped before its time

On the control port, with the control key, and only where ``inference.profiling`` is on. One at a time; a
server is slower while it is profiled. vLLM writes what it found to a folder of its own
(``inference/profiles`` in the data directory of ``bursar inference``).
"""

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from collector.logs import get
from sidecar.http import HeaderList, Request, Responder, UpstreamError

if TYPE_CHECKING:
    from sidecar.providers.native import Upstream
    from sidecar.providers.replicas import Replica

PATH = "/bursar/v1/profiles"
MOST_SECONDS = 60.0
_MOST_BYTES = 1 << 16
_JSON: HeaderList = [(b"content-type", b"application/json")]

log = get("bursar.profiling")


class _Asked(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    upstream: str
    replica: str = ""
    """``host:port``; the first one without it."""
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MOST_SECONDS)] = 10.0


class Profiling:
    """Answers the path above; at most one profile runs."""

    def __init__(self) -> None:
        self._running: tuple[_Asked, Replica, float] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def answer(
        self, request: Request, responder: Responder, upstreams: Mapping[str, "Upstream"], *, allowed: bool
    ) -> None:
        """Answer one request, of somebody who may ask."""
        try:
            status, said = await self._answer(request, upstreams, allowed)
        except (ValueError, msgspec.MsgspecError) as error:
            status, said = 400, {"error": str(error)}
        responder.send(status, _JSON, msgspec.json.encode(said))

    async def _answer(
        self, request: Request, upstreams: Mapping[str, "Upstream"], allowed: bool
    ) -> tuple[int, dict[str, Any]]:
        if request.method == "GET":
            return 200, {"pid": os.getpid(), "allowed": allowed, "running": self._told()}
        if not allowed:
            return 403, {"error": "profiling is off; inference.profiling: true turns it on"}
        if request.method == "DELETE":
            await self.stop()
            return 200, {"running": None}
        if request.method != "POST":
            return 405, {"error": "GET, POST or DELETE"}
        asked = msgspec.json.decode(request.body, type=_Asked)
        if self._running is not None:
            return 409, {"error": "one profile at a time", "running": self._told()}
        replica = _replica_of(asked, upstreams)
        # Taken before anybody else can ask, and given back where the server cannot.
        self._running = (asked, replica, time.monotonic() + asked.seconds)
        status = await _post(replica, b"/start_profile")
        if status != 200:
            self._running = None
            why = "it was started without a profiler" if status == 404 else f"status {status}"
            return 502, {"error": f"{replica.name} does not profile: {why}"}
        self._ending = asyncio.create_task(self._end_in(asked.seconds), name="profile")
        log.info("a profile runs", upstream=asked.upstream, replica=replica.name, timeout_s=asked.seconds)
        return 202, {"running": self._told()}

    def _told(self) -> dict[str, Any] | None:
        if self._running is None:
            return None
        asked, replica, until = self._running
        left = max(0.0, until - time.monotonic())
        return {"upstream": asked.upstream, "replica": replica.name, "ends_in_s": round(left, 1)}

    async def _end_in(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._ending = None
        await self.stop()

    async def stop(self) -> None:
        """End the profile that runs, if one does."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        running, self._running = self._running, None
        if running is not None:
            status = await _post(running[1], b"/stop_profile")
            log.info("a profile ended", replica=running[1].name, http_status=status)


def _replica_of(asked: _Asked, upstreams: Mapping[str, "Upstream"]) -> "Replica":
    upstream = upstreams.get(asked.upstream)
    if upstream is None or upstream.kind != "vllm":
        own = ", ".join(name for name, one in upstreams.items() if one.kind == "vllm") or "none"
        raise ValueError(f"no pool of our own is called {asked.upstream!r}; there are: {own}")
    for replica in upstream.replicas:
        if asked.replica in ("", replica.name):
            return replica
    names = ", ".join(replica.name for replica in upstream.replicas)
    raise ValueError(f"{asked.upstream} has no replica {asked.replica!r}; it has {names}")


async def _post(replica: "Replica", target: bytes) -> int:
    """The status of the answer; 0 when there was none."""
    try:
        answer = await replica.pool.request(b"POST", target, _JSON, b"{}")
        await answer.read(_MOST_BYTES)
        return answer.status
    except UpstreamError:
        return 0
