"""Reading the metrics of the sidecar, the collector and the model servers, as Prometheus would."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from alerts.samples import Labels, Samples, parse_exposition
from collector import logs

TIMEOUT_S = 5.0
MOST_BYTES = 16 << 20
"""Of one scrape; a larger one counts as failed."""

_log = logs.get("alerts.scraping")


@dataclass(slots=True)
class Target:
    """One address with metrics."""

    job: str
    url: str
    own: bool = True
    """One of our processes: it is shown the control key."""
    state: logs.StateLog = field(init=False)

    def __post_init__(self) -> None:
        self.state = logs.StateLog(_log, f"metrics of {self.job}")

    @property
    def extra(self) -> dict[str, str]:
        """The labels that Prometheus would add."""
        return {"job": self.job, "instance": urlsplit(self.url).netloc}


class Scraper:
    """Puts the samples of all targets where the rules look.

    Args:
        targets: what to read.
        client: reads our own processes; it carries the control key.
        stranger: reads all others.
    """

    def __init__(
        self, targets: Iterable[Target], client: httpx.AsyncClient, stranger: httpx.AsyncClient
    ) -> None:
        self.targets = list(targets)
        self._client = client
        self._stranger = stranger

    async def scrape(self, samples: Samples, now: float) -> int:
        """Read every target once, all at the same time; how many answered."""
        return sum(await asyncio.gather(*(self._one(target, samples, now) for target in self.targets)))

    async def _one(self, target: Target, samples: Samples, now: float) -> bool:
        text = await self._read(target)
        up: tuple[str, Labels, float] = (
            "up",
            tuple(sorted(target.extra.items())),
            0.0 if text is None else 1.0,
        )
        kept = samples.metrics
        found = [] if text is None else parse_exposition(text, kept.__contains__, target.extra)
        samples.take(target.url, now, [up, *found])
        return text is not None

    async def _read(self, target: Target) -> str | None:
        client = self._client if target.own else self._stranger
        try:
            async with client.stream("GET", target.url, timeout=TIMEOUT_S) as reply:
                if reply.status_code != 200:
                    target.state.enter("refused", url=target.url, http_status=reply.status_code)
                    return None
                body = bytearray()
                async for piece in reply.aiter_bytes():
                    body += piece
                    if len(body) > MOST_BYTES:
                        target.state.enter("too large", url=target.url, bytes=len(body))
                        return None
        except httpx.HTTPError as error:
            target.state.enter("unreachable", url=target.url, error_type=type(error).__name__)
            return None
        target.state.enter("ok", url=target.url)
        return body.decode("utf-8", "replace")


def targets_of(
    control: str, collector: str, vllm: Mapping[str, str], more: Mapping[str, str]
) -> list[Target]:
    """Our own two, every replica of a vLLM pool, and what the configuration adds.

    Args:
        control: base address of the sidecar's control plane.
        collector: base address of the collector.
        vllm: base address by replica; the job is always ``vllm``.
        more: full address by job.
    """
    found = [
        Target("bursar-sidecar", f"{control}/metrics"),
        Target("bursar-collector", f"{collector}/metrics"),
    ]
    found += [Target("vllm", f"{url.rstrip('/')}/metrics", own=False) for url in vllm.values()]
    return found + [Target(job, url, own=False) for job, url in more.items()]
