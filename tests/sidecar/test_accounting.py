"""No call ends in a silent zero, and each number says where it came from."""

from dataclasses import replace
from decimal import Decimal

import pytest

from collector.domain.price import list_cost, price_in_force
from collector.domain.record import PriceGrade
from collector.domain.usage import NOTHING, Usage, UsageGrade
from collector.pricing.book import PriceBook
from sidecar.accounting import (
    DEFAULT_OUTPUT_HOLD,
    MOST_HELD,
    Known,
    charges_of,
    cost_of,
    hold_of,
    is_priced_by_stand_in,
    output_hold,
    quote_for,
    usage_of,
)
from sidecar.wire import ReplyFacts
from sidecar.wire.facts import WireError

REPORTED = Usage(input_tokens=100, output_tokens=10)
KNOWN = Known(
    api="openai.chat",
    sent=True,
    status=200,
    stream=False,
    facts=ReplyFacts(usage=REPORTED, complete=True),
    estimated_input=90,
    estimated_output=8,
    hold_input=95,
    hold_output=500,
)
BOOK = PriceBook.load({})


def test_what_the_provider_reported_stands() -> None:
    assert usage_of(KNOWN) == (REPORTED, UsageGrade.REPORTED)


def test_a_reply_without_usage_is_estimated() -> None:
    known = KNOWN._replace(facts=ReplyFacts(complete=True))

    assert usage_of(known) == (Usage(input_tokens=90, output_tokens=8), UsageGrade.ESTIMATED)


@pytest.mark.parametrize(("said", "seen", "charged"), [(2, 8, 8), (20, 8, 20)])
def test_a_stream_that_broke_off_is_charged_the_larger_of_said_and_seen(
    said: int, seen: int, charged: int
) -> None:
    facts = ReplyFacts(usage=Usage(input_tokens=100, output_tokens=said, cache_read_input_tokens=40))

    usage, grade = usage_of(KNOWN._replace(facts=facts, stream=True, estimated_output=seen))

    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (100, 40, charged)
    assert grade is UsageGrade.ESTIMATED


def test_a_request_that_was_never_sent_costs_nothing_and_says_so() -> None:
    assert usage_of(KNOWN._replace(sent=False, status=None, facts=None)) == (NOTHING, None)


def test_an_error_of_the_provider_costs_nothing() -> None:
    assert usage_of(KNOWN._replace(status=500, facts=ReplyFacts(complete=True))) == (NOTHING, None)


def test_a_stream_that_found_no_room_costs_nothing_though_its_status_was_200() -> None:
    error = WireError(error_class="overloaded", code="503")
    known = KNOWN._replace(stream=True, facts=ReplyFacts(error=error, chunks=2))
    assert usage_of(known) == (NOTHING, None)
    # One that fails later was computed, up to there.
    begun = known._replace(facts=ReplyFacts(error=error, chunks=9, output_text_bytes=30))
    assert usage_of(begun) == (Usage(input_tokens=90, output_tokens=8), UsageGrade.ESTIMATED)


@pytest.mark.parametrize("error_class", ["server_error", "invalid_request", "quota"])
def test_a_whole_reply_that_is_nothing_but_an_error_costs_nothing_though_its_status_was_200(
    error_class: str,
) -> None:
    error = WireError(error_class=error_class)
    assert usage_of(KNOWN._replace(facts=ReplyFacts(error=error, complete=True))) == (NOTHING, None)
    # One in which something was said beside it was computed, and what was filtered out may have been read.
    estimated = Usage(input_tokens=90, output_tokens=8), UsageGrade.ESTIMATED
    said = ReplyFacts(error=error, complete=True, output_text_bytes=30)
    filtered = ReplyFacts(error=WireError(error_class="content_filter"), complete=True)
    for facts in (said, filtered):
        assert usage_of(KNOWN._replace(facts=facts)) == estimated


def test_counting_tokens_is_free() -> None:
    assert usage_of(KNOWN._replace(api="anthropic.count_tokens")) == (NOTHING, None)


def test_a_whole_reply_that_never_came_is_charged_at_its_hold() -> None:
    known = KNOWN._replace(status=None, facts=None)

    assert usage_of(known) == (Usage(input_tokens=95, output_tokens=500), UsageGrade.ASSUMED)


@pytest.mark.parametrize("facts", [None, ReplyFacts(), ReplyFacts(output_text_bytes=40)])
def test_a_whole_reply_whose_end_did_not_come_is_charged_at_its_hold(facts: ReplyFacts | None) -> None:
    assert usage_of(KNOWN._replace(facts=facts)) == (
        Usage(input_tokens=95, output_tokens=500),
        UsageGrade.ASSUMED,
    )
    assert usage_of(KNOWN._replace(facts=facts, status=500)) == (NOTHING, None)
    assert usage_of(KNOWN._replace(facts=facts, stream=True))[1] is UsageGrade.ESTIMATED


def test_a_stream_left_before_its_head_is_charged_its_prompt() -> None:
    known = KNOWN._replace(status=None, facts=None, stream=True)

    assert usage_of(known) == (Usage(input_tokens=90), UsageGrade.ESTIMATED)


def test_work_that_goes_on_in_the_background_is_charged_at_its_hold() -> None:
    known = KNOWN._replace(facts=ReplyFacts(complete=True), background=True)

    assert usage_of(known)[1] is UsageGrade.ASSUMED


def test_the_answering_models_price_holds_where_it_is_known() -> None:
    asked, answered = BOOK.quote("openai", "gpt-4o", 0), BOOK.quote("openai", "gpt-4o-mini", 0)

    assert quote_for(asked, answered) is answered
    assert quote_for(asked, None) is asked


def test_an_unknown_answering_model_leaves_the_price_of_the_one_asked() -> None:
    asked, unknown = BOOK.quote("openai", "gpt-4o", 0), BOOK.quote("openai", "nobody-knows-me", 0)

    assert unknown.grade is PriceGrade.PRIOR
    assert quote_for(asked, unknown) is asked


def test_a_configured_price_holds_whatever_model_answers() -> None:
    book = PriceBook.load({"my-model": {"input": Decimal(1), "output": Decimal(2)}})

    quote = quote_for(book.quote("vllm", "my-model", 0), book.quote("openai", "gpt-4o", 0))

    assert quote.grade is PriceGrade.CONFIGURED
    assert cost_of(REPORTED, quote, "").list_pico == 100 * 1_000_000 + 10 * 2_000_000


def test_a_service_tier_changes_what_is_owed_and_not_the_list_cost() -> None:
    quote = BOOK.quote("openai", "gpt-5-mini", 0)

    cost = cost_of(REPORTED, quote, "flex")

    assert cost.list_pico == 100 * 250_000 + 10 * 2_000_000
    assert cost.effective_pico * 2 == cost.list_pico


def test_a_fee_for_searches_is_owed_and_no_part_of_the_tokens_list_cost() -> None:
    quote = BOOK.quote("anthropic", "claude-sonnet-4-6", 0)

    cost = cost_of(replace(REPORTED, web_searches=2), quote, "")

    assert cost.list_pico == 100 * 3_000_000 + 10 * 15_000_000
    assert cost.effective_pico - cost.list_pico == 2 * 10**10  # 10 USD for 1,000 searches


@pytest.mark.parametrize("tier", ["", "batch", "default"])
@pytest.mark.parametrize(
    ("provider", "model", "region"),
    [
        ("openai", "gpt-image-1.5", ""),
        ("openai", "gpt-5.4", "eu"),
        ("gcp.gemini", "gemini-2.5-flash-image", ""),
        ("gcp.vertex_ai", "claude-opus-5", "us-east5"),
        ("perplexity", "sonar", ""),
        ("openai", "gpt-5.4", "mars"),
    ],
)  # fmt: skip
def test_charges_and_tokens_of_text_are_what_a_call_costs(
    tier: str, provider: str, model: str, region: str
) -> None:
    quote = BOOK.quote(provider, model, 1_795_000_000_000_000, region)
    usage = Usage(
        input_tokens=1000, output_tokens=500, cache_read_input_tokens=100, image_input_tokens=300,
        image_output_tokens=400, audio_input_tokens=50, web_searches=3,
    )  # fmt: skip

    cost, charges = cost_of(usage, quote, tier), charges_of(usage, quote, tier)

    price = price_in_force(quote.elsewhere or quote.price, 1000, service_tier=tier)
    standard = quote.elsewhere or quote.price
    text = Usage(input_tokens=650, output_tokens=100, cache_read_input_tokens=100)
    assert cost.effective_pico - sum(owed for _, _, owed in charges.values()) == (
        list_cost(text, price) - price.per_request
    )
    assert cost.list_pico - sum(listed for _, listed, _ in charges.values()) == (
        list_cost(text, standard) - standard.per_request
    )
    assert charges["image_output"][0] == 400
    assert charges["per_search"][0] == 3
    assert ("region" in charges) == (quote.elsewhere is not None)


def test_what_is_priced_as_text_for_want_of_a_price_says_so() -> None:
    usage = replace(REPORTED, image_output_tokens=10)

    assert is_priced_by_stand_in(usage, BOOK.quote("openai", "gpt-4o", 0))
    assert not is_priced_by_stand_in(usage, BOOK.quote("openai", "gpt-image-1.5", 0))
    assert not is_priced_by_stand_in(REPORTED, BOOK.quote("openai", "gpt-4o", 0))
    seen = replace(REPORTED, image_input_tokens=10)
    assert not is_priced_by_stand_in(seen, BOOK.quote("openai", "gpt-4o", 0))  # a chat model sees as it reads


def test_a_hold_is_the_cost_of_all_that_may_be_used() -> None:
    for model, tokens in (("gpt-4o-mini", 1000), ("gemini-2.5-pro", 300_000)):
        quote = BOOK.quote("", model, 0)
        usage = Usage(input_tokens=tokens, output_tokens=500)
        assert hold_of(tokens, 500, quote) == cost_of(usage, quote, "").list_pico


def test_the_output_hold_is_the_requests_own_cap_times_its_choices() -> None:
    quote = BOOK.quote("openai", "gpt-4o-mini", 0)

    assert output_hold(100, 3, quote) == 300
    assert output_hold(1_000_000, 600_000_000, quote) == MOST_HELD  # What that costs fits 64 bits.
    assert output_hold(None, 1, quote) == DEFAULT_OUTPUT_HOLD
