"""Several sidecars on one real Redis, and what becomes of calls when it is slow, gone, emptied or full."""

import asyncio
import itertools
import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.agent import ASK, post
from support.stack import Stack, free_ports, simulator, wait_for
from support.upstream import Answer, ScriptedUpstream

from collector.journal import segments
from sidecar.budgets.redis_keys import ACL_RULES
from sidecar.proving.agents import PRICES as PROVER_PRICES
from sidecar.proving.agents import Manner, crowd
from tests.scenarios.budget_scenes import PRICES, chat_reply, operate, standings
from tests.sidecar.budgets.redis_server import RedisServer, SlowProxy

StackMaker = Callable[..., Stack]

CAPPED = {**ASK, "max_tokens": 100}
PATIENT_S = 1.0
"""An answer of the sidecar within this shows that it did not hang; its own bar of 60 ms is measured
where nothing else runs in the process."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (scripts/setup/services.sh test)")
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


def shared(url: str, *budgets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"redis": url, "budgets": list(budgets), "prices": PRICES, **more}


def total(name: str = "all", limit: str = "1 USD", **more: Any) -> dict[str, Any]:
    return {"name": name, "limit": limit, "window": "total", **more}


def timed(stack: Stack, **who: str) -> tuple[int, float]:
    """Status of one call, and how long it took."""
    started = time.monotonic()
    status = post(stack, CAPPED, **who)[0]
    return status, time.monotonic() - started


def healthy(stack: Stack) -> bool:
    for path in ("/healthz", "/readyz"):
        with urllib.request.urlopen(stack.url + path, timeout=5) as reply:
            if reply.status != 200:
                return False
    return True


def degraded(stack: Stack) -> bool:
    with urllib.request.urlopen(f"{stack.url}/readyz", timeout=5) as reply:
        return bool(reply.read().startswith(b"ok, degraded"))


def spent(stack: Stack, name: str = "all") -> Decimal:
    [shown] = [one for one in standings(stack) if one["name"] == name]
    return Decimal(shown["spent"])


# ---- one budget for many ------------------------------------------------------------------------


def test_two_hundred_agents_on_four_sidecars_spend_one_budget_to_the_end_and_not_beyond(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    limit = Decimal(2)
    with simulator("--speed", "40") as model:
        upstreams = {"openai": {"kind": "openai", "base_url": f"{model}/v1"}}
        settings = shared(redis.url, total(limit="2 USD"), prices={"prover": PROVER_PRICES})
        stacks = [
            stack_for(upstream, upstreams=upstreams, settings=settings, with_collector=False)
            for _ in range(4)
        ]
        seen = asyncio.run(crowd([stack.url for stack in stacks], 200, Manner(), seed=1))
        wait_for("everything settled", lambda: held(stacks) == 0)
        billed = Decimal(seen.cost_pico) / 10**12
        assert billed <= limit
        assert billed >= Decimal("0.9") * limit
        assert set(seen.statuses) == {200, 402}
        # Each call is rounded up to whole nano-USD once.
        for stack in stacks:
            assert billed <= spent(stack) <= billed + Decimal(seen.statuses[200]) / 10**9


def held(stacks: list[Stack]) -> Decimal:
    return max(Decimal(one["held"]) for stack in stacks for one in standings(stack))


def test_what_one_sidecar_gives_back_another_may_use(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    """A refusal is not kept for ever: the room of a shared budget grows without our doing."""
    upstream.script = lambda seen: Answer(
        pieces=[chat_reply()], delay_s=1.0 if b'"slow"' in seen.body else 0.0
    )
    settings = shared(redis.url, total(limit="0.02 USD"))
    one, two = (stack_for(upstream, settings=settings, with_collector=False) for _ in range(2))
    with ThreadPoolExecutor(1) as agents:
        # 1,900 x 10 USD/Mtok: nearly all is held, and a tenth of it will be spent.
        slow = agents.submit(post, one, {**ASK, "max_tokens": 1900, "user": "slow"})
        wait_for("the slow call", lambda: upstream.seen)
        assert post(two, CAPPED)[0] == 402
        assert slow.result()[0] == 200
    wait_for("room for the other", lambda: post(two, CAPPED)[0] == 200)


def test_a_share_that_two_sidecars_reach_together_counts_for_both(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply(str(json.loads(seen.body)["model"]))])
    budget = total(limit="0.02 USD", at={"50%": "downgrade", "100%": "refuse"})
    settings = shared(redis.url, budget, downgrades=[{"from": "gpt-4o-mini", "to": ["gpt-4.1-nano"]}])
    one, two = (stack_for(upstream, settings=settings, with_collector=False) for _ in range(2))
    for _ in range(3):
        assert [post(stack, CAPPED)[0] for stack in (one, two)] == [200, 200]

    def downgrades(stack: Stack) -> bool:
        # Simulated, for each real call would bring its sidecar nearer to half by itself.
        return operate(stack, "POST", "/bursar/v1/simulate", asked)[1]["decision"] == "downgrade"

    asked = {"model": "gpt-4o-mini", "max_tokens": 10}
    wait_for("both to know", lambda: downgrades(one) and downgrades(two))


# ---- a Redis in trouble -------------------------------------------------------------------------


def test_a_frozen_redis_hangs_nobody_is_logged_once_and_is_back_within_a_second(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=shared(redis.url, total()), with_collector=False)
    assert timed(stack)[0] == 200
    lines = stack.log("sidecar").count("\n")
    redis.freeze()
    until = time.monotonic() + 2.0
    answers = []
    while time.monotonic() < until:
        # Every call another agent's: slices that are held in advance do not help all of them.
        answers.append(timed(stack, x_bursar_agent=f"a{len(answers)}"))
        assert healthy(stack)
    redis.thaw()
    thawed = time.monotonic()
    wait_for("Redis to decide again", lambda: timed(stack)[0] == 200)
    assert time.monotonic() - thawed < 2.0  # the bar is a second; a busy machine is given room
    assert {status for status, _ in answers} <= {200, 402}
    assert max(seconds for _, seconds in answers) < PATIENT_S
    assert len(answers) > 20
    assert stack.log("sidecar").count("\n") - lines <= 4


@pytest.mark.slow
def test_without_redis_at_the_start_hard_budgets_are_closed_soft_ones_open_and_it_joins_later(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    redis.kill()
    hard, soft = total("hard", match={"agent": "careful"}), total("soft", mode="soft")
    stack = stack_for(upstream, settings=shared(redis.url, hard, soft), with_collector=False)
    assert healthy(stack)
    assert degraded(stack)
    assert timed(stack)[0] == 200
    status, _, body = post(stack, CAPPED, x_bursar_agent="careful")
    assert (status, json.loads(body)["error"]["code"]) == (402, "store_lost")
    redis.start()
    wait_for("Redis to be joined", lambda: timed(stack, x_bursar_agent="careful")[0] == 200)


async def test_a_slow_way_to_redis_costs_no_call_more_than_its_patience(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    proxy = SlowProxy(redis.port)
    await proxy.start()
    settings = shared(proxy.url, total(mode="soft"))
    stack = await asyncio.to_thread(stack_for, upstream, settings=settings, with_collector=False)
    try:
        assert (await asyncio.to_thread(timed, stack))[0] == 200
        proxy.delay_s = 0.2
        for _ in range(10):
            status, seconds = await asyncio.to_thread(timed, stack)
            assert (status, seconds < PATIENT_S) == (200, True)
        proxy.delay_s = 0.0
        proxy.cut_after = 3
        for _ in range(10):
            status, seconds = await asyncio.to_thread(timed, stack)
            assert (status, seconds < PATIENT_S) == (200, True)
        assert stack.log("sidecar").count("Traceback") == 0
    finally:
        await proxy.close()


async def test_agents_that_leave_while_redis_is_asked_leave_nothing_held(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    proxy = SlowProxy(redis.port)
    await proxy.start()
    # So small that nothing is held in advance: every call asks.
    settings = shared(proxy.url, total(limit="15 calls"))
    stack = await asyncio.to_thread(stack_for, upstream, settings=settings, with_collector=False)
    try:
        assert (await asyncio.to_thread(timed, stack))[0] == 200
        proxy.delay_s = 0.03
        body = json.dumps(CAPPED).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", stack.ports[0])
            writer.write(head.encode() + body)
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.close()
            await writer.wait_closed()
        proxy.delay_s = 0.0

        def settled() -> bool:
            """Whatever was asked for is given back, or was spent by a call that had reached the provider."""
            [shown] = [one for one in standings(stack) if one["name"] == "all"]
            return bool(shown["held"] == 0 and shown["spent"] == len(upstream.seen) and shown["exact"])

        await asyncio.to_thread(wait_for, "nothing held", settled)
    finally:
        await proxy.close()


TROUBLES = {
    "scripts forgotten": (["SCRIPT", "FLUSH"], []),
    "read-only": (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
    "out of memory": (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
}


@pytest.mark.parametrize(
    "trouble",
    ["scripts forgotten", *(pytest.param(name, marks=pytest.mark.slow) for name in list(TROUBLES)[1:])],
)
def test_a_redis_that_refuses_answers_in_time_and_is_trusted_again(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker, trouble: str
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    # No slices under a budget that few calls fit into: every call asks Redis.
    stack = stack_for(upstream, settings=shared(redis.url, total(limit="0.05 USD")), with_collector=False)
    assert timed(stack)[0] == 200
    begin, end = TROUBLES[trouble]
    assert b"OK" in redis.say(*begin)
    answers = [timed(stack) for _ in range(5)]
    assert {status for status, _ in answers} <= {200, 402}
    assert max(seconds for _, seconds in answers) < PATIENT_S
    if end:
        assert b"OK" in redis.say(*end)
    wait_for("Redis to decide again", lambda: timed(stack)[0] == 200)
    served = sum(status == 200 for status, _ in answers) + 2
    wait_for("what was served to be counted", lambda: spent(stack) >= Decimal("0.002") * served)


def test_an_emptied_redis_is_told_again_what_was_spent(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    settings = shared(redis.url, total(limit="0.02 USD"))
    one, two = (stack_for(upstream, settings=settings, with_collector=False) for _ in range(2))
    assert [post(stack, CAPPED)[0] for stack in (one, two, one, two)] == [200] * 4
    wait_for("all of it counted", lambda: spent(two) == Decimal("0.008"))
    redis.say("FLUSHALL")
    served, until = 4, time.monotonic() + 3
    while time.monotonic() < until:
        for stack in (one, two):
            served += post(stack, CAPPED)[0] == 200
        time.sleep(0.1)
    assert 4 < served <= 10  # 10 x 0.002 USD are the limit
    counted = Decimal("0.002") * served
    wait_for("exact sums", lambda: spent(one) == spent(two) == counted)


@pytest.mark.slow
def test_all_sidecars_new_on_an_empty_redis_count_what_the_books_know_once(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    settings = shared(redis.url, total(limit="0.01 USD"))
    stacks = [stack_for(upstream, settings=settings, with_collector=False) for _ in range(2)]
    assert [post(stack, CAPPED)[0] for stack in (*stacks, *stacks)] == [200] * 4
    for stack in stacks:
        stack.stop("sidecar")
    redis.say("FLUSHALL")
    for stack in stacks:
        stack.start("sidecar")
    wait_for("Redis to be joined", lambda: min(map(spent, stacks)) == Decimal("0.008"))
    # One call more is what the limit has room for, whoever makes it.
    wait_for("the last call", lambda: post(stacks[0], CAPPED)[0] == 200)
    assert [post(stack, CAPPED)[0] for stack in stacks] == [402, 402]


def test_a_redis_that_would_forget_counters_is_refused_in_words(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    redis.say("CONFIG", "SET", "maxmemory", "100mb")
    redis.say("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(AssertionError, match="sidecar ended with"):
        stack_for(upstream, settings=shared(redis.url, total()), with_collector=False)


def test_the_listed_permissions_are_enough_for_a_sidecar_and_for_nothing_else(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    redis.say("ACL", "SETUSER", "bursar", "on", ">secret", *ACL_RULES.split())
    redis.say("ACL", "SETUSER", "default", "-@all", "+ping", "+auth")
    url = redis.url.replace("://", "://bursar:secret@")
    stack = stack_for(upstream, settings=shared(url, total(limit="0.05 USD")), with_collector=False)
    assert [timed(stack)[0] for _ in range(3)] == [200] * 3
    assert "NOPERM" not in stack.log("sidecar")
    assert "secret" not in stack.log("sidecar")


def test_two_workers_share_their_budget_through_redis(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    settings = shared(redis.url, total(limit="10 calls"), workers=2)
    stack = stack_for(upstream, settings=settings, with_collector=False)
    journal = stack.data_dir / "journal"
    # Ready is said by the first of them; each has a journal of its own.
    wait_for("both workers", lambda: len({segment.source for segment in segments(journal)}) == 2)
    with ThreadPoolExecutor(8) as agents:
        statuses = [found[0] for found in agents.map(lambda _: post(stack, CAPPED), range(60))]
    assert statuses.count(200) == 10


# ---- everything at once -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("down", list(itertools.product([False, True], repeat=4)))
def test_it_starts_whatever_is_down_and_recovers_alone(
    redis: RedisServer, stack_for: StackMaker, down: tuple[bool, ...]
) -> None:
    """Redis, the collector, an OTLP backend and the model server, each there or not."""
    no_redis, no_collector, no_backend, no_model = down
    if no_redis:
        redis.kill()
    backend = f"http://127.0.0.1:{free_ports(1)[0]}" if no_backend else ""
    with ScriptedUpstream(lambda seen: Answer(pieces=[chat_reply()])) as model:
        base = f"http://127.0.0.1:{free_ports(1)[0]}" if no_model else model.url
        stack = stack_for(
            model,
            upstreams={"openai": {"kind": "openai", "base_url": f"{base}/v1"}},
            settings=shared(redis.url, total(mode="soft")),
            environment={"OTEL_EXPORTER_OTLP_ENDPOINT": backend} if backend else {},
            with_collector=not no_collector,
        )
        assert healthy(stack)
        wait_for("the word for it", lambda: degraded(stack) == no_redis)
        assert post(stack, CAPPED)[0] == (502 if no_model else 200)
        if no_redis:
            redis.start()
        if no_collector:
            stack.start("collector")
        stack.write_config(upstreams={"openai": {"kind": "openai", "base_url": f"{model.url}/v1"}})
        wait_for("a served call", lambda: post(stack, CAPPED)[0] == 200)
        wait_for("the ledger", lambda: stack.total("calls") >= 2)
        wait_for("the counter", lambda: spent(stack) >= Decimal("0.002"))
        wait_for("nothing to complain of", lambda: not degraded(stack))
