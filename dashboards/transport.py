"""One request to a neighbour of ours, over HTTP, and everything that can come of it."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from collector.domain.access import HEADER

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 << 20


class CollectorError(Exception):
    """The collector, or the sidecar's control plane, did not do what it was asked for.

    CollectorError
    ├── CollectorUnreachable  nobody listens there, or it does not answer in time
    ├── CollectorBusy         it has its hands full, or this question took too long (429, 504)
    │   └── CollectorFull     others are before us: worth asking again in a moment (503)
    ├── NotAllowed            it refuses our key (401, 403)
    ├── NotUnderstood         it does not know the question or a parameter (400, 404, 405, 422)
    └── BadAnswer             what it sent is not an answer
    """

    advice: str = ""
    """What to do, in Markdown."""


class CollectorUnreachable(CollectorError):
    """Nobody listens there, or the answer did not come in time."""

    advice = (
        "Start it with `bursar collector` (or `bursar up`), or say where it is in `BURSAR_COLLECTOR_URL`."
    )


class CollectorBusy(CollectorError):
    """It has as many questions in hand as it takes, or this one ran past its time limit."""

    advice = "Try again in a moment, or look at a shorter time range."


class CollectorFull(CollectorBusy):
    """It has as many questions in hand as it takes; the next moment may do."""


class NotAllowed(CollectorError):
    """It refuses our key."""

    advice = (
        "Ask whoever runs Bursar for a role that reaches this far; a dashboard that lacks the key "
        "takes it from `BURSAR_CONTROL_KEY`."
    )


class NotUnderstood(CollectorError):
    """It does not know the question, or a parameter of it."""

    advice = "The collector and the dashboard may be of different versions."


class BadAnswer(CollectorError):
    """What came back is not an answer."""

    advice = "Check that the address is that of a Bursar collector."


_ERRORS: Mapping[int, type[CollectorError]] = {
    401: NotAllowed,
    403: NotAllowed,
    429: CollectorBusy,
    503: CollectorFull,
    504: CollectorBusy,
    400: NotUnderstood,
    404: NotUnderstood,
    405: NotUnderstood,
    422: NotUnderstood,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Whom we ask."""

    url: str
    variable: str
    """Environment variable that says where it is."""
    name: str = "The collector"
    key: str = ""
    """Sent as a bearer token."""
    viewer: str = ""
    """Who looks, as they signed in: what they may see is decided there."""
    advice: str = ""
    """What to do when it cannot be reached."""


def exchange(
    whom: Neighbour,
    method: str,
    path: str,
    *,
    accept: str = "application/json",
    body: bytes | None = None,
    patience: float = 1,
) -> bytes:
    """The body of the answer to one request.

    Args:
        whom: who is asked.
        method: of HTTP.
        path: with its query.
        accept: the kind of answer that is wanted.
        body: JSON.
        patience: how many times as long as for one answer it may take.

    Raises:
        CollectorError: there is none, or it is a refusal.
    """
    where = urlsplit(whom.url)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise BadAnswer(f"{whom.variable} is not an http address: {whom.url!r}")
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.hostname, where.port, timeout=CONNECT_TIMEOUT_S)
    headers: dict[str, str | bytes] = {"Accept": accept}
    if whom.key:
        headers["Authorization"] = f"Bearer {whom.key}"
    if whom.viewer:
        headers[HEADER] = whom.viewer.encode()
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_TIMEOUT_S * patience)
        connection.request(method, f"{where.path.rstrip('/')}{path}", body=body, headers=headers)
        reply = connection.getresponse()
        said = reply.read(MAX_ANSWER_BYTES + 1)
    except TimeoutError as error:
        raise _unreachable(whom, "did not answer in time") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(whom, "cannot be reached") from error
    finally:
        connection.close()
    what = path.partition("?")[0].rpartition("/")[2]
    if trouble := told_of(whom, what, reply.status, said):
        raise trouble
    if len(said) > MAX_ANSWER_BYTES:
        raise BadAnswer(f"The answer to {what!r} is larger than {MAX_ANSWER_BYTES >> 20} MiB.")
    return said


def told_of(whom: Neighbour, what: str, status: int, said: bytes) -> CollectorError | None:
    """What a status means for what was asked, and why, as far as the body says; None where all is well."""
    if status in (http.HTTPStatus.OK, http.HTTPStatus.CREATED):
        return None
    return _ERRORS.get(status, BadAnswer)(f"{whom.name} answered {what!r} with {status}{_reason(said)}.")


def _unreachable(whom: Neighbour, what: str) -> CollectorUnreachable:
    error = CollectorUnreachable(f"{whom.name} at {whom.url} {what}.")
    if whom.advice:
        error.advice = whom.advice
    return error


def _reason(body: bytes) -> str:
    """What an error body says, shortened; empty when it says nothing we can read."""
    try:
        error = json.loads(body[:10_000])["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {str(message)[:200].rstrip('.')}"
