"""The true cost of a class of requests, held against the engine's own log of its steps."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.stack import Stack, wait_for
from support.step_log import LONG, SHORT, disturbance, run_clients, steps_in, true_shares
from support.vllm_servers import Servers

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

WARM_S, MEASURED_S = 45.0, 60.0
DISTURBED = 1.15
"""Above it the engine's own steps say more of the machine's other work than of the engine's."""


@pytest.fixture
def priced(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    local = {"kind": "vllm", "replicas": [servers.url("one")], "gpu_hour_usd": "3.60"}
    settings = {
        "models": {"tiny": {"upstream": "local"}},
        "prices": {"tiny": {"input": "1", "output": "4", "cache_read": "0.1"}},
    }
    often = {"BURSAR_COLLECTOR_COST_WINDOW": "5s"}
    with Stack(tmp_path / "stack", {"local": local}, settings, often) as made:
        yield made


def settled(stack: Stack) -> dict[str, Decimal] | None:
    """What each agent's calls cost, once every one of them has been settled."""
    spent = {row["agent"]: Decimal(row["effective_cost_usd"]) for row in stack.ask("spend_by", by="agent")}
    (costs,) = stack.ask("gpu_costs") or [{"charged_usd": "-1"}]
    return spent if sum(spent.values()) == Decimal(costs["charged_usd"]) else None


async def test_classes_of_calls_are_charged_what_they_cost_by_the_engines_step_log(
    priced: Stack, servers: Servers
) -> None:
    await run_clients(priced.url, "tiny", WARM_S, "-warm")
    before = len(steps_in(servers.log("one")))
    did = await run_clients(priced.url, "tiny", MEASURED_S)
    await asyncio.sleep(1)
    steps = steps_in(servers.log("one"))[before:]
    truth = true_shares(steps, did)

    spent: dict[str, Any] = await asyncio.to_thread(
        wait_for, "the settlement of every call", lambda: settled(priced), 180
    )

    (costs,) = priced.ask("gpu_costs")
    share = float(spent[LONG] / (spent[LONG] + spent[SHORT]))
    by_tokens = did[LONG].tokens / (did[LONG].tokens + did[SHORT].tokens)
    print(
        f"\nshare of the prefill-heavy class: truth {truth[LONG]:.3f}, charged {share:.3f},"
        f" by tokens {by_tokens:.3f}; method {costs['method']}, residual {costs['residual']},"
        f" idle {costs['idle_ratio']:.3f}, unobserved {costs['unobserved_ratio']:.4f}"
    )
    lines = [Decimal(costs[name]) for name in ("charged_usd", "idle_usd", "unobserved_usd")]
    assert sum(lines) == Decimal(costs["meter_usd"])
    assert Decimal(costs["unobserved_usd"]) < Decimal("0.1") * Decimal(costs["meter_usd"])
    if (found := disturbance(steps)) > DISTURBED:
        pytest.skip(
            f"NOT MEASURED: other work disturbs this machine (steps took {found:.2f} times the median)"
        )
    assert costs["method"] == "calibrated"
    assert share == pytest.approx(truth[LONG], abs=0.05)
