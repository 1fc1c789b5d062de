"""Requests that come all at once: a few are begun, then those under way go on, then a few more."""

import asyncio
import contextlib
import socket
from functools import partial

from sidecar.http import Request, Responder
from sidecar.http.turns import BEGUN_AT_ONCE, Turns

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_what_answers_the_first_requests_is_read_before_the_last_are_begun() -> None:
    loop = asyncio.get_running_loop()
    turns, seen = Turns(loop), list[int | str]()
    near, far = socket.socketpair()
    done = asyncio.Event()

    def begin(number: int) -> None:
        seen.append(number)
        if number == 0:
            far.send(b"the answer to the first")
        if number == 3 * BEGUN_AT_ONCE:
            done.set()

    def read() -> None:
        seen.append("answer")
        loop.remove_reader(near)

    loop.add_reader(near, read)
    with near, far:
        for number in range(3 * BEGUN_AT_ONCE + 1):
            turns.take(partial(begin, number))
        assert seen == list(range(BEGUN_AT_ONCE))
        await asyncio.wait_for(done.wait(), 5)
    assert seen.index("answer") <= 2 * BEGUN_AT_ONCE
    assert [each for each in seen if each != "answer"] == list(range(3 * BEGUN_AT_ONCE + 1))


async def test_requests_one_after_the_other_never_wait() -> None:
    turns, begun = Turns(asyncio.get_running_loop()), list[int]()
    for number in range(5 * BEGUN_AT_ONCE):
        turns.take(partial(begun.append, number))
        assert begun[-1] == number
        for _ in range(3):
            await asyncio.sleep(0)


async def test_a_client_that_leaves_before_its_turn_is_not_answered(serve) -> None:
    answered = list[Request]()

    async def handler(request: Request, responder: Responder) -> None:
        answered.append(request)
        responder.send(200, [], b"ok")

    running = await serve(handler)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            for _ in range(BEGUN_AT_ONCE + 2)
        ]
        while running.server.connections < len(clients):
            await asyncio.sleep(0.01)
        # All within one turn of the loop, which so sees requests and leaving at once.
        for client in clients:
            client.sendall(GET)
        clients[-1].close()
        while running.server.requests or running.server.connections == len(clients):
            await asyncio.sleep(0.01)
        assert len(answered) == BEGUN_AT_ONCE + 1
        for client in clients[:-1]:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
