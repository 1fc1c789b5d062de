"""Socket options."""

import socket
import sys
from typing import Any

INHERITED = sys.platform == "linux"
"""Whether what a client's connection gets is what was set on the socket that listens."""

_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *[
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
        if hasattr(socket, name)
    ],
]


def prepare_socket(sock: socket.socket) -> None:
    """Send small pieces at once, and notice within two minutes a peer that vanished without a word."""
    for option in _OPTIONS:
        sock.setsockopt(*option)


def prepare_transport(sock: Any) -> None:
    """As :func:`prepare_socket`, for the likeness of a socket that a loop shows: one made for each option."""
    real = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, sock.fileno())
    try:
        prepare_socket(real)
    finally:
        real.detach()
