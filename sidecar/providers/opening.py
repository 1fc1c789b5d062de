"""From the configuration of an upstream to the upstream; what only litellm needs is imported for it alone."""

from typing import TYPE_CHECKING

from sidecar.config import BursarConfig, UpstreamConfig
from sidecar.http import Deadlines, Outbox
from sidecar.providers.native import Upstream

if TYPE_CHECKING:
    from sidecar.providers.worker import LitellmWorker


def worker_of(config: BursarConfig, running: "LitellmWorker | None" = None) -> "LitellmWorker | None":
    """The process for upstreams of kind litellm: ``running`` where that still fits; None without any."""
    if all(upstream.kind != "litellm" for upstream in config.upstreams.values()):
        return None
    from sidecar.providers.worker import worker_for

    return worker_for(config, running)


def upstream_of(
    name: str,
    config: UpstreamConfig,
    deadlines: Deadlines,
    worker: "LitellmWorker | None",
    outbox: Outbox | None = None,
) -> Upstream:
    """One upstream: spoken to by ourselves, or through litellm."""
    if worker is None or config.kind != "litellm":
        return Upstream(name, config, deadlines, outbox)
    from sidecar.providers.litellm_upstream import LitellmUpstream

    return LitellmUpstream(name, config, deadlines, worker)
