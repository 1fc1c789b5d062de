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

_ROUND_TRIP_AT = 68
"""Where ``tcpi_rtt``, in microseconds, stands in Linux's ``struct tcp_info``."""


def prepare_socket(sock: socket.socket) -> None:
    """Send small pieces at once, and notice within two minutes a peer that vanished without a word."""
    for option in _OPTIONS:
        sock.setsockopt(*option)


def _round_trip_s(sock: socket.socket) -> float:
    if sys.platform != "linux":
        return 0.0
    told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIP_AT + 4)
    return float(int.from_bytes(told[_ROUND_TRIP_AT:], sys.byteorder)) / 1e6


def prepare_transport(sock: Any) -> float:
    """As :func:`prepare_socket`, for the likeness of a socket that a loop shows: one made for each option.

    Returns the seconds of a round trip to the peer as the kernel has seen them, 0 where it does not say.
    """
    real = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, sock.fileno())
    try:
        prepare_socket(real)
        return _round_trip_s(real)
    finally:
        real.detach()
