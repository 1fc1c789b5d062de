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


# ---- one model under two doors of one list ------------------------------------------------------


def test_two_entries_of_one_model_say_together_what_either_says(book_of: Any) -> None:
    bare = {**entry(1.5, 9), "litellm_provider": "vertex_ai-language-models"}
    path = {
        **entry(1.5, 9, input_cost_per_token_priority=2.7e-6, output_cost_per_token_priority=16.2e-6),
        "litellm_provider": "vertex_ai",
        "regional_endpoint_uplift_multiplier": 1.1,
    }
    named = {"gemini-9-flash": bare, "vertex_ai/gemini-9-flash": path}
    for entries in (named, dict(reversed(named.items()))):
        book = book_of(litellm=entries)
        price = book.quote("vertex", "gemini-9-flash", book.made_us, "us-east5").price

        assert (price.input, price.output) == (1_650_000, 9_900_000)
        assert "priority" in dict(price.service_tiers)


def test_of_two_entries_that_differ_the_dearer_holds(book_of: Any) -> None:
    named = {"acme/m": entry(2, 6), "m": entry(8, 24, input_cost_per_token_batches=4e-6)}
    for entries in (named, dict(reversed(named.items()))):
        found = row(book_of(litellm=entries), "m")

        assert (found.rates.input, found.rates.output) == (8 * MTOK, 24 * MTOK)


def test_the_order_of_the_list_is_no_matter(book_of: Any) -> None:
    entries = {
        f"acme/{name}": entry(usd, 3 * usd, search_context_cost_per_query={"search_context_size_medium": fee})
        for name, usd, fee in (("m", 1, 0.01), ("m-1", 1, 0.02), ("m-2", 1, 0.03), ("n", 2, 0.01))
    }
    genai = [listed("m", 1, 3, match={"starts_with": "m"})]

    first = book_of(litellm=entries, genai=genai)
    assert book_of(litellm=dict(reversed(entries.items())), genai=genai).version == first.version


# ---- a host's own terms -------------------------------------------------------------------------


def at_home(name: str, usd_in: float, usd_out: float, **prices: Any) -> list[dict[str, Any]]:
    maker = listed(name, usd_in, usd_out, **prices)
    return [{**maker, "id": "maker"}, {"id": "acme", "models": [], "fallback_model_providers": ["maker"]}]


def test_terms_that_a_host_states_hold_beside_the_makers_rates(book_of: Any) -> None:
    search = {"search_context_size_medium": 0.014}
    book = book_of(
        litellm={
            "acme/m": entry(3, 15, search_context_cost_per_query=search, cache_read_input_token_cost=3e-7)
        },
        genai=at_home("m", 3, 15, web_searches_kcount=10, cache_write_mtok=3.75),
    )

    found = row(book, "m")
    assert found.why == "host"
    assert (found.rates.per_search, found.rates.cache_read) == (14_000_000_000, 300_000)
    assert found.rates.cache_write == 3_750_000
    assert found.other is not None
    assert found.other.per_search == 10_000_000_000


def test_a_host_that_states_nothing_else_needs_no_row_of_its_own(book_of: Any) -> None:
    book = book_of(litellm={"acme/m": entry(3, 15)}, genai=at_home("m", 3, 15, cache_read_mtok=0.3))

    assert book.find("acme", "m").provider == "maker"


def test_hours_of_the_maker_are_not_those_of_a_host(book_of: Any) -> None:
    by_hour = [
        {"prices": {"input_mtok": 3, "output_mtok": 15}},
        {
            "constraint": {"start_time": "00:30:00Z", "end_time": "08:30:00Z"},
            "prices": {"input_mtok": 1, "output_mtok": 5},
        },
    ]
    [maker, host] = at_home("m", 3, 15)
    maker["models"][0]["prices"] = by_hour
    book = book_of(litellm={"acme/m": entry(3, 15)}, genai=[maker, host])

    assert row(book, "m").changes == []


def test_a_search_model_has_the_fee_that_is_listed_for_it(book_of: Any) -> None:
    fee = {"search_context_size_medium": 0.025}
    both = {"or": [{"equals": "m"}, {"equals": "m-search"}]}
    book = book_of(
        litellm={"acme/m-search": entry(3, 15, search_context_cost_per_query=fee)},
        genai=[listed("m", 3, 15, match=both, web_searches_kcount=10)],
    )

    assert row(book, "m").rates.per_search == 10_000_000_000
    assert row(book, "m-search").rates.per_search == 25_000_000_000


def test_searches_of_a_provider_whose_lists_leave_them_out_cost_something(book: PriceBook) -> None:
    assert book.quote("xai", "grok-4", book.made_us).price.per_search == 5_000_000_000


def test_a_name_that_one_list_has_and_the_others_rule_only_begins_like_is_listed(book_of: Any) -> None:
    """Both state the same figures for it, so it needs no row; yet the rule alone would not know it."""
    book = book_of(
        litellm={"acme/m-long-thoughts": entry(2, 6)}, genai=[listed("m", 2, 6, match={"starts_with": "m"})]
    )

    found = book.find("acme", "m-long-thoughts")
    assert (found.key, str(found.grade)) == ("m", "listed")
    assert str(book.find("acme", "m-2026-08-01").grade) == "listed"
    invented = book.find("acme", "m-short-thoughts")
    assert (invented.key, str(invented.grade)) == ("m", "prior")
