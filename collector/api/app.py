"""The routes of the collector.

GET  /v1/questions              what can be asked, with which parameters
GET  /v1/questions/{name}       an answer, as Arrow or JSON by `Accept`
POST /v1/sql                    one SELECT on the published snapshot
POST /v1/journal                a batch of journal frames from another machine
POST /v1/outcomes               how a task ended, said by an agent
POST /v1/events                 what was done to budgets and calls, said by those who did it
POST /v1/anomalies              what alerting found, each time it changed
GET  /healthz /readyz /metrics
"""

import asyncio
import http
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import collector
from collector import logs
from collector.api import anomalies as found
from collector.api import metrics, viewing
from collector.api.events import BadEvents, event_rows
from collector.api.guard import VIEWER, Guard
from collector.api.outcomes import outcome_row
from collector.domain.access import Role, Viewer
from collector.ingest import remote
from collector.ingest.state import Ledger, State
from collector.outcomes import BadOutcome
from collector.settings import Address
from collector.store import asking, sandbox
from collector.store.answers import ARROW, JSON, arrow_bytes, json_bytes
from collector.store.duckdb import DatabaseError, StoreError
from collector.store.questions import CALL, CATALOGUE, DIMENSIONS, PARAMETERS
from collector.store.reader import Busy, QuestionFailed

_log = logs.get("collector.api")

MOST_SQL_AT_ONCE = 2
_PACKAGE_ROOT = str(Path(collector.__file__).resolve().parents[1])


class Api:
    """Answers requests from ``state``."""

    def __init__(self, state: State, limits: sandbox.SandboxLimits | None = None) -> None:
        self._state = state
        self._limits = limits or sandbox.SandboxLimits()
        self._sql_places = asyncio.Semaphore(MOST_SQL_AT_ONCE)
        self._scores = found.InjectionScores()
        state.measured.append(self._scores)

    def routes(self) -> list[Route]:
        """Everything that is answered."""
        return [
            Route("/v1/questions", self.catalogue),
            Route("/v1/questions/{name}", self.question),
            Route("/v1/sql", self.sql, methods=["POST"]),
            Route("/v1/journal", self.journal, methods=["POST"]),
            Route("/v1/outcomes", self.outcomes, methods=["POST"]),
            Route("/v1/events", self.events, methods=["POST"]),
            Route("/v1/anomalies", self.anomalies, methods=["POST"]),
            Route("/healthz", self.alive),
            Route("/readyz", self.ready),
            Route("/metrics", self.metrics),
        ]

    # -- questions

    async def catalogue(self, request: Request) -> Response:
        """What can be asked."""
        listed = [
            {
                "name": question.name,
                "help": question.help,
                "parameters": {name: PARAMETERS[name] for name in question.parameters},
            }
            for question in CATALOGUE.values()
        ]
        return JSONResponse({"questions": listed, "dimensions": list(DIMENSIONS)})

    async def question(self, request: Request) -> Response:
        """An answer."""
        name = request.path_params["name"]
        question = CATALOGUE.get(name)
        if question is None:
            return _error(404, f"no question {name[:64]!r}", choices=sorted(CATALOGUE))
        given: dict[str, list[str]] = {}
        for key, value in request.query_params.multi_items():
            given.setdefault(key, []).append(value)
        viewer: Viewer = request.scope[VIEWER]
        asked = asking.parse(question, viewing.narrowed(question, given, viewer), time.time_ns() // 1000)
        ledger = self._ledger()
        arrow = _wants_arrow(request)
        body = await asyncio.to_thread(self._answered, ledger, asked, arrow, viewer)
        return Response(body, media_type=ARROW if arrow else JSON)

    def _answered(self, ledger: Ledger, asked: asking.Asked, arrow: bool, viewer: Viewer) -> bytes:
        # What is wrong with the books is for their keeper to meet and report; the question is still answered.
        with suppress(StoreError, OSError):
            ledger.follower.freshen()
        table = ledger.reader.answer(asked)
        if asked.question.name == "health":
            table = self._with_health(ledger, table)
        if asked.question.name in viewing.OF_ONE_CALL and not self._is_theirs(ledger, asked, viewer):
            table = table.slice(0, 0)
        table = viewing.shown(asked.question, table, viewer)
        if arrow:
            return arrow_bytes(table)
        about: dict[str, Any] = {"question": asked.question.name}
        if asked.until_us:
            about |= {"since": asking.iso(asked.since_us), "until": asking.iso(asked.until_us)}
        return json_bytes(table, about)

    @staticmethod
    def _is_theirs(ledger: Ledger, asked: asking.Asked, viewer: Viewer) -> bool:
        """Whether the call asked about belongs to a tenant that this viewer sees."""
        if viewer.sees_all:
            return True
        call = ledger.reader.answer(replace(asked, question=CALL))
        return any(viewer.sees(tenant) for tenant in call.column("tenant").to_pylist())

    def _with_health(self, ledger: Ledger, table: pa.Table) -> pa.Table:
        counts, now = ledger.books.counts, time.time()
        about: dict[str, Any] = {
            "journal_lag_s": self._state.lag_s(now),
            "journal_behind_bytes": sum(lag.bytes for lag in list(ledger.follower.lag.values())),
            "last_commit_at": counts.committed_at,
            "snapshot_at": ledger.publisher.published_at,
            "database_bytes": ledger.books.database.size_bytes,
            "rebuilds": self._state.rebuilds,
            "version": collector.__version__,
            "uptime_s": now - self._state.started_at,
        }
        for name, value in about.items():
            if name.endswith("_at"):
                column = pa.array([int(value * 1e6) if value else None], pa.timestamp("us"))
            else:
                column = pa.array([value])
            table = table.append_column(name, column)
        return table

    # -- SQL

    async def sql(self, request: Request) -> Response:
        """One SELECT, in a process of its own."""
        text = await self._statement(request)
        arrow = _wants_arrow(request)
        async with self._sql_places:
            output = await self._in_sandbox(text, arrow)
        head, body = sandbox.answer_parts(output)
        if head["status"] != http.HTTPStatus.OK:
            return _error(head["status"], head["error"])
        headers = {"x-bursar-truncated": "1"} if head.get("truncated") else None
        return Response(body, media_type=ARROW if arrow else JSON, headers=headers)

    async def _statement(self, request: Request) -> str:
        body = await _body(request, self._limits.statement_bytes * 2)
        if request.headers.get("content-type", "").partition(";")[0].strip() == JSON:
            try:
                return msgspec.json.decode(body, type=_Sql).sql
            except msgspec.MsgspecError as error:
                raise HTTPException(400, f'the body must be {{"sql": "SELECT ..."}}: {error}') from error
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise HTTPException(400, "the statement is not UTF-8") from error

    async def _in_sandbox(self, text: str, arrow: bool) -> bytes:
        # Nothing of our own environment: it may hold keys, and a query may ask for it.
        environment = {"PATH": os.defpath, "PYTHONPATH": _PACKAGE_ROOT, "MALLOC_ARENA_MAX": "2"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "collector.store.sandbox"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
        given = sandbox.request_bytes(self._state.snapshot, text, arrow=arrow, limits=self._limits)
        try:
            # The sandbox keeps its own time; this is for one that cannot.
            output, _ = await asyncio.wait_for(process.communicate(given), self._limits.seconds + 5)
        except TimeoutError as error:
            raise HTTPException(408, f"the query ran longer than {self._limits.seconds:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if not output:
            raise HTTPException(413, "the query took more than it may and was ended")
        return output

    # -- what comes in

    async def journal(self, request: Request) -> Response:
        """A batch from another machine."""
        query = request.query_params
        body = await _body(request, remote.MOST_BYTES)
        batch = remote.RemoteBatch(
            source=query.get("source", ""),
            body=body,
            compressed=request.headers.get("content-encoding", "") == "gzip",
            gap=query.get("gap") == "1",
            ended=query.get("ended") == "1",
        )
        ledger = self._ledger()
        try:
            sequence = await asyncio.to_thread(remote.receive, ledger.books, batch)
        except remote.SequenceGap as error:
            refusal = {"expected": error.expected, "error": {"message": str(error)}}
            return JSONResponse(refusal, status_code=409)
        except remote.BadBatch as error:
            return _error(400, str(error))
        return JSONResponse({"sequence": sequence})

    async def outcomes(self, request: Request) -> Response:
        """How a task ended."""
        try:
            row = outcome_row(await _json_body(request, 64 << 10), time.time_ns() // 1000)
        except BadOutcome as error:
            return _error(400, str(error))
        ledger = self._ledger()
        await asyncio.to_thread(ledger.books.tell, outcomes=[row])
        return JSONResponse({"recorded": True}, status_code=201)

    async def events(self, request: Request) -> Response:
        """What was done to budgets and calls."""
        try:
            rows = event_rows(await _json_body(request, 2 << 20))
        except BadEvents as error:
            return _error(400, str(error))
        ledger = self._ledger()
        if rows:
            await asyncio.to_thread(ledger.books.tell, events=rows)
        return JSONResponse({"recorded": len(rows)}, status_code=201)

    async def anomalies(self, request: Request) -> Response:
        """What alerting found."""
        ledger = self._ledger()
        try:
            rows = found.told(await _json_body(request, 2 << 20), self._scores)
        except found.BadAnomalies as error:
            return _error(400, str(error))
        if rows:
            await asyncio.to_thread(ledger.books.write, found.INSERT, rows)
        return JSONResponse({"recorded": len(rows)}, status_code=201)

    # -- how it is

    async def alive(self, request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """The ledger is open."""
        if self._state.trouble:
            return JSONResponse({"status": "not ready", "reason": self._state.trouble}, status_code=503)
        return JSONResponse({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        text = await asyncio.to_thread(metrics.exposition, self._state)
        return Response(text, media_type=metrics.CONTENT_TYPE)

    def _ledger(self) -> Ledger:
        ledger = self._state.ledger
        if ledger is None:
            raise HTTPException(503, f"the ledger is not open: {self._state.trouble}", {"retry-after": "2"})
        return ledger


class _Sql(msgspec.Struct, forbid_unknown_fields=True):
    sql: str


def build_app(
    state: State,
    listen: Address,
    control_key: str | None,
    limits: sandbox.SandboxLimits | None = None,
    roles: Sequence[Role] = (),
) -> ASGIApp:
    """The collector's application, guarded."""
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        HTTPException: _on_http,
        viewing.NotYours: _on_not_yours,
        asking.BadParameter: _on_parameter,
        QuestionFailed: _on_question,
        StoreError: _on_store,
        DatabaseError: _on_store,
    }
    app = Starlette(routes=Api(state, limits).routes(), exception_handlers=handlers)
    return Guard(app, listen=listen, key=control_key, roles=roles)


async def _body(request: Request, most: int) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"at most {most >> 10} KiB")
    return body


async def _json_body(request: Request, most: int) -> bytes:
    # A form of a web page can send text, never this.
    if request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
        raise HTTPException(415, "send application/json")
    return await _body(request, most)


def _wants_arrow(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return ARROW in accept and not accept.strip().startswith(JSON)


def _error(status: int, message: str, **more: Any) -> Response:
    headers = {"retry-after": "2"} if status == http.HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse({"error": {"message": message, **more}}, status_code=status, headers=headers)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, str(error.detail))


async def _on_not_yours(request: Request, error: Exception) -> Response:
    return _error(403, str(error))


async def _on_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, asking.BadParameter)
    return _error(400, str(error), parameter=error.parameter, choices=error.choices)


async def _on_question(request: Request, error: Exception) -> Response:
    return _error(503 if isinstance(error, Busy) else 504, str(error))


async def _on_store(request: Request, error: Exception) -> Response:
    _log.error("the ledger did not answer", failure=error, path=request.url.path)
    return _error(503, "the ledger cannot be read or written at this moment")
