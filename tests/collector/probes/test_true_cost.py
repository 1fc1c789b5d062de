"""From booked attempts and looks at engines to what the ledger says that calls really cost."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from collector.domain.price import TokenPrice
from collector.ingest import charges
from collector.ingest.books import Books
from collector.probes.capacity import CapacityConfig, Pool
from collector.probes.cost_export import metrics_of, write_present_prices
from collector.probes.gpu_sample import GpuSample
from collector.probes.live_prices import STALE_US, read_live_prices
from collector.probes.true_cost import LONGEST_GAP_US, TrueCost
from collector.probes.vllm_metrics import EngineSample
from collector.store.asking import parse
from collector.store.questions import CATALOGUE
from collector.store.reader import LedgerReader

S = 1_000_000
MINUTE = 60 * S
POOL = Pool(
    upstream="local",
    urls=("http://127.0.0.1:8000/v1", "http://gpu2:8000"),
    gpu_hour_usd=Decimal("3.60"),  # 0.001 USD a second
)
R1, R2 = "127.0.0.1:8000", "gpu2:8000"
BOUGHT = TokenPrice(input=2_000_000, output=8_000_000, cache_read=200_000)


class Clock:
    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock(noon_us: int) -> Clock:
    return Clock(noon_us // (10 * S) * (10 * S))


@pytest.fixture
def costs_of(clock: Clock, database: Any) -> Callable[..., TrueCost]:
    def make(pool: Pool = POOL) -> TrueCost:
        costs = TrueCost(
            [pool],
            window_us=10 * S,
            lag_us=5 * S,
            price_of={"local": lambda model, at: ("big/model", "listed", BOUGHT)},
            now_us=clock,
        )
        costs.resume(database.connection)
        return costs

    return make


@pytest.fixture
def ran(
    enter: Callable[..., None], call: Callable[..., Any], attempt: Callable[..., Any]
) -> Callable[..., tuple[str, Any]]:
    """Books a call of one attempt at a replica, listed at 77 pico-USD."""

    def run(start_us: int, seconds: float, replica: str = R1, **tokens: int) -> tuple[str, Any]:
        values = {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 100} | tokens
        duration = round(seconds * S)
        tried = attempt(
            77,
            start_us,
            upstream="local",
            replica=replica,
            duration_us=duration,
            time_to_first_chunk_us=0,
            **values,
        )
        booked = call(started_at_us=start_us, upstream="local", cost=77, attempts=(tried,))
        enter(booked)
        return booked.call_id, tried

    return run


def book(books: Books, costs: TrueCost) -> int:
    entries = costs.advance()
    books.apply(lambda connection, marks: charges.book(connection, entries, marks))
    return len(entries)


def usd(text: str) -> Decimal:
    return Decimal(text)


def test_an_attempt_costs_the_time_that_it_kept_its_replica_busy(
    costs_of: Any, clock: Clock, books: Books, ran: Any, rows: Any
) -> None:
    costs, start = costs_of(), clock.now_us
    costs.see_attempt(*ran(start + 2 * S, 4.0))
    clock.now_us = start + 15 * S

    assert book(books, costs) == 2  # one window of each replica

    # Busy for 4 s of 10, alone: 4 s at 0.001 USD; the rest is idle, and so is the other replica.
    assert rows("SELECT effective_cost_usd, list_cost_usd, gpu_ms FROM attempts") == [
        (usd("0.004"), usd("0.000000000077"), 4000.0)
    ]
    assert rows("SELECT effective_cost_usd FROM calls") == [(usd("0.004"),)]
    assert rows(
        "SELECT replica, meter_usd, charged_usd, idle_usd, unobserved_usd, busy_ms, output_tokens"
        " FROM gpu_windows ORDER BY replica"
    ) == [
        (R1, usd("0.010"), usd("0.004"), usd("0.006"), usd("0"), 4000.0, 100),
        (R2, usd("0.010"), usd("0"), usd("0.010"), usd("0"), 0.0, 0),
    ]
    # 100 output tokens at 8 micro-USD.
    assert rows("SELECT alternative, alternative_usd FROM gpu_windows WHERE alternative_usd > 0") == [
        ("big/model", usd("0.0008"))
    ]


def test_an_attempt_over_three_windows_grows_and_its_estimate_goes_once(
    costs_of: Any, clock: Clock, books: Books, ran: Any, rows: Any
) -> None:
    costs, start = costs_of(), clock.now_us
    costs.see_attempt(*ran(start + 5 * S, 20.0))
    seen = []
    for second in (15, 25, 35):
        clock.now_us = start + second * S
        book(books, costs)
        seen += rows("SELECT effective_cost_usd FROM attempts")

    assert seen == [(usd("0.005"),), (usd("0.015"),), (usd("0.020"),)]
    assert rows("SELECT sum(busy_usd) FROM gpu_charges") == [(usd("0.020"),)]
    # Idle: 5 s before and 5 s after, as the attempt's own part of its two windows.
    assert rows("SELECT sum(idle_share_usd) FROM gpu_charges") == [(usd("0.010"),)]


def test_sums_by_minute_hour_and_day_follow_what_calls_really_cost(
    costs_of: Any, clock: Clock, books: Books, ran: Any, rows: Any
) -> None:
    costs, start = costs_of(), clock.now_us
    costs.see_attempt(*ran(start, 5.0))
    books._now_us = lambda: start + 3 * 86_400 * S
    while books.advance_rollups():
        pass
    clock.now_us = start + 15 * S

    book(books, costs)

    for table in (
        "calls_by_minute",
        "calls_by_hour",
        "calls_by_day",
        "calls_by_user_hour",
        "calls_by_tags_day",
    ):
        found = rows(f"SELECT sum(calls), sum(effective_cost_usd), sum(list_cost_usd) FROM {table}")
        assert found == [(1, usd("0.005"), usd("0.000000000077"))], table
    of_talks = rows(
        "SELECT sum(calls), sum(effective_cost_usd), count(DISTINCT number) FROM talk_sums_by_day"
    )
    assert of_talks == [(1, usd("0.005"), 1)]


def test_the_books_of_a_busy_hour_balance_to_the_last_digit(
    costs_of: Any, clock: Clock, books: Books, ran: Any, rows: Any
) -> None:
    price = Decimal("2.718281828459")
    pool = Pool(upstream="local", urls=POOL.urls, gpu_hour_usd=price)
    costs, start = costs_of(pool), clock.now_us
    for number in range(60):
        at = start + number * 3 * S + number * 1117
        replica = R1 if number % 3 else R2
        tried = ran(at, 1.3 + number % 17, replica, input_tokens=10 * number, output_tokens=number % 90)
        costs.see_engines(
            [
                EngineSample(
                    sampled_at_us=at,
                    upstream="local",
                    replica=R1,
                    interval_us=3 * S,
                    running=1,
                    counted={"computed_prompt_tokens": 700, "generation_tokens": 120},
                )
            ]
        )
        clock.now_us = at
        if number % 5:
            costs.see_attempt(*tried)
        book(books, costs)

    ((meter, lines),) = rows(
        "SELECT sum(meter_usd), sum(charged_usd) + sum(idle_usd) + sum(unobserved_usd) FROM gpu_windows"
    )
    assert meter == lines
    hours = rows("SELECT (epoch_us(max(window_end)) - epoch_us(min(window_start))) FROM gpu_windows")[0][0]
    assert abs(meter - 2 * price * hours / (3600 * S)) < Decimal("1e-9")
    assert rows("SELECT sum(charged_usd) FROM gpu_windows") == rows("SELECT sum(busy_usd) FROM gpu_charges")
    assert rows("SELECT sum(effective_cost_usd) FROM attempts WHERE gpu_ms IS NOT NULL") == rows(
        "SELECT sum(busy_usd) FROM gpu_charges"
    )
    assert rows("SELECT sum(effective_cost_usd) FROM calls") == rows(
        "SELECT sum(effective_cost_usd) FROM attempts"
    )
    assert rows("SELECT count(*) FROM gpu_windows WHERE unobserved_usd > 0")[0][0] > 0


def test_a_collector_that_comes_back_goes_on_with_the_meter_and_the_calls_of_meanwhile(
    costs_of: Any, clock: Clock, books: Books, ran: Any, rows: Any
) -> None:
    first, start = costs_of(), clock.now_us
    half = ran(start + 5 * S, 10.0)
    first.see_attempt(*half)
    clock.now_us = start + 15 * S
    book(books, first)  # [0, 10): half of it; then the collector dies
    missed = ran(start + 40 * S, 10.0)

    clock.now_us = start + 120 * S
    second = costs_of()
    second.see_attempt(*half)  # the ledger tells it again; it must not count twice
    second.see_attempt(*missed)
    book(books, second)

    assert rows("SELECT effective_cost_usd FROM attempts ORDER BY started_at") == [
        (usd("0.010"),),
        (usd("0.010"),),
    ]
    assert rows("SELECT sum(meter_usd) FROM gpu_windows WHERE replica = $1", R1) == [(usd("0.110"),)]


def test_the_meter_does_not_run_through_a_night_in_which_nobody_looked(
    costs_of: Any, clock: Clock, books: Books, rows: Any
) -> None:
    first, start = costs_of(), clock.now_us
    clock.now_us = start + 15 * S
    book(books, first)
    clock.now_us = start + LONGEST_GAP_US + 60 * S
    second = costs_of()
    clock.now_us += 15 * S
    book(books, second)

    assert rows("SELECT sum(meter_usd) FROM gpu_windows WHERE replica = $1", R1) == [(usd("0.020"),)]


def test_replicas_of_this_machine_have_its_gpus_in_order_unless_it_is_said_which(costs_of: Any) -> None:
    urls = ("http://127.0.0.1:8000", "http://127.0.0.1:8001", "http://gpu2:8000")
    named = CapacityConfig(gpu_ids={"127.0.0.1:8001": ("0",)})
    costs = costs_of(Pool(upstream="local", urls=urls, capacity=named, energy_kwh_usd=Decimal("0.30")))
    sample = GpuSample(sampled_at_us=1, host="h", gpu="", index=0, name="NVIDIA H200")
    from dataclasses import replace

    costs.see_gpus([replace(sample, gpu=f"GPU-{n}", index=n) for n in (2, 0, 1)])

    assert [replica.gpus for replica in costs.replicas.values()] == [("GPU-1",), ("GPU-0",), ()]


def test_energy_of_a_window_is_paid_by_those_who_worked(
    costs_of: Any, clock: Clock, books: Books, ran: Any, rows: Any
) -> None:
    pool = Pool(
        upstream="local",
        urls=("http://127.0.0.1:8000",),
        capacity=CapacityConfig(pue=Decimal("1.5")),
        energy_kwh_usd=Decimal("0.36"),  # 0.1 micro-USD a joule, 0.15 with the building's share
    )
    costs, start = costs_of(pool), clock.now_us
    costs.see_gpus(
        [
            GpuSample(
                sampled_at_us=start + second * S,
                host="h",
                gpu="GPU-1",
                index=0,
                name="NVIDIA H200",
                power_watts=300.0,
                energy_joules=300.0 * second,
                energy_grade="counter",
            )
            for second in range(16)
        ]
    )
    costs.see_attempt(*ran(start, 10.0))
    clock.now_us = start + 15 * S

    book(books, costs)

    assert rows("SELECT energy_j, effective_cost_usd FROM attempts") == [(3000.0, usd("0.00045"))]


def test_the_present_price_is_told_to_prometheus_and_to_sidecars_until_it_is_old(
    costs_of: Any, clock: Clock, books: Books, ran: Any, tmp_path: Any
) -> None:
    costs, start = costs_of(), clock.now_us
    costs.see_attempt(*ran(start, 5.0, input_tokens=0, output_tokens=100))
    clock.now_us = start + 15 * S
    book(books, costs)

    told = dict(line.rsplit(" ", 1) for line in metrics_of(costs).splitlines() if line[0] != "#")
    price = 'bursar_gpu_token_price_usd{upstream="local",class="output",cost="%s"}'
    # 5 s at 0.001 USD over 100 output tokens, and the whole 20 s of two replicas over them.
    assert Decimal(told[price % "busy"]) == usd("0.00005")
    assert Decimal(told[price % "loaded"]) == usd("0.0002")
    assert Decimal(told['bursar_gpu_cost_usd_total{upstream="local"}']) == usd("0.02")
    charged = f'bursar_gpu_cost_charged_usd_total{{upstream="local",replica="{R1}"}}'
    assert Decimal(told[charged]) == usd("0.005")
    assert told[charged.replace("cost_charged", "cache_saved")] == "0.000000000000"
    assert told['bursar_gpu_idle_ratio{upstream="local"}'] == "0.75"

    write_present_prices(tmp_path, costs.now)
    until = start + 10 * S
    prices = read_live_prices(tmp_path, until + STALE_US)
    # The prior: an output token is eight prompt tokens' work.
    assert (prices["local"].output, prices["local"].input) == (50_000_000, 6_250_000)
    assert read_live_prices(tmp_path, until + STALE_US + 1) == {}
    assert read_live_prices(tmp_path / "nowhere", until) == {}


def test_the_ledger_answers_what_a_token_cost_beside_the_alternative(
    costs_of: Any, clock: Clock, books: Books, ran: Any, database: Any
) -> None:
    costs, start = costs_of(), clock.now_us
    costs.see_attempt(*ran(start, 5.0, input_tokens=900, cache_read_input_tokens=600, output_tokens=100))
    clock.now_us = start + 15 * S
    book(books, costs)
    period = {"since": [f"{start // S - 60}"], "until": [f"{start // S + 60}"]}
    reader = LedgerReader(database)

    def ask(name: str, **more: list[str]) -> list[dict[str, Any]]:
        question = CATALOGUE[name]
        return reader.answer(parse(question, {**period, **more}, clock.now_us)).to_pylist()

    one, other = ask("gpu_costs", upstream=["local"])
    assert (one["replica"], other["replica"]) == (R1, R2)
    assert (one["meter_usd"], one["charged_usd"], one["idle_usd"]) == (
        usd("0.010"),
        usd("0.005"),
        usd("0.005"),
    )
    assert one["idle_ratio"] == one["busy_ratio"] == 0.5
    # 1,000 tokens for 0.005 USD of busy time and 0.010 USD of all.
    assert one["busy_usd_per_mtok"] == pytest.approx(5.0)
    assert one["loaded_usd_per_mtok"] == pytest.approx(10.0)
    # 300 at 2, 600 at 0.2 and 100 at 8 micro-USD.
    assert one["alternative_usd"] == usd("0.00152")
    # 0.005 USD for 300 prompt tokens and 100 output tokens of eight times their work: 4,545,455 pico-USD.
    assert (one["prefix_hit_ratio"], one["cache_saved_usd"]) == (600 / 900, usd("0.002727273"))
    assert (other["prefix_hit_ratio"], other["cache_saved_usd"]) == (None, usd("0"))
    # It costs 0.010/0.00152 times as much while it is busy half of the time.
    assert one["break_even_busy_ratio"] == pytest.approx(0.5 * 0.010 / 0.00152)
    assert (one["method"], one["residual"], one["alternative"]) == ("prior", None, "big/model")
    assert other["busy_usd_per_mtok"] is None

    (step,) = ask("gpu_costs_over_time")
    assert (step["meter_usd"], step["idle_ratio"]) == (usd("0.020"), 0.75)
    assert ask("gpu_costs", upstream=["elsewhere"]) == []


def test_without_a_price_nothing_is_divided(costs_of: Any, clock: Clock) -> None:
    costs = costs_of(Pool(upstream="local", urls=POOL.urls))
    clock.now_us += 100 * S
    assert costs.advance() == []
    assert costs.upstreams == frozenset()
    assert metrics_of(costs) == ""
