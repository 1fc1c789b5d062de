"""Asking the collector, as everybody does: named questions over HTTP; and its minutes as points."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx

from alerts.detectors.finding import Point, Subject
from alerts.learning import MINUTE_S, Minutes
from collector import logs
from collector.domain.money import PICO_PER_USD

VIEWS: tuple[tuple[str, ...], ...] = (("team", "agent"), ("key_id",), ("request_model",), ("upstream",))
"""By what the ledger's minutes are told apart; each set of values is a subject to watch."""
LABELS = {"request_model": "model", "user_id": "user", "key_id": "key"}
"""What a label is called where the ledger's column has another name."""

TIMEOUT_S = 30.0
MOST_BYTES = 64 << 20

_log = logs.get("alerts.ledger")


class Collector:
    """The collector's read API.

    Args:
        url: where it answers.
        client: carries the control key.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._state = logs.StateLog(_log, "the collector")

    async def ask(self, question: str, **parameters: Any) -> list[dict[str, Any]] | None:
        """The rows that answer ``question``; None when it does not answer."""
        try:
            reply = await self._client.get(
                f"{self._url}/v1/questions/{question}",
                params=parameters,
                headers={"accept": "application/json"},
                timeout=TIMEOUT_S,
            )
            if reply.status_code != 200 or len(reply.content) > MOST_BYTES:
                self._state.enter("does not answer", http_status=reply.status_code, bytes=len(reply.content))
                return None
            rows = reply.json()["rows"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            self._state.enter("does not answer", error_type=type(error).__name__)
            return None
        self._state.enter("ok")
        return list(rows)


class LedgerMinutes:
    """The ledger's minutes, for detectors.

    Args:
        collector: who is asked.
        views: by what the minutes are told apart.
        clock: the present, seconds since 1970.
    """

    def __init__(
        self,
        collector: Collector,
        views: tuple[tuple[str, ...], ...] = VIEWS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._collector = collector
        self._views = views
        self._clock = clock

    async def booked_until(self) -> int | None:
        """Until when everything is booked, seconds since 1970; None when the collector does not say."""
        rows = await self._collector.ask("health")
        if not rows:
            return None
        return int(self._clock() - max(0.0, float(rows[0].get("journal_lag_s") or 0.0)))

    async def minutes(self, since: int, until: int) -> Minutes | None:
        """The minutes that begin from ``since`` to before ``until``; None when the ledger does not answer."""
        found: dict[Subject, list[Point]] = {}
        for view in self._views:
            # By when calls ended: one that started in a minute that was shown may still be running, and
            # those that take long are the ones to be seen.
            rows = await self._collector.ask(
                "ended_over_time",
                since=datetime.fromtimestamp(since, UTC).isoformat(),
                until=datetime.fromtimestamp(until, UTC).isoformat(),
                by=",".join(view),
            )
            if rows is None:
                return None
            for row in rows:
                if subject := labels_of(row, view):
                    found.setdefault(subject, []).append(point_of(row))
        return found


def labels_of(row: Mapping[str, Any], view: Sequence[str]) -> Subject:
    """Whose row of an answer it is; empty where none of ``view`` has a value."""
    return tuple(sorted((LABELS.get(name, name), str(row[name])) for name in view if row.get(name)))


def point_of(row: Mapping[str, Any]) -> Point:
    """One row of ``ended_over_time`` as a point."""
    began = datetime.fromisoformat(str(row["bucket"]).replace("Z", "+00:00"))
    at = int((began if began.tzinfo else began.replace(tzinfo=UTC)).timestamp())
    buckets = (pair.partition(":") for pair in str(row["latency"]).split())
    return Point(
        at=at // MINUTE_S * MINUTE_S,
        calls=int(row["calls"]),
        failed=int(row["failed_calls"]),
        attempts=int(row["attempts"]),
        cost_pico=int(Decimal(str(row["effective_cost_usd"])) * PICO_PER_USD),
        input_tokens=int(row["input_tokens"]),
        output_tokens=int(row["output_tokens"]),
        cache_read_tokens=int(row["cache_read_input_tokens"]),
        latency=tuple((int(bucket), int(calls)) for bucket, _, calls in buckets),
    )
