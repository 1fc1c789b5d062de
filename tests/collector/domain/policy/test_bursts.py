"""Two hundred streams at once on ten dollars: nothing over it, and hardly anything of it unused."""

import random

import pytest

from collector.domain.policy import Allow
from tests.collector.domain.policy.conftest import USD, Desk, ask, budget

CAP = 4_096
PRICE_PICO = 61_035_156
"""A token; the longest reply costs a quarter of a dollar."""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_hundred_streams_at_once_use_a_budget_up_and_never_exceed_it(seed: int) -> None:
    dice = random.Random(seed)
    desk = Desk(budget(10))
    offered, billed = 600, 0
    running: list[dict[str, object]] = []
    while offered or running:
        while offered and len(running) < 200:
            offered -= 1
            call = ask(0.25, output_cap=CAP, stream=True, call_id=f"{offered:x}")
            if isinstance(desk.decide(call), Allow):
                allow, lease = desk.begin(call)
                length = dice.randint(CAP // 10, CAP)
                running.append({"allow": allow, "lease": lease, "length": length, "seen": 0, "made": 0})
        for stream in dice.sample(running, len(running)):
            billed += advance(desk, stream, dice)
        running = [stream for stream in running if "lease" in stream]

    assert billed <= 10 * USD
    assert billed >= 0.95 * 10 * USD
    [standing] = desk.state.standings(desk.now_us)
    assert (standing.spent, standing.held) == (billed, 0)


def advance(desk: Desk, stream: dict[str, object], dice: random.Random) -> int:
    """One chunk further; what was billed, once the stream is over."""
    allow, lease = stream["allow"], stream["lease"]
    # What is seen now was made before; meanwhile the provider has made the next chunk.
    stream["seen"] = stream["made"]
    stream["made"] = min(stream["length"], stream["made"] + dice.randint(1, 256))
    more = lease.extension(stream["seen"])
    if more is not None:
        [claim] = more.claims
        [standing] = desk.state.standings(desk.now_us)
        if standing.spent + standing.held + claim.amount <= standing.counter.limit:
            desk.state.extended(allow, more)
            lease.extended(more)
    if not lease.must_end(stream["seen"]) and stream["seen"] < stream["length"]:
        return 0
    pico = stream["made"] * PRICE_PICO
    [charge] = lease.settlement(pico, stream["made"])
    desk.state.settled(allow, lease.amounts, (charge,), charge, desk.now_us)
    del stream["lease"]
    return int(charge)
