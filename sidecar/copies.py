"""Copies of what agents send, for whoever on this machine wants to read them beside the calls.

`bursar alerts` listens on a socket in the data directory and scores new texts for prompt injection. A copy
goes there when the call has ended, at most so many a second; nobody waits for it, and where nobody listens
there is none. A copy never leaves the machine, is kept in nobody's file, and only this user can read it.
"""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sidecar.call import Call

SOCKET = "injection.sock"
"""In the folder ``alerts`` of the data directory."""
LIMIT_PER_S = 50.0
"""A sample of busy traffic says as much as all of it, and costs the calls nothing."""
MOST_BYTES = 128 << 10
"""Of a longer body the end goes: what is new stands there. One datagram carries it."""
LOOK_AGAIN_S = 5.0
"""Until a listener that was not there is looked for again."""

_encode = msgspec.json.Encoder().encode


class Copies:
    """Sends copies of request bodies to a local listener, without ever waiting.

    Args:
        folder: where the listener's socket is, or will be.
        clock: seconds, monotonic.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._socket: socket.socket | None = None
        self._look_at = 0.0
        self._credit = LIMIT_PER_S
        self._credit_at = clock()

    def offer(self, call: Call) -> None:
        """Send a copy of what ``call`` asked, if somebody wants it and there is room."""
        now = self._clock()
        if self._socket is None and (now < self._look_at or not self._connect(now)):
            return
        self._credit = min(LIMIT_PER_S, self._credit + (now - self._credit_at) * LIMIT_PER_S)
        self._credit_at = now
        if self._credit >= 1:
            self._credit -= 1
            self._send(call, now)

    def close(self) -> None:
        """Send no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._look_at = float("inf")

    def _send(self, call: Call, now: float) -> None:
        assert self._socket is not None
        body, caller = call.request.body, call.caller
        head = _encode(
            (call.call_id, call.api, caller.tenant, caller.team, caller.agent, len(body) > MOST_BYTES)
        )
        try:
            self._socket.sendmsg([head, b"\n", body[-MOST_BYTES:]], (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass  # the listener is busy: a sample of what it can read is enough
        except OSError:
            # The listener is gone; its successor has a socket of its own.
            self._socket.close()
            self._socket, self._look_at = None, now + LOOK_AGAIN_S

    def _connect(self, now: float) -> bool:
        self._look_at = now + LOOK_AGAIN_S
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            # By the folder's number: the name of a socket has room for hardly more than a hundred characters.
            sock.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        except OSError:
            sock.close()
            return False
        finally:
            os.close(folder)
        self._socket = sock
        return True
