"""Pages over a real ledger: a journal, the collector that books it, and the sums on the page."""

import json
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from streamlit.testing.v1 import AppTest
from support.ports import free_port

from collector.domain.money import usd
from collector.domain.record import AttemptRecord, CallRecord
from collector.journal import JournalWriter
from dashboards import data, transport
from dashboards.scope import Scope, recent
from dashboards.spending import spending
from tests.dashboards.drawn import facts

CALLS = 400
PATIENCE_S = 180

COLLECTOR = """
import dataclasses, pathlib, sys
from collector.run import run
from collector.settings import Address, CollectorConfig
config = dataclasses.replace(CollectorConfig(), listen=Address("127.0.0.1", int(sys.argv[2])))
sys.exit(run(config, data_dir=pathlib.Path(sys.argv[1])))
"""

AGENTS = {"planner": "search", "retriever": "search", "triage": "support", "": ""}
MODELS = {"gpt-5": "openai", "claude-sonnet-4-5": "anthropic", "qwen3-8b": "vllm"}


def one_call(noise: random.Random, at_us: int) -> CallRecord:
    """A call at ``at_us``, of random agent, model, tokens, and a cost that uses every digit."""
    agent, model = noise.choice(list(AGENTS)), noise.choice(list(MODELS))
    cost = noise.randrange(1, 10**11)
    given: dict[str, Any] = dict.fromkeys(CallRecord._fields, "") | CallRecord._field_defaults
    tokens = {
        "input_tokens": noise.randrange(500, 9000),
        "output_tokens": noise.randrange(1, 900),
        "cache_read_input_tokens": noise.randrange(0, 500),
        "cache_write_input_tokens": 0,
        "cache_write_1h_input_tokens": 0,
        "reasoning_output_tokens": 0,
    }
    priced = {
        "usage_grade": "reported",
        "price_grade": noise.choice(["listed", "prior"]),
        "price_version": "2026-11-01",
        "list_cost_pico": cost + 7,
        "effective_cost_pico": cost,
    }
    attempt = AttemptRecord(
        attempt=1, upstream=MODELS[model], replica="api.example:443", provider_name=MODELS[model],
        request_model=model, span_id=f"{noise.getrandbits(64):016x}", started_at_us=at_us,
        duration_us=900_000, time_to_first_chunk_us=200_000, http_status=200, error_type="",
        **tokens, **priced,
    )  # fmt: skip
    milliseconds = at_us // 1000
    call_id = uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | noise.getrandbits(62))
    given |= tokens | priced | {
        "call_id": str(call_id), "started_at_us": at_us, "duration_us": 1_000_000,
        "time_to_first_chunk_us": 250_000, "tenant": "acme", "team": AGENTS[agent], "agent": agent,
        "tags": {"env": "prod"}, "trace_id": f"{noise.getrandbits(128):032x}", "stream": True,
        "api": "openai.chat", "request_model": model, "response_model": model,
        "provider_name": MODELS[model], "upstream": MODELS[model], "outcome": "served", "http_status": 200,
        "cache": "miss", "audio_input_tokens": 0, "audio_output_tokens": 0, "avoided_cost_pico": 0,
        "provider_cost_pico": None, "overhead_us": 90, "finish_reasons": ["stop"], "tool_names": [],
        "request_bytes": 1000, "response_bytes": 500, "chunks": 12, "path": "/v1/chat/completions",
        "server_port": 443, "request_attributes": {}, "response_attributes": {}, "message_hashes": [],
        "last_message_hash": 0, "content": None, "attempts": (attempt,),
    }  # fmt: skip
    return CallRecord(**given)


@pytest.fixture(scope="module")
def booked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[CallRecord], Path]]:
    """A collector that has booked some calls of the last day: its address, the calls, its folder."""
    folder = tmp_path_factory.mktemp("ledger")
    noise, now_us = random.Random(20261122), time.time_ns() // 1000
    calls = [one_call(noise, now_us - noise.randrange(10**6, 23 * 3600 * 10**6)) for _ in range(CALLS)]
    writer = JournalWriter(folder / "journal", "test-1")
    for call in calls:
        writer.record(call)
    writer.close()
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", COLLECTOR, str(folder), str(port)])
    try:
        url = f"http://127.0.0.1:{port}"
        _until_booked(url, process)
        yield url, calls, folder
    finally:
        process.terminate()
        process.wait(30)


def _until_booked(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline, seen = time.monotonic() + PATIENCE_S, None
    while time.monotonic() < deadline:
        assert process.poll() is None, "the collector ended by itself"
        try:
            with urllib.request.urlopen(f"{url}/v1/questions/health", timeout=5) as reply:
                seen = json.load(reply)["rows"][0]["calls"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            seen = None
        if seen == CALLS:
            return
        time.sleep(0.1)
    raise AssertionError(f"the collector has booked {seen} of {CALLS} calls after {PATIENCE_S} s")


@pytest.fixture
def ledger(
    booked: tuple[str, list[CallRecord], Path], monkeypatch: pytest.MonkeyPatch
) -> Sequence[CallRecord]:
    """The calls of the ledger that pages now look at."""
    monkeypatch.setenv("BURSAR_COLLECTOR_URL", booked[0])
    return booked[1]


def ledger_line(app: AppTest) -> str:
    line: str = next(caption.value for caption in app.caption if caption.value.startswith("Ledger"))
    return line.replace("\\", "")


def exact(calls: Sequence[CallRecord], field: str = "effective_cost_pico") -> str:
    return f"{usd(sum(getattr(call, field) for call in calls)):,.12f}"


def test_the_page_s_total_is_the_sum_over_the_journal_to_the_last_digit(
    ledger: Sequence[CallRecord], visit: Callable[..., AppTest]
) -> None:
    line = ledger_line(visit())
    assert f"{exact(ledger)} USD spent" in line
    assert f"{exact(ledger, 'list_cost_pico')} USD at list price" in line
    assert f"{CALLS} calls" in line


@pytest.mark.parametrize(
    ("field", "value"), [("agent", "planner"), ("agent", ""), ("team", "search"), ("request_model", "gpt-5")]
)
def test_a_filtered_total_is_the_sum_over_the_calls_that_match(
    ledger: Sequence[CallRecord], visit: Callable[..., AppTest], field: str, value: str
) -> None:
    matching = [call for call in ledger if getattr(call, field) == value]
    page = visit(**{field: value or "(none)"})
    assert f"{exact(matching)} USD spent" in ledger_line(page)
    assert f"{len(matching)} calls" in ledger_line(page)


@pytest.mark.parametrize("split", ["model", "agent", "team", "provider", "outcome"])
def test_every_split_adds_up_to_the_total(
    ledger: Sequence[CallRecord], visit: Callable[..., AppTest], split: str
) -> None:
    app = visit(split=split)
    table = app.dataframe[0].value
    assert table["calls"].sum() == CALLS
    spent = sum(Decimal(f"{cost:.12f}") for cost in table["effective_cost_usd"])
    assert f"{spent:,.12f}" == exact(ledger)
    assert not [caption for caption in app.caption if "arrived" in caption.value]


@pytest.mark.parametrize("span", ["1h", "7d", "30d", "90d"])
def test_every_range_counts_the_calls_inside_it(
    ledger: Sequence[CallRecord], visit: Callable[..., AppTest], span: str
) -> None:
    start_us = time.time_ns() // 1000 - 3600 * 10**6 + 60 * 10**6 if span == "1h" else 0
    inside = [call for call in ledger if call.started_at_us >= start_us]
    line = ledger_line(visit(range=span))
    if span == "1h":  # Its edge moves on with every minute: the calls of the last 59 are inside for sure.
        assert int(line.split(" calls")[0].rsplit(" ", 1)[1]) >= len(inside) > 0
    else:
        assert f"{exact(inside)} USD spent" in line


def test_pages_of_calls_hold_every_call_once_newest_first(
    ledger: Sequence[CallRecord], visit: Callable[..., AppTest]
) -> None:
    newest_first = sorted(ledger, key=lambda call: (call.started_at_us, call.call_id), reverse=True)
    app = visit("calls")
    seen = list(app.dataframe[0].value["call_id"])
    while not app.button(key="older").disabled and len(seen) < CALLS:
        app.button(key="older").click().run()
        seen += list(app.dataframe[0].value["call_id"])
    assert seen == [call.call_id for call in newest_first]


def test_one_call_is_shown_as_the_journal_has_it(
    ledger: Sequence[CallRecord], visit: Callable[..., AppTest]
) -> None:
    call = ledger[7]
    app = visit("calls", call=call.call_id)
    told = facts(app)
    assert told["Really owed"] == f"{usd(call.effective_cost_pico):.12f} USD"
    assert told["At list price"] == f"{usd(call.list_cost_pico):.12f} USD"
    assert told["Input"] == f"{call.input_tokens:,}"
    assert told["Trace"] == call.trace_id
    attempts = next(frame.value for frame in app.dataframe if "replica" in frame.value.columns)
    assert list(attempts["replica"]) == ["api.example:443"]


def test_the_filter_panel_offers_what_the_ledger_holds(
    ledger: Sequence[CallRecord], visit: Callable[..., AppTest]
) -> None:
    app = visit()
    app.session_state["filters"] = True
    app.run()
    assert set(app.multiselect(key="filter_agent").options) == {"planner", "retriever", "triage", "(none)"}
    assert set(app.multiselect(key="filter_tag").options) == {"env=prod"}
    assert not app.exception


def test_what_the_page_adds_up_is_what_sql_adds_up(
    booked: tuple[str, list[CallRecord], Path], visit: Callable[..., AppTest], ledger: Sequence[CallRecord]
) -> None:
    """The published copy of the ledger, read by another program, says the same."""
    snapshot = booked[2] / "snapshot.duckdb"
    deadline, spent = time.monotonic() + PATIENCE_S, None
    while spent is None and time.monotonic() < deadline:
        if snapshot.exists():
            with duckdb.connect(str(snapshot), read_only=True) as connection:
                found = connection.execute("SELECT count(*), sum(effective_cost_usd) FROM calls").fetchone()
            spent = found[1] if found and found[0] == CALLS else None
        if spent is None:
            time.sleep(0.2)
    assert spent is not None, "no snapshot with every call was published"
    assert f"{spent:,.12f} USD spent" in ledger_line(visit())


def test_what_alerting_told_the_collector_stands_on_the_page_of_alerts(
    booked: tuple[str, list[CallRecord], Path], visit: Callable[..., AppTest], ledger: Sequence[CallRecord]
) -> None:
    told = {
        "event_id": "e-1", "anomaly_id": "i-1", "detected_at": "2026-11-22T10:00:00Z", "state": "open",
        "detector": "rule", "signal": "spend", "scope": {"agent": "planner"}, "alertname": "SpendAnomaly",
        "severity": "page", "usd_per_hour": "2.25", "detail": '{"summary": "calls went up"}',
    }  # fmt: skip
    request = urllib.request.Request(
        f"{booked[0]}/v1/anomalies",
        json.dumps({"anomalies": [told]}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.status == 201
    app = visit("incidents")
    row = app.dataframe[0].value.iloc[0]
    assert (row["alertname"], row["whose"], row["usd_per_hour"]) == ("SpendAnomaly", "agent=planner", "$2.25")
    assert row["why"] == "calls went up"
    app.query_params["incident"] = "i-1"
    app.run()
    assert facts(app)["What"] == "calls went up"


def test_a_page_that_is_opened_fifty_times_holds_no_lock_and_asks_once(
    booked: tuple[str, list[CallRecord], Path], ledger: Sequence[CallRecord], visit: Callable[..., AppTest]
) -> None:
    """I07: what is looked at often is answered from memory, and the books are never opened here."""
    app = visit()
    spent = ledger_line(app).split(" · ")[0]
    asked: list[str] = []
    real = transport.exchange

    def counted(whom: transport.Neighbour, method: str, path: str, **more: Any) -> bytes:
        asked.append(path)
        return real(whom, method, path, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(data, "exchange", counted)
        scope = Scope(window=recent("24h", datetime.now(UTC)))
        spending(scope, "agent")
        once = list(asked)
        with ThreadPoolExecutor(8) as readers:
            totals = list(readers.map(lambda _: spending(scope, "agent").spend, range(50)))
    assert {f"Ledger: {total:,.12f} USD spent" for total in totals} == {spent}
    assert asked == once
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not [path for path in opened if path.is_relative_to(booked[2])]
    with urllib.request.urlopen(f"{booked[0]}/readyz", timeout=30) as reply:
        assert reply.status == 200


@pytest.mark.parametrize("page", ["budgets", "agents", "gpu", "health"])
def test_pages_about_more_than_calls_stand_on_a_real_ledger(
    ledger: Sequence[CallRecord], visit: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setenv("BURSAR_CONTROL_URL", "http://127.0.0.1:1")  # No sidecar runs here.
    app = visit(page)
    if page == "agents":
        rows = {row["agent"]: row for row in app.dataframe[0].value.to_dict("records")}
        assert {row["calls"] for row in rows.values()} == {
            sum(call.agent == agent for call in ledger) for agent in AGENTS
        }
        line = next(one.value for one in app.caption if "Adds up to" in one.value)
        assert f"Adds up to {exact(ledger)} USD" in line.replace("\\", "")
    if page == "budgets":
        assert "control plane" in app.error[0].value
    if page == "gpu":
        assert "No GPU was seen" in app.info[0].value
    if page == "health":
        assert facts(app)["Calls"] == f"{CALLS:,}"
        assert {one.label: one.value for one in app.metric}["Added, median"] == "0\\.09 ms"
