import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.domain.usage import Usage
from inference.simulator.directives import (
    Directives,
    InvalidDirective,
    directives_from,
    items_in,
    items_of,
    marker,
    usage_items,
)
from inference.simulator.faults import Fault, FaultRule, fault_rule, strike

counts = st.integers(0, 10**7)


@given(read=counts, write=counts, rest=counts, one_hour=st.floats(0, 1), output=counts, part=st.floats(0, 1))
def test_any_usage_survives_the_marker(
    read: int, write: int, rest: int, one_hour: float, output: int, part: float
) -> None:
    usage = Usage(
        input_tokens=read + write + rest,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_write_input_tokens=write,
        cache_write_1h_input_tokens=int(write * one_hour),
        reasoning_output_tokens=int(output * part),
    )
    text = f"Please go on. {marker(usage_items(usage))} Thank you."
    assert directives_from(items_in({}, {}, text)).usage == usage


def test_a_fault_is_named_bare_and_tuned_by_items() -> None:
    directives = directives_from(items_of("reset after=5 delay=2.5"))
    assert directives == Directives(fault=Fault.RESET, after=5, delay_s=2.5)


def test_headers_win_over_metadata_and_metadata_over_the_text() -> None:
    items = items_in(
        {"x-simulate": "output_tokens=3", "x-simulate-usage": "input=9,output=3"},
        {"metadata": {"simulate": "output_tokens=2 seed=2"}},
        "[[simulate output_tokens=1 seed=1 tools=1]]",
    )
    assert items == {"output_tokens": "3", "seed": "2", "tools": "1", "input": "9", "output": "3"}


def test_the_output_header_fixes_the_length() -> None:
    assert directives_from(items_in({"x-simulate-output-tokens": "17"}, {}, "")).output_tokens == 17


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fulat=429", "unknown item 'fulat'"),
        ("explode", "faults: rate_limit"),
        ("after=-1", "'-1' is no value for 'after'"),
        ("input=many", "'many' is no value for 'input'"),
        ("input=10 cache_read=20", "cached parts exceed"),
        ("delay=inf", "'inf' is no value for 'delay'"),
    ],
)
def test_a_directive_that_cannot_be_followed_is_refused_with_the_reason(text: str, told: str) -> None:
    with pytest.raises(InvalidDirective, match=told):
        directives_from(items_of(text))


def test_text_without_a_marker_dictates_nothing() -> None:
    assert directives_from(items_in({}, {}, "please [simulate] usage")) == Directives()


def test_a_fault_rule_is_read_from_its_notation() -> None:
    assert fault_rule("gpt-*:rate_limit=0.25") == FaultRule("gpt-*", Fault.RATE_LIMIT, 0.25)


@pytest.mark.parametrize("text", ["gpt-*", "gpt:nonsense=0.1", "gpt:reset=2", ":reset=0.1", "gpt:reset=x"])
def test_a_fault_rule_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"probability|MODEL:FAULT"):
        fault_rule(text)


def test_rules_are_disjoint_slices_of_one_draw() -> None:
    rules = (FaultRule("gpt-*", Fault.RESET, 0.1), FaultRule("*", Fault.EMPTY, 0.2))
    struck = [strike(rules, "gpt-5", draw) for draw in (0.05, 0.15, 0.35)]
    assert struck == [Fault.RESET, Fault.EMPTY, None]
    assert strike(rules, "claude", 0.05) is Fault.EMPTY
