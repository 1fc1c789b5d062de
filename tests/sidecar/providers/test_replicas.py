"""Replicas as calls come and go: where a conversation is cached, and when that is forgotten."""

import json
from typing import Any, cast

import pytest

from sidecar.call import Call
from sidecar.config import UpstreamConfig
from sidecar.http import UpstreamError, UpstreamPool
from sidecar.providers.replicas import Pool, Replica
from sidecar.wire import read_request

URLS = ("http://a:1", "http://b:1")


class FakePool:
    """Connections to a server that answers, or does not."""

    def __init__(self) -> None:
        self.inflight = 0
        self.has_room = True
        self.well = True

    async def request(self, *_: object) -> "FakePool":
        if not self.well:
            raise UpstreamError("connect", "nobody is there", sent=False)
        return self

    status = 200

    async def read(self, most: int) -> bytes:
        return b""


class Caller:
    tenant = "t"


class FakeCall:
    """What the choice looks at of a call."""

    def __init__(self, number: int, text: str) -> None:
        messages = [{"role": "system", "content": text * 80}, {"role": "user", "content": str(number)}]
        self.call_id = str(number)
        self.caller = Caller
        self.request = self
        self.body = json.dumps({"model": "m", "messages": messages}).encode()
        self.facts = read_request("openai.chat", self.body)


def call(number: int, text: str = "begin like this ") -> Call:
    return cast(Call, FakeCall(number, text))


def pool_of(balance: str = "prefix", **more: Any) -> tuple[Pool, list[Replica]]:
    config = UpstreamConfig(kind="openai", replicas=URLS, balance=balance, **more)  # type: ignore[arg-type]
    replicas = [
        Replica(name, "", cast(UpstreamPool, FakePool()), index=index) for index, name in enumerate("ab")
    ]
    return Pool("local", config), replicas


def test_one_replica_alone_is_asked_without_a_look_at_what_it_has() -> None:
    pool = Pool("local", UpstreamConfig(kind="openai", replicas=URLS[:1], balance="prefix"))
    alone = Replica("a", "", cast(UpstreamPool, FakePool()))

    assert pool.pick([alone], call(1)) is alone
    assert pool.began(alone, call(1)) == 0
    assert not alone.prefixes


def served(pool: Pool, replica: Replica, asked: Call) -> int:
    """A call to its end; the uncached tokens that it brought."""
    tokens = pool.began(replica, asked)
    assert replica.load == tokens
    pool.over(replica, tokens)
    return tokens


def test_a_conversation_is_sent_where_it_is_cached_and_brings_less_there() -> None:
    pool, replicas = pool_of()
    home = pool.pick(replicas, call(0))
    assert home is not None

    first, second = (served(pool, home, call(number)) for number in (0, 1))

    assert second == first - 16 * 16  # blocks of tokens
    assert {pool.pick(replicas, call(number)) for number in range(2, 12)} == {home}


def test_a_server_that_was_started_anew_has_nothing_cached() -> None:
    pool, replicas = pool_of()
    first = served(pool, replicas[0], call(0))
    assert served(pool, replicas[0], call(1)) < first

    pool.failed(replicas[0], restarted=False)
    assert served(pool, replicas[0], call(2)) < first
    pool.failed(replicas[0], restarted=True)
    assert served(pool, replicas[0], call(3)) == first


async def test_a_server_that_comes_back_has_nothing_cached() -> None:
    pool, replicas = pool_of()
    connections = cast(FakePool, replicas[0].pool)
    first = served(pool, replicas[0], call(0))
    connections.well = False
    for _ in range(3):
        await replicas[0].look("/health")
    assert not replicas[0].may_be_asked(pool.clock())

    connections.well = True
    await replicas[0].look("/health")

    assert replicas[0].may_be_asked(pool.clock())
    assert served(pool, replicas[0], call(1)) == first


@pytest.mark.parametrize("balance", ["prefix", "least", "round_robin", "ewma"])
def test_one_without_a_free_connection_is_passed_over_while_another_has_one(balance: str) -> None:
    pool, replicas = pool_of(balance)
    cast(FakePool, replicas[0].pool).has_room = False
    assert {pool.pick(replicas, call(number)) for number in range(8)} == {replicas[1]}

    cast(FakePool, replicas[1].pool).has_room = False
    assert pool.pick(replicas, call(9)) in replicas


def test_one_that_was_tried_is_asked_again_only_where_there_is_no_other() -> None:
    pool, replicas = pool_of()
    home = pool.pick(replicas, call(0))
    assert home is not None
    other = replicas[1 - home.index]

    assert pool.pick(replicas, call(0), [home]) is other
    other.draining = True
    assert pool.pick(replicas, call(0), [home]) is home
    home.healthy = False
    assert pool.pick(replicas, call(0)) is None
