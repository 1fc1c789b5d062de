"""What the connections of one server share."""

import asyncio
import sys
from functools import partial
from typing import Final, Protocol

from sidecar.http.exchange import ErrorBody, Handler
from sidecar.http.fields import HeaderList
from sidecar.http.hangup import HangupWatch
from sidecar.http.limits import Deadlines, Limits
from sidecar.http.outbox import Outbox
from sidecar.http.sweep import Clock, Sweep
from sidecar.http.turns import Endings, Turns


class Connection(Protocol):
    """A client's connection, as the server sees it."""

    @property
    def idle(self) -> bool:
        """Whether it waits for a request of which nothing has come."""

    def drain(self) -> None:
        """Close as soon as nothing is under way."""

    def abort(self) -> None:
        """Close at once."""

    def cancel(self) -> None:
        """Stop answering."""


class Service:
    """What all connections of one server share."""

    __slots__ = (
        "busy", "clock", "connections", "deadlines", "draining", "emptied", "endings", "error_body",
        "handler", "hangups", "limits", "loop", "outbox", "sweep", "turns",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        limits: Limits,
        deadlines: Deadlines,
        error_body: ErrorBody,
        clock: Clock,
        sweep: Sweep,
        outbox: Outbox,
    ) -> None:
        self.loop = loop
        self.outbox = outbox
        self.handler = handler
        self.limits = limits
        self.deadlines = deadlines
        self.error_body = error_body
        self.clock = clock
        self.sweep = sweep
        self.hangups = HangupWatch(loop)
        self.turns = Turns(loop)
        self.endings = Endings(loop)
        """For the ends of streams, which are not to hold up those that begin."""
        self.connections: set[Connection] = set()
        self.busy: set[Connection] = set()
        """Those answering a request; one may outlive its socket."""
        self.draining = False
        self.emptied = asyncio.Event()
        """Set whenever the last connection or request has gone."""

    def note_emptied(self) -> None:
        """Wake whoever waits for the end, if this is it."""
        if not self.connections and not self.busy:
            self.emptied.set()


STARTS_LATER: Final = sys.version_info < (3, 12)
"""Whether a task takes its first step only when the loop comes to it."""

if sys.version_info >= (3, 12):
    # Not ``Task[None]``: calling a generic alias tries, and fails, to mark each task with its parameters.
    start_task = partial(asyncio.Task, eager_start=True)
    """Runs a coroutine as a task, its first step at once and not a turn of the loop later."""
else:
    start_task = asyncio.Task
    """Runs a coroutine as a task."""


def extra_fields(status: int) -> HeaderList:
    """Fields that go with a status whatever the body says."""
    if status == 405:
        return [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
    if status == 503:
        return [(b"retry-after", b"1")]
    return []
