"""A wrong price, put right: the balance is restored, and everything that was written stands."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.agent import ASK, post
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream

from tests.scenarios.budget_scenes import PRICES, chat_reply, operate, standings
from tests.sidecar.budgets.redis_server import RedisServer

StackMaker = Callable[..., Stack]

CAPPED = {**ASK, "max_tokens": 100}
TYPO = {"gpt-4o-mini": {"input": 1000, "output": 10_000}}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (scripts/setup/services.sh test)")
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


def correct(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecar.cli", "budgets", "--config", str(stack.config_file), "correct"]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)


def shown(stack: Stack) -> dict[str, Any]:
    [one] = standings(stack)
    return one


def test_a_typo_in_a_price_is_corrected_without_editing_what_was_written(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    budgets = [{"name": "all", "limit": "4 USD", "window": "day"}]
    stack = stack_for(upstream, settings={"budgets": budgets, "prices": TYPO})
    assert "6667 times the listed 0.15; a slip of the unit?" in stack.log("sidecar")
    assert post(stack, CAPPED)[0] == 200  # 2 USD in place of 0.002
    stack.write_config(prices=PRICES, budgets=[{**budgets[0], "limit": "2.001 USD"}])
    wait_for("the new limit", lambda: shown(stack)["limit"] == "2.001000000000")
    assert post(stack, CAPPED)[0] == 402
    said = correct(stack, "all", "1.998USD", "--reason", "three noughts too many")
    assert (said.returncode, said.stderr) == (0, "")
    assert "1.998USD given back to all: 0.002 USD spent" in said.stdout
    assert post(stack, CAPPED)[0] == 200
    assert shown(stack)["spent"] == "0.004000000000"

    [made] = wait_for("its history", lambda: stack.ask("budget_events", action="correct"))
    detail = json.loads(made["detail"])
    assert (made["budget"], detail["amount"], detail["reason"]) == (
        "all",
        "-1.998 USD",
        "three noughts too many",
    )
    assert "(bursar budgets)" in detail["by"]
    costs = [Decimal(row["effective_cost_usd"]) for row in stack.calls(3)]
    assert costs == [2, 0, Decimal("0.002")]

    stack.stop("sidecar", signal.SIGKILL)
    (stack.data_dir / "journal" / "budgets.checkpoint").unlink()
    stack.start("sidecar")
    assert shown(stack)["spent"] == "0.004000000000"
    refused = correct(stack, "all", "1USD", "--reason", "too much")
    assert (refused.returncode, "counts only 0.004 USD" in refused.stderr) == (1, True)


def test_a_correction_told_to_one_sidecar_gives_room_to_all_and_outlives_an_emptied_redis(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    budget = {"name": "all", "limit": "0.008 USD", "window": "total", "at": {"50%": "notify"}}
    settings = {"redis": redis.url, "budgets": [budget], "prices": PRICES}
    one, two = (stack_for(upstream, settings=settings, with_collector=False) for _ in range(2))
    for count, stack in enumerate((one, two, one, two), 1):
        assert post(stack, CAPPED)[0] == 200
        settled = Decimal("0.002") * count
        wait_for("the settlement", lambda settled=settled: Decimal(shown(one)["spent"]) == settled)
    assert [post(stack, CAPPED)[0] for stack in (one, two)] == [402] * 2
    body = {"budget": "all", "amount": "0.006 USD", "reason": "a refund"}
    status, made = operate(one, "POST", "/bursar/v1/corrections", body)
    assert (status, made["spent"]) == (200, "0.002 USD")
    wait_for("room for the other", lambda: post(two, CAPPED)[0] == 200)
    spent = Decimal("0.004")
    wait_for("both to know", lambda: [Decimal(shown(stack)["spent"]) for stack in (one, two)] == [spent] * 2)
    redis.say("FLUSHALL")
    wait_for("exact sums", lambda: [Decimal(shown(stack)["spent"]) for stack in (one, two)] == [spent] * 2)
    wait_for("a call more", lambda: post(two, CAPPED)[0] == 200)
    spent = Decimal("0.006")
    wait_for("exact sums", lambda: [Decimal(shown(stack)["spent"]) for stack in (one, two)] == [spent] * 2)
