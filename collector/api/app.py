"""The routes of the collector.

GET  /v1/questions              what can be asked, with which parameters
GET  /v1/questions/{name}       an answer, as Arrow or JSON by `Accept`
POST /v1/questions              several answers, all about one state of the books
POST /v1/sql                    one SELECT on the published snapshot
POST /v1/journal                a batch of journal frames from another machine
POST /v1/outcomes               how a task ended, said by an agent
POST /v1/events                 what was done to budgets and calls, said by those who did it
POST /v1/spent                  what budgets spent, exactly, and how far each journal is counted in that
POST /v1/anomalies              what alerting found, each time it changed
GET  /healthz /readyz /metrics
"""

import asyncio
import http
import os
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import collector
from collector.api import anomalies as found
from collector.api import metrics, refusals
from collector.api.bodies import body_of, json_body_of
from collector.api.events import BadEvents, event_rows
from collector.api.guard import Guard
from collector.api.outcomes import outcome_row
from collector.api.questions import Questions, opened, wants_arrow
from collector.domain.access import Role
from collector.ingest import remote
from collector.ingest.state import Ledger, State
from collector.outcomes import BadOutcome
from collector.settings import Address
from collector.store import sandbox
from collector.store.answers import ARROW, JSON
from collector.store.duckdb import StoreError
from collector.store.spent import Spent, Wanted, read_spent

MOST_SQL_AT_ONCE = 2
MOST_SQL_WAITING = 8
"""Statements that wait for one of those to end; more are told to come back."""
_PACKAGE_ROOT = str(Path(collector.__file__).resolve().parents[1])


class Api:
    """Answers requests from ``state``."""

    def __init__(self, state: State, limits: sandbox.SandboxLimits | None = None) -> None:
        self._state = state
        self._limits = limits or sandbox.SandboxLimits()
        self._sql_places = asyncio.Semaphore(MOST_SQL_AT_ONCE)
        self._sql_taken = 0
        self._questions = Questions(state)
        self._scores = found.InjectionScores()
        state.measured.append(self._scores)

    def routes(self) -> list[Route]:
        """Everything that is answered."""
        return [
            Route("/v1/questions", self._questions.catalogue),
            Route("/v1/questions", self._questions.several, methods=["POST"]),
            Route("/v1/questions/{name}", self._questions.one),
            Route("/v1/sql", self.sql, methods=["POST"]),
            Route("/v1/journal", self.journal, methods=["POST"]),
            Route("/v1/outcomes", self.outcomes, methods=["POST"]),
            Route("/v1/events", self.events, methods=["POST"]),
            Route("/v1/spent", self.spent, methods=["POST"]),
            Route("/v1/anomalies", self.anomalies, methods=["POST"]),
            Route("/healthz", self.alive),
            Route("/readyz", self.ready),
            Route("/metrics", self.metrics),
        ]

    # -- SQL

    async def sql(self, request: Request) -> Response:
        """One SELECT, in a process of its own."""
        text = await self._statement(request)
        arrow = wants_arrow(request)
        if self._sql_taken >= MOST_SQL_AT_ONCE + MOST_SQL_WAITING:
            raise HTTPException(503, "as many statements wait as may; try again in a moment")
        self._sql_taken += 1
        try:
            output = await _while_they_stay(request, self._in_turn(text, arrow))
        finally:
            self._sql_taken -= 1
        head, body = sandbox.answer_parts(output)
        if head["status"] != http.HTTPStatus.OK:
            return refusals.error(head["status"], head["error"])
        headers = {"x-bursar-truncated": "1"} if head.get("truncated") else None
        return Response(body, media_type=ARROW if arrow else JSON, headers=headers)

    async def _statement(self, request: Request) -> str:
        body = await body_of(request, self._limits.statement_bytes * 2)
        if request.headers.get("content-type", "").partition(";")[0].strip() == JSON:
            try:
                return msgspec.json.decode(body, type=_Sql).sql
            except msgspec.MsgspecError as error:
                raise HTTPException(400, f'the body must be {{"sql": "SELECT ..."}}: {error}') from error
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise HTTPException(400, "the statement is not UTF-8") from error

    async def _in_turn(self, text: str, arrow: bool) -> bytes:
        async with self._sql_places:
            return await self._in_sandbox(text, arrow)

    async def _in_sandbox(self, text: str, arrow: bool) -> bytes:
        snapshot = self._state.snapshot
        try:
            # It is ours to remove: a process that is killed leaves it, with a link to the whole snapshot.
            with sandbox.folder_beside(snapshot) as folder:
                return await self._answered(
                    sandbox.request_bytes(snapshot, text, folder=folder, arrow=arrow, limits=self._limits)
                )
        except OSError as error:
            raise HTTPException(503, f"no statement can be run: {error.strerror}") from error

    async def _answered(self, given: bytes) -> bytes:
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
        body = await body_of(request, remote.MOST_BYTES)
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
            return refusals.error(400, str(error))
        return JSONResponse({"sequence": sequence})

    async def outcomes(self, request: Request) -> Response:
        """How a task ended."""
        try:
            row = outcome_row(await json_body_of(request, 64 << 10), time.time_ns() // 1000)
        except BadOutcome as error:
            return refusals.error(400, str(error))
        ledger = self._ledger()
        await asyncio.to_thread(ledger.books.tell, outcomes=[row])
        return JSONResponse({"recorded": True}, status_code=201)

    async def events(self, request: Request) -> Response:
        """What was done to budgets and calls."""
        try:
            rows = event_rows(await json_body_of(request, 2 << 20))
        except BadEvents as error:
            return refusals.error(400, str(error))
        ledger = self._ledger()
        if rows:
            await asyncio.to_thread(ledger.books.tell, events=rows)
        return JSONResponse({"recorded": len(rows)}, status_code=201)

    async def spent(self, request: Request) -> Response:
        """What budgets spent."""
        try:
            wanted = msgspec.json.decode(await json_body_of(request, 1 << 20), type=list[Wanted])
        except msgspec.MsgspecError as error:
            return refusals.error(400, str(error))
        try:
            answer = await asyncio.to_thread(self._spent, self._ledger(), wanted)
        except ValueError as error:
            return refusals.error(400, str(error))
        return Response(msgspec.json.encode(answer), media_type=JSON)

    @staticmethod
    def _spent(ledger: Ledger, wanted: Sequence[Wanted]) -> Spent:
        with suppress(StoreError, OSError):
            ledger.follower.freshen()
        connection = ledger.books.database.reader()
        try:
            return read_spent(connection, wanted)
        finally:
            connection.close()

    async def anomalies(self, request: Request) -> Response:
        """What alerting found."""
        ledger = self._ledger()
        try:
            rows = found.told(await json_body_of(request, 2 << 20), self._scores)
        except found.BadAnomalies as error:
            return refusals.error(400, str(error))
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
        return opened(self._state)


async def _while_they_stay(request: Request, work: Coroutine[Any, Any, bytes]) -> bytes:
    """What ``work`` gives; it is ended when the client of ``request``, whose body has been read, leaves."""
    doing, leaving = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise HTTPException(503, "the client left")
        return doing.result()
    finally:
        doing.cancel()
        leaving.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


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
    app = Starlette(routes=Api(state, limits).routes(), exception_handlers=refusals.handlers())
    return Guard(app, listen=listen, key=control_key, roles=roles)
