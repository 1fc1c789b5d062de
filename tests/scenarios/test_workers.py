"""Several workers on one port without a Redis: one budget, one operator's side, and no shared fate."""

import asyncio
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.agent import ASK, post
from support.stack import Stack, simulator, wait_for
from support.upstream import Answer, ScriptedUpstream

from collector.journal import segments
from sidecar.proving.agents import PRICES as PROVER_PRICES
from sidecar.proving.agents import Manner, crowd
from tests.scenarios.budget_scenes import PRICES, chat_reply, operate, standings

StackMaker = Callable[..., Stack]

CAPPED = {**ASK, "max_tokens": 100}


def listed(stack: Stack, directive: str) -> bool:
    """Whether the worker that happens to answer knows it."""
    _, said = operate(stack, "GET", "/bursar/v1/directives")
    return directive in {one["id"] for one in said["directives"]}


def two_workers(limit: str, **more: Any) -> dict[str, Any]:
    budget = {"name": "all", "limit": limit, "window": "total"}
    return {"workers": 2, "budgets": [budget], "prices": PRICES, **more}


def both_there(stack: Stack) -> None:
    journal = stack.data_dir / "journal"
    wait_for("both workers", lambda: len({segment.source for segment in segments(journal)}) >= 2)


def processes(stack: Stack, *words: str) -> list[int]:
    """Pids of our processes of this stack whose command line has all of ``words``."""
    listed = subprocess.run(["ps", "-ewwo", "pid,args"], check=True, capture_output=True, text=True).stdout
    lines = [line.split(None, 1) for line in listed.splitlines()[1:]]
    return [
        int(pid)
        for pid, line in lines
        if str(stack.config_file) in line and all(word in line.split() for word in words)
    ]


def shown(stack: Stack) -> dict[str, Any]:
    [one] = [one for one in standings(stack) if one["name"] == "all"]
    return dict(one)


def statuses(stack: Stack, count: int) -> list[int]:
    def one(_: int) -> int:
        try:
            return int(post(stack, CAPPED)[0])
        except OSError:
            return 0  # It had reached a worker that was just killed.

    with ThreadPoolExecutor(8) as agents:
        return list(agents.map(one, range(count)))


def test_two_hundred_agents_on_two_workers_spend_one_budget_to_the_end_and_not_beyond(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    limit = Decimal(2)
    with simulator("--speed", "40") as model:
        upstreams = {"openai": {"kind": "openai", "base_url": f"{model}/v1"}}
        settings = two_workers("2 USD", prices={"prover": PROVER_PRICES})
        stack = stack_for(upstream, upstreams=upstreams, settings=settings, with_collector=False)
        both_there(stack)
        seen = asyncio.run(crowd([stack.url], 200, Manner(), seed=1))
        wait_for("everything settled", lambda: Decimal(shown(stack)["held"]) == 0)
    billed = Decimal(seen.cost_pico) / 10**12
    assert billed <= limit
    assert billed >= Decimal("0.95") * limit
    assert set(seen.statuses) == {200, 402}
    # Each call is rounded up to whole nano-USD once.
    assert billed <= Decimal(shown(stack)["spent"]) <= billed + Decimal(seen.statuses[200]) / 10**9


@pytest.mark.parametrize(
    ("victim", "which"),
    [
        pytest.param("--keeper", slice(1, 2), id="the keeper at work"),
        pytest.param("--worker", slice(0, 1), id="a worker"),
        pytest.param("--keeper", slice(0, 1), id="who watches over it", marks=pytest.mark.slow),
        pytest.param("--keeper", slice(0, 2), id="both keepers", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_is_killed_takes_nothing_of_what_was_spent_with_it(
    upstream: ScriptedUpstream, stack_for: StackMaker, victim: str, which: slice
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=two_workers("30 calls"), with_collector=False)
    both_there(stack)
    # Calls that one worker holds in advance and loses by its death are charged for a while, not lost.
    first = statuses(stack, 12)
    assert first == [200] * 12
    there = processes(stack, victim)
    assert len(there) == 2
    for pid in there[which]:
        os.kill(pid, signal.SIGKILL)
    wait_for("a new one", lambda: len(set(processes(stack, victim)) - set(there[which])) == 2)

    served = len(first)

    def used_up() -> bool:
        nonlocal served
        found = statuses(stack, 8)
        served += found.count(200)
        return served >= 30 or (found.count(200) == 0 and time.monotonic() > patience)

    patience = time.monotonic() + 20
    wait_for("the budget to be spent", used_up, 60)
    assert 24 <= served <= len(upstream.seen) <= 30
    assert statuses(stack, 8) == [402] * 8


@pytest.mark.slow
def test_calls_pass_though_the_keeper_is_killed_again_and_again(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    """New conversations have no slice, so each asks; tests/bench/keeper.py tells how long it takes."""
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    each = {"name": "each", "each": "conversation", "limit": "5 USD", "window": "total"}
    settings = two_workers("1000 USD")
    settings["budgets"].append(each)
    stack = stack_for(upstream, settings=settings, with_collector=False)
    both_there(stack)
    passed = 0
    for number in range(4):
        watching, at_work = processes(stack, "--keeper")
        os.kill(at_work, signal.SIGKILL)
        fresh = f"c{number}"
        wait_for(
            "a new conversation",
            lambda fresh=fresh: post(stack, CAPPED, x_bursar_conversation=fresh)[0] == 200,
        )
        passed += 1
        # The one that watches is the same: nobody had to start a Python.
        wait_for("another", lambda old=at_work: len(set(processes(stack, "--keeper")) - {old}) == 2)
        assert watching in processes(stack, "--keeper")
    wait_for("all settled", lambda: Decimal(shown(stack)["spent"]) == passed * Decimal("0.002"))


@pytest.mark.slow
def test_what_was_spent_is_known_whether_one_worker_counts_it_or_several(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=two_workers("30 calls"), with_collector=False)
    both_there(stack)
    assert statuses(stack, 10) == [200] * 10
    for workers, before in ((1, 10), (2, 20)):
        stack.stop("sidecar")
        stack.write_config(workers=workers)
        stack.start("sidecar")
        if workers == 2:
            both_there(stack)
        wait_for("the first call", lambda: post(stack, CAPPED)[0] == 200)
        wait_for("what was spent", lambda before=before: shown(stack)["spent"] >= before + 1)
        assert statuses(stack, 9) == [200] * 9
        wait_for("all settled", lambda before=before: shown(stack)["spent"] == before + 10)
    assert statuses(stack, 5) == [402] * 5


def test_operators_speak_to_all_workers_at_once(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=two_workers("10000 calls"), with_collector=False)
    both_there(stack)
    assert statuses(stack, 8) == [200] * 8
    wait_for("eight calls", lambda: shown(stack)["spent"] == 8)
    _, paused = operate(stack, "POST", "/bursar/v1/directives", {"action": "pause", "match": {}})
    # Each connection may meet either worker; what is served while the word spreads is counted too.
    wait_for("the pause, everywhere", lambda: statuses(stack, 12) == [402] * 12)
    # An operator, too: a worker that has not heard of it yet could not end it.
    wait_for("it to be known, everywhere", lambda: all(listed(stack, paused["id"]) for _ in range(12)))
    assert operate(stack, "DELETE", f"/bursar/v1/directives/{paused['id']}")[0] == 200
    wait_for("its end, everywhere", lambda: statuses(stack, 12) == [200] * 12)
    operate(stack, "POST", "/bursar/v1/raises", {"budget": "all", "amount": "50 calls", "for_s": 60})
    wait_for("the raise", lambda: post(stack, CAPPED)[0] == 200 and shown(stack)["limit"] == 10_050)


def test_a_deep_data_directory_is_no_obstacle(
    upstream: ScriptedUpstream, stack_for: StackMaker, tmp_path: Path
) -> None:
    """The address of a socket has room for a hundred letters."""
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    settings = two_workers("3 calls", data_dir=str(deep))
    stack = stack_for(upstream, settings=settings, with_collector=False)
    wait_for("the keeper", lambda: post(stack, CAPPED)[0] == 200)
    wait_for("the limit", lambda: statuses(stack, 4) == [402] * 4)
    assert len(upstream.seen) == 3


def test_the_metrics_are_those_of_all_workers(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=two_workers("10000 calls"), with_collector=False)
    both_there(stack)
    assert statuses(stack, 8) == [200] * 8

    def counted() -> int:
        with urllib.request.urlopen(f"{stack.control_url}/metrics", timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith("bursar_calls_total{"))

    wait_for("eight calls, as each worker leaves them now and then", lambda: counted() == 8)
