"""What alerting found, kept in the ledger and asked for again."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.collector_api import app_over, client_of, state_over

from alerts.audit import Audit
from alerts.engine import Tracked
from alerts.incidents import told
from alerts.transitions import Alert, Phase
from collector.store.duckdb import Database

BEGIN = 1_790_000_000.0
DAY = {"since": "1789950000", "until": "1790050000"}


@pytest.fixture
async def client(database: Database, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_over(state_over(database, tmp_path))) as client:
        yield client


async def ask(client: httpx.AsyncClient, question: str, **parameters: Any) -> list[dict[str, Any]]:
    reply = await client.get(f"/v1/questions/{question}", params=parameters)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["rows"])


def tracked(phase: Phase, severity: str = "page", **changes: Any) -> Tracked:
    labels = {"alertname": "SpendAnomaly", "severity": severity, "impact": "cost", "agent": "crawler"}
    alert = Alert(
        phase=phase,
        active_at=BEGIN,
        fired_at=BEGIN,
        value=31.0,
        resolved_at=BEGIN + 600 if phase is Phase.RESOLVED else 0.0,
    )
    given: dict[str, Any] = {
        "annotations": {"finding": "f1", "why": "volume"},
        "usd_per_hour": Decimal("30.25"),
    }
    return Tracked(labels=labels, alert=alert, began_at=BEGIN - 300, **given | changes)


async def deliver(client: httpx.AsyncClient, *alerts: tuple[Tracked, float]) -> None:
    lines = [told(alert, [one for one, _ in alerts], at) for alert, at in alerts]
    assert await Audit(
        "http://127.0.0.1:4010", client, [line for line in lines if line], kind="anomalies"
    ).deliver()


async def test_an_incident_stands_open_until_it_is_over_and_its_story_stays(
    client: httpx.AsyncClient,
) -> None:
    await deliver(client, (tracked(Phase.FIRING), BEGIN))

    (row,) = await ask(client, "incidents", **DAY)
    assert (row["state"], row["detector"], row["signal"]) == ("open", "learned", "spend_rate")
    assert (row["alertname"], row["severity"], row["usd_per_hour"]) == (
        "SpendAnomaly",
        "page",
        "30.250000000000",
    )
    assert row["scope"] == {"agent": "crawler"}
    assert json.loads(row["detail"])["why"] == "volume"
    assert row["until_at"] is None
    # Open ones are shown whatever the period; closed ones only inside it.
    assert await ask(client, "incidents", since="2020-01-01", until="2020-01-02")

    await deliver(client, (tracked(Phase.RESOLVED), BEGIN + 600))

    (row,) = await ask(client, "incidents", **DAY)
    assert (row["state"], row["until_at"][:19]) == ("closed", "2026-09-21T14:23:20")  # BEGIN + 600
    assert await ask(client, "incidents", since="2020-01-01", until="2020-01-02") == []
    assert await ask(client, "incidents", severity="warn", **DAY) == []
    story = await ask(client, "incident", anomaly_id="f1")
    assert [row["state"] for row in story] == ["open", "closed"]


async def test_an_anomaly_that_became_louder_is_one_incident_that_is_still_open(
    client: httpx.AsyncClient,
) -> None:
    await deliver(client, (tracked(Phase.FIRING, "warn"), BEGIN))
    await deliver(
        client, (tracked(Phase.FIRING, "page"), BEGIN + 60), (tracked(Phase.RESOLVED, "warn"), BEGIN + 60)
    )

    (row,) = await ask(client, "incidents", **DAY)
    assert (row["state"], row["severity"]) == ("open", "page")


async def test_what_is_told_twice_is_kept_once(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await deliver(client, (tracked(Phase.FIRING), BEGIN))

    assert len(await ask(client, "incident", anomaly_id="f1")) == 1


def test_alerts_that_nobody_has_to_know_of_leave_no_row() -> None:
    assert told(tracked(Phase.PENDING), [], BEGIN) is None
    assert told(tracked(Phase.FIRING, "none"), [], BEGIN) is None


async def test_calls_that_look_like_an_injection_are_listed_and_counted(client: httpx.AsyncClient) -> None:
    seen = {
        "event_id": "e1", "anomaly_id": "c1", "detected_at": "2026-09-21T14:00:00Z", "state": "seen",
        "detector": "injection", "signal": "prompt_injection", "scope": {"agent": "crawler"}, "score": 0.93,
        "detail": json.dumps({"call_id": "c1", "text": 3}),
    }  # fmt: skip
    counts = {"scored": {"low": 40, "high": 1}, "dropped": {"rate": 2}}

    reply = await client.post("/v1/anomalies", json={"anomalies": [seen], **counts})

    assert reply.status_code == 201
    (row,) = await ask(client, "injections", **DAY)
    assert (row["call_id"], row["text"], row["score"], row["scope"]) == ("c1", 3, 0.93, {"agent": "crawler"})
    assert await ask(client, "incidents", **DAY) == []
    metrics = (await client.get("/metrics")).text
    assert 'bursar_injection_scores_total{bucket="high"} 1.0' in metrics
    assert 'bursar_injection_scores_total{bucket="suspicious"} 0.0' in metrics
    assert 'bursar_injection_unread_total{reason="rate"} 2.0' in metrics


ROW = {"event_id": "e", "anomaly_id": "a", "detected_at": "2026-09-21T14:00:00Z", "state": "open",
       "detector": "rule", "signal": "x"}  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {"anomalies": [ROW, {**ROW, "event_id": ""}]},
        {"anomalies": [{**ROW, "detail": "{"}]},
        {"anomalies": [{**ROW, "detail": '"' + "x" * 9000 + '"'}]},
        {"anomalies": [{**ROW, "scope": {"x" * 600: ""}}]},
        {"anomalies": [{**ROW, "usd_per_hour": "1e30"}]},
        {"anomalies": [{**ROW, "usd_per_hour": "NaN"}]},
        {"anomalies": [ROW], "scored": {"strange": 1}},
        {"anomalies": [ROW], "scored": {"low": -1}},
        {"anomalies": 7},
    ],
)  # fmt: skip
async def test_what_is_no_anomaly_is_refused_whole(
    client: httpx.AsyncClient, rows: Any, body: dict[str, Any]
) -> None:
    reply = await client.post("/v1/anomalies", json=body)

    assert reply.status_code == 400
    assert rows("SELECT count(*) FROM anomalies") == [(0,)]
