"""The only place that talks to the collector.

Questions are asked over HTTP, all that a page needs in one request, so that they are answered
about one state of the ledger, each as an Arrow stream. Answers are shared by all
readers for ``TTL_S`` seconds. When the collector does not answer, the last good answer to
the same question is served once more, marked with its age; without one the error is
raised, and it says what happened and what to do.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import streamlit as st

from dashboards import viewer
from dashboards.kept import Answers, Body, LastGood
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
    told_of,
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
PATIENCE = 4
"""Several answers come together, once the last is there: they are waited for as long as for so many."""
REQUESTS_AT_ONCE = 16
"""However many look, the collector has no more of our requests in hand; the others wait here."""

ARROW = "application/vnd.apache.arrow.stream"
SEVERAL = "application/vnd.bursar.answers"

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


_Key = tuple[str, str, Question]
"""Whom, in whose name, and what."""


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
    return ask_all([question])[0]


def ask_all(questions: Sequence[Question], alongside: Sequence[Question] = ()) -> list[Answer]:
    """The answers to several questions, all about one state of the ledger unless some were known already.

    Args:
        questions: whose answers are wanted, in their order.
        alongside: asked at the same time, only so that :func:`ask` finds their answers here;
            what goes wrong with them is told then.

    Raises:
        CollectorError: at least one of ``questions`` has no answer.
    """
    who, base_url = viewer.name(), os.environ.get(URL_VARIABLE) or DEFAULT_URL
    whom = Neighbour(url=base_url, variable=URL_VARIABLE, key=os.environ.get(KEY_VARIABLE, ""), viewer=who)
    wanted = [*questions, *alongside]
    keys = [(base_url, who, question) for question in wanted]
    lasting = [LASTING_TTL_S if question.lasting else TTL_S for question in wanted]
    bodies, mine = _answers().claim(list(zip(keys, lasting, strict=True)))
    if mine:
        _bring(whom, [(keys[place], bodies[place]) for place in mine])
    return [_given(base_url, who, question, body) for question, body in zip(questions, bodies, strict=False)]


def _bring(whom: Neighbour, claimed: Sequence[tuple[_Key, Future[Body]]]) -> None:
    """Keep what was promised: an answer, or the reason why there is none."""
    said: Sequence[bytes | BaseException] = ()
    try:
        said = _fetch(whom, [question for (_, _, question), _ in claimed])
    except CollectorError as error:
        said = [error] * len(claimed)
    except BaseException as error:
        said = [error] * len(claimed)
        raise
    finally:
        answered_at = datetime.now(UTC)
        for (key, body), answer in zip(claimed, said, strict=True):
            if isinstance(answer, bytes):
                body.set_result((answer, answered_at))
            else:
                _answers().drop(key, body)
                body.set_exception(answer)


def _given(base_url: str, who: str, question: Question, body: Future[Body]) -> Answer:
    memory, asked = _last_good(), (base_url, who, question.name, question.family)
    try:
        said, answered_at = body.result()
        answer = Answer(_decoded(said), answered_at)
    except (NotAllowed, NotUnderstood):
        raise  # What was answered before is no answer to somebody who may not ask any more.
    except CollectorError as trouble:
        remembered = memory.get(asked)
        if remembered is None:
            raise
        said, answered_at = remembered
        return Answer(_decoded(said), answered_at, trouble)
    if question.family:
        memory.put(asked, said, answered_at)
    return answer


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
    _answers().clear()


def money(value: Any) -> Decimal:
    """An amount of an answer in USD, exact; nothing is zero."""
    return value if isinstance(value, Decimal) else Decimal(value or 0)


def _fetch(whom: Neighbour, questions: Sequence[Question]) -> list[bytes | CollectorError]:
    """The answers' bytes, from the network.

    Raises:
        CollectorError: there is none at all.
    """
    with _LINES:
        for wait_s in FULL_WAITS_S:  # Many look at once: better a moment later than an error.
            try:
                return _exchanged(whom, questions)
            except CollectorFull:
                time.sleep(wait_s)
        return _exchanged(whom, questions)


def _exchanged(whom: Neighbour, questions: Sequence[Question]) -> list[bytes | CollectorError]:
    if len(questions) == 1:
        (question,) = questions
        path = f"/v1/questions/{question.name}?{urlencode(question.params)}"
        return [exchange(whom, "GET", path, accept=ARROW)]
    asked = []
    for question in questions:
        parameters: dict[str, list[str]] = {}
        for name, value in question.params:
            parameters.setdefault(name, []).append(value)
        asked.append({"name": question.name, "parameters": parameters})
    body = json.dumps({"questions": asked}).encode()
    said = exchange(whom, "POST", "/v1/questions", accept=SEVERAL, body=body, patience=PATIENCE)
    return _apart(whom, questions, said)


def _apart(whom: Neighbour, questions: Sequence[Question], said: bytes) -> list[bytes | CollectorError]:
    """What was said to each of several questions."""
    head, _, rest = said.partition(b"\n")
    try:
        parts = [(int(part["status"]), int(part["bytes"])) for part in json.loads(head)["answers"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer("The collector's answer is not one to several questions.") from error
    if len(parts) != len(questions) or sum(length for _, length in parts) != len(rest):
        raise BadAnswer("The collector's answers are not as many as the questions.")
    found: list[bytes | CollectorError] = []
    start = 0
    for question, (status, length) in zip(questions, parts, strict=True):
        body = rest[start : start + length]
        start += length
        found.append(told_of(whom, question.name, status, body) or body)
    return found


def _decoded(body: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(body) as stream:
            return stream.read_all()
    except pa.ArrowException as error:
        raise BadAnswer("The collector's answer is not an Arrow stream.") from error


_LINES = threading.BoundedSemaphore(REQUESTS_AT_ONCE)


@st.cache_resource(show_spinner=False)
def _answers() -> Answers:
    return Answers(MAX_CACHE_ENTRIES)


@st.cache_resource(show_spinner=False)
def _last_good() -> LastGood:
    return LastGood(MAX_REMEMBERED, MAX_REMEMBERED_BYTES)
