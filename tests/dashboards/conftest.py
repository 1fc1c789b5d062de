"""A small collector that answers the read API's questions from a list of calls, and pages run against it."""

import asyncio
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
import streamlit as st
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from streamlit.testing.v1 import AppTest
from support.fake_control import FakeControl

from dashboards import transport

APP = Path(__file__).resolve().parents[2] / "dashboards" / "app.py"

Row = dict[str, Any]

DIMENSIONS = (
    "tenant", "team", "user_id", "agent", "conversation_id", "task_id", "request_model", "response_model",
    "upstream", "provider_name", "api", "outcome", "cache", "key_id", "usage_grade", "price_grade", "tag",
)  # fmt: skip
COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens",
          "reasoning_output_tokens")  # fmt: skip
AMOUNTS = ("list_cost_usd", "effective_cost_usd", "avoided_cost_usd")

MONEY = pa.decimal128(18, 12)
SUM = pa.decimal128(38, 12)
CALL_TYPES: Mapping[str, pa.DataType] = {
    "call_id": pa.string(), "started_at": pa.timestamp("us"), "duration_ms": pa.float64(),
    "time_to_first_chunk_ms": pa.float64(), "tenant": pa.string(), "team": pa.string(),
    "user_id": pa.string(), "agent": pa.string(), "conversation_id": pa.string(),
    "conversation_source": pa.string(), "task_id": pa.string(), "tags": pa.map_(pa.string(), pa.string()),
    "key_id": pa.string(), "trace_id": pa.string(), "span_id": pa.string(), "parent_span_id": pa.string(),
    "api": pa.string(), "stream": pa.bool_(), "request_model": pa.string(), "response_model": pa.string(),
    "provider_name": pa.string(), "upstream": pa.string(), "outcome": pa.string(),
    "outcome_reason": pa.string(), "http_status": pa.int32(), "error_type": pa.string(),
    "cache": pa.string(), "downgraded_from": pa.string(), "input_tokens": pa.int64(),
    "output_tokens": pa.int64(), "cache_read_input_tokens": pa.int64(),
    "cache_write_input_tokens": pa.int64(), "cache_write_1h_input_tokens": pa.int64(),
    "reasoning_output_tokens": pa.int64(), "usage_grade": pa.string(), "price_grade": pa.string(),
    "price_version": pa.string(), "list_cost_usd": MONEY, "effective_cost_usd": MONEY,
    "avoided_cost_usd": MONEY, "overhead_us": pa.int64(),
}  # fmt: skip
DEFAULTS: Row = {
    "duration_ms": 1234.5, "time_to_first_chunk_ms": 210.0, "tenant": "acme", "team": "search",
    "user_id": "", "agent": "planner", "conversation_id": "c-1", "conversation_source": "header",
    "task_id": "", "tags": {}, "key_id": "", "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331", "parent_span_id": "", "api": "openai.chat", "stream": True,
    "request_model": "gpt-5-mini", "response_model": "gpt-5-mini-2025-08-07", "provider_name": "openai",
    "upstream": "openai", "outcome": "served", "outcome_reason": "", "http_status": 200, "error_type": "",
    "cache": "miss", "downgraded_from": "", "input_tokens": 1000, "output_tokens": 100,
    "cache_read_input_tokens": 400, "cache_write_input_tokens": 0, "cache_write_1h_input_tokens": 0,
    "reasoning_output_tokens": 20, "usage_grade": "reported", "price_grade": "listed",
    "price_version": "2026-11-01", "overhead_us": 180,
}  # fmt: skip

INCIDENT = pa.schema(
    [(name, pa.timestamp("us")) for name in ("detected_at", "since_at", "until_at")]
    + [(name, pa.string()) for name in ("anomaly_id", "alertname", "severity", "state", "signal", "detail")]
    + [("scope", pa.map_(pa.string(), pa.string())), ("usd_per_hour", SUM)]
)

COMPARED = pa.schema(
    [("serving", pa.bool_()), ("likeness", pa.string()), ("compared", pa.int64()), ("wrong", pa.int64())]
    + [(name, pa.float64()) for name in ("error", "error_low", "error_high")]
)
EVENT = pa.schema(
    [("happened_at", pa.timestamp("us"))]
    + [(name, pa.string()) for name in ("event_id", "budget", "counter", "action", "detail")]
)

BREAK = pa.schema(
    [(name, pa.string()) for name in ("agent", "request_model", "cause", "block", "advice")]
    + [("breaks", pa.int64()), ("lost_tokens", pa.int64()), ("effective_cost_usd", SUM)]
    + [("first_at", pa.timestamp("us")), ("last_at", pa.timestamp("us"))]
)

HEALTHY: Row = {
    "attempts": 5, "open_calls": 0, "presumed_calls": 0, "lost_frames": 0, "notes": 0, "schema_version": 10,
    "duckdb_version": "v1.5.5", "measured_calls": 100, "overhead_p50_us": 180.0, "overhead_p95_us": 400.0,
    "overhead_p99_us": 900.0, "journal_lag_s": 0.2, "journal_behind_bytes": 0, "snapshot_at": None,
    "database_bytes": 5 << 20, "rebuilds": 0, "version": "0.1.0", "uptime_s": 7200.0,
}  # fmt: skip


@dataclass
class FakeCollector:
    """Answers from ``calls``; can be told to fail in every way a collector fails."""

    calls: list[Row] = field(default_factory=list)
    told: list[Row] = field(default_factory=list)
    """What alerting told of incidents, oldest first."""
    breaks: list[Row] = field(default_factory=list)
    compared: list[Row] = field(default_factory=list)
    """What broke prompt caches, the dearest first."""
    events: list[Row] = field(default_factory=list)
    """What was done to budgets and calls, and said of incidents."""
    tables: dict[str, pa.Table | None] = field(default_factory=dict)
    """Answers to other questions, by name; None for one that is out of order."""
    control: FakeControl = field(default_factory=FakeControl)
    asked: Counter[str] = field(default_factory=Counter)
    viewers: list[str] = field(default_factory=list)
    """Who each question was asked for."""
    trouble: str = ""
    """``busy``, ``broken``, ``slow``, ``refusing`` or ``old``; empty when it is well."""
    key: str = ""
    url: str = ""
    arriving: Callable[[], None] | None = None
    """Called before every answer: calls that come in while a page is asking."""

    def book(self, ago: timedelta = timedelta(minutes=5), **values: Any) -> Row:
        """One more call, ``ago`` before now, at a cost of 0.001 USD unless said otherwise."""
        number = len(self.calls) + 1
        cost = Decimal(values.pop("cost", "0.001"))
        started = datetime.now(UTC).replace(tzinfo=None) - ago
        row = {
            "call_id": f"0198{number:04x}-0000-7000-8000-{number:012x}",
            "started_at": started,
            "list_cost_usd": cost,
            "effective_cost_usd": cost,
            "avoided_cost_usd": Decimal(0),
        }
        self.calls.append(DEFAULTS | row | values)
        return self.calls[-1]

    # The questions.

    def totals(self, rows: Sequence[Row], query: Mapping[str, str]) -> pa.Table:
        """One row of sums."""
        return pa.Table.from_pylist(
            [
                {
                    "calls": len(rows),
                    "attempts": sum(row["outcome"] not in ("refused", "reused") for row in rows),
                    "failed_calls": sum(row["outcome"] == "failed" for row in rows),
                    "unpriced_calls": sum(row["price_grade"] == "prior" for row in rows),
                    "estimated_calls": sum(row["usage_grade"] in ("estimated", "assumed") for row in rows),
                    "first_at": min((row["started_at"] for row in rows), default=None),
                    "last_at": max((row["started_at"] for row in rows), default=None),
                }
                | _sums(rows)
            ],
            _schema({"calls": pa.int64(), "attempts": pa.int64(), "failed_calls": pa.int64(),
                     "unpriced_calls": pa.int64(), "estimated_calls": pa.int64(),
                     "first_at": pa.timestamp("us"), "last_at": pa.timestamp("us")} | _SUM_TYPES),
        )  # fmt: skip

    def spend_by(self, rows: Sequence[Row], query: Mapping[str, str]) -> pa.Table:
        """Sums by the values of one dimension, the dearest first."""
        by = [name.partition(":")[0] for name in query["by"].split(",")]
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault(_values(row, query["by"]), []).append(row)
        found = [
            {
                **dict(zip(by, values, strict=True)),
                "calls": len(group),
                "attempts": len(group),
                "failed_calls": sum(row["outcome"] == "failed" for row in group),
                "conversations": len({row["conversation_id"] for row in group}),
                "p50_ms": sorted(row["duration_ms"] for row in group)[len(group) // 2],
                "p95_ms": max(row["duration_ms"] for row in group),
            }
            | _sums(group)
            for values, group in groups.items()
        ]
        found.sort(key=lambda row: (-row["effective_cost_usd"], *(row[name] for name in by)))
        return pa.Table.from_pylist(
            found[: int(query.get("limit", 100))],
            _schema(dict.fromkeys(by, pa.string()) | {"calls": pa.int64(), "attempts": pa.int64()}
                    | {"failed_calls": pa.int64()} | _SUM_TYPES
                    | {"p50_ms": pa.float64(), "p95_ms": pa.float64(), "conversations": pa.int64()}),
        )  # fmt: skip

    def spend_over_time(self, rows: Sequence[Row], query: Mapping[str, str]) -> pa.Table:
        """Sums by step of time and value of one dimension."""
        bucket, zone = query["bucket"], ZoneInfo(query.get("tz", "UTC"))
        by = [name.partition(":")[0] for name in query["by"].split(",")] if query.get("by") else []
        groups: dict[tuple[datetime, tuple[str, ...]], list[Row]] = {}
        for row in rows:
            start = _floor(row["started_at"], bucket, zone)
            groups.setdefault((start, _values(row, query["by"]) if by else ()), []).append(row)
        return pa.Table.from_pylist(
            [
                {"bucket": start, "calls": len(group)} | dict(zip(by, values, strict=True)) | _sums(group)
                for (start, values), group in sorted(groups.items())
            ],
            _schema({"bucket": pa.timestamp("us", "UTC")} | dict.fromkeys(by, pa.string())
                    | {"calls": pa.int64()} | _SUM_TYPES),
        )  # fmt: skip

    def charges(self, rows: Sequence[Row], query: Mapping[str, str]) -> pa.Table:
        """What was charged apart from text: a tenth of what each call costs, for an image."""
        by = query["by"].split(",")
        return pa.Table.from_pylist(
            [
                {"bucket": _floor(row["started_at"], query["bucket"], ZoneInfo("UTC")), "region": "",
                 "part": "image_output", "quantity": 1, "list_cost_usd": row["list_cost_usd"] / 10,
                 "effective_cost_usd": row["effective_cost_usd"] / 10}
                | dict(zip(by, _values(row, query["by"]), strict=True))
                for row in rows
            ]
        )  # fmt: skip

    def call_list(self, rows: Sequence[Row], query: Mapping[str, str]) -> pa.Table:
        """Calls, newest first; sought by any of their texts."""
        sought = query.get("search", "").lower()
        rows = [row for row in rows if any(sought in str(row[name]).lower() for name in DEFAULTS)]
        newest = sorted(rows, key=lambda row: (row["started_at"], row["call_id"]), reverse=True)
        if before := query.get("before"):
            newest = newest[1 + [row["call_id"] for row in newest].index(before) :]
        return _calls_table(newest[: int(query.get("limit", 100))])

    def values(self, rows: Sequence[Row], query: Mapping[str, str]) -> pa.Table:
        """The values of one dimension, the most frequent first."""
        dimension = query["dimension"]
        if dimension == "tag":
            met = Counter(f"{name}={value}" for row in rows for name, value in row["tags"].items())
        else:
            met = Counter(row[dimension] for row in rows)
        return pa.table(
            {
                "value": pa.array([value for value, _ in met.most_common()], pa.string()),
                "calls": pa.array([number for _, number in met.most_common()], pa.int64()),
            }
        )

    def attempts(self, call_id: str) -> pa.Table:
        """Every call here had one attempt, unless it never went out."""
        rows = [
            row | {"attempt": 1, "replica": "api.example:443"}
            for row in self.calls
            if row["call_id"] == call_id and row["outcome"] not in ("refused", "reused")
        ]
        kept = {"attempt": pa.int32(), "replica": pa.string()} | CALL_TYPES
        return pa.Table.from_pylist([{name: row[name] for name in kept} for row in rows], pa.schema(kept))

    def answer(self, name: str, query: Any) -> pa.Table | None:
        """The table that answers one question."""
        params = dict(query)
        if name in self.tables:
            return self.tables[name]
        if name == "budget_events":
            return pa.Table.from_pylist(self.events, EVENT)
        if name in ("prices", "price_changes", "quality"):
            return pa.table({"model": pa.array([], pa.string())})
        if name == "health":
            at = datetime.now(UTC)
            return pa.Table.from_pylist([HEALTHY | {"calls": len(self.calls), "last_commit_at": at}])
        if name == "incidents":
            latest = {row["anomaly_id"]: row for row in self.told}
            return pa.Table.from_pylist(list(latest.values()), INCIDENT)
        if name == "similar_error":
            return pa.Table.from_pylist(self.compared, COMPARED)
        if name == "cache_breaks":
            return pa.Table.from_pylist(self.breaks, BREAK)
        if name == "incident":
            of_it = [row for row in self.told if row["anomaly_id"] == params["anomaly_id"]]
            return pa.Table.from_pylist(of_it, INCIDENT)
        if name == "call":
            return _calls_table([row for row in self.calls if row["call_id"] == params["call_id"]])
        if name == "attempts":
            return self.attempts(params["call_id"])
        rows = [row for row in self.calls if _matches(row, query)]
        ways = {"calls": self.call_list, "totals": self.totals, "spend_by": self.spend_by,
                "spend_over_time": self.spend_over_time, "charges": self.charges,
                "values": self.values}  # fmt: skip
        return ways[name](rows, params)

    async def take_events(self, request: Request) -> Response:
        """``POST /v1/events``."""
        if self.trouble == "refusing":
            return JSONResponse({"error": {"message": "ada may ask questions and nothing else"}}, 403)
        for event in (await request.json())["events"]:
            at = datetime.fromisoformat(event["happened_at"]).astimezone(UTC).replace(tzinfo=None)
            self.events.append(event | {"happened_at": at})
        return JSONResponse({"recorded": 1}, 201)

    async def question(self, request: Request) -> Response:
        """``GET /v1/questions/{name}``."""
        return await self.answered(request, request.path_params["name"], request.query_params)

    async def several(self, request: Request) -> Response:
        """``POST /v1/questions``: as a collector, but that each question meets its own state."""
        replies = []
        for one in (await request.json())["questions"]:
            given = [(name, value) for name, values in one["parameters"].items() for value in values]
            replies.append(await self.answered(request, one["name"], QueryParams(given)))
        if replies[0].status_code in (401, 503):  # Told of the request, not of a question.
            return replies[0]
        heads = [{"status": reply.status_code, "bytes": len(reply.body)} for reply in replies]
        body = b"".join(bytes(reply.body) for reply in replies)
        return Response(json.dumps({"answers": heads}).encode() + b"\n" + body)

    async def answered(self, request: Request, name: str, query: QueryParams) -> Response:
        """One question's answer, or what is the trouble."""
        self.asked[name] += 1
        self.viewers.append(request.headers.get("x-bursar-viewer", ""))
        if self.arriving:
            self.arriving()
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "a control key is needed"}}, 401)
        if self.trouble == "busy":
            return JSONResponse({"error": {"message": "2 questions are being answered already"}}, 429)
        if self.trouble == "full":
            self.trouble = ""
            return JSONResponse({"error": {"message": "too many questions at once"}}, 503)
        if self.trouble == "old":
            return JSONResponse({"error": {"message": f"no question is called {name}"}}, 404)
        if self.trouble == "slow":
            await asyncio.sleep(1.0)
        if self.trouble == "broken":
            return Response(b"<html>a proxy's page</html>", media_type="text/html")
        table = self.answer(name, query)
        if table is None:
            return JSONResponse({"error": {"message": "out of order"}}, 500)
        if "application/json" in request.headers.get("accept", "application/json"):
            rows = [{key: str(value) for key, value in row.items()} for row in table.to_pylist()]
            return JSONResponse({"rows": rows})
        out = io.BytesIO()
        with pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
        return Response(out.getvalue(), media_type="application/vnd.apache.arrow.stream")


_SUM_TYPES = {name: pa.int64() for name in COUNTS} | dict.fromkeys(AMOUNTS, SUM)


def _sums(rows: Sequence[Row]) -> Row:
    counts = {name: sum(row[name] for row in rows) for name in COUNTS}
    return counts | {name: sum((row[name] for row in rows), Decimal(0)) for name in AMOUNTS}


def _schema(types: Mapping[str, pa.DataType]) -> pa.Schema:
    return pa.schema(dict(types))


def _calls_table(rows: Sequence[Row]) -> pa.Table:
    kept = [{name: row[name] for name in CALL_TYPES} | {"tags": list(row["tags"].items())} for row in rows]
    return pa.Table.from_pylist(kept, pa.schema(dict(CALL_TYPES)))


def _values(row: Row, by: str) -> tuple[str, ...]:
    """The call's values of the dimensions ``by``; a tag is ``tag:KEY``."""
    return tuple(
        row["tags"].get(name[4:], "") if name.startswith("tag:") else row[name] for name in by.split(",")
    )


def _floor(instant: datetime, bucket: str, zone: ZoneInfo) -> datetime:
    if bucket == "day":
        local = instant.replace(tzinfo=UTC).astimezone(zone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight.astimezone(UTC).replace(tzinfo=None)
    whole = instant.replace(second=0, microsecond=0)
    return whole.replace(minute=0) if bucket == "hour" else whole


def _matches(row: Row, query: Any) -> bool:
    since = datetime.fromisoformat(query["since"]).astimezone(UTC).replace(tzinfo=None)
    until = datetime.fromisoformat(query["until"]).astimezone(UTC).replace(tzinfo=None)
    if not since <= row["started_at"] < until:
        return False
    for dimension in DIMENSIONS:
        wanted = query.getlist(dimension)
        has = [f"{k}={v}" for k, v in row["tags"].items()] if dimension == "tag" else [row[dimension]]
        if wanted and not set(wanted) & set(has):
            return False
    return True


@pytest.fixture(scope="session")
def _served() -> Iterator[FakeCollector]:
    fake = FakeCollector()
    app = Starlette(
        routes=[
            Route("/v1/questions", fake.several, methods=["POST"]),
            Route("/v1/questions/{name}", fake.question),
            Route("/v1/events", fake.take_events, methods=["POST"]),
            *fake.control.routes(),
        ]
    )
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", access_log=False, lifespan="off", ws="none")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the fake collector did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    fake.url = f"http://127.0.0.1:{port}"
    yield fake
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def collector(_served: FakeCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCollector]:
    """A running collector without calls, which pages find; nothing is cached yet."""
    _served.calls, _served.told, _served.breaks, _served.asked = [], [], [], Counter()
    _served.compared = []
    _served.events = []
    _served.trouble, _served.key, _served.arriving = "", "", None
    _served.tables.clear()
    _served.viewers = []
    _served.control.forget()
    monkeypatch.setenv("BURSAR_CONTROL_URL", _served.url)
    monkeypatch.setattr(transport, "ANSWER_TIMEOUT_S", 60.0)  # The machine may be busy.
    monkeypatch.setenv("BURSAR_COLLECTOR_URL", _served.url)
    monkeypatch.delenv("BURSAR_CONTROL_KEY", raising=False)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield _served


@pytest.fixture
def visit() -> Callable[..., AppTest]:
    """Open a page as its address says: ``visit("calls", team="search")``."""
    st.cache_data.clear()
    st.cache_resource.clear()

    def open_page(page: str = "spend", **params: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=90)
        for name, value in params.items():
            app.query_params[name] = value
        if page != "spend":
            app.switch_page(f"views/{page}.py")
        app.run()
        assert not app.exception, app.exception[0].message
        return app

    return open_page
