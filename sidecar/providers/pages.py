"""How the replicas of all upstreams stand: for Prometheus, and for operators who drain one.

GET    /bursar/v1/upstreams                              every replica, and what providers said is left
POST   /bursar/v1/upstreams/NAME/REPLICA/drain           no more calls go there; running ones end
POST   /bursar/v1/upstreams/NAME/REPLICA/undrain         calls go there again
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from collector.export.prometheus import CallMetrics
from sidecar.providers.native import Upstream

UPSTREAMS = "/bursar/v1/upstreams"

_GAUGES = ("up", "healthy", "draining", "breaker_open", "waiting", "latency_seconds")


class UpstreamPages:
    """Answers the paths above, for the upstreams that are in force."""

    def __init__(self, upstreams: Callable[[], Mapping[str, Upstream]]) -> None:
        self._upstreams = upstreams

    def answer(self, method: str, path: str) -> tuple[int, dict[str, Any]] | None:
        """Status and body; None for a path that is not ours."""
        if path == UPSTREAMS and method == "GET":
            return 200, {"upstreams": [plain(upstream) for upstream in self._upstreams().values()]}
        if not path.startswith(UPSTREAMS + "/") or method != "POST":
            return None
        parts = [unquote(part) for part in path.removeprefix(UPSTREAMS + "/").split("/")]
        if len(parts) != 3 or parts[2] not in ("drain", "undrain"):
            return None
        upstream = self._upstreams().get(parts[0])
        replicas = upstream.replicas if upstream is not None else []
        for replica in replicas:
            if replica.name == parts[1]:
                assert upstream is not None
                replica.draining = parts[2] == "drain"
                upstream.is_held = upstream.is_held or replica.draining
                return 200, {
                    "upstream": upstream.name,
                    "replica": replica.name,
                    "draining": replica.draining,
                    "inflight": replica.inflight,
                }
        known = ", ".join(replica.name for replica in replicas) or ", ".join(self._upstreams())
        return 404, {"error": f"there is no {parts[0][:100]}/{parts[1][:100]}; known: {known}"}


def plain(upstream: Upstream) -> dict[str, Any]:
    """An upstream as operators see it."""
    now = time.monotonic()
    return {
        "upstream": upstream.name,
        "kind": upstream.kind,
        "provider": upstream.provider,
        "replicas": [replica.plain(now) for replica in upstream.replicas],
    }


def show_replicas(metrics: CallMetrics, upstreams: Iterable[Upstream]) -> None:
    """Set the gauges of every replica."""
    now = time.monotonic()
    metrics.clear_gauge("bursar_upstream_inflight")
    metrics.clear_gauge("bursar_upstream_limit_remaining")
    for name in _GAUGES:
        metrics.clear_gauge(f"bursar_upstream_{name}")
    for upstream in upstreams:
        for replica in upstream.replicas:
            labels = {"upstream": upstream.name, "replica": replica.name}
            shown = {
                "inflight": replica.inflight,
                "up": int(replica.may_be_asked(now)),
                "healthy": int(replica.healthy),
                "draining": int(replica.draining),
                "breaker_open": int(bool(replica.breaker.open_until)),
                "waiting": replica.pool.waiting,
                "latency_seconds": replica.latency_s,
            }
            for name, value in shown.items():
                metrics.set_gauge(f"bursar_upstream_{name}", labels, value)
            for limit, told in replica.told.items():
                if told.remaining is not None:
                    metrics.set_gauge(
                        "bursar_upstream_limit_remaining", {**labels, "limit": limit}, told.remaining
                    )
