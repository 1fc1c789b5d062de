"""What is said where there is no answer: a status, and ``{"error": {"message": ...}}`` with what helps."""

import http
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from collector import logs
from collector.api.viewing import NotYours
from collector.store.asking import BadParameter
from collector.store.duckdb import DatabaseError, StoreError
from collector.store.questions import CATALOGUE
from collector.store.reader import Busy, QuestionFailed

_log = logs.get("collector.api")


class NoSuchQuestion(Exception):
    """The catalogue has none of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no question {name[:64]!r}")


FORESEEN: Final = (NoSuchQuestion, NotYours, BadParameter, QuestionFailed)
"""Reasons that lie in the question."""


def error(status: int, message: str, **more: Any) -> Response:
    """A refusal in words."""
    headers = {"retry-after": "2"} if status == http.HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse({"error": {"message": message, **more}}, status_code=status, headers=headers)


def refusal(reason: Exception) -> Response:
    """What is said for ``reason``."""
    match reason:
        case HTTPException():
            return error(reason.status_code, str(reason.detail))
        case NoSuchQuestion():
            return error(404, str(reason), choices=sorted(CATALOGUE))
        case NotYours():
            return error(403, str(reason))
        case BadParameter():
            return error(400, str(reason), parameter=reason.parameter, choices=reason.choices)
        case Busy():
            return error(503, str(reason))
        case QuestionFailed():
            return error(504, str(reason))
        case _:
            return error(503, "the ledger cannot be read or written at this moment")


def handlers() -> dict[Any, Callable[[Request, Exception], Awaitable[Response]]]:
    """By kind of exception, for an application."""
    said: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {HTTPException: _said}
    said.update(dict.fromkeys(FORESEEN, _said))
    said.update(dict.fromkeys((StoreError, DatabaseError), _said_of_the_store))
    return said


async def _said(request: Request, reason: Exception) -> Response:
    return refusal(reason)


async def _said_of_the_store(request: Request, reason: Exception) -> Response:
    _log.error("the ledger did not answer", failure=reason, path=request.url.path)
    return refusal(reason)
