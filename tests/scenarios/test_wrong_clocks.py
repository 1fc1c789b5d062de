"""A sidecar on a machine whose clock is wrong: windows are those of the store that all share."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from support.agent import ASK, post
from support.stack import IMPORTS, Stack, wait_for
from support.upstream import Answer, ScriptedUpstream

from tests.scenarios.budget_scenes import PRICES, chat_reply, operate, standings
from tests.sidecar.budgets.redis_server import RedisServer

StackMaker = Callable[..., Stack]

CAPPED = {**ASK, "max_tokens": 100}
FORTY_DAYS_AHEAD = """
import time

_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + 40 * 86_400
time.time_ns = lambda: _time_ns() + 40 * 86_400 * 10**9
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (scripts/setup/services.sh test)")
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


def test_a_sidecar_far_ahead_spends_from_the_same_window_as_the_others(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker, tmp_path: Path
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    (tmp_path / "sitecustomize.py").write_text(FORTY_DAYS_AHEAD)
    budgets = [{"name": "all", "limit": "0.008 USD", "window": "month"}]
    settings = {"redis": redis.url, "budgets": budgets, "prices": PRICES}
    right = stack_for(upstream, settings=settings, with_collector=False)
    wrong = stack_for(
        upstream,
        settings=settings,
        environment={"PYTHONPATH": f"{tmp_path}:{IMPORTS}"},
        with_collector=False,
    )
    assert "ahead by 3456000 s" in wrong.log("sidecar")
    assert [post(stack, CAPPED)[0] for stack in (right, wrong, right, wrong)] == [200] * 4
    # One cost twice what it held: the last may be let in while the one before is being settled.
    wait_for("the end", lambda: [post(stack, CAPPED)[0] for stack in (right, wrong)] == [402] * 2)
    spent = Decimal("0.002") * len(upstream.seen)
    assert spent <= Decimal("0.012")
    for stack in (right, wrong):
        wait_for("exact sums", lambda stack=stack: Decimal(standings(stack)[0]["spent"]) == spent)
    month = f"month:{datetime.now(UTC):%Y-%m}"
    assert {one["window"] for stack in (right, wrong) for one in standings(stack)} == {month}
    # What is asked of all for a minute is not over there already, nor taken from the others.
    pause = {"action": "pause", "match": {"agent": "loop"}, "expires_in_s": 60}
    assert operate(right, "POST", "/bursar/v1/directives", pause)[0] == 200
    wait_for("the pause", lambda: operate(wrong, "GET", "/bursar/v1/directives")[1]["directives"])
    assert operate(right, "GET", "/bursar/v1/directives")[1]["directives"]
