"""Telling Alertmanager: what fires, again and again while it does, and that it has ended.

Alertmanager has no memory of who told it. So a firing alert is posted every heartbeat with an end three
heartbeats ahead: when this process dies, its alerts end by themselves. Of a highly available pair both
are told everything, as Prometheus does, and settle between them who notifies. What is kept here is
which alert each of them was told last; there is no queue that could grow.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from alerts.engine import Tracked
from alerts.signals import Labels, Listed
from alerts.transitions import Phase
from collector import logs

HEARTBEATS_TO_END = 3
MOST_AT_ONCE = 256
"""Alerts in one request."""
TIMEOUT_S = 5.0
MOST_BYTES = 8 << 20
"""Of an answer that is read."""

_log = logs.get("alerts.alertmanager")


@dataclass(slots=True)
class _Told:
    phase: Phase
    at: float


@dataclass(slots=True)
class _Receiver:
    """One Alertmanager and what it was told."""

    url: str
    told: dict[Labels, _Told] = field(default_factory=dict)
    state: logs.StateLog = field(init=False)

    def __post_init__(self) -> None:
        self.state = logs.StateLog(_log, "Alertmanager")


def instant(at: float) -> str:
    """A time as RFC 3339 has it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def payload(tracked: Tracked, now: float, heartbeat_s: float, generator: str) -> dict[str, Any]:
    """One alert as ``POST /api/v2/alerts`` takes it."""
    alert = tracked.alert
    ends = alert.resolved_at if alert.phase is Phase.RESOLVED else now + HEARTBEATS_TO_END * heartbeat_s
    told = {
        "labels": dict(tracked.labels),
        "annotations": {**tracked.annotations, "id": tracked.id},
        "startsAt": instant(alert.fired_at),
        "endsAt": instant(ends),
    }
    return {**told, "generatorURL": generator} if generator else told


def due(
    alerts: Iterable[Tracked], told: Mapping[Labels, tuple[Phase, float]], now: float, heartbeat_s: float
) -> list[Tracked]:
    """Which alerts somebody who was told ``told`` has to be told now: news, and what must be repeated.

    A resolved alert is repeated too, as long as it is remembered: the one telling of its end may have met
    an Alertmanager that was just starting.
    """
    found = []
    for tracked in alerts:
        if tracked.alert.phase not in (Phase.FIRING, Phase.RESOLVED):
            continue
        last = told.get(tracked.key)
        if last is None and tracked.alert.phase is Phase.RESOLVED:
            continue  # it never heard that it fired
        if last is None or last[0] is not tracked.alert.phase or now - last[1] >= heartbeat_s:
            found.append(tracked)
    return found


class Alertmanagers:
    """Every Alertmanager of the configuration.

    Args:
        urls: their addresses, with a path prefix where they have one.
        client: for all of them; it carries their credentials.
        heartbeat_s: how often what fires is told again.
        generator: address that an alert's "source" leads to.
    """

    def __init__(
        self, urls: Sequence[str], client: httpx.AsyncClient, *, heartbeat_s: float, generator: str = ""
    ) -> None:
        self._receivers = [_Receiver(url.rstrip("/")) for url in urls]
        self._client = client
        self._heartbeat_s = heartbeat_s
        self._generator = generator

    def __len__(self) -> int:
        return len(self._receivers)

    async def tell(self, alerts: Sequence[Tracked], now: float) -> int:
        """Tell each what it has to know; how many of them could be told."""
        told = await asyncio.gather(*(self._tell(one, alerts, now) for one in self._receivers))
        return sum(told)

    async def _tell(self, receiver: _Receiver, alerts: Sequence[Tracked], now: float) -> bool:
        known = {key: (told.phase, told.at) for key, told in receiver.told.items()}
        news = due(alerts, known, now, self._heartbeat_s)
        for start in range(0, len(news), MOST_AT_ONCE):
            batch = news[start : start + MOST_AT_ONCE]
            body = [payload(one, now, self._heartbeat_s, self._generator) for one in batch]
            try:
                reply = await self._client.post(f"{receiver.url}/api/v2/alerts", json=body, timeout=TIMEOUT_S)
                if reply.status_code != 200:
                    receiver.state.enter(
                        "refuses", url=receiver.url, http_status=reply.status_code, reason=reply.text[:200]
                    )
                    return False
            except httpx.HTTPError as error:
                receiver.state.enter("unreachable", url=receiver.url, error_type=type(error).__name__)
                return False
            receiver.state.enter("ok", url=receiver.url)
            for one in batch:
                receiver.told[one.key] = _Told(one.alert.phase, now)
        present = {tracked.key for tracked in alerts}
        for key in [key for key in receiver.told if key not in present]:
            del receiver.told[key]
        return True

    async def listed(self) -> list[Listed] | None:
        """Every alert that is active in the first Alertmanager that answers, silenced ones too; None when
        none does."""
        for receiver in self._receivers:
            try:
                reply = await self._client.get(f"{receiver.url}/api/v2/alerts", timeout=TIMEOUT_S)
                if reply.status_code == 200 and len(reply.content) <= MOST_BYTES:
                    return [_read(one) for one in reply.json()]
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                continue
        return None


def _read(given: Mapping[str, Any]) -> Listed:
    status = given["status"]
    return Listed(
        labels=dict(given["labels"]),
        starts_at=datetime.fromisoformat(given["startsAt"].replace("Z", "+00:00")).timestamp(),
        silenced=bool(status["silencedBy"]),
        inhibited=bool(status["inhibitedBy"]),
    )
