"""Prompt injection as the rest of alerting sees it: signals of bursts, lines for the ledger, counts."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from alerts.alertmanager import instant
from alerts.injection.bursts import Burst
from alerts.injection.listening import Listener, listen
from alerts.injection.worker import Injections, Seen
from alerts.signals import Signal
from collector import logs

TIMEOUT_S = 5.0
MOST_AT_ONCE = 200

_log = logs.get("alerts.injection")


class InjectionWatch:
    """Listens, scores, and says what came of it.

    Args:
        collector_url: where lines and counts go.
        client: carries the control key.
        injections: scores the texts.
    """

    def __init__(
        self, collector_url: str, client: httpx.AsyncClient, injections: Injections | None = None
    ) -> None:
        self._url = f"{collector_url.rstrip('/')}/v1/anomalies"
        self._client = client
        self._injections = injections or Injections()
        self._listener: Listener | None = None
        self._scored: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._told: set[str] = set()
        """Ids of the calls with a high score that the collector knows."""
        self._state = logs.StateLog(_log, "what texts look like")

    async def start(self, folder: Path) -> None:
        """Listen on a socket in ``folder``, and score."""
        self._injections.start()
        self._listener = await listen(folder, self._injections.offer)

    def close(self) -> None:
        """End both."""
        if self._listener is not None:
            self._listener.close()
        self._injections.close()

    def signals(self, extra: Mapping[str, str]) -> list[Signal]:
        """A signal for each burst that is open."""
        return [_signal(burst, extra) for burst in self._injections.bursts()]

    async def deliver(self) -> bool:
        """Post what is new; False when the collector did not take it, and it will be posted again."""
        for name, labels, amount in self._injections.changes():
            if name == "bursar_injection_scores_total":
                self._scored[labels["bucket"]] += amount
            else:
                self._dropped[labels["reason"]] += amount
        recent = self._injections.recent()
        new = [seen for seen in recent if seen.call_id not in self._told][:MOST_AT_ONCE]
        if not (new or self._scored or self._dropped):
            return True
        body = {"anomalies": [_line(seen) for seen in new], "scored": self._scored, "dropped": self._dropped}
        try:
            reply = await self._client.post(self._url, json=body, timeout=TIMEOUT_S)
        except httpx.HTTPError as error:
            self._state.enter("the collector does not answer", error_type=type(error).__name__)
            return False
        if not reply.is_success:
            self._state.enter("the collector does not take it", http_status=reply.status_code)
            return False
        self._state.enter("ok")
        self._scored, self._dropped = Counter(), Counter()
        self._told = self._told & {seen.call_id for seen in recent} | {seen.call_id for seen in new}
        return True


def _line(seen: Seen) -> dict[str, Any]:
    return {
        "event_id": f"injection-{seen.call_id}",
        "anomaly_id": seen.call_id,
        "detected_at": instant(seen.at),
        "state": "seen",
        "detector": "injection",
        "signal": "prompt_injection",
        "scope": dict(seen.labels),
        "score": seen.score,
        "detail": msgspec.json.encode({"call_id": seen.call_id, "text": seen.text}).decode(),
    }


def _signal(burst: Burst, extra: Mapping[str, str]) -> Signal:
    whose = ", ".join(" ".join(pair) for pair in burst.subject) or "all calls"
    return Signal(
        labels={**extra, **burst.labels},
        annotations={
            **burst.annotations,
            "summary": f"{burst.annotations['summary']} ({whose})",
            "why": "texts that read like instructions to the model came far more often than usual here",
            "advice": (
                "look at the calls (question injections) and at what feeds them (a page, a mailbox, a tool);"
                " pause the agent or cut its key if they steer it"
            ),
            "finding": burst.id,
        },
        value=burst.value,
        since=float(burst.since),
    )
