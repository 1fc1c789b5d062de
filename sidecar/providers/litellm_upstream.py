"""What a call sees of litellm's worker: an upstream like any other."""

from sidecar.call import Call
from sidecar.config import UpstreamConfig
from sidecar.http import Deadlines, HeaderList, UpstreamPool, field_lines
from sidecar.providers.native import Upstream
from sidecar.providers.replicas import Replica
from sidecar.providers.worker import LitellmWorker


class LitellmUpstream(Upstream):
    """A provider reached through litellm: to all others an upstream with one replica, the worker."""

    def __init__(
        self, name: str, config: UpstreamConfig, deadlines: Deadlines, worker: LitellmWorker
    ) -> None:
        super().__init__(name, config, deadlines)
        self.worker = worker
        pool = UpstreamPool(
            "127.0.0.1", worker.port, tls=None, connections=config.connection_limit, deadlines=deadlines
        )
        self.replicas = [Replica("litellm:0", f"/{name}", pool)]
        self._own = field_lines(
            [(b"content-type", b"application/json"), (b"x-bursar-worker", worker.token.encode())]
        )

    starts_late = True

    async def ready(self) -> None:
        """Wait for the worker.

        Raises:
            UpstreamFailed: it cannot be started.
        """
        await self.worker.ready()

    def head_for(self, call: Call, instead: HeaderList | None = None) -> bytes:
        """Nothing of the agent's: credentials come from the configuration, and the worker has them."""
        return self._own
