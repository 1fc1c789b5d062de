"""Newer prices without a restart: they hold for new calls, and old ones keep what they were made with."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from support.agent import post
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream

from dashboards import bill

StackMaker = Callable[..., Stack]

REPLY = {
    "id": "c", "object": "chat.completion", "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
}  # fmt: skip


def write_prices(path: Path, usd_per_mtok: float) -> None:
    """A price map of litellm's kind in which every model costs the same."""
    entry = {
        "litellm_provider": "openai", "mode": "chat",
        "input_cost_per_token": usd_per_mtok / 1e6, "output_cost_per_token": usd_per_mtok / 1e6,
    }  # fmt: skip
    names = ("gpt-4o-mini", *(f"made-up-{number}" for number in range(12)))
    part = path.with_suffix(".new")
    part.write_text(json.dumps(dict.fromkeys(names, entry)))
    part.replace(path)


@pytest.mark.slow
def test_newer_prices_hold_for_new_calls_alone_and_are_in_the_ledger(
    upstream: ScriptedUpstream, stack_for: StackMaker, tmp_path: Path
) -> None:
    upstream.script = lambda seen: Answer(pieces=[json.dumps(REPLY).encode()])
    source = tmp_path / "prices.json"
    write_prices(source, 3)
    stack = stack_for(upstream, settings={"price_source": str(source), "price_refresh": "1s"})

    def cost_now() -> Decimal:
        status, headers, _ = post(stack)
        assert status == 200
        return Decimal(headers["x-bursar-cost-usd"])

    # 1,100 tokens at 3, then at 5 USD a million; built in: 1000 x 0.15 + 100 x 0.60
    wait_for("the first prices", lambda: cost_now() == Decimal("0.0033"))
    write_prices(source, 5)
    wait_for("the second prices", lambda: cost_now() == Decimal("0.0055"))
    source.write_text("{broken")
    wait_for("the complaint", lambda: "prices not refreshed" in stack.log("sidecar"))
    assert cost_now() == Decimal("0.0055")

    seen = len(upstream.seen)
    calls = stack.calls(seen)
    costs = [Decimal(row["effective_cost_usd"]) for row in calls]
    assert costs == sorted(costs)
    assert {Decimal("0.0033"), Decimal("0.0055")} <= set(costs)
    versions = {Decimal(row["effective_cost_usd"]): row["price_version"] for row in calls}
    assert len(set(versions.values())) == len(versions)
    for cost in (Decimal("0.0033"), Decimal("0.0055")):
        wait_for(
            "the prices in the ledger",
            lambda cost=cost: stack.ask("prices", price_version=versions[cost], model="gpt-4o-mini"),
        )
        row = next(row for row in calls if Decimal(row["effective_cost_usd"]) == cost)
        (attempt,) = stack.ask("attempts", call_id=row["call_id"])
        found = bill.bill_of(attempt, stack.ask("prices", price_version=versions[cost], model="gpt-4o-mini"))
        assert found is not None
        assert found.tallies
