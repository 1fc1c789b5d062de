"""The only place that talks to the collector.

A question is asked over HTTP and answered as an Arrow stream. Answers are shared by all
readers for ``TTL_S`` seconds. When the collector does not answer, the last good answer to
the same question is served once more, marked with its age; without one the error is
raised, and it says what happened and what to do.
"""

import json
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import streamlit as st

from dashboards import viewer
from dashboards.scope import Scope, Window
from dashboards.transport import (
    BadAnswer,
    CollectorBusy,
    CollectorError,
    CollectorFull,
    CollectorUnreachable,
    Neighbour,
    NotAllowed,
    NotUnderstood,
    exchange,
)

__all__ = [
    "Answer",
    "BadAnswer",
    "CollectorBusy",
    "CollectorError",
    "CollectorUnreachable",
    "NotAllowed",
    "NotUnderstood",
    "Question",
    "Row",
    "about",
    "ask",
    "ask_all",
    "forget",
    "money",
    "tell",
]

URL_VARIABLE = "BURSAR_COLLECTOR_URL"
KEY_VARIABLE = "BURSAR_CONTROL_KEY"
DEFAULT_URL = "http://127.0.0.1:4010"

TTL_S = 10
LASTING_TTL_S = 300
FULL_WAITS_S = (0.5, 1.5)
MAX_CACHE_ENTRIES = 512
MAX_REMEMBERED = 64
MAX_REMEMBERED_BYTES = 16 << 20
PARALLEL_QUESTIONS = 4

ARROW = "application/vnd.apache.arrow.stream"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """One named question of the read API with all its parameters."""

    name: str
    params: tuple[tuple[str, str], ...] = ()
    family: str = ""
    """What stays the same while the window moves on; finds the last good answer."""
    attempt: int = 0
    """Asked again, past the cache, because the answers to one page did not agree."""
    lasting: bool = False
    """Its answer may be ``LASTING_TTL_S`` old."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Rows, and when the collector gave them."""

    table: pa.Table
    answered_at: datetime
    trouble: CollectorError | None = None
    """Why this is an earlier answer; ``None`` when it is a current one."""

    @property
    def rows(self) -> list[Row]:
        """The rows as dicts; money as ``Decimal``, times aware."""
        rows: list[Row] = self.table.to_pylist()
        return rows

    @property
    def row(self) -> Row:
        """The only row; empty when there is none."""
        rows = self.rows
        return rows[0] if rows else {}


def about(name: str, scope: Scope, window: Window | None = None, **params: str | int) -> Question:
    """The question ``name`` about the calls of ``scope``.

    Args:
        name: as the read API lists it.
        scope: which calls.
        window: another stretch of time than the scope's.
        params: further parameters of that question.
    """
    window = window or scope.window
    steady = (*scope.params(), ("tz", scope.zone_name), *((key, str(value)) for key, value in params.items()))
    times = (("since", window.since.isoformat()), ("until", window.until.isoformat()))
    moving = scope.comparison if window is not scope.window and window.name == scope.window.name else ""
    return Question(name, times + steady, family=f"{window.name}{moving}?{urlencode(steady)}")


def ask(question: Question) -> Answer:
    """The answer to one question; at most ``TTL_S`` old while the collector is well (or as it allows).

    Raises:
        CollectorError: there is no answer, and none was ever given.
    """
    return _ask(question, viewer.name())


def _ask(question: Question, who: str) -> Answer:
    base_url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    memory = _last_good()
    try:
        body, answered_at = (_answered_lastingly if question.lasting else _answered)(base_url, question, who)
        answer = Answer(_decoded(body), answered_at)
    except (NotAllowed, NotUnderstood):
        raise  # What was answered before is no answer to somebody who may not ask any more.
    except CollectorError as trouble:
        remembered = memory.get((base_url, who), question)
        if remembered is None:
            raise
        body, answered_at = remembered
        return Answer(_decoded(body), answered_at, trouble)
    memory.put((base_url, who), question, body, answered_at)
    return answer


def ask_all(questions: Sequence[Question], alongside: Sequence[Question] = ()) -> list[Answer]:
    """The answers to several questions, asked side by side; in the order of the questions.

    Args:
        questions: whose answers are wanted.
        alongside: asked at the same time, only so that :func:`ask` finds their answers in the cache;
            what goes wrong with them is told then.

    Raises:
        CollectorError: at least one of ``questions`` has no answer.
    """
    who, pool = viewer.name(), ThreadPoolExecutor(PARALLEL_QUESTIONS)
    wanted = [pool.submit(_ask, question, who) for question in questions]
    for question in alongside:
        pool.submit(_ask, question, who)
    pool.shutdown(wait=False)  # What was begun goes on; nobody waits for what runs alongside.
    return [future.result() for future in wanted]


def tell(action: str, counter: str, detail: Mapping[str, str]) -> None:
    """Write a line into the ledger's ``budget_events``: what somebody said or did here.

    Args:
        action: what, such as ``false_alarm``.
        counter: about what.
        detail: more of it; who looks is added.

    Raises:
        CollectorError: it was not taken.
    """
    who = viewer.name()
    event = {
        "event_id": f"dashboard-{uuid.uuid4()}",
        "happened_at": datetime.now(UTC).isoformat(),
        "action": action,
        "counter": counter,
        "detail": json.dumps({**detail, "by": who or "dashboard"}),
    }
    whom = Neighbour(
        url=os.environ.get(URL_VARIABLE) or DEFAULT_URL,
        variable=URL_VARIABLE,
        key=os.environ.get(KEY_VARIABLE, ""),
        viewer=who,
    )
    exchange(whom, "POST", "/v1/events", body=json.dumps({"events": [event]}).encode())
    forget()


def forget() -> None:
    """Drop every cached answer, so that the next drawing asks anew. Last good answers are kept."""
    _answered.clear()
    _answered_lastingly.clear()


def money(value: Any) -> Decimal:
    """An amount of an answer in USD, exact; nothing is zero."""
    return value if isinstance(value, Decimal) else Decimal(value or 0)


@st.cache_data(ttl=TTL_S, max_entries=MAX_CACHE_ENTRIES, show_spinner=False)
def _answered(base_url: str, question: Question, who: str) -> tuple[bytes, datetime]:
    return _fetch(base_url, question, os.environ.get(KEY_VARIABLE, ""), who), datetime.now(UTC)


@st.cache_data(ttl=LASTING_TTL_S, max_entries=MAX_CACHE_ENTRIES, show_spinner=False)
def _answered_lastingly(base_url: str, question: Question, who: str) -> tuple[bytes, datetime]:
    return _fetch(base_url, question, os.environ.get(KEY_VARIABLE, ""), who), datetime.now(UTC)


def _fetch(base_url: str, question: Question, key: str, who: str) -> bytes:
    """The answer's bytes, from the network."""
    whom = Neighbour(url=base_url, variable=URL_VARIABLE, key=key, viewer=who)
    path = f"/v1/questions/{question.name}?{urlencode(question.params)}"
    for wait_s in FULL_WAITS_S:  # Many look at once: better a moment later than an error.
        try:
            return exchange(whom, "GET", path, accept=ARROW)
        except CollectorFull:
            time.sleep(wait_s)
    return exchange(whom, "GET", path, accept=ARROW)


def _decoded(body: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(body) as stream:
            return stream.read_all()
    except pa.ArrowException as error:
        raise BadAnswer("The collector's answer is not an Arrow stream.") from error


class _LastGood:
    """The last good answers, by who asked whom for what, apart from the moving window; bounded."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[tuple[str, str], str, str], tuple[bytes, datetime]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, asked: tuple[str, str], question: Question) -> tuple[bytes, datetime] | None:
        with self._lock:
            return self._answers.get((asked, question.name, question.family))

    def put(self, asked: tuple[str, str], question: Question, body: bytes, answered_at: datetime) -> None:
        if not question.family or len(body) > MAX_REMEMBERED_BYTES // 4:
            return
        key = (asked, question.name, question.family)
        with self._lock:
            replaced = self._answers.pop(key, None)
            self._answers[key] = (body, answered_at)
            self._bytes += len(body) - (len(replaced[0]) if replaced else 0)
            while len(self._answers) > MAX_REMEMBERED or self._bytes > MAX_REMEMBERED_BYTES:
                _, (dropped, _) = self._answers.popitem(last=False)
                self._bytes -= len(dropped)


@st.cache_resource(show_spinner=False)
def _last_good() -> _LastGood:
    return _LastGood()
