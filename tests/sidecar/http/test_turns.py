"""Requests that come all at once: a few are begun, then those under way go on, then a few more."""

import asyncio
import contextlib
import socket
from functools import partial

import pytest

from sidecar.http import Request, Responder
from sidecar.http.turns import FEW_AT_ONCE, MOST_AT_ONCE, QUIET_NS, Endings, Turns, few_of

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_what_answers_the_first_requests_is_read_before_the_last_are_begun() -> None:
    loop = asyncio.get_running_loop()
    turns, seen = Turns(loop), list[int | str]()
    near, far = socket.socketpair()
    done = asyncio.Event()
    many = 3 * MOST_AT_ONCE

    def begin(number: int) -> None:
        seen.append(number)
        if number == 0:
            far.send(b"the answer to the first")
        if number == many:
            done.set()

    def read() -> None:
        seen.append("answer")
        loop.remove_reader(near)

    loop.add_reader(near, read)
    with near, far:
        for number in range(many + 1):
            turns.take(partial(begin, number), 0)
        assert seen == list(range(FEW_AT_ONCE))
        await asyncio.wait_for(done.wait(), 5)
    assert seen.index("answer") <= 3 * FEW_AT_ONCE
    assert [each for each in seen if each != "answer"] == list(range(many + 1))


async def begun_each_turn(turns: Turns, now_ns: int, many: int) -> list[int]:
    """How many of ``many`` requests that come together are begun before the loop looks at its sockets."""
    begun, together = list[int](), list[int]()
    for number in range(many):
        turns.take(partial(begun.append, number), now_ns)
    for _ in range(20):  # enough for all, and for the last turn to be over
        together.append(len(begun) - sum(together))
        await asyncio.sleep(0)
    assert begun == list(range(many))
    return [count for count in together if count]


async def test_a_burst_begins_with_few_and_a_crowd_with_many() -> None:
    turns = Turns(asyncio.get_running_loop())
    grown = [FEW_AT_ONCE]
    while (more := few_of(sum(grown), MOST_AT_ONCE)) < MOST_AT_ONCE:
        grown.append(more)
    assert grown == [4, 4, 4, 6, 9, 13, 20, 30]
    many = sum(grown) + 2 * MOST_AT_ONCE
    assert await begun_each_turn(turns, 0, many) == [*grown, MOST_AT_ONCE, MOST_AT_ONCE]
    assert await begun_each_turn(turns, QUIET_NS, 2 * MOST_AT_ONCE) == [MOST_AT_ONCE, MOST_AT_ONCE]
    assert (await begun_each_turn(turns, 2 * QUIET_NS + 1, many))[0] == FEW_AT_ONCE


async def test_requests_one_after_the_other_never_wait() -> None:
    turns, begun = Turns(asyncio.get_running_loop()), list[int]()
    for number in range(5 * MOST_AT_ONCE):
        turns.take(partial(begun.append, number), 0)
        assert begun[-1] == number
        for _ in range(3):
            await asyncio.sleep(0)


async def test_streams_end_after_what_has_come_was_begun_a_few_in_a_turn() -> None:
    loop = asyncio.get_running_loop()
    endings, seen, many = Endings(loop), list[int | str](), 3 * FEW_AT_ONCE + 1
    for number in range(many):
        endings.take(partial(seen.append, number))
    loop.call_soon(seen.append, "begun")
    together = list[int]()
    while len(seen) <= many:
        before = len(seen)
        await asyncio.sleep(0)
        together.append(len(seen) - before)
    assert seen == ["begun", *range(many)]
    assert [count for count in together if count] == [1, FEW_AT_ONCE, 2 * FEW_AT_ONCE, 1]
    endings.take(partial(seen.append, "later"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen[-1] == "later"


async def test_an_end_that_fails_is_nobody_elses_concern(caplog: pytest.LogCaptureFixture) -> None:
    endings, seen = Endings(asyncio.get_running_loop()), list[str]()

    def fail() -> None:
        raise RuntimeError("no")

    endings.take(fail)
    endings.take(partial(seen.append, "ended"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == ["ended"]
    assert "could not be ended" in caplog.text


async def test_a_client_that_leaves_before_its_turn_is_not_answered(serve) -> None:
    answered = list[Request]()

    async def handler(request: Request, responder: Responder) -> None:
        answered.append(request)
        responder.send(200, [], b"ok")

    running = await serve(handler)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            for _ in range(FEW_AT_ONCE + 2)
        ]
        while running.server.connections < len(clients):
            await asyncio.sleep(0.01)
        # All within one turn of the loop, which so sees requests and leaving at once.
        for client in clients:
            client.sendall(GET)
        clients[-1].close()
        while running.server.requests or running.server.connections == len(clients):
            await asyncio.sleep(0.01)
        assert len(answered) == FEW_AT_ONCE + 1
        for client in clients[:-1]:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
