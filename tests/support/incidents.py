"""A replayed company's minutes, and incidents planted into them.

Calls come from the workload generator (sizes and rhythm fitted on public traces) or from a
trace. What it does not say is made up plainly: prices of one's own, a duration from the tokens.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from random import Random

from alerts.detectors.finding import Point
from collector.domain.attribution import Rates, Use
from inference.workload.calls import TracedCall
from inference.workload.generator import generate

MINUTE = 60
EPOCH = 1_790_000_000 // 86_400 * 86_400
"""A midnight; the traces know no dates."""

PRICES = {  # pico-USD per token: input, cached, output
    "claude-opus-5": (5_000_000, 500_000, 25_000_000),
    "claude-sonnet-5": (3_000_000, 300_000, 15_000_000),
    "claude-haiku-4-5": (1_000_000, 100_000, 5_000_000),
    "gpt-5.4": (2_500_000, 250_000, 15_000_000),
    "gpt-5.4-mini": (750_000, 75_000, 4_500_000),
    "gpt-5-nano": (50_000, 5_000, 400_000),
    "qwen3-8b": (50_000, 10_000, 200_000),
    "acme-large-2": (10_000_000, 1_000_000, 40_000_000),
    "text-embedding-3-small": (20_000, 20_000, 20_000),
}
RATES = {model: Rates(input=i, cached=c, output=o) for model, (i, c, o) in PRICES.items()}
FAILING = ("rate_limit", "server_error", "overloaded", "stream_error", "truncated")


@dataclass(slots=True)
class Booked:
    """One call as the ledger has it, as far as detection reads it."""

    at_s: float
    agent: str
    model: str
    conversation: str
    input: int
    cached: int
    output: int
    failed: bool
    duration_ms: float
    cost: int
    attempts: int = 1


def booked(call: TracedCall, random: Random) -> Booked:
    """A traced call as it would have been booked."""
    usage = call.usage
    cached, output = usage.cache_read_input_tokens, usage.output_tokens
    fault = call.fault.partition(" ")[0]
    failed = fault in FAILING
    milliseconds = (300 + 18 * output) * random.lognormvariate(0, 0.35)
    book = Booked(
        at_s=call.at_s, agent=call.agent.partition("/")[0], model=call.model, conversation=call.conversation,
        input=usage.input_tokens, cached=cached, output=output, failed=failed,
        duration_ms=120 if failed else milliseconds, cost=0,
    )  # fmt: skip
    if failed:
        book.input = book.cached = book.output = 0
    return priced(book)


def priced(call: Booked, factor: float = 1.0) -> Booked:
    """The call with what it costs."""
    first, cached, output = PRICES.get(call.model, PRICES["gpt-5.4"])
    cost = (call.input - call.cached) * first + call.cached * cached + call.output * output
    call.cost = round(cost * factor) * call.attempts
    return call


def company(seed: int, hours: float, calls_per_s: float) -> list[Booked]:
    """Everything the generator's company books in ``hours``."""
    random = Random(seed)
    calls = takewhile(lambda call: call.at_s < hours * 3600, generate(seed=seed, calls_per_s=calls_per_s))
    return [booked(call, random) for call in calls]


def bucket(milliseconds: float) -> int:
    return min(max(math.floor(2 * math.log2(max(milliseconds, 1))), 0), 41)


def points(calls: Iterable[Booked], minutes: int) -> list[Point]:
    """One subject's minutes, silent ones too."""
    rows: dict[int, list[Booked]] = defaultdict(list)
    for call in calls:
        rows[int(call.at_s // MINUTE)].append(call)
    return [point(minute, rows.get(minute, [])) for minute in range(minutes)]


def point(minute: int, calls: list[Booked]) -> Point:
    latency: dict[int, int] = defaultdict(int)
    for call in calls:
        if not call.failed:
            latency[bucket(call.duration_ms)] += 1
    return Point(
        at=EPOCH + minute * MINUTE,
        calls=len(calls),
        failed=sum(call.failed for call in calls),
        attempts=sum(call.attempts for call in calls),
        cost_pico=sum(call.cost for call in calls),
        input_tokens=sum(call.input for call in calls),
        output_tokens=sum(call.output for call in calls),
        cache_read_tokens=sum(call.cached for call in calls),
        latency=tuple(sorted(latency.items())),
    )


def uses(calls: Iterable[Booked], since_s: float, until_s: float) -> list[Use]:
    """Rows as a question would give them: by model and conversation."""
    rows: dict[tuple[str, str], list[int]] = {}
    for call in calls:
        if since_s <= call.at_s < until_s:
            row = rows.setdefault((call.model, call.conversation), [0] * 7)
            for place, amount in enumerate(
                (1, call.attempts, call.input, call.cached, call.output, call.cost, int(call.failed))
            ):
                row[place] += amount
    return [
        Use(
            model=model, calls=row[0], attempts=row[1], input_tokens=row[2], cached_tokens=row[3],
            output_tokens=row[4], cost_pico=row[5], failed=row[6], labels=(("conversation", talk),),
        )
        for (model, talk), row in rows.items()
    ]  # fmt: skip


Plant = Callable[[list[Booked], float, float, Random], list[Booked]]
"""(calls, start, end, randomness) -> calls with the incident in them."""


def _changed(
    calls: list[Booked], start: float, end: float, change: Callable[[Booked], Booked | None]
) -> list[Booked]:
    out = []
    for call in calls:
        if start <= call.at_s < end:
            changed = change(replace(call))
            if changed is not None:
                out.append(changed)
        else:
            out.append(call)
    return out


def runaway_loop(calls: list[Booked], start: float, end: float, random: Random) -> list[Booked]:
    """One conversation calls itself again, six times as often as the agent ever called."""
    usual = [call for call in calls if start - 7200 <= call.at_s < start and not call.failed]
    gap = 7200 / max(len(usual), 1) / 6
    gap = min(gap, 6.0)
    seed, at, extra = random.choice(usual), start, []
    while at < end:
        like = random.choice(usual)
        extra.append(replace(like, at_s=at, conversation="loop", model=seed.model, output=like.output))
        priced(extra[-1])
        at += random.expovariate(1 / gap)
    return sorted([*calls, *extra], key=lambda call: call.at_s)


def burst_of_cheap_calls(calls: list[Booked], start: float, end: float, random: Random) -> list[Booked]:
    """Very many tiny calls of all sorts of conversations."""
    usual = [call for call in calls if start - 7200 <= call.at_s < start and not call.failed]
    gap = min(7200 / max(len(usual), 1) / 10, 2.0)
    extra, at = [], start
    while at < end:
        like = random.choice(usual)
        tiny = replace(
            like, at_s=at, conversation=f"burst-{random.randrange(500)}", input=40, cached=0, output=4
        )
        tiny.duration_ms = 400 * random.lognormvariate(0, 0.3)
        extra.append(priced(tiny))
        at += random.expovariate(1 / gap)
    return sorted([*calls, *extra], key=lambda call: call.at_s)


def error_burst(calls: list[Booked], start: float, end: float, random: Random) -> list[Booked]:
    """Six calls in ten fail at once."""

    def fail(call: Booked) -> Booked:
        if random.random() < 0.6:
            call.failed, call.input, call.cached, call.output, call.duration_ms = True, 0, 0, 0, 120
        return priced(call)

    return _changed(calls, start, end, fail)


def cache_drop(calls: list[Booked], start: float, end: float, random: Random) -> list[Booked]:
    """The prompt's first line changes with every call: nothing is read from cache."""

    def miss(call: Booked) -> Booked:
        call.cached = 0
        return priced(call)

    return _changed(calls, start, end, miss)


def slow(calls: list[Booked], start: float, end: float, random: Random) -> list[Booked]:
    """Every answer takes three times as long."""

    def wait(call: Booked) -> Booked:
        if not call.failed:
            call.duration_ms *= 3
        return call

    return _changed(calls, start, end, wait)


def price_change(calls: list[Booked], start: float, end: float, random: Random) -> list[Booked]:
    """Every token costs two and a half times as much."""
    return _changed(calls, start, end, lambda call: priced(call, 2.5))


def model_switch(calls: list[Booked], start: float, end: float, random: Random) -> list[Booked]:
    """All calls go to a model that is several times dearer."""
    first = next(call.model for call in calls if call.at_s < start)
    dearer = "claude-opus-5" if PRICES[first][0] < 1_500_000 else "acme-large-2"

    def switch(call: Booked) -> Booked:
        call.model = dearer
        return priced(call)

    return _changed(calls, start, end, switch)


def stop(calls: list[Booked], start: float, end: float, random: Random) -> list[Booked]:
    """Silence."""
    return _changed(calls, start, end, lambda call: None)


def slow_leak(calls: list[Booked], start: float, end: float, random: Random) -> list[Booked]:
    """Contexts grow by a quarter an hour."""

    def grow(call: Booked) -> Booked:
        factor = 1 + (call.at_s - start) / 3600 / 4
        call.input, call.cached = round(call.input * factor), round(call.cached * factor)
        call.output = round(call.output * factor)
        return priced(call)

    return _changed(calls, start, end, grow)


PLANTS: dict[str, Plant] = {
    "runaway_loop": runaway_loop,
    "call_burst": burst_of_cheap_calls,
    "error_burst": error_burst,
    "cache_drop": cache_drop,
    "latency": slow,
    "price_change": price_change,
    "model_switch": model_switch,
    "stop": stop,
    "slow_leak": slow_leak,
}
"""Incidents by the cause that they should be given."""


def by_agent(calls: Iterable[Booked]) -> dict[str, list[Booked]]:
    agents: dict[str, list[Booked]] = defaultdict(list)
    for call in calls:
        agents[call.agent].append(call)
    return dict(agents)


def whole_minutes(calls: list[Booked]) -> Iterator[Point]:
    """The minutes from the first call to the last."""
    yield from points(calls, int(calls[-1].at_s // MINUTE) + 1)
