"""What the kernel says of a connection."""

import socket
import sys

import pytest

from sidecar.http.tcp import prepare_transport


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_round_trip_to_a_neighbour_is_short_and_not_nothing() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        assert 0 < prepare_transport(client) < 1
