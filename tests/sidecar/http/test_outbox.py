"""Whole messages leave at the end of a turn, in order, after what has to come before them."""

import asyncio
from typing import Any, cast

from sidecar.http import Outbox
from sidecar.http.outbox import MOST_TOGETHER


class Socket:
    """A transport that writes down what it is given."""

    def __init__(self, log: list[object], *, closed: bool = False, broken: bool = False) -> None:
        self.log, self.closed, self.broken = log, closed, broken

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("broken")
        self.log.append(data)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.log.append([len(piece) for piece in pieces])

    def abort(self) -> None:
        self.log.append("aborted")


def socket(log: list[object], **how: bool) -> asyncio.WriteTransport:
    return cast(Any, Socket(log, **how))


async def test_messages_of_one_turn_leave_together_after_what_comes_before_them() -> None:
    log: list[object] = []
    outbox = Outbox(lambda: log.append("before"))
    turn = outbox.put(socket(log), b"a", b"b", lambda: log.append("leaves"))
    outbox.put(socket(log), b"c", b"d" * (64 << 10))
    assert log == []
    assert turn == outbox.turn
    await asyncio.sleep(0)
    assert log == ["before", "leaves", b"ab", [1, 64 << 10]]
    assert turn != outbox.turn
    outbox.put(socket(log), b"e", b"")
    await asyncio.sleep(0)
    assert log[4:] == ["before", b"e"]


async def test_the_first_of_very_many_does_not_wait_for_the_last() -> None:
    log: list[object] = []
    outbox = Outbox(lambda: log.append("before"))
    for number in range(MOST_TOGETHER + 1):
        outbox.put(socket(log), b"%d" % number, b"")
    assert log == ["before", *[b"%d" % number for number in range(MOST_TOGETHER)]]
    await asyncio.sleep(0)
    assert log[-2:] == ["before", b"%d" % MOST_TOGETHER]


async def test_what_is_flushed_has_left_and_does_not_leave_twice() -> None:
    log: list[object] = []
    outbox = Outbox()
    outbox.put(socket(log), b"a", b"")
    outbox.flush()
    assert log == [b"a"]
    await asyncio.sleep(0)
    assert log == [b"a"]


async def test_without_a_message_it_is_emptied_all_the_same() -> None:
    log: list[object] = []
    outbox = Outbox(lambda: log.append("before"))
    outbox.soon()
    outbox.soon()
    await asyncio.sleep(0)
    assert log == ["before"]


async def test_a_closed_or_broken_socket_is_nobody_elses_concern() -> None:
    log: list[object] = []
    outbox = Outbox()
    outbox.put(socket(log, closed=True), b"a", b"", lambda: log.append("leaves"))
    outbox.put(socket(log, broken=True), b"b", b"")
    outbox.put(socket(log), b"c", b"")
    outbox.flush()
    assert log == ["aborted", b"c"]


async def test_what_the_requests_of_a_turn_put_leaves_with_the_last_of_them() -> None:
    log: list[object] = []
    outbox = Outbox(lambda: log.append("before"))
    for _ in range(3):
        outbox.expect()
    for number in range(2):
        outbox.begun()
        outbox.put(socket(log), b"%d" % number, b"")
    assert log == []
    outbox.begun()
    outbox.put(socket(log), b"2", b"")
    assert log == ["before", b"0", b"1", b"2"]
    outbox.put(socket(log), b"an answer", b"")
    assert len(log) == 4
    await asyncio.sleep(0)
    assert log[4:] == ["before", b"an answer"]


async def test_a_request_that_never_came_to_be_begun_holds_nothing_back_for_long() -> None:
    log: list[object] = []
    outbox = Outbox()
    outbox.expect()
    outbox.expect()
    outbox.begun()
    outbox.put(socket(log), b"a", b"")
    await asyncio.sleep(0)
    assert log == [b"a"]
    for _ in range(5):
        outbox.flush()
    outbox.expect()
    outbox.begun()
    outbox.put(socket(log), b"b", b"")
    assert log == [b"a", b"b"]
