"""A change of spend is split exactly, and fairly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.domain.attribution import Factor, Rates, Use, contributors, hourly, split

RATES = {"small": Rates(input=1, cached=0, output=4), "large": Rates(input=10, cached=1, output=50)}


def use(
    model: str = "small", *, calls: int = 100, tries: int = 1, length: int = 1000, hits: float = 0.0,
    output: int = 100, price: int = 1, agent: str = "crawler",
) -> Use:  # fmt: skip
    """``price`` is pico-USD for one unit of :data:`RATES`; lengths are tokens an attempt."""
    attempts = calls * tries
    rates, cached = RATES[model], round(length * hits)
    attempt = (length - cached) * rates.input + cached * rates.cached + output * rates.output
    return Use(
        model=model, calls=calls, attempts=attempts, input_tokens=attempts * length,
        cached_tokens=attempts * cached, output_tokens=attempts * output,
        cost_pico=attempts * attempt * price, labels=(("agent", agent),),
    )  # fmt: skip


def parts(before: list[Use], after: list[Use]) -> dict[Factor, int]:
    found = split(before, after, minutes_before=60, minutes_after=60, rates=RATES)
    return {part.factor: part.pico_per_hour for part in found}


@pytest.mark.parametrize(
    ("after", "factor"),
    [
        (use(calls=300), Factor.VOLUME),
        (use(price=3), Factor.PRICE),
        (use(length=4000), Factor.INPUT),
        (use(output=900), Factor.OUTPUT),
        (use(tries=3), Factor.RETRIES),
        (use(model="large"), Factor.MIX),
    ],
)
def test_what_moved_alone_is_given_all_of_the_change(after: Use, factor: Factor) -> None:
    before = use()
    found = parts([before], [after])
    assert found.pop(factor) == after.cost_pico - before.cost_pico
    assert set(found.values()) == {0}


def test_a_lost_cache_is_told_from_longer_inputs() -> None:
    before, after = use(hits=0.9), use(hits=0.0)
    found = parts([before], [after])
    # 900 tokens a call at one pico-USD more, a hundred calls an hour.
    assert found[Factor.CACHE] == 90_000
    assert found[Factor.INPUT] == 0


def test_two_factors_share_what_they_made_together() -> None:
    # 1400 pico-USD a call: twice the calls at twice the price is 100 -> 400 % of it.
    found = parts([use()], [use(calls=200, price=2)])
    assert found[Factor.VOLUME] == found[Factor.PRICE] == 140_000 * 3 // 2


def test_calls_that_move_to_a_dearer_model_are_a_change_of_mix() -> None:
    before = [use(calls=90), use("large", calls=10)]
    after = [use(calls=10), use("large", calls=90)]
    assert max(parts(before, after).items(), key=lambda item: item[1])[0] is Factor.MIX


def test_spend_that_begins_or_ends_is_volume() -> None:
    one = use()
    assert parts([], [one])[Factor.VOLUME] == one.cost_pico
    assert parts([one], [])[Factor.VOLUME] == -one.cost_pico


def test_nothing_before_and_nothing_after_is_no_change() -> None:
    assert set(parts([], []).values()) == {0}


amounts = st.integers(min_value=0, max_value=10**7)
uses = st.lists(
    st.builds(
        lambda model, calls, more, length, hits, output, cost: Use(
            model=model, calls=calls, attempts=calls + more, input_tokens=length,
            cached_tokens=min(hits, length), output_tokens=output, cost_pico=cost * 10**6,
        ),
        st.sampled_from(["small", "large", "unheard-of"]), st.integers(0, 1000), st.integers(0, 50),
        amounts, amounts, amounts, amounts,
    ),
    max_size=5,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(before=uses, after=uses, minutes=st.tuples(st.integers(1, 600), st.integers(1, 600)))
def test_the_parts_add_up_to_the_change_to_the_last_pico(before, after, minutes) -> None:
    found = split(before, after, minutes_before=minutes[0], minutes_after=minutes[1], rates=RATES)
    spent = [sum(one.cost_pico for one in rows) for rows in (before, after)]
    change = hourly(spent[1], minutes[1]) - hourly(spent[0], minutes[0])
    assert sum(part.pico_per_hour for part in found) == change
    assert len({part.factor for part in found}) == len(Factor)


def test_the_largest_contributor_of_each_dimension_comes_first() -> None:
    before = [use(agent="crawler"), use(agent="writer")]
    after = [use(agent="crawler", calls=900), use(agent="writer")]
    found = contributors(before, after, minutes_before=60, minutes_after=30)
    agents = [one for one in found if one.dimension == "agent"]
    assert [one.value for one in agents] == ["crawler", "writer"]
    assert agents[0].pico_per_hour == after[0].cost_pico * 2 - before[0].cost_pico
    assert agents[0].calls_per_hour == 1800
