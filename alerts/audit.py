"""The lines that the collector keeps: of every alert as it begins and ends, and of what it did to calls.

Lines wait in the saved state until the collector has taken them; each has an id, so that one posted twice
can be told apart. There is room for a thousand: the oldest go first, and that is said.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import httpx
import msgspec

from alerts.alertmanager import instant
from alerts.directives import Done
from alerts.signals import id_of
from collector import logs

MOST_WAITING = 1000
MOST_AT_ONCE = 200
TIMEOUT_S = 5.0

_log = logs.get("alerts.audit")

_WORDS = {
    "raise": "directive_raised",
    "renew": "directive_renewed",
    "withdraw": "directive_undone",
    "expire": "directive_expired",
    "refuse": "directive_withheld",
}

MOST_DETAIL = 4000
"""Characters of an outcome that are kept; the collector takes twice as much in all."""


def line(done: Done, now: float) -> dict[str, Any]:
    """One row of ``budget_events``: what was done to which calls, and why."""
    item = done.step.standing
    word = _WORDS[done.step.kind] if done.ok or done.step.kind == "refuse" else "directive_failed"
    detail = {
        "alert": id_of(item.alert),
        "alertname": dict(item.alert).get("alertname", ""),
        "do": item.do,
        "dry_run": item.dry_run,
        "reason": done.step.reason,
        "outcome": done.detail[:MOST_DETAIL],
        "expires_at": instant(item.expires_at),
        "directives": ",".join(done.standing.ids.values()) if done.standing else "",
    }
    text = msgspec.json.encode(detail, order="sorted").decode()
    counter = ",".join(f"{name}={value}" for name, value in sorted(item.match.items()))
    name = hashlib.sha256(f"{now!r}\n{word}\n{counter}\n{text}".encode()).hexdigest()[:32]
    return {
        "event_id": name,
        "happened_at": instant(now),
        "budget": dict(item.alert).get("budget", ""),
        "counter": counter,
        "action": f"{word}:{item.do}{':dry_run' if item.dry_run else ''}",
        "call_id": "",
        "detail": text,
    }


class Audit:
    """Lines on their way to the collector.

    Args:
        url: of the collector.
        client: carries the control key.
        waiting: lines of an earlier run.
        kind: ``events`` for what was done to calls, ``anomalies`` for what was found.
    """

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        waiting: Iterable[Mapping[str, Any]] = (),
        kind: Literal["events", "anomalies"] = "events",
    ) -> None:
        self._kind = kind
        self._url = f"{url.rstrip('/')}/v1/{kind}"
        self._client = client
        self._waiting: deque[dict[str, Any]] = deque(map(dict, waiting), maxlen=MOST_WAITING)
        self._state = logs.StateLog(_log, "audit lines" if kind == "events" else "lines about alerts")

    @property
    def waiting(self) -> list[dict[str, Any]]:
        """What the collector does not have yet."""
        return list(self._waiting)

    def note(self, entry: Mapping[str, Any]) -> None:
        """Keep a line until the collector has it."""
        if len(self._waiting) == MOST_WAITING:
            _log.error("an audit line is given up", action=str(self._waiting[0].get("action", "")))
        self._waiting.append(dict(entry))

    async def deliver(self) -> bool:
        """Post what waits; False when the collector did not take it."""
        while self._waiting:
            batch = [self._waiting[place] for place in range(min(MOST_AT_ONCE, len(self._waiting)))]
            try:
                reply = await self._client.post(self._url, json={self._kind: batch}, timeout=TIMEOUT_S)
            except httpx.HTTPError as error:
                self._state.enter("the collector does not answer", error_type=type(error).__name__)
                return False
            if not reply.is_success:
                self._state.enter("the collector does not take them", http_status=reply.status_code)
                return False
            for _ in batch:
                self._waiting.popleft()
            self._state.enter("ok")
        return True
