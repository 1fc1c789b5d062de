"""I06: whoever may see one tenant gets nothing of another, whatever the URL says."""

import json
import time

import pytest
from support.collector_api import HERE, LIMITS, client_of, state_over

from collector.api.app import build_app
from collector.api.viewing import OF_NOBODY
from collector.domain.access import HEADER, Role
from collector.store.questions import CATALOGUE

ROLES = (
    Role(users=("ann@ours.example",), tenants=("ours",)),
    Role(users=("boss",), tenants=("*",)),
)
ANN = {HEADER: "ann@ours.example"}
MARK = "theirs"
"""Stands in everything that the other tenant's rows say."""


@pytest.fixture
def state(tmp_path, database):
    return state_over(database, tmp_path)


@pytest.fixture
async def client(state):
    async with client_of(build_app(state, HERE, None, LIMITS, ROLES)) as client:
        yield client


@pytest.fixture
def calls(state, journal, call):
    """Three calls of each tenant, and every kind of finding about them; by tenant."""
    now = time.time_ns() // 1000
    booked = {}
    for tenant, cost in (("ours", 10**12), (MARK, 7 * 10**12)):
        booked[tenant] = [
            call(
                started_at_us=now - n * 1_000_000, cost=cost, tenant=tenant, team=f"{tenant}-team",
                agent=f"{tenant}-agent", conversation_id=f"{tenant}-talk", task_id=f"{tenant}-task",
                tags={"of": tenant}, user_id=f"{tenant}-user", request_model=f"{tenant}-model",
            )
            for n in range(1, 4)
        ]  # fmt: skip
        journal.write(*booked[tenant], source=tenant)
    state.ledger.follower.catch_up()
    own = {
        "waste": "'looped' AS waste",
        "cache_breaks": "'tools changed' AS cause, 'tools' AS block, 7 AS lost_tokens",
        "runs": "3 AS steps, 0.5 AS effective_cost_usd",
        "tool_uses": "'search' AS tool, 2 AS uses",
        "inferred_outcomes": "'user retry' AS signal",
    }
    for table, columns in own.items():
        state.ledger.books.write(
            f"INSERT INTO {table} BY NAME SELECT call_id, started_at, tenant, team, agent, request_model,"
            f" conversation_id, task_id, tags, {columns} FROM calls WHERE task_id <> $1",
            [["none"]],
        )
    state.ledger.books.write(
        "INSERT INTO gpu_charges (call_id, attempt, upstream, window_start) SELECT call_id, 1,"
        " tenant || '-gpu', started_at FROM calls WHERE task_id <> $1",
        [["none"]],
    )
    return booked


async def tell(client):
    for tenant in ("ours", MARK):
        at = {"happened_at": time.strftime("%FT%TZ", time.gmtime(time.time() - 9))}
        event = {"event_id": f"{tenant}-e", "budget": f"{tenant}-budget", "action": "cut", "tenant": tenant}
        assert (await client.post("/v1/events", json={"events": [at | event]})).status_code == 201
        outcome = {"tenant": tenant, "task_id": f"{tenant}-task", "success": True, "note": f"{tenant} said"}
        assert (await client.post("/v1/outcomes", json=outcome)).status_code == 201
        found = {"anomaly_id": f"{tenant}-i", "detected_at": at["happened_at"], "scope": {"tenant": tenant},
                 "detector": "injection", "signal": "x"}  # fmt: skip
        told = [found | {"event_id": f"{tenant}-{state}", "state": state} for state in ("open", "seen")]
        assert (await client.post("/v1/anomalies", json={"anomalies": told})).status_code == 201


ASKED = [{}, {"tenant": MARK}, {"tenant": ["ours", MARK]}, {"agent": f"{MARK}-agent"}]


@pytest.mark.parametrize("parameters", ASKED, ids=["plain", "theirs", "both", "by another filter"])
async def test_no_question_tells_a_word_of_another_tenant(client, calls, parameters):
    await tell(client)
    theirs = {"call_id": calls[MARK][0].call_id, "anomaly_id": f"{MARK}-i", "dimension": "tenant"}
    answered = set()
    for question in CATALOGUE.values():
        needed = {name: theirs[name] for name in question.parameters if name in theirs}
        takes = {"filters", "judged"} & set(question.parameters)
        given = {name: value for name, value in parameters.items() if takes or name in question.parameters}
        reply = await client.get(f"/v1/questions/{question.name}", params=needed | given, headers=ANN)
        assert reply.status_code in (200, 403), question.name
        if reply.status_code == 200:
            answered.add(question.name)
            said = [row for row in reply.json()["rows"] if MARK in str(row)]
            assert not said, question.name
    if parameters.get("tenant") == MARK:  # Nothing but what belongs to no tenant, or is found empty.
        assert answered == OF_NOBODY | {"call", "attempts", "gpu_charges"}


async def test_of_questions_asked_together_none_tells_a_word_of_another_tenant(client, calls):
    await tell(client)
    theirs = {"call_id": [calls[MARK][0].call_id], "anomaly_id": [f"{MARK}-i"], "dimension": ["tenant"]}
    asked = [
        {"name": one.name, "parameters": {name: theirs[name] for name in one.parameters if name in theirs}}
        for one in CATALOGUE.values()
    ]
    asked.append({"name": "totals", "parameters": {"tenant": [MARK]}})

    reply = await client.post("/v1/questions", json={"questions": asked}, headers=ANN)

    head, _, bodies = reply.content.partition(b"\n")
    statuses = [one["status"] for one in json.loads(head)["answers"]]
    assert set(statuses) == {200, 403}
    assert statuses[-1] == 403
    own = bodies[: sum(one["bytes"] for one in json.loads(head)["answers"][:-1])]
    assert MARK.encode() not in own


async def test_what_is_theirs_is_answered_in_full(client, calls):
    for name in ("totals", "spend_by", "calls", "waste", "runs"):
        reply = await client.get(f"/v1/questions/{name}", headers=ANN)
        assert reply.status_code == 200
        assert reply.json()["rows"]
    (row,) = (await client.get("/v1/questions/totals", headers=ANN)).json()["rows"]
    assert (row["calls"], row["effective_cost_usd"]) == (3, "3.000000000000")
    (row,) = (await client.get("/v1/questions/totals", headers={HEADER: "boss"})).json()["rows"]
    assert row["effective_cost_usd"] == "24.000000000000"
    mine = calls["ours"][0].call_id
    for name in ("call", "attempts", "gpu_charges"):
        reply = await client.get(f"/v1/questions/{name}", params={"call_id": mine}, headers=ANN)
        assert reply.json()["rows"], name


async def test_another_tenant_s_call_is_as_one_that_never_was(client, calls):
    for call_id in (calls[MARK][0].call_id, "01980000-0000-7000-8000-000000000000"):
        for name in ("call", "attempts", "gpu_charges"):
            reply = await client.get(f"/v1/questions/{name}", params={"call_id": call_id}, headers=ANN)
            assert (reply.status_code, reply.json()["rows"]) == (200, [])


async def test_of_health_the_counts_of_all_tenants_are_kept_back(client, calls):
    (row,) = (await client.get("/v1/questions/health", headers=ANN)).json()["rows"]
    assert "journal_lag_s" in row
    assert not {"calls", "attempts", "database_bytes"} & set(row)


@pytest.mark.parametrize("path", ["/v1/sql", "/v1/events", "/v1/outcomes", "/v1/anomalies", "/v1/journal"])
async def test_people_who_see_some_tenants_ask_questions_and_do_nothing_else(client, calls, path):
    reply = await client.post(path, json={"sql": "SELECT 1"}, headers=ANN)
    assert reply.status_code == 403
    assert (await client.get("/metrics", headers=ANN)).status_code == 403


async def test_somebody_without_a_role_is_answered_nothing(client, calls):
    for path in ("/v1/questions", "/v1/questions/totals", "/v1/questions/health", "/metrics"):
        reply = await client.get(path, headers={HEADER: "eve@ours.example"})
        assert reply.status_code == 403
        assert "no role" in reply.json()["error"]["message"]
