"""Where two lists differ, a rule chooses, and both figures stay known."""

from typing import Any

from collector.domain.price import list_cost
from collector.domain.usage import Usage
from collector.pricing.book import PriceBook
from collector.pricing.table import Row

MTOK = 1_000_000


def entry(usd_in: float, usd_out: float, **fields: Any) -> dict[str, Any]:
    return {
        "litellm_provider": "acme",
        "mode": "chat",
        "input_cost_per_token": usd_in / 1e6,
        "output_cost_per_token": usd_out / 1e6,
        **fields,
    }


def listed(name: str, usd_in: float, usd_out: float, *, match: Any = None, **prices: Any) -> dict[str, Any]:
    return {
        "id": "acme",
        "models": [
            {
                "id": name,
                "match": match or {"equals": name},
                "prices": {"input_mtok": usd_in, "output_mtok": usd_out, **prices},
            }
        ],
    }


def row(book: PriceBook, model: str) -> Row:
    return book.find("acme", model).row


def test_where_both_agree_each_fills_the_others_gaps(book_of: Any) -> None:
    book = book_of(
        litellm={"acme/m": entry(3, 15, input_cost_per_token_batches=1.5e-6, max_output_tokens=99)},
        genai=[listed("m", 3, 15, cache_read_mtok=0.3)],
    )

    found = row(book, "m")
    assert (found.why, found.sources) == ("agree", "gl")
    assert found.rates.cache_read == 300_000
    assert found.rates.services["batch"].input == 1_500_000
    assert (found.filled, found.silent) == (["batch"], ["cache_read"])
    assert found.max_output_tokens == 99


def test_a_model_that_both_name_costs_what_genai_prices_says(book_of: Any) -> None:
    book = book_of(litellm={"acme/m": entry(0.5, 1.5)}, genai=[listed("m", 2, 6)])

    found = row(book, "m")
    assert (found.why, found.rates.input) == ("named", 2 * MTOK)
    assert found.other is not None
    assert found.other.stated() == {"input": 500_000, "output": 1_500_000}


def test_a_discount_of_another_release_is_not_taken_over(book_of: Any) -> None:
    """They differ in the basic rates: half of what is not ours would be a guess in our favour."""
    long = {"input_cost_per_token_above_200k_tokens": 4e-6, "output_cost_per_token_above_200k_tokens": 8e-6}
    book = book_of(
        litellm={
            "acme/m": entry(2, 4, input_cost_per_token_batches=1e-6, cache_read_input_token_cost=1e-7, **long)
        },
        genai=[listed("m", 3, 6)],
    )

    price = book.quote("acme", "m", book.made_us).price
    assert (price.cache_read, price.service_tiers) == (3 * MTOK, ())
    assert list_cost(Usage(input_tokens=200_001), price) == 200_001 * 6 * MTOK  # twice, as there


def test_a_name_that_only_a_rule_reaches_costs_the_dearer_of_both(book_of: Any) -> None:
    rule = {"contains": "nova-lite"}
    dearer = book_of(
        litellm={"acme/apac.nova-lite": entry(0.063, 0.252)},
        genai=[listed("nova-lite", 0.06, 0.24, match=rule)],
    )
    cheaper = book_of(
        litellm={"acme/apac.nova-lite": entry(0.05, 0.2)}, genai=[listed("nova-lite", 0.06, 0.24, match=rule)]
    )

    assert dearer.quote("acme", "apac.nova-lite", dearer.made_us).price.input == 63_000
    assert row(dearer, "apac.nova-lite").why == "dearer"
    assert cheaper.quote("acme", "apac.nova-lite", cheaper.made_us).price.input == 60_000
    assert dearer.quote("acme", "nova-lite", dearer.made_us).price.input == 60_000


def test_a_dated_price_is_compared_as_of_today_at_its_dearest_hour(book_of: Any) -> None:
    night = {"start_time": "00:00:00Z", "end_time": "08:00:00Z"}
    provider = {
        "id": "acme",
        "models": [
            {
                "id": "m",
                "match": {"equals": "m"},
                "prices": [
                    {"prices": {"input_mtok": 9, "output_mtok": 9}},
                    {
                        "constraint": {"start_date": "2026-01-01"},
                        "prices": {"input_mtok": 2, "output_mtok": 4},
                    },
                    {"constraint": night, "prices": {"input_mtok": 1, "output_mtok": 2}},
                ],
            }
        ],
    }

    assert row(book_of(litellm={"acme/m": entry(2, 4)}, genai=[provider]), "m").why == "agree"


def test_a_tier_that_was_abolished_does_not_come_back(book_of: Any) -> None:
    tiered = {"base": 5, "tiers": [{"start": 200000, "price": 10}]}
    provider = {
        "id": "acme",
        "models": [
            {
                "id": "m",
                "match": {"equals": "m"},
                "prices": [
                    {"prices": {"input_mtok": tiered, "output_mtok": 25}},
                    {
                        "constraint": {"start_date": "2026-03-13"},
                        "prices": {"input_mtok": 5, "output_mtok": 25},
                    },
                ],
            }
        ],
    }
    stale = entry(5, 25, input_cost_per_token_above_200k_tokens=1e-5)
    book = book_of(litellm={"acme/m": stale}, genai=[provider])

    assert book.quote("acme", "m", book.made_us).price.context_tiers == ()


def test_a_reseller_charges_its_home_providers_price(book_of: Any) -> None:
    shop = {"id": "shop", "fallback_model_providers": ["acme"], "models": []}
    book = book_of(genai=[listed("m", 3, 15), shop])

    assert book.quote("shop", "m", book.made_us).price.input == 3 * MTOK
    assert book.quote("shop", "unheard-of", book.made_us).price.input == 3 * MTOK


def test_the_stand_in_leaves_outliers_and_retired_models_out(book_of: Any) -> None:
    models = {f"acme/m{number}": entry(1 + number, 4 + number) for number in range(8)}
    models["acme/colossus"] = entry(500, 900)
    models["acme/old"] = entry(20, 40, deprecation_date="2025-01-01")
    models["acme/singer-audio"] = entry(20, 40)
    book = book_of(litellm=models)

    assert book.quote("acme", "unheard-of", book.made_us).model == "m7"


def test_a_long_prompt_of_a_service_tier_without_one_moves_in_proportion(book_of: Any) -> None:
    book = book_of(
        litellm={
            "acme/m": entry(
                2,
                4,
                input_cost_per_token_batches=1e-6,
                output_cost_per_token_batches=2e-6,
                input_cost_per_token_above_200k_tokens=4e-6,
            )
        }
    )

    price = book.quote("acme", "m", book.made_us).price
    assert list_cost(Usage(input_tokens=200_001), price, service_tier="batch") == 200_001 * 2 * MTOK
