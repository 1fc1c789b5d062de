"""A shared Redis that lost everything, and journals that have let go of a part: the books say the rest."""

import shutil
import signal
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from support.agent import ASK, post
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream

from collector.journal import segments
from tests.scenarios.budget_scenes import PRICES, chat_reply, operate, standings
from tests.sidecar.budgets.redis_server import RedisServer

StackMaker = Callable[..., Stack]

CAPPED = {**ASK, "max_tokens": 100}
COST = Decimal("0.002")
BUDGETS = [
    {"name": "money", "limit": "1 USD", "window": "month"},
    {"name": "calls", "limit": "1000 calls", "window": "total", "each": "agent"},
    {"name": "tokens", "limit": "1M tokens", "window": "rolling 24h", "match": {"agent": ["a*"]}},
    {"name": "talks", "limit": "1 USD", "window": "conversation"},
]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (scripts/setup/services.sh test)")
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


def spent(stack: Stack) -> dict[str, Decimal]:
    rows = standings(stack, agent="ann", conversation="k")
    return {row["name"]: Decimal(str(row["spent"])) for row in rows}


@pytest.mark.slow
def test_what_is_only_in_the_ledger_is_counted_again_by_a_redis_that_lost_everything(
    redis: RedisServer, upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    settings = {"redis": redis.url, "budgets": BUDGETS, "prices": PRICES}
    stack = stack_for(upstream, settings=settings)

    def call() -> None:
        assert post(stack, CAPPED, x_bursar_agent="ann", x_bursar_conversation="k")[0] == 200

    for _ in range(3):
        call()
    correction = {"budget": "money", "amount": "0.001 USD", "reason": "a refund"}
    wait_for("what is spent", lambda: spent(stack).get("money") == 3 * COST)
    assert operate(stack, "POST", "/bursar/v1/corrections", correction)[0] == 200
    wait_for("its history", lambda: stack.ask("budget_events", action="correct"))
    stack.calls(3)
    # The sidecar is started anew, and the ledger lets go of what the first one wrote.
    stack.stop("sidecar")
    journal = stack.data_dir / "journal"
    [first] = {segment.source for segment in segments(journal)}
    stack.start("sidecar")
    for segment in segments(journal):
        if segment.source == first:
            segment.path.unlink()
    call()
    stack.calls(4)
    call()
    expected = {
        "money": 5 * COST - Decimal("0.001"),
        "calls": Decimal(5),
        "tokens": Decimal(5 * 1100),
        "talks": 5 * COST,
    }
    wait_for(f"{expected}", lambda: spent(stack) == expected)

    rewritten = stack.log("sidecar").count("rewritten from the books")
    redis.say("FLUSHALL")
    wait_for(
        "the loss to be mended", lambda: stack.log("sidecar").count("rewritten from the books") > rewritten
    )
    wait_for(f"{expected} again", lambda: spent(stack) == expected)

    # Without its collector, a sidecar waits for the books before hard budgets open.
    stack.stop("collector", signal.SIGKILL)

    def is_closed() -> bool:
        # More than once, for what the books said a moment ago still serves.
        redis.say("FLUSHALL")
        status = post(stack, CAPPED, x_bursar_agent="bob")[0]
        return status == 402 and "the books cannot be read" in stack.log("sidecar")

    wait_for("a refusal", is_closed)
    served = len(upstream.seen)
    stack.start("collector")
    wait_for("a call", lambda: post(stack, CAPPED, x_bursar_agent="bob")[0] == 200)
    assert len(upstream.seen) == served + 1
    expected["money"] = len(upstream.seen) * COST - Decimal("0.001")
    wait_for(f"{expected} once more", lambda: spent(stack) == expected)
