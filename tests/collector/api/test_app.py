"""The collector's HTTP face, in one process."""

import asyncio
import json
import os
import threading
import time
from decimal import Decimal

import msgspec
import pyarrow as pa
import pytest
from support.collector_api import HERE, LIMITS, client_of, state_over

import collector
from collector.api.app import build_app
from collector.api.questions import Turns
from collector.domain.money import usd
from collector.ingest.remote import packed
from collector.journal import encoded
from collector.settings import Address
from collector.store import prices
from collector.store.answers import ARROW
from collector.store.reader import Busy


@pytest.fixture
def state(tmp_path, database):
    return state_over(database, tmp_path)


@pytest.fixture
async def client(state):
    async with client_of(build_app(state, HERE, None, LIMITS)) as client:
        yield client


@pytest.fixture
def calls(state, journal, call):
    now = time.time_ns() // 1000
    calls = [
        call(
            started_at_us=now - n * 1_000_000,
            cost=10**12 + n,
            agent=f"agent{n % 2}",
            charges={"image_output": (1, 2, 3)},
        )
        for n in range(20)
    ]
    journal.write(*calls)
    state.ledger.follower.catch_up()
    return calls


async def test_the_catalogue_names_every_question_with_its_parameters(client):
    reply = await client.get("/v1/questions")

    listed = {question["name"]: question for question in reply.json()["questions"]}
    expected = {"totals", "spend_over_time", "spend_by", "calls", "call", "attempts", "values", "health"}
    expected |= {"budget_events", "outcomes", "ended_over_time", "incidents", "incident", "injections"}
    expected |= {"gpu_costs", "gpu_costs_over_time", "gpus_over_time", "engines_over_time", "gpu_charges"}
    expected |= {"waste", "waste_calls", "cache_breaks", "cache_break_calls", "runs", "run", "turns", "tools"}
    expected |= {"runs_by", "losses", "prices", "price_changes", "charges"}
    expected |= {"quality", "inferred_outcomes", "similar_error", "similar_curve"}
    assert set(listed) == expected
    assert "since" in listed["totals"]["parameters"]
    assert all(question["help"] for question in listed.values())
    assert "team" in reply.json()["dimensions"]


def an_anomaly(state):
    at = {
        "event_id": state,
        "anomaly_id": state,
        "detected_at": time.strftime("%FT%TZ", time.gmtime(time.time() - 9)),
    }
    return {**at, "state": state, "detector": "injection", "signal": "prompt_injection"}


def fill_gpu_tables(state, call_id):
    at = "now()::TIMESTAMP - INTERVAL 1 MINUTE"
    state.ledger.books.write(f"INSERT INTO gpu_samples (sampled_at, gpu) VALUES ({at}, $1)", [["GPU-1"]])
    state.ledger.books.write(f"INSERT INTO engine_samples (sampled_at, replica) VALUES ({at}, $1)", [["r"]])
    state.ledger.books.write(f"INSERT INTO gpu_windows (window_start, upstream) VALUES ({at}, $1)", [["u"]])
    state.ledger.books.write(
        f"INSERT INTO gpu_charges (window_start, call_id) VALUES ({at}, $1)", [[call_id]]
    )


def fill_findings(state, call_id):
    own = {
        "waste": "'looped' AS waste",
        "cache_breaks": "'tools changed' AS cause, 'tools' AS block, 7 AS lost_tokens",
        "runs": "'t1' AS task_id, 3 AS steps, 0.5 AS effective_cost_usd",
        "tool_uses": "'search' AS tool, 2 AS uses",
        "inferred_outcomes": "'user retry' AS signal",
    }
    for table, columns in own.items():
        state.ledger.books.write(
            f"INSERT INTO {table} BY NAME SELECT call_id, started_at, tenant, agent, request_model,"
            f" conversation_id, {columns} FROM calls WHERE call_id = $1",
            [[call_id]],
        )


def fill_price_books(database):
    now = time.time_ns() // 1000
    prices.remember(database, now - 1_000_000)
    prices.remember(database, now, configured={"house-model": {"input": Decimal(1), "output": Decimal(2)}})


async def test_every_question_that_is_listed_is_answered(client, calls, state, database):
    fill_gpu_tables(state, calls[0].call_id)
    fill_findings(state, calls[0].call_id)
    fill_price_books(database)
    state.ledger.books.write(
        "INSERT INTO similar_checks BY NAME SELECT now() - INTERVAL 1 MINUTE AS happened_at, $1 AS likeness,"
        " true AS serving, true AS is_right",
        [["same"]],
    )
    state.ledger.books.write("INSERT INTO quarantined VALUES (now(), 'a', 'torn', 'why', $1)", [[1]])
    await client.post("/v1/events", json={"events": [told("e1")]})
    await client.post("/v1/outcomes", json={"task_id": "t1", "success": True})
    listed = (await client.get("/v1/questions")).json()["questions"]
    await client.post("/v1/anomalies", json={"anomalies": [an_anomaly("open"), an_anomaly("seen")]})
    needed = {"call_id": calls[0].call_id, "dimension": "agent", "anomaly_id": "open"}
    for question in listed:
        parameters = {name: needed[name] for name in question["parameters"] if name in needed}
        reply = await client.get(f"/v1/questions/{question['name']}", params=parameters)
        assert reply.status_code == 200, question["name"]
        assert reply.json()["rows"], question["name"]


async def test_money_in_json_is_an_exact_decimal_as_text(client, calls):
    (row,) = (await client.get("/v1/questions/totals")).json()["rows"]

    assert row["effective_cost_usd"] == "20.000000000190"
    assert row["avoided_cost_usd"] == "0.000000000000"
    assert row["calls"] == 20
    assert row["first_at"].endswith("Z")


async def test_an_answer_is_an_arrow_stream_where_that_is_accepted(client, calls):
    reply = await client.get("/v1/questions/spend_by", params={"by": "agent"}, headers={"accept": ARROW})

    assert reply.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(reply.content).read_all()
    assert sum(table["effective_cost_usd"].to_pylist()) == usd(sum(c.effective_cost_pico for c in calls))


async def test_tags_and_lists_are_objects_and_lists_in_json(client, calls):
    (row,) = (await client.get("/v1/questions/call", params={"call_id": calls[3].call_id})).json()["rows"]
    assert row["tags"] == {"env": "prod"}
    assert row["finish_reasons"] == ["stop"]
    assert row["call_id"] == calls[3].call_id


@pytest.mark.parametrize(
    ("path", "status", "choice"),
    [
        ("/v1/questions/nonsense", 404, "totals"),
        ("/v1/questions/totals?colour=red", 400, "team"),
        ("/v1/questions/spend_by?by=colour", 400, "agent"),
        ("/v1/questions/spend_over_time?bucket=week", 400, "day"),
        ("/v1/questions/values?dimension=colour", 400, "team"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_what_can(client, path, status, choice):
    reply = await client.get(path)
    assert reply.status_code == status
    assert choice in reply.json()["error"]["choices"]
    assert reply.json()["error"]["message"]


async def test_a_batch_of_another_machine_is_taken_and_a_gap_answered_with_409(client, call):
    body = packed(encoded([call(), call()]))
    headers = {"content-encoding": "gzip"}

    for _ in range(2):
        reply = await client.post("/v1/journal?source=far", content=body, headers=headers)
        assert (reply.status_code, reply.json()) == (200, {"sequence": 2})
    reply = await client.post("/v1/journal?source=far", content=packed(encoded([call()], 9)), headers=headers)
    assert reply.status_code == 409
    assert reply.json()["expected"] == 3
    assert (await client.post("/v1/journal", content=body, headers=headers)).status_code == 400
    large = await client.post("/v1/journal?source=far", content=os.urandom((1 << 20) + 1))
    assert large.status_code == 413


async def test_an_outcome_is_written_down(client, rows):
    outcome = {"task_id": "t1", "success": True, "value_usd": "12.50", "score": 0.75, "note": "merged"}
    reply = await client.post("/v1/outcomes", json=outcome)

    assert reply.status_code == 201
    ((task, success, value, score),) = rows("SELECT task_id, success, value_usd, score FROM outcomes")
    assert (task, success, score) == ("t1", True, 0.75)
    assert value == usd(12_500_000_000_000)


@pytest.mark.parametrize(
    "body",
    [
        {"success": True},
        {"task_id": "t"},
        {"task_id": "t", "success": "yes"},
        {"task_id": "t", "success": True, "mood": 1},
        {"task_id": "t", "success": True, "value_usd": "NaN"},
        {"task_id": "t", "success": True, "value_usd": "1e9"},
        {"task_id": "t" * 300, "success": True},
    ],
)
async def test_an_outcome_that_is_none_is_refused(client, rows, body):
    assert (await client.post("/v1/outcomes", json=body)).status_code == 400
    assert rows("SELECT count(*) FROM outcomes") == [(0,)]


async def test_an_outcome_must_be_sent_as_json_so_that_no_web_form_can(client):
    reply = await client.post("/v1/outcomes", content=b'{"task_id":"t","success":true}')
    assert reply.status_code == 415


def told(event_id, **changes):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    detail = json.dumps({"reason": "burn rate", "dry_run": False})
    plain = {
        "happened_at": now,
        "budget": "search",
        "counter": "team=search",
        "call_id": "",
        "detail": detail,
    }
    return {"event_id": event_id, "action": "directive_raised:throttle", **plain, **changes}


async def ask(client, question, **parameters):
    reply = await client.get(f"/v1/questions/{question}", params=parameters)
    assert reply.status_code == 200, reply.text
    return reply.json()["rows"]


async def test_events_are_kept_once_each_however_often_they_are_sent(client):
    first = await client.post("/v1/events", json={"events": [told("e1"), told("e2", action="cut")]})
    again = await client.post("/v1/events", json={"events": [told("e1"), told("e3", budget="other")]})

    assert (first.status_code, again.status_code) == (201, 201)
    rows = await ask(client, "budget_events")
    assert sorted(row["event_id"] for row in rows) == ["e1", "e2", "e3"]
    assert json.loads(rows[0]["detail"]) == {"reason": "burn rate", "dry_run": False}


async def test_what_the_alerts_process_posts_is_taken_as_it_is(client, rows):
    from alerts.audit import Audit

    audit = Audit("http://127.0.0.1:4010", client, [told("a1"), told("a2")])

    assert await audit.deliver()
    assert audit.waiting == []
    assert rows("SELECT event_id FROM budget_events ORDER BY 1") == [("a1",), ("a2",)]


async def test_budget_events_come_newest_first_and_narrowed_down(client):
    events = [
        told("old", happened_at="2026-01-01T10:00:00Z"),
        told("new", happened_at="2026-01-01T12:00:00+01:00", action="cut"),
        told("other", happened_at="2026-01-01T10:30:00", budget="index"),
    ]
    await client.post("/v1/events", json={"events": events})
    day = {"since": "2026-01-01", "until": "2026-01-02"}

    async def ids(**parameters):
        return [row["event_id"] for row in await ask(client, "budget_events", **day, **parameters)]

    assert await ids() == ["new", "other", "old"]
    assert await ids(limit=1) == ["new"]
    assert await ids(budget="search") == ["new", "old"]
    assert await ids(budget="search", action="cut") == ["new"]
    assert await ids(budget=["index", "nothing"]) == ["other"]
    assert await ask(client, "budget_events", since="2026-01-02", until="2026-01-03") == []
    refused = await client.get("/v1/questions/budget_events", params={"team": "x"})
    assert refused.status_code == 400
    assert "action" in refused.json()["error"]["choices"]


@pytest.mark.parametrize(
    "body",
    [
        {"events": {}},
        {},
        {"events": [{"event_id": "x"}]},
        {"events": [told("")]},
        {"events": [told("x", happened_at="yesterday")]},
        {"events": [told("x", detail="y" * 9000)]},
        {"events": [told(str(number)) for number in range(1001)]},
    ],
)
async def test_events_that_are_none_are_refused_and_none_of_them_kept(client, rows, body):
    assert (await client.post("/v1/events", json=body)).status_code == 400
    assert rows("SELECT count(*) FROM budget_events") == [(0,)]


async def test_attempts_are_told_beside_calls_over_time_and_by_dimension(client, journal, call, attempt):
    now = time.time_ns() // 1000 - 1_000_000
    journal.write(call(started_at_us=now, attempts=(attempt(1, now), attempt(2, now, attempt=2))))

    for question in ("spend_over_time", "spend_by"):
        (row,) = await ask(client, question)
        assert (row["calls"], row["attempts"]) == (1, 2), question


async def test_outcomes_are_told_newest_first_and_of_one_task(client):
    for task, success in (("t1", False), ("t2", True), ("t1", True)):
        await client.post("/v1/outcomes", json={"task_id": task, "success": success, "value_usd": "0.1"})

    rows = await ask(client, "outcomes")
    assert [(row["task_id"], row["success"]) for row in rows] == [("t1", True), ("t2", True), ("t1", False)]
    assert rows[0]["value_usd"] == "0.100000000000"
    assert [row["success"] for row in await ask(client, "outcomes", task_id="t1")] == [True, False]


async def test_sql_is_answered_from_the_snapshot(client, state, calls):
    state.ledger.publisher.publish()

    text = "SELECT agent, sum(effective_cost_usd) AS usd FROM calls GROUP BY 1 ORDER BY 1"
    plain = await client.post("/v1/sql", content=text)
    as_json = await client.post("/v1/sql", json={"sql": text})
    as_arrow = await client.post("/v1/sql", content=text, headers={"accept": ARROW})

    assert plain.json()["rows"] == as_json.json()["rows"]
    assert plain.json()["rows"][0] == {"agent": "agent0", "usd": "10.000000000090"}
    assert pa.ipc.open_stream(as_arrow.content).read_all().num_rows == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"SELECT * FROM read_text('/etc/passwd')", 400),
        (b"SELECT 1; SELECT 2", 400),
        (b"DROP TABLE calls", 400),
        (b"\xff\xfe", 400),
        (b"SELECT '" + b"x" * 200_000 + b"'", 413),
    ],
)
async def test_sql_that_is_not_one_select_is_refused(client, state, calls, body, status):
    state.ledger.publisher.publish()
    reply = await client.post("/v1/sql", content=body)
    assert reply.status_code == status
    assert str(state.data_dir) not in reply.text


async def test_sql_sees_nothing_of_the_collectors_environment(client, state, calls, monkeypatch):
    monkeypatch.setenv("BURSAR_CONTROL_KEY", "canary-key-value")
    state.ledger.publisher.publish()
    seen = []
    run = __import__("asyncio").create_subprocess_exec

    async def spy(*arguments, **options):
        seen.append(options["env"])
        return await run(*arguments, **options)

    monkeypatch.setattr("asyncio.create_subprocess_exec", spy)
    reply = await client.post("/v1/sql", content="SELECT 1 AS one")

    assert reply.json()["rows"] == [{"one": 1}]
    assert "canary-key-value" not in json.dumps(seen)


async def test_sql_before_the_first_snapshot_is_asked_to_wait(client):
    assert (await client.post("/v1/sql", content="SELECT 1")).status_code == 503


async def test_while_the_ledger_cannot_be_opened_only_the_probes_answer(client, state):
    state.ledger, state.trouble = None, "bursar.duckdb is held by process 4711"

    assert (await client.get("/healthz")).status_code == 200
    ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "4711" in ready.json()["reason"]
    asked = await client.get("/v1/questions/totals")
    assert asked.status_code == 503
    assert "4711" in asked.json()["error"]["message"]
    assert b"bursar_collector_ready 0.0" in (await client.get("/metrics")).content


async def test_health_says_how_far_behind_the_books_are(client, calls):
    (row,) = (await client.get("/v1/questions/health")).json()["rows"]
    assert row["calls"] == 20
    assert row["journal_lag_s"] == 0.0
    assert row["rebuilds"] == 0
    assert row["last_commit_at"].endswith("Z")
    assert row["snapshot_at"] is None
    assert row["version"] == collector.__version__
    assert row["duckdb_version"].startswith("v")


async def test_health_says_what_bursar_added_to_the_calls_of_late(client, state, journal, call):
    now = time.time_ns() // 1000
    journal.write(*(call(started_at_us=now - n * 1_000_000, overhead_us=100 * n) for n in range(1, 102)))
    journal.write(call(started_at_us=now - 3600 * 1_000_000, overhead_us=9_000_000), source="an-hour-ago")
    state.ledger.follower.catch_up()
    (row,) = (await client.get("/v1/questions/health")).json()["rows"]
    assert row["measured_calls"] == 101
    assert [row[f"overhead_{name}_us"] for name in ("p50", "p95", "p99")] == [5100, 9600, 10000]


async def test_what_was_lost_is_told_by_reason(client, state, journal, call):
    journal.write(call(), source="a")
    (segment,) = journal.directory.glob("*.seg")
    segment.write_bytes(segment.read_bytes() + b"torn")
    state.ledger.follower.catch_up()
    rows = (await client.get("/v1/questions/losses")).json()["rows"]
    assert [(row["source"], row["notes"]) for row in rows] == [("a", 1)]
    assert rows[0]["reason"]


async def test_metrics_count_what_came_in_and_what_was_lost(client, state, journal, call):
    journal.write(call(), source="a")
    (segment,) = journal.directory.glob("*.seg")
    segment.write_bytes(segment.read_bytes() + b"torn")
    state.ledger.follower.catch_up()

    text = (await client.get("/metrics")).text
    assert 'bursar_collector_rows_total{table="calls"} 1.0' in text
    assert 'bursar_dropped_total{reason="torn",stage="ingest"} 1.0' in text
    assert "bursar_journal_lag_seconds 0.0" in text


async def test_no_text_of_a_caller_reaches_the_database_as_sql(client, calls):
    nasty = "x'); DROP TABLE calls; --"
    for path in ("totals", "calls", "spend_by", "values", "spend_over_time"):
        parameters = {"agent": nasty, "tag": f"{nasty}={nasty}"}
        if path == "values":
            parameters["dimension"] = "agent"
        reply = await client.get(f"/v1/questions/{path}", params=parameters)
        assert reply.status_code == 200
    assert (await client.get("/v1/questions/totals")).json()["rows"][0]["calls"] == 20


async def test_json_answers_are_json(client, calls):
    reply = await client.get("/v1/questions/calls", params={"limit": "1"})
    msgspec.json.decode(reply.content)
    assert reply.headers["content-type"] == "application/json"


# ---- who may ask --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic c2VjcmV0"}, 401),
        ({"authorization": "Bearer the-key"}, 200),
        ({"authorization": "bearer the-key"}, 200),
    ],
)
async def test_off_loopback_every_question_needs_the_control_key(state, headers, status):
    app = build_app(state, Address("0.0.0.0", 4010), "the-key", LIMITS)
    async with client_of(app, "books.internal:4010") as client:
        assert (await client.get("/v1/questions/totals", headers=headers)).status_code == status
        assert (await client.get("/metrics", headers=headers)).status_code == status
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:4010"}, 200),
        ({"host": "localhost:4010"}, 200),
        ({"host": "[::1]:4010"}, 200),
        ({"host": "evil.example:4010"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8501"}, 200),
    ],
)
async def test_on_loopback_no_web_page_of_another_origin_may_ask(client, headers, status):
    assert (await client.get("/v1/questions/totals", headers=headers)).status_code == status


async def test_several_questions_are_answered_together_about_one_state_of_the_books(client, calls):
    asked = [
        {"name": "totals"},
        {"name": "spend_by", "parameters": {"by": ["agent"], "agent": ["agent0", "agent1"]}},
        {"name": "totals", "parameters": {"since": ["yesterday"]}},
        {"name": "nothing"},
    ]

    reply = await client.post("/v1/questions", json={"questions": asked})

    head, _, rest = reply.content.partition(b"\n")
    heads = json.loads(head)["answers"]
    assert [one["status"] for one in heads] == [200, 200, 400, 404]
    assert sum(one["bytes"] for one in heads) == len(rest)
    parts = [rest[: heads[0]["bytes"]], rest[heads[0]["bytes"] :][: heads[1]["bytes"]]]
    totals, by_agent = (pa.ipc.open_stream(part).read_all().to_pylist() for part in parts)
    assert totals[0]["effective_cost_usd"] == usd(sum(one.effective_cost_pico for one in calls))
    assert sum(row["calls"] for row in by_agent) == totals[0]["calls"] == len(calls)


@pytest.mark.parametrize("body", [{"questions": []}, {"asked": []}, [], {"questions": [{"name": 1}]}])
async def test_what_is_no_list_of_questions_is_refused(client, body):
    assert (await client.post("/v1/questions", json=body)).status_code == 400


async def test_who_waits_for_the_same_question_is_answered_together_and_others_in_turn():
    turns, order, go = Turns(at_once=1), [], threading.Event()

    def work(name):
        def run():
            go.wait(30)
            order.append(name)
            return [name.encode()]

        return run

    asked = [turns.take(name, work(name)) for name in ("first", "second", "third", "second", "second")]
    running = [asyncio.ensure_future(one) for one in asked]
    await asyncio.sleep(0.01)
    go.set()
    answers = await asyncio.gather(*running)

    assert order == ["first", "second", "third"]
    assert answers == [[b"first"], [b"second"], [b"third"], [b"second"], [b"second"]]


async def test_a_turn_that_never_comes_is_said_to_be_busy_and_asked_anew_after_that():
    turns, go = Turns(at_once=1, wait_s=0.01), threading.Event()
    running = asyncio.ensure_future(turns.take("long", lambda: [go.wait(30) and b"done"]))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await turns.take("short", lambda: [b"never"])
    go.set()
    assert await running == [b"done"]
    assert await turns.take("short", lambda: [b"now"]) == [b"now"]
