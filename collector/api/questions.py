"""The routes of questions: what can be asked, one answer, and several about one state of the books.

Few questions run at once, for ingest goes before. The others wait in the order in which they came, and those
who wait for the same are answered together.
"""

import asyncio
import http
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import pyarrow as pa
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import collector
from collector.api import refusals, viewing
from collector.api.bodies import json_body_of
from collector.api.guard import VIEWER
from collector.domain.access import Viewer
from collector.ingest.state import Ledger, State
from collector.store import asking
from collector.store.answers import ARROW, JSON, arrow_bytes, json_bytes
from collector.store.asking import Asked
from collector.store.duckdb import StoreError
from collector.store.questions import CALL, CATALOGUE, DIMENSIONS, PARAMETERS
from collector.store.reader import Busy

AT_ONCE = 2
LONGEST_WAIT_S = 30.0
MOST_TOGETHER = 64
MOST_ASKED_BYTES = 1 << 20
SEVERAL = "application/vnd.bursar.answers"
"""A line of JSON, ``{"answers": [{"status": 200, "bytes": 1234}, ...]}``, then the bodies in that order."""

Given = Mapping[str, Sequence[str]]


class One(msgspec.Struct, forbid_unknown_fields=True):
    """A question of several."""

    name: str
    parameters: dict[str, list[str]] = {}


class Several(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /v1/questions``."""

    questions: list[One]


class Turns:
    """Work that takes turns: first come, first served, and those who wait for the same get it once.

    Args:
        at_once: how much of it is done at the same time.
        wait_s: how long one waits for a turn.
    """

    def __init__(self, at_once: int = AT_ONCE, wait_s: float = LONGEST_WAIT_S) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._wait_s = wait_s
        self._waiting: dict[Hashable, asyncio.Future[list[bytes | Exception]]] = {}

    async def take(
        self, key: Hashable, work: Callable[[], list[bytes | Exception]]
    ) -> list[bytes | Exception]:
        """What ``work`` returns in a thread, or that of somebody who waits with the same ``key``.

        Raises:
            Busy: no turn came.
        """
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = asyncio.ensure_future(self._done(key, work))
        # Whoever goes away takes nothing from the others.
        return await asyncio.shield(waiting)

    async def _done(
        self, key: Hashable, work: Callable[[], list[bytes | Exception]]
    ) -> list[bytes | Exception]:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise Busy("too many questions at once; ask again in a moment") from error
        finally:
            # What begins now says nothing of what is booked from now on: who comes later asks anew.
            del self._waiting[key]
        try:
            return await asyncio.to_thread(work)
        finally:
            self._places.release()


class Questions:
    """Answers questions from ``state``."""

    def __init__(self, state: State, turns: Turns | None = None) -> None:
        self._state = state
        self._turns = turns or Turns()

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

    async def one(self, request: Request) -> Response:
        """An answer."""
        given: dict[str, list[str]] = {}
        for key, value in request.query_params.multi_items():
            given.setdefault(key, []).append(value)
        viewer: Viewer = request.scope[VIEWER]
        asked = _asked(request.path_params["name"], given, viewer)
        arrow = wants_arrow(request)
        (body,) = await self._answered([asked], viewer, arrow=arrow)
        if isinstance(body, Exception):
            raise body
        return Response(body, media_type=ARROW if arrow else JSON)

    async def several(self, request: Request) -> Response:
        """Answers to several questions, all about one state of the books; see `SEVERAL`."""
        viewer: Viewer = request.scope[VIEWER]
        body = await json_body_of(request, MOST_ASKED_BYTES)
        try:
            listed = msgspec.json.decode(body, type=Several).questions
        except msgspec.MsgspecError as error:
            form = '{"questions": [{"name": "...", "parameters": {"...": ["..."]}}]}'
            raise HTTPException(400, f"the body must be {form}: {error}") from error
        if not 1 <= len(listed) <= MOST_TOGETHER:
            raise HTTPException(400, f"ask from 1 to {MOST_TOGETHER} questions together")
        found: list[Asked | Exception] = []
        for one in listed:
            try:
                found.append(_asked(one.name, one.parameters, viewer))
            except refusals.FORESEEN as error:
                found.append(error)
        asked = [one for one in found if isinstance(one, Asked)]
        answers = iter(await self._answered(asked, viewer, arrow=True) if asked else [])
        parts = [_part(next(answers) if isinstance(one, Asked) else one) for one in found]
        heads = [{"status": status, "bytes": len(body)} for status, body in parts]
        head = msgspec.json.encode({"answers": heads}) + b"\n"
        return Response(b"".join([head, *(body for _, body in parts)]), media_type=SEVERAL)

    async def _answered(self, asked: list[Asked], viewer: Viewer, *, arrow: bool) -> list[bytes | Exception]:
        ledger = opened(self._state)
        key = (id(ledger), viewer, arrow, *map(_key, asked))
        return await self._turns.take(key, lambda: self._bodies(ledger, asked, viewer, arrow=arrow))

    def _bodies(
        self, ledger: Ledger, asked: list[Asked], viewer: Viewer, *, arrow: bool
    ) -> list[bytes | Exception]:
        # What is wrong with the books is for their keeper to meet and report; the question is still answered.
        with suppress(StoreError, OSError):
            ledger.follower.freshen()
        bodies: list[bytes | Exception] = []
        for one, table in zip(asked, ledger.reader.answers(asked), strict=True):
            if isinstance(table, Exception):
                bodies.append(table)
                continue
            shown = self._shown(ledger, one, table, viewer)
            bodies.append(arrow_bytes(shown) if arrow else json_bytes(shown, _about(one)))
        return bodies

    def _shown(self, ledger: Ledger, asked: Asked, table: pa.Table, viewer: Viewer) -> pa.Table:
        if asked.question.name == "health":
            table = self._with_health(ledger, table)
        if asked.question.name in viewing.OF_ONE_CALL and not _is_theirs(ledger, asked, viewer):
            table = table.slice(0, 0)
        return viewing.shown(asked.question, table, viewer)

    def _with_health(self, ledger: Ledger, table: pa.Table) -> pa.Table:
        counts = ledger.books.counts
        about: dict[str, Any] = {
            "journal_lag_s": self._state.lag_s(),
            "journal_behind_bytes": sum(lag.bytes for lag in list(ledger.follower.lag.values())),
            "last_commit_at": counts.committed_at,
            "snapshot_at": ledger.publisher.published_at,
            "database_bytes": ledger.books.database.size_bytes,
            "rebuilds": self._state.rebuilds,
            "version": collector.__version__,
            "uptime_s": self._state.uptime_s(),
        }
        for name, value in about.items():
            if name.endswith("_at"):
                column = pa.array([int(value * 1e6) if value else None], pa.timestamp("us"))
            else:
                column = pa.array([value])
            table = table.append_column(name, column)
        return table


def opened(state: State) -> Ledger:
    """The ledger.

    Raises:
        HTTPException: 503, it is not open.
    """
    if state.ledger is None:
        raise HTTPException(503, f"the ledger is not open: {state.trouble}", {"retry-after": "2"})
    return state.ledger


def wants_arrow(request: Request) -> bool:
    """Whether an answer is to be an Arrow stream, else JSON."""
    accept = request.headers.get("accept", "")
    return ARROW in accept and not accept.strip().startswith(JSON)


def _asked(name: str, given: Given, viewer: Viewer) -> Asked:
    question = CATALOGUE.get(name)
    if question is None:
        raise refusals.NoSuchQuestion(name)
    return asking.parse(question, viewing.narrowed(question, given, viewer), time.time_ns() // 1000)


def _key(asked: Asked) -> Hashable:
    """What two who ask the same have in common."""
    return (
        *(asked.question.name, asked.since_us, asked.until_us, str(asked.zone), asked.bucket, asked.order),
        *(
            tuple(sorted(asked.filters.items())),
            asked.by,
            asked.extras,
            asked.left_out,
            tuple(sorted(asked.values.items())),
        ),
    )


def _about(asked: Asked) -> dict[str, Any]:
    about: dict[str, Any] = {"question": asked.question.name}
    if asked.until_us:
        about |= {"since": asking.iso(asked.since_us), "until": asking.iso(asked.until_us)}
    return about


def _part(answer: bytes | Exception) -> tuple[int, bytes]:
    if isinstance(answer, bytes):
        return http.HTTPStatus.OK, answer
    refusal = refusals.refusal(answer)
    return refusal.status_code, bytes(refusal.body)


def _is_theirs(ledger: Ledger, asked: Asked, viewer: Viewer) -> bool:
    """Whether the call asked about belongs to a tenant that this viewer sees."""
    if viewer.sees_all:
        return True
    call = ledger.reader.answer(replace(asked, question=CALL))
    return any(viewer.sees(tenant) for tenant in call.column("tenant").to_pylist())
