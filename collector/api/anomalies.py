"""`POST /v1/anomalies`: what alerting found, each time it changed, and how much it read to find it."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from collector.ingest.events import MOST_ID_CHARS, MOST_TEXT_CHARS

MOST_ANOMALIES = 1000
MOST_LABELS = 32
MOST_COUNT = 1_000_000_000
BUCKETS = ("low", "suspicious", "high")
"""How suspicious a call's new texts look."""
DROPPED = ("full", "rate", "time", "error")

INSERT = """
    INSERT INTO anomalies (detected_at, since_at, until_at, detector, signal, scope, score, observed,
        expected, state, detail, anomaly_id, event_id, alertname, severity, usd_per_hour)
    SELECT make_timestamp($1), make_timestamp($2), make_timestamp($3), $4, $5, map($6, $7), $8, $9,
        $10, $11, $12, $13, $14, $15, $16, CAST($17 AS DECIMAL(38,12))
    WHERE NOT EXISTS (SELECT 1 FROM anomalies WHERE event_id = $14)"""
"""One row, unless it was told before."""


class BadAnomalies(ValueError):
    """The body does not hold anomalies; the message says why."""


class _Anomaly(msgspec.Struct):
    event_id: str
    """The sender's own; one that is sent again has the same."""
    anomaly_id: str
    """Of the incident, the same until it ends."""
    detected_at: datetime
    state: str
    """``open``, ``closed``, or ``seen`` for something that has no end."""
    detector: str
    """``rule``, ``learned`` or ``injection``."""
    signal: str
    """What moved: the kind of an anomaly, or the name of the rule."""
    since: datetime | None = None
    until: datetime | None = None
    scope: dict[str, str] = {}
    """Whose it is."""
    score: float | None = None
    observed: float | None = None
    expected: float | None = None
    alertname: str = ""
    severity: str = ""
    usd_per_hour: Decimal | None = None
    detail: str = "{}"
    """JSON, as text: why, and what to do."""


class _Told(msgspec.Struct):
    anomalies: list[_Anomaly] = []
    scored: dict[str, int] = {}
    """Calls whose texts were read since the last time, by :data:`BUCKETS`."""
    dropped: dict[str, int] = {}
    """Calls whose texts were not, by :data:`DROPPED`."""


_decode = msgspec.json.Decoder(_Told).decode


class InjectionScores(Collector):
    """Counters of the texts that alerting read, for the collector's metrics."""

    def __init__(self) -> None:
        self._scored = Counter(dict.fromkeys(BUCKETS, 0))
        self._dropped: Counter[str] = Counter()

    def add(self, scored: Iterable[tuple[str, int]], dropped: Iterable[tuple[str, int]]) -> None:
        """Raise them."""
        for bucket, count in scored:
            self._scored[bucket] += count
        for reason, count in dropped:
            self._dropped[reason] += count

    def collect(self) -> Iterable[Metric]:
        """The families at this moment."""
        scores = CounterMetricFamily(
            "bursar_injection_scores",
            "Calls by how much their new texts read like a prompt injection",
            labels=["bucket"],
        )
        for bucket, count in self._scored.items():
            scores.add_metric([bucket], count)
        yield scores
        unread = CounterMetricFamily(
            "bursar_injection_unread",
            "Calls whose texts were not read, or not to their end",
            labels=["reason"],
        )
        for reason, count in sorted(self._dropped.items()):
            unread.add_metric([reason], count)
        yield unread


def told(body: bytes, scores: InjectionScores) -> list[list[Any]]:
    """Values for :data:`INSERT`, a list for each row; counters go to ``scores`` once all of it is sound.

    Raises:
        BadAnomalies: the message says what is wrong, and with which anomaly.
    """
    try:
        given = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnomalies(str(error)) from error
    if len(given.anomalies) > MOST_ANOMALIES:
        raise BadAnomalies(f"at most {MOST_ANOMALIES} anomalies at once")
    rows = [_row(place, item) for place, item in enumerate(given.anomalies)]
    for name, counts, known in (("scored", given.scored, BUCKETS), ("dropped", given.dropped, DROPPED)):
        for word, count in counts.items():
            if word not in known or not 0 <= count <= MOST_COUNT:
                raise BadAnomalies(f"$.{name}: {', '.join(known)}, each a count")
    scores.add(given.scored.items(), given.dropped.items())
    return rows


def _row(place: int, item: _Anomaly) -> list[Any]:
    if not item.event_id or not item.anomaly_id or not item.state:
        raise BadAnomalies(f"$.anomalies[{place}]: event_id, anomaly_id and state must not be empty")
    names = (item.event_id, item.anomaly_id, item.state, item.detector, item.signal, item.alertname)
    labels = (*item.scope, *item.scope.values())
    if any(len(name) > MOST_ID_CHARS for name in (*names, item.severity, *labels)):
        raise BadAnomalies(f"$.anomalies[{place}]: names of at most {MOST_ID_CHARS} characters")
    if len(item.detail) > MOST_TEXT_CHARS or len(item.scope) > MOST_LABELS:
        raise BadAnomalies(
            f"$.anomalies[{place}]: a detail of at most {MOST_TEXT_CHARS} characters, {MOST_LABELS} labels"
        )
    try:
        msgspec.json.decode(item.detail)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnomalies(f"$.anomalies[{place}].detail: not JSON: {error}") from error
    money = item.usd_per_hour
    if money is not None and not (money.is_finite() and abs(money) < 10**12):
        raise BadAnomalies(f"$.anomalies[{place}].usd_per_hour: no such amount")
    return [
        _instant_us(item.detected_at),
        _instant_us(item.since),
        _instant_us(item.until),
        item.detector,
        item.signal,
        list(item.scope),
        list(item.scope.values()),
        item.score,
        item.observed,
        item.expected,
        item.state,
        item.detail,
        item.anomaly_id,
        item.event_id,
        item.alertname,
        item.severity,
        None if item.usd_per_hour is None else str(item.usd_per_hour),
    ]


def _instant_us(at: datetime | None) -> int | None:
    if at is None:
        return None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
