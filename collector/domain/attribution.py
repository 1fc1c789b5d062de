"""A change in spend split into what moved: exact, in pico-USD an hour.

What an hour costs is a product of factors, for each model its own:

    volume x mix x retries x (input x (fresh + cached) + output) x price

The part of each factor is its Shapley value: what changes when it alone steps from before to
after, averaged over all orders in which the factors can take their steps. It is the one split
that leaves nothing over, gives equal things equally, and gives a factor that did not move
nothing (Shapley 1953; for sums of products: Sun, "The most complete decomposition", 1998).
With seven factors these are 128 evaluations. Parts are rounded so that they add up to the
change to the last pico-USD.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

Subject = tuple[tuple[str, str], ...]
"""What a series is about: sorted (dimension, value) pairs such as ``(("agent", "crawler"),)``."""


class Factor(StrEnum):
    """What can move. The order is that of the text of an alert where parts are equal."""

    VOLUME = "volume"
    """Calls an hour."""
    MIX = "mix"
    """Which models the calls go to."""
    PRICE = "price"
    """What a token costs."""
    CACHE = "cache_hits"
    """The part of the input that is read from the provider's prompt cache."""
    INPUT = "input_length"
    OUTPUT = "output_length"
    RETRIES = "retries"
    """Attempts that a call takes."""


FACTORS = tuple(Factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a model's tokens cost in proportion to one another; only ratios matter here."""

    input: int = 10
    cached: int = 1
    output: int = 50
    """The defaults are the commonest ratios of the price book."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one model was used for by one subject, over a period. Rows of a question, in integers."""

    model: str
    calls: int
    attempts: int
    input_tokens: int
    """Cached ones included."""
    cached_tokens: int
    output_tokens: int
    cost_pico: int
    failed: int = 0
    labels: Subject = ()
    """Whose it was: agent, key, conversation, upstream, ..."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one factor added to an hour's spend, pico-USD; below 0 it saved."""

    factor: Factor
    pico_per_hour: int


@dataclass(frozen=True, slots=True)
class Contributor:
    """What one value of a dimension added to an hour's spend, pico-USD."""

    dimension: str
    value: str
    pico_per_hour: int
    calls_per_hour: float
    """Calls an hour now."""


def hourly(cost_pico: int, minutes: int) -> int:
    """A period's spend as pico-USD an hour, rounded down."""
    return cost_pico * 60 // minutes


@dataclass(slots=True)
class _Model:
    """The factors of one model in one period."""

    share: float
    tries: float
    input: float
    hits: float
    output: float
    price: float


def split(
    before: Iterable[Use],
    after: Iterable[Use],
    *,
    minutes_before: int,
    minutes_after: int,
    rates: Mapping[str, Rates] | None = None,
) -> list[Part]:
    """How each factor changed an hour's spend, largest change first.

    The parts add up to ``hourly`` of after less ``hourly`` of before, exactly.

    Args:
        before: use in a period of ``minutes_before`` that was as it should be.
        after: use in a period of ``minutes_after`` since then.
        rates: of each model; a model that is not in it has the default ratios.
    """
    before, after = list(before), list(after)
    then, now = _by_model(before), _by_model(after)
    models = sorted({*then, *now})
    prices = [(rates or {}).get(model, Rates()) for model in models]
    volumes = (
        sum(use.calls for use in then.values()) * 60 / minutes_before,
        sum(use.calls for use in now.values()) * 60 / minutes_after,
    )
    periods = _periods(models, prices, then, now, volumes)
    change = hourly(sum(use.cost_pico for use in after), minutes_after) - hourly(
        sum(use.cost_pico for use in before), minutes_before
    )
    values = _shapley(lambda taken: _spend(taken, periods, prices, volumes))
    return _rounded(values, change)


def _by_model(uses: Iterable[Use]) -> dict[str, Use]:
    summed: dict[str, list[int]] = {}
    for use in uses:
        row = summed.setdefault(use.model, [0] * 6)
        for place, amount in enumerate(
            (use.calls, use.attempts, use.input_tokens, use.cached_tokens, use.output_tokens, use.cost_pico)
        ):
            row[place] += amount
    return {
        model: Use(
            model=model, calls=row[0], attempts=row[1], input_tokens=row[2], cached_tokens=row[3],
            output_tokens=row[4], cost_pico=row[5],
        )
        for model, row in summed.items()
        if row[0] > 0
    }  # fmt: skip


def _periods(
    models: Sequence[str],
    prices: Sequence[Rates],
    then: Mapping[str, Use],
    now: Mapping[str, Use],
    volumes: tuple[float, float],
) -> list[tuple[_Model, _Model]]:
    """Each model before and after. Of a model that is new, or gone, only the share has moved."""
    calls = (sum(use.calls for use in then.values()), sum(use.calls for use in now.values()))
    pairs = []
    for model, price in zip(models, prices, strict=True):
        both = [
            _model(use[model], total, price) if model in use else None
            for use, total in zip((then, now), calls, strict=True)
        ]
        known = both[0] or both[1]
        assert known is not None
        first, second = (
            found or _Model(0.0, known.tries, known.input, known.hits, known.output, known.price)
            for found in both
        )
        pairs.append((first, second))
    # With no call at all on one side there is no mix to speak of: the volume is what moved.
    for place, volume in enumerate(volumes):
        if not volume:
            for pair in pairs:
                pair[place].share = pair[1 - place].share
    return pairs


def _model(use: Use, total_calls: int, price: Rates) -> _Model:
    attempts = max(use.attempts, use.calls)
    hits = use.cached_tokens / use.input_tokens if use.input_tokens else 0.0
    model = _Model(
        share=use.calls / total_calls,
        tries=attempts / use.calls,
        input=use.input_tokens / attempts,
        hits=hits,
        output=use.output_tokens / attempts,
        price=1.0,
    )
    weight = _attempt(model, model, price, frozenset())
    # A cost without tokens (a fee, a guess) is all price.
    model.price = use.cost_pico / attempts / weight if weight else float(use.cost_pico) / attempts
    return model


def _attempt(first: _Model, second: _Model, rates: Rates, taken: frozenset[Factor]) -> float:
    """Weight of one attempt's tokens."""
    length = (second if Factor.INPUT in taken else first).input
    hits = (second if Factor.CACHE in taken else first).hits
    output = (second if Factor.OUTPUT in taken else first).output
    return length * ((1 - hits) * rates.input + hits * rates.cached) + output * rates.output


def _spend(
    taken: frozenset[Factor],
    periods: Sequence[tuple[_Model, _Model]],
    prices: Sequence[Rates],
    volumes: tuple[float, float],
) -> float:
    """An hour's spend with the factors ``taken`` as after, the others as before."""
    total = 0.0
    for (first, second), rates in zip(periods, prices, strict=True):
        calls = (second if Factor.MIX in taken else first).share
        calls *= (second if Factor.RETRIES in taken else first).tries
        weight = _attempt(first, second, rates, taken) or 1.0
        total += calls * weight * (second if Factor.PRICE in taken else first).price
    return total * volumes[Factor.VOLUME in taken]


def _shapley(spend: Callable[[frozenset[Factor]], float]) -> dict[Factor, float]:
    count = len(FACTORS)
    worth = {}
    for mask in range(1 << count):
        taken = frozenset(factor for place, factor in enumerate(FACTORS) if mask >> place & 1)
        worth[mask] = spend(taken)
    weights = [
        math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
        for size in range(count)
    ]
    return {
        factor: math.fsum(
            weights[mask.bit_count()] * (worth[mask | 1 << place] - value)
            for mask, value in worth.items()
            if not mask >> place & 1
        )
        for place, factor in enumerate(FACTORS)
    }


def _rounded(values: Mapping[Factor, float], change: int) -> list[Part]:
    """The values as integers that sum to ``change``. The largest takes what rounding leaves; money that
    came without a call, such as a correction, is price.
    """
    parts = {factor: round(value) for factor, value in values.items()}
    left = change - sum(parts.values())
    largest = max(parts, key=lambda factor: abs(parts[factor]))
    parts[largest if abs(left) <= len(parts) else Factor.PRICE] += left
    order = sorted(parts, key=lambda factor: -abs(parts[factor]))
    return [Part(factor, parts[factor]) for factor in order]


def contributors(
    before: Iterable[Use],
    after: Iterable[Use],
    *,
    minutes_before: int,
    minutes_after: int,
    most: int = 5,
) -> list[Contributor]:
    """Whose spend changed most, within each dimension that the rows tell apart."""
    cost: dict[tuple[str, str], list[int]] = {}
    for place, use in chain(((0, use) for use in before), ((1, use) for use in after)):
        for key in (("model", use.model), *use.labels):
            row = cost.setdefault(key, [0, 0, 0])
            row[place] += use.cost_pico
            row[2] += use.calls * place
    found: dict[str, list[Contributor]] = {}
    for (dimension, value), (then, now, calls) in cost.items():
        moved = hourly(now, minutes_after) - hourly(then, minutes_before)
        found.setdefault(dimension, []).append(
            Contributor(dimension, value, moved, calls * 60 / minutes_after)
        )
    top = []
    for dimension in sorted(found):
        ranked = sorted(found[dimension], key=lambda one: (-abs(one.pico_per_hour), one.value))
        top += ranked[:most]
    return top
