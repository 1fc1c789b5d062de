"""Ports for servers that a test starts.

The kernel hands a port of its ephemeral range (32768 and up) to any connection that goes out, also in the
moment between finding one free and a server's taking it. So servers get ports below that range, and
processes that test side by side begin at different ones.
"""

import itertools
import os
import socket

_FIRST, _LAST = 12_000, 32_000
_STRIDE = 251
"""Ports a process goes through before it meets the next one's."""
_next = itertools.count(os.getpid() * _STRIDE)


def is_free(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True


def free_port() -> int:
    """A port that nobody listens on, and that no call of this process was given before."""
    while True:
        port = _FIRST + next(_next) % (_LAST - _FIRST)
        if is_free(port):
            return port


def free_ports(count: int) -> list[int]:
    """So many of them."""
    return [free_port() for _ in range(count)]
