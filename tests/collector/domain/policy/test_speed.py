"""What four budgets cost a call in CPU, without a store. A measurement: run with ``-m bench -s``."""

import time
from collections.abc import Callable

import pytest

from collector.domain.credit import Unit
from collector.domain.policy import Ask, Lease, Match, Policy, State, decide
from collector.domain.policy.plans import Allow
from tests.collector.domain.policy.conftest import NOON_US, budget


def least_us(work: Callable[[int], object], rounds: int = 300, calls: int = 100) -> float:
    """CPU time of one ``work``, in the round that was disturbed least."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time_ns()
        for number in range(calls):
            work(number)
        best = min(best, (time.process_time_ns() - begin) / calls / 1000)
    return best


@pytest.mark.bench
def test_what_four_budgets_cost_a_call() -> None:
    policy = Policy(
        budgets=[
            budget(1000, name="all", zone="Europe/Berlin"),
            budget(100, name="team", window="month", match=Match.of({"team": "search"}), each="agent",
                   at={50: "notify", 80: "downgrade", 100: "cut"}),
            budget(500, name="conversation", window="conversation"),
            budget(name="tokens", limit=10**12, unit=Unit.TOKENS, window="rolling 6h", each="key"),
        ]
    )  # fmt: skip
    state = State(policy)

    def ask(number: int) -> Ask:
        return Ask(
            call_id=f"{number:x}", model="gpt-5", api="openai.chat", upstream="openai", tenant="t",
            team="search", agent="a", conversation=f"c{number % 50}", key="vk_1", stream=True,
            input_tokens=1000, input_pico=10**9, output_cap=4096, output_pico=10**7,
        )  # fmt: skip

    asks = [ask(number) for number in range(100)]

    def whole(number: int) -> None:
        call = ask(number)
        allow = decide(policy, state, call, NOON_US)
        assert isinstance(allow, Allow)
        state.claimed(allow, NOON_US)
        lease = Lease(call, allow.claims, allow.growing, allow.output_tokens, allow.output_cap)
        state.settled(allow, lease.amounts, lease.settlement(10**9, 1300), 10**6, NOON_US)
        state.experience.learn("gpt-5", "a", "openai.chat", False, 300 + number, 500)

    decided = least_us(lambda number: decide(policy, state, asks[number], NOON_US))
    print(f"\ndecide {decided:.1f} us; from Ask to learning {least_us(whole):.1f} us of CPU")
    assert decided > 0
