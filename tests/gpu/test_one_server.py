"""One server that has the GPU to itself: throughput, energy, and what calls are charged."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.gpu import REHEARSAL, Board, Meter, press
from support.stack import Stack, wait_for
from support.step_log import LONG, ON_PROCESSORS, SHORT, Clients, run_clients, steps_in, true_shares
from support.vllm_servers import Servers

from tests.gpu.conftest import server

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

SECONDS = 8.0 if REHEARSAL else 30.0
CLASSES = (
    ON_PROCESSORS if REHEARSAL else {LONG: Clients(range(8), 1800, 4), SHORT: Clients(range(10, 42), 15, 256)}
)
Tell = Callable[..., None]


@pytest.fixture(scope="module")
def servers(serve: Callable[..., Servers], model: Path) -> Servers:
    return serve(one=server(model, "throughput", gpu_memory_utilization="0.85"))


@pytest.fixture
def stack(stack_of: Callable[..., Stack], servers: Servers) -> Stack:
    return stack_of(one={"kind": "vllm", "replicas": [servers.url("one")], "gpu_hour_usd": "3.60"})


@pytest.fixture(autouse=True)
async def warm(stack: Stack) -> None:
    """The first calls choose and compile kernels."""
    await press(stack.url, 8, 2, model="one", output=16)


@pytest.mark.parametrize("at_once", [1, 16, 64])
async def test_throughput(stack: Stack, board: Board, tell: Tell, at_once: int) -> None:
    """Tokens a second, and the wait for the first of them, of a 7B-class model through the sidecar."""
    before = stack.total("output_tokens") or 0
    got = await press(stack.url, at_once, SECONDS, model="one")

    tell(f"output tokens a second, {at_once} at once", got.output_rate, "tok/s")
    tell(f"prompt tokens a second, {at_once} at once", got.prompt_rate, "tok/s")
    tell(f"first words, median, {at_once} at once", got.first_ms, "ms")
    assert got.calls >= at_once
    assert got.output_tokens == got.calls * 256
    await asyncio.to_thread(
        wait_for,
        "every token in the ledger",
        lambda: stack.total("output_tokens") - before >= got.output_tokens,
    )


async def test_energy(stack: Stack, board: Board, tell: Tell) -> None:
    """Energy a token by the driver's counter, against power integrated over time; what calls are charged."""
    # The counter of what the ledger sees begins before its first window and ends after its last.
    whole_began = board.joules()
    with Meter(board) as meter:
        got = await press(stack.url, 64, SECONDS, model="one")
    tell("power under load", meter.mean_watts, "W")
    tell("energy for an output token, 64 at once", meter.counted_j / got.output_tokens, "J")
    tell("energy counter against integrated power", meter.counted_j / meter.integrated_j, "")
    assert meter.counted_j == pytest.approx(meter.integrated_j, rel=0.10)

    def charged() -> dict[str, Any] | None:
        (costs,) = stack.ask("gpu_costs") or [{"output_tokens": 0}]
        return costs if costs["output_tokens"] >= got.output_tokens else None

    costs = await asyncio.to_thread(wait_for, "closed windows", charged, 120)
    seen = board.joules() - whole_began
    own = costs["energy_j"] - costs["idle_energy_j"]
    tell("energy charged for an output token", own / costs["output_tokens"], "J")
    assert 0 < costs["energy_j"] <= 1.1 * seen + 50 * meter.mean_watts
    lines = [Decimal(costs[name]) for name in ("charged_usd", "idle_usd", "unobserved_usd")]
    assert sum(lines) == Decimal(costs["meter_usd"])


async def test_idle_power(stack: Stack, board: Board, tell: Tell) -> None:
    """Watts of a GPU that holds a model and does nothing, beside the same under load."""
    with Meter(board) as loaded:
        await press(stack.url, 64, SECONDS / 3, model="one")
    await asyncio.sleep(2 if REHEARSAL else 10)
    with Meter(board) as idle:
        await asyncio.sleep(SECONDS / 3)

    tell("power at rest, model loaded", idle.mean_watts, "W")
    assert idle.mean_watts < loaded.mean_watts or REHEARSAL


async def test_calibration(stack: Stack, servers: Servers, tell: Tell) -> None:
    """What classes of calls are charged, against the engine's step log; the residual of the calibration."""
    for kinds in ((LONG,), (SHORT,), (LONG, SHORT)):
        some = {kind: CLASSES[kind] for kind in kinds}
        await run_clients(stack.url, "one", SECONDS, "-warm", some)
    before = len(steps_in(servers.log("one")))
    did = await run_clients(stack.url, "one", 2 * SECONDS, "", CLASSES)
    await asyncio.sleep(1)
    steps = steps_in(servers.log("one"))[before:]
    truth = true_shares(steps, did)

    def settled() -> dict[str, Decimal] | None:
        spent = {
            row["agent"]: Decimal(row["effective_cost_usd"]) for row in stack.ask("spend_by", by="agent")
        }
        (costs,) = stack.ask("gpu_costs") or [{"charged_usd": "-1"}]
        return spent if sum(spent.values()) == Decimal(costs["charged_usd"]) else None

    spent = await asyncio.to_thread(wait_for, "the settlement of every call", settled, 180)
    (costs,) = stack.ask("gpu_costs")
    share = float(spent[LONG] / (spent[LONG] + spent[SHORT]))
    tell("share of the prefill-heavy class by the step log", truth[LONG], "")
    tell("share of it that was charged", share, "")
    tell("share of it by tokens", did[LONG].tokens / (did[LONG].tokens + did[SHORT].tokens), "")
    tell("residual of the calibration", costs["residual"] or 0.0, "")
    tell("a million tokens while busy, at 3.60 USD an hour", costs["busy_usd_per_mtok"], "USD")
    assert costs["method"] in ("calibrated", "mfu")
    assert share == pytest.approx(truth[LONG], abs=0.05) or REHEARSAL
