"""One connection to a Redis: who waits, how long, and what becomes of late replies."""

import pytest
import uvloop

from sidecar.budgets.redis_connection import RedisConnection, RedisTimeout, connect, pack, parse_address
from tests.sidecar.budgets.redis_server import RedisServer, until


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_one_whose_time_is_up_as_it_asks_is_told_so_and_hinders_nobody(
    redis: RedisServer, timeout_s: float
) -> None:
    """A busy process may get to ask only when there is no time left."""
    replies: list[object] = []
    late: list[object] = []
    ended: list[bool] = []

    async def scene() -> object:
        connection: RedisConnection = await connect(
            parse_address(redis.url), lambda: ended.append(True), timeout_s=30.0
        )
        try:
            for word in (b"one", b"two"):
                connection.send(pack(["ECHO", word]), replies.append, timeout_s, late.append)
            return await connection.ask("ECHO", b"three", timeout_s=30.0)
        finally:
            connection.close()
            await until(lambda: ended)

    assert uvloop.run(scene()) == b"three"
    # A reply may be quicker than the clock.
    assert len(replies) == 2
    assert {reply for reply in replies if not isinstance(reply, RedisTimeout)} | set(late) == {b"one", b"two"}
