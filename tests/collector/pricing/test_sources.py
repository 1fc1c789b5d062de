"""Two price lists of others, read as they are written, and nothing added."""

from datetime import date
from typing import Any

import pytest

from collector.pricing.sources import loose_part, names_of, read_genai, read_litellm
from collector.pricing.table import InvalidTable

TODAY = date(2026, 11, 22)


def litellm(**fields: Any) -> Any:
    entry = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 3e-6, **fields}
    return read_litellm({"m": entry}, TODAY)


def genai(prices: Any, **fields: Any) -> Any:
    model = {"id": "m", "match": {"equals": "m"}, "prices": prices, **fields}
    [provider] = read_genai([{"id": "acme", "models": [model]}], TODAY)
    return provider.listings


def test_litellm_dollars_per_token_become_whole_pico_usd() -> None:
    [listing] = litellm(output_cost_per_token=1.5e-05, cache_read_input_token_cost=1.3e-10)

    assert listing.rates.stated() == {"input": 3_000_000, "output": 15_000_000, "cache_read": 130}


def test_litellm_tiers_and_services_find_their_place() -> None:
    [listing] = litellm(
        input_cost_per_token_batches=1.5e-6,
        input_cost_per_token_above_200k_tokens=6e-6,
        input_cost_per_token_above_200k_tokens_priority=12e-6,
        cache_creation_input_token_cost_above_1hr=6e-6,
        cache_creation_input_token_cost_above_1hr_above_200k_tokens=12e-6,
    )

    [(above, tier)] = listing.rates.tiers
    assert (above, tier.input, tier.cache_write_1h) == (200_000, 6_000_000, 12_000_000)
    assert listing.rates.services["batch"].input == 1_500_000
    [(_, long)] = listing.rates.services["priority"].tiers
    assert long.input == 12_000_000
    assert listing.rates.cache_write_1h == 6_000_000


def test_twelve_hours_in_openais_cache_are_the_class_of_what_is_kept_long() -> None:
    [listing] = litellm(
        cache_creation_input_token_cost=2.5e-06,
        cache_creation_input_token_cost_above_12hr=5e-06,
        cache_creation_input_token_cost_above_12hr_above_272k_tokens=1e-05,
        cache_creation_input_token_cost_above_12hr_flex=2.5e-06,
    )

    assert (listing.rates.cache_write, listing.rates.cache_write_1h) == (2_500_000, 5_000_000)
    assert [(above, tier.cache_write_1h) for above, tier in listing.rates.tiers] == [(272_000, 10_000_000)]
    assert listing.rates.services["flex"].cache_write_1h == 2_500_000


def test_litellm_steps_by_prompt_size_are_tiers() -> None:
    [listing] = litellm(
        tiered_pricing=[
            {"input_cost_per_token": 5e-8, "output_cost_per_token": 4e-7, "range": [0, 256000.0]},
            {"input_cost_per_token": 2.5e-7, "output_cost_per_token": 2e-6, "range": [256000.0, 1e6]},
        ]
    )

    assert (listing.rates.input, listing.rates.output) == (50_000, 400_000)
    assert [(above, tier.input) for above, tier in listing.rates.tiers] == [(256_000, 250_000)]


def test_a_zero_in_litellms_map_is_no_price_unless_the_name_says_so() -> None:
    zero = {"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0}

    assert [listing.name for listing in read_litellm({"acme/m": zero, "acme/m-free": zero}, TODAY)] == [
        "m-free"
    ]


def test_a_zero_for_the_cache_beside_a_price_is_not_believed() -> None:
    [listing] = litellm(cache_read_input_token_cost=0.0, cache_creation_input_token_cost=0)

    assert listing.rates.stated() == {"input": 3_000_000}


def test_what_is_sold_by_the_second_is_left_out() -> None:
    seconds = {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_second": 1e-4}

    assert read_litellm({"whisper-1": seconds, "sample_spec": {}}, TODAY) == []


def test_a_routers_fee_and_a_price_for_a_thousand_tokens_are_no_prices() -> None:
    assert litellm(input_cost_per_token=1.4e-7, output_cost_per_token=0) == []
    assert litellm(input_cost_per_token=3.2e-3, output_cost_per_token=9.71e-3) == []
    [embeds] = litellm(mode="embedding", input_cost_per_token=1.4e-7, output_cost_per_token=0)
    assert embeds.rates.output == 0


def test_litellm_says_which_models_are_gone() -> None:
    assert litellm(deprecation_date="2026-11-22")[0].retired
    assert not litellm(deprecation_date="2027-01-01")[0].retired


def test_perplexitys_search_price_is_charged_by_the_call() -> None:
    search = {"search_context_size_low": 0.005, "search_context_size_medium": 0.008}
    entry = {"mode": "chat", "input_cost_per_token": 1e-6, "search_context_cost_per_query": search}

    [sonar] = read_litellm({"perplexity/sonar": {**entry, "litellm_provider": "perplexity"}}, TODAY)
    [gpt] = read_litellm({"gpt": {**entry, "litellm_provider": "openai"}}, TODAY)

    assert (sonar.rates.per_request, sonar.rates.per_search) == (8 * 10**9, None)
    assert (gpt.rates.per_request, gpt.rates.per_search) == (None, 8 * 10**9)


def test_genai_prices_per_million_become_pico_usd_per_token() -> None:
    [listing] = genai(
        {
            "input_mtok": {"base": 1.25, "tiers": [{"start": 200000, "price": 2.5}]},
            "output_mtok": "10",
            "requests_kcount": 12,
            "web_searches_kcount": 10,
            "audio_hours": 3,
        }
    )

    assert listing.rates.stated() == {
        "input": 1_250_000,
        "output": 10_000_000,
        "per_request": 12 * 10**9,
        "per_search": 10**10,
    }
    assert [(above, tier.input) for above, tier in listing.rates.tiers] == [(200_000, 2_500_000)]


def test_a_variant_that_begins_later_waits_for_its_day() -> None:
    later = {"start_date": "2027-01-01"}
    [listing] = genai(
        [
            {"prices": {"input_mtok": 1, "output_mtok": 1}},
            {"prices": {"input_mtok": 2, "output_mtok": 2}, "constraint": later},
        ],
        price_variants=[
            {
                "when": {"processing": "batch"},
                "prices": {"input_mtok": 0.5},
                "constraint": {"start_date": "2026-10-14"},
            },
            {"when": {"service_tier": "flex"}, "prices": {"input_mtok": 1.1}, "constraint": later},
        ],
    )

    assert sorted(listing.rates.services) == ["batch"]
    [(day, rates)] = listing.changes
    assert (day, sorted(rates.services)) == ("2027-01-01", ["batch", "flex"])


def test_hours_must_be_utc() -> None:
    hours = {"start_time": "16:30:00+08:00", "end_time": "00:30:00+08:00"}
    with pytest.raises(InvalidTable, match="UTC"):
        genai([{"prices": {"input_mtok": 1}}, {"prices": {"input_mtok": 2}, "constraint": hours}])


def test_names_and_rules_are_told_apart() -> None:
    match = {"or": [{"equals": "A"}, {"starts_with": "a-"}, {"or": [{"equals": "b"}]}]}
    [listing] = genai({"input_mtok": 1}, match=match)

    assert names_of(listing) == ["a", "b"]
    assert loose_part({"or": [{"equals": "a"}, {"starts_with": "a-"}]}) == {"starts_with": "a-"}
    assert loose_part({"equals": "a"}) is None
