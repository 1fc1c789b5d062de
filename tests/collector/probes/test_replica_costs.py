"""The whole way: scrapes, GPU samples and recorded attempts in, settled charges out."""

import random
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from collector.probes.gpu_cost import NOTHING, CapacityPrice, Charge, capacity_between
from collector.probes.gpu_sample import GpuSample
from collector.probes.replica_costs import ReplicaCosts, ReplicaCostsConfig, Settlement
from collector.probes.timelines import Timeline
from collector.probes.vllm_metrics import EngineSample

S = 1_000_000
RENTED = CapacityPrice.rented(Decimal("3.60"))  # 0.001 USD a second


def us(seconds: float) -> int:
    return round(seconds * S)


def look(second: float, *, prompt: int = 0, output: int = 0, steps: int = 0, **more: Any) -> EngineSample:
    return EngineSample(
        sampled_at_us=us(second),
        upstream="local",
        replica="r",
        interval_us=S,
        counted={"computed_prompt_tokens": prompt, "generation_tokens": output, "steps": steps},
        **more,
    )


def line(name: str, start: float, end: float, **more: Any) -> Timeline:
    values = {"first_token_us": us(start), "prompt_tokens": 0, "output_tokens": 100} | more
    return Timeline(attempt=name, started_us=us(start), ended_us=us(end), **values)


def feed(
    costs: ReplicaCosts, run: Any, until_s: int, known: str = "PD", phase_s: float = 0.37
) -> list[Settlement]:
    """Play a run second by second: looks at odd times, each attempt recorded when it ended."""
    settled: list[Settlement] = []
    ended = sorted(run.requests, key=lambda one: one.ended_s)
    at = 0
    for second in range(until_s):
        now = second + phase_s
        inside = [step for step in run.steps if now - 1 <= step.at_s + step.seconds < now]
        running = any(one.started_s <= now < one.ended_s for one in ended)
        costs.see_engine(
            look(
                now,
                prompt=sum(sum(step.prompt.values()) for step in inside),
                output=sum(sum(step.output.values()) for step in inside),
                steps=len(inside),
                running=int(running),
            )
        )
        while at < len(ended) and ended[at].ended_s <= now:
            one = ended[at]
            if one.kind in known:
                costs.see_attempt(
                    Timeline(
                        attempt=f"{one.kind}{at}",
                        started_us=us(one.started_s),
                        first_token_us=us(one.first_token_s),
                        ended_us=us(one.ended_s),
                        prompt_tokens=one.prompt,
                        output_tokens=one.output,
                    )
                )
            at += 1
        settled += costs.advance(us(now))
    return settled + costs.advance(us(until_s + 60))


def sums(settled: list[Settlement]) -> dict[str, Charge]:
    found: dict[str, Charge] = defaultdict(lambda: NOTHING)
    for one in settled:
        found[one.attempt[0]] += one.charge
    return found


@pytest.mark.parametrize("clients", [{"P": 2, "D": 6}, {"P": 4, "D": 3}, {"P": 1, "D": 10}])
def test_settled_charges_follow_the_engines_own_step_log(engine_steps: Any, clients: dict[str, int]) -> None:
    run = engine_steps.simulate(random.Random(clients["P"]), clients, 150.0)
    costs = ReplicaCosts(RENTED, 0)

    by_class = sums(feed(costs, run, 160))

    charged = by_class["P"].money_pico + by_class["D"].money_pico
    assert by_class["P"].money_pico / charged == pytest.approx(run.share("P"), abs=0.05)
    meter = capacity_between(RENTED, 0, us(190))
    assert costs.lines.total.money_pico == meter
    assert charged == costs.lines.charged.money_pico
    assert costs.lines.unobserved.money_pico < 0.05 * charged
    assert costs.windows[-1].method == "calibrated"


def test_what_goes_past_us_is_the_unobserved_line(engine_steps: Any) -> None:
    run = engine_steps.simulate(random.Random(9), {"P": 3, "D": 6}, 150.0)
    costs = ReplicaCosts(RENTED, 0)

    feed(costs, run, 160, known="D")

    busy = costs.lines.charged.money_pico + costs.lines.unobserved.money_pico
    assert costs.lines.unobserved.money_pico / busy == pytest.approx(run.share("P"), abs=0.08)
    assert costs.lines.total.money_pico == capacity_between(RENTED, 0, us(190))


def test_an_attempt_over_several_windows_is_settled_when_the_last_is_closed() -> None:
    costs = ReplicaCosts(RENTED, 0, config=ReplicaCostsConfig(lag_us=5 * S))
    costs.see_attempt(line("a", 2, 22))

    assert costs.advance(us(34.9)) == []
    (settled,) = costs.advance(us(35))

    # Busy for 20 s of 30; idle goes with it: 8 of 10, 10 of 10, 2 of 10 seconds.
    assert settled.charge == Charge(20 * 10**9, 20 * S, 0)
    assert settled.loaded_pico == 30 * 10**9
    assert settled.method == "prior"
    assert costs.advance(us(36)) == []


def test_a_stream_that_is_recorded_long_after_takes_what_was_unobserved() -> None:
    costs = ReplicaCosts(RENTED, 0, config=ReplicaCostsConfig(lag_us=5 * S))
    for second in range(1, 61):
        costs.see_engine(look(second, output=10, running=1))
    costs.advance(us(55))
    assert costs.lines.charged == NOTHING

    costs.see_attempt(line("long", 0, 50, output_tokens=500))
    (settled,) = costs.advance(us(65))

    assert settled.attempt == "long"
    # All but the first second, of which no earlier look says that anything ran, and the slack.
    assert settled.charge.money_pico == pytest.approx(50 * 10**9, rel=0.06)
    assert costs.lines.total.money_pico == capacity_between(RENTED, 0, us(60))
    assert costs.lines.charged == settled.charge
    assert settled.loaded_pico >= settled.charge.money_pico


def test_energy_is_charged_to_those_who_worked_and_rest_to_idle() -> None:
    price = CapacityPrice.rented(Decimal(0), kwh_usd=Decimal("0.36"))  # 0.1 micro-USD a joule
    costs = ReplicaCosts(price, 0, gpus=["GPU-1", "GPU-2"])
    joules = {"GPU-1": 0.0, "GPU-2": 0.0, "GPU-9": 0.0}
    for second in range(31):
        working = 10 <= second < 20
        costs.see_gpus(
            GpuSample(
                sampled_at_us=us(second), host="h", gpu=gpu, index=0, name="",
                utilisation_ratio=float(working),
                power_watts=400.0 if working else 100.0, energy_joules=drawn, energy_grade="counter",
            )
            for gpu, drawn in joules.items()
        )  # fmt: skip
        joules = {gpu: drawn + (400.0 if working else 100.0) for gpu, drawn in joules.items()}
    costs.see_attempt(line("a", 10, 20))

    (settled,) = costs.advance(us(60))

    assert settled.charge == Charge(800 * 10**6, 10 * S, 8_000_000)  # two of three GPUs x 400 W x 10 s
    assert costs.lines.idle.energy_mj == 4_000_000
    assert costs.lines.total.energy_mj == 12_000_000


def test_without_a_scrape_only_known_calls_share_the_money() -> None:
    costs = ReplicaCosts(RENTED, 0)
    costs.see_engine(EngineSample(sampled_at_us=us(5), upstream="local", replica="r", state="unreachable"))
    costs.see_attempt(line("a", 0, 5))
    costs.see_attempt(line("b", 0, 5, output_tokens=300))

    settled = {one.attempt: one.charge.money_pico for one in costs.advance(us(40))}

    assert settled == {"a": 1_250_000_000, "b": 3_750_000_000}
    assert costs.lines.unobserved == NOTHING


def test_what_waits_is_bounded_and_the_books_balance_all_the_same() -> None:
    config = ReplicaCostsConfig(most_attempts=3, most_windows=2)
    costs = ReplicaCosts(RENTED, 0, config=config)
    for number in range(10):
        costs.see_attempt(line(f"a{number}", 0, 100))
    assert costs.refused == 7
    settled = costs.advance(us(200))
    assert len(settled) == 3
    assert len(costs.windows) == 2
    assert costs.lines.total.money_pico == capacity_between(RENTED, 0, us(170))


def test_the_same_attempt_twice_is_charged_once() -> None:
    costs = ReplicaCosts(RENTED, 0)
    costs.see_attempt(line("a", 0, 5))
    costs.see_attempt(line("a", 0, 5))
    assert [one.charge.money_pico for one in costs.advance(us(40))] == [5 * 10**9]


def test_another_model_is_calibrated_anew(engine_steps: Any) -> None:
    run = engine_steps.simulate(random.Random(3), {"P": 2, "D": 6}, 60.0)
    costs = ReplicaCosts(RENTED, 0)
    feed(costs, run, 60)
    assert costs.windows[-1].method == "calibrated"

    costs.see_engine(look(121, model="one"))
    costs.see_engine(look(122, model="other"))
    costs.advance(us(180))

    assert costs.windows[-1].method == "prior"
