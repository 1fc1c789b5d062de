"""A quote is never missing, never free for want of knowledge, and says where it came from."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.domain.price import RATE_NAMES, list_cost
from collector.domain.record import PriceGrade
from collector.domain.usage import Usage
from collector.pricing.book import MAX_HELD, PriceBook
from collector.pricing.configured import InvalidPrices

MTOK = 1_000_000


def us(text: str) -> int:
    """A UTC moment in microseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


NOW = us("2026-11-22T12:00")


@pytest.mark.parametrize(
    ("provider", "model", "usd_in", "usd_out"),
    [
        ("openai", "gpt-5-mini-2025-08-07", "0.25", "2"),
        ("openai", "gpt-4o-2027-01-01", "2.5", "10"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "0.3", "1.2"),
        ("azure.ai.openai", "gpt-35-turbo", "0.5", "1.5"),
        ("azure.ai.openai", "eu/gpt-5", "1.375", "11"),
        ("anthropic", "claude-sonnet-4-20250514", "3", "15"),
        ("anthropic", "claude-opus-4-5-20251101", "5", "25"),
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "3.3", "16.5"),
        ("aws.bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "3", "15"),
        (
            "aws.bedrock",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-3-7-sonnet-20250219-v1:0",
            "3",
            "15",
        ),
        ("aws.bedrock", "us.amazon.nova-2-lite-v1:0", "0.33", "2.75"),
        ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro", "1.25", "10"),
        ("gcp.vertex_ai", "claude-opus-4-5@20251101", "5", "25"),
        ("gcp.gemini", "models/gemini-2.5-flash", "0.3", "2.5"),
        ("openrouter", "anthropic/claude-4.6-sonnet-20260217", "3", "15"),
        ("groq", "llama-3.3-70b-versatile", "0.59", "0.79"),
        ("together_ai", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "0.88", "0.88"),
        ("fireworks_ai", "accounts/fireworks/models/llama-v3p1-70b-instruct", "0.9", "0.9"),
        ("mistral_ai", "codestral-latest", "0.3", "0.9"),
        ("x_ai", "grok-4-0709", "3", "15"),
        ("my-proxy", "gpt-4o", "2.5", "10"),
        ("litellm", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "3.3", "16.5"),
        ("", "azure/gpt-4o", "2.5", "10"),
    ],
)
def test_a_model_is_found_under_any_of_its_names(
    book: PriceBook, provider: str, model: str, usd_in: str, usd_out: str
) -> None:
    quote = book.quote(provider, model, NOW)

    assert quote.grade is PriceGrade.LISTED, quote.reason
    assert (quote.price.input, quote.price.output) == (Decimal(usd_in) * MTOK, Decimal(usd_out) * MTOK)
    assert quote.version == book.version
    assert quote.source


def test_embeddings_are_priced(book: PriceBook) -> None:
    quote = book.quote("openai", "text-embedding-3-small", NOW)

    assert list_cost(Usage(input_tokens=50), quote.price) == 1_000_000  # 50 x 0.02 USD a million


def test_an_unknown_model_is_charged_as_the_providers_dearest_ordinary_one(book: PriceBook) -> None:
    quote = book.quote("anthropic", "claude-next-99", NOW)

    assert quote.grade is PriceGrade.PRIOR
    assert (quote.price.input, quote.price.output) == (15 * MTOK, 75 * MTOK)
    assert "anthropic" in quote.reason


def test_the_stand_in_is_neither_a_bargain_nor_an_exotic(book: PriceBook) -> None:
    for provider in ("openai", "anthropic", "gcp.gemini", "azure.ai.openai", "aws.bedrock", "nobody"):
        price = book.quote(provider, "never-heard-of", NOW).price
        assert 5 * MTOK <= price.input <= 30 * MTOK, provider
        assert 25 * MTOK <= price.output <= 150 * MTOK, provider


def test_an_unknown_embedding_model_is_charged_as_one(book: PriceBook) -> None:
    quote = book.quote("openai", "text-embedding-9-large", NOW)

    assert quote.grade is PriceGrade.PRIOR
    assert quote.model == "text-embedding-3-large"


def test_an_open_model_on_an_own_server_is_charged_as_at_its_dearest_host(book: PriceBook) -> None:
    quote = book.quote("vllm", "meta-llama/Llama-3.1-8B-Instruct", NOW)

    assert quote.grade is PriceGrade.PRIOR
    assert 0 < quote.price.input < MTOK
    assert "host" in quote.reason


def test_a_makers_price_on_another_host_is_only_a_stand_in(book: PriceBook) -> None:
    quote = book.quote("groq", "gpt-4o", NOW)

    assert quote.grade is PriceGrade.PRIOR
    assert quote.price.input == 2_500_000


@pytest.mark.parametrize("passing_on", ["cloudflare", "openrouter", "vercel", "github", "azure", "vertex"])
def test_who_passes_models_on_asks_no_less_than_their_maker_for_a_new_one(
    book: PriceBook, passing_on: str
) -> None:
    makers = book.quote("anthropic", "claude-opus-9", NOW).price
    price = book.quote(passing_on, "anthropic/claude-opus-9", NOW).price

    assert price.input >= makers.input
    assert price.output >= makers.output


def test_govcloud_costs_the_same_by_name_and_by_region(book: PriceBook) -> None:
    for model in ("claude-sonnet-5", "claude-haiku-5-5"):
        named = book.quote("aws", f"us-gov.anthropic.{model}", NOW).price
        placed = book.quote("aws", f"anthropic.{model}", NOW, "us-gov-west-1").price

        assert (named.input, named.output) == (placed.input, placed.output)
        assert named.input > book.quote("aws", f"us.anthropic.{model}", NOW).price.input


def test_a_list_s_own_name_comes_before_what_a_rule_takes_a_longer_spelling_for(book: PriceBook) -> None:
    for region in ("sa-east-1", "eu-west-2", "us-gov-east-1"):
        short = book.quote("aws", f"{region}/meta.llama3-8b-instruct-v1:0", NOW)
        assert book.quote("aws", f"bedrock/{region}/meta.llama3-8b-instruct-v1:0", NOW).price == short.price
    everywhere = book.quote("aws", "global.anthropic.claude-sonnet-5", NOW).price
    assert everywhere.input < book.quote("aws", "us.anthropic.claude-sonnet-5", NOW).price.input


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-6.9-pro"),
        ("openai", "gpt-6.9-pro-2027-01-01"),
        ("azure", "gpt-6.9-pro"),
        ("openrouter", "openai/gpt-6.9-pro"),
        ("my-proxy", "gpt-6.9-pro"),
        ("", "gpt-6.9-pro"),
    ],
)
def test_an_unknown_pro_model_is_charged_as_its_dearest_known_sister(
    book: PriceBook, provider: str, model: str
) -> None:
    """OpenAI asks many times as much for them: a stand-in without the word would hold too little."""
    quote = book.quote(provider, model, NOW)

    assert quote.grade is PriceGrade.PRIOR
    assert quote.price.output >= 180 * MTOK  # gpt-5.5-pro: 30 in, 180 out; Azure's data zones ask 198
    assert "pro" in quote.reason


def test_what_is_listed_as_free_is_known_to_be_free(book: PriceBook) -> None:
    quote = book.quote("openrouter", "some/brand-new-model:free", NOW)

    assert quote.grade is PriceGrade.LISTED
    assert list_cost(Usage(input_tokens=10**6, output_tokens=10**6), quote.price) == 0


@given(provider=st.sampled_from(["openai", "aws.bedrock", "vllm", "", "é"]), model=st.text(max_size=300))
def test_any_name_gets_a_price(book: PriceBook, provider: str, model: str) -> None:
    quote = book.quote(provider, model, NOW)

    if quote.grade is PriceGrade.PRIOR:
        assert list_cost(Usage(input_tokens=1, output_tokens=1), quote.price) > 0


def test_a_dated_price_holds_from_its_day_on(book_of: Any) -> None:
    book = book_of(
        genai=[
            {
                "id": "acme",
                "models": [
                    {
                        "id": "m1",
                        "match": {"equals": "m1"},
                        "prices": [
                            {"prices": {"input_mtok": 2, "output_mtok": 10}},
                            {
                                "constraint": {"start_date": "2026-09-01"},
                                "prices": {"input_mtok": 3, "output_mtok": 15},
                            },
                        ],
                    }
                ],
            }
        ]
    )

    assert book.quote("acme", "m1", us("2026-08-31T23:59:59")).price.input == 2 * MTOK
    assert book.quote("acme", "m1", us("2026-09-01T00:00")).price.input == 3 * MTOK
    assert book.quote("acme", "m1", us("2026-08-31T23:59:59")).price.input == 2 * MTOK


@pytest.mark.parametrize(
    ("moment", "usd_in"),
    [
        ("2026-11-22T00:59:59", "0.66"),
        ("2026-11-22T01:00", "1.32"),
        ("2026-11-22T03:59:59", "1.32"),
        ("2026-11-22T04:00", "0.66"),
        ("2026-11-22T06:00", "1.32"),
        ("2026-11-22T10:00", "0.66"),
        ("2026-08-16T12:00", "0.435"),
    ],
)
def test_an_hour_of_the_day_has_its_price(book: PriceBook, moment: str, usd_in: str) -> None:
    assert book.quote("deepseek", "deepseek-v4-pro", us(moment)).price.input == Decimal(usd_in) * MTOK


@pytest.mark.parametrize("moment", [-(10**20), -1, 0, 10**20])
def test_a_broken_clock_does_not_stop_the_price(book: PriceBook, moment: int) -> None:
    assert book.quote("deepseek", "deepseek-v4-pro", moment).price.input > 0


def test_hours_may_run_past_midnight(book_of: Any) -> None:
    prices = [
        {"prices": {"input_mtok": 2, "output_mtok": 2}},
        {
            "constraint": {"start_time": "16:30:00Z", "end_time": "00:30:00Z"},
            "prices": {"input_mtok": 1, "output_mtok": 1},
        },
    ]
    book = book_of(
        genai=[{"id": "acme", "models": [{"id": "m", "match": {"equals": "m"}, "prices": prices}]}]
    )

    at = {
        hour: book.quote("acme", "m", us(f"2026-11-22T{hour}")).price.input
        for hour in ("16:29", "16:30", "00:29", "00:30")
    }
    assert at == {"16:29": 2 * MTOK, "16:30": MTOK, "00:29": MTOK, "00:30": 2 * MTOK}


def test_a_batch_costs_half_and_priority_more(book: PriceBook) -> None:
    price = book.quote("openai", "gpt-5", NOW).price
    usage = Usage(input_tokens=1000, output_tokens=1000)

    standard = list_cost(usage, price)
    assert list_cost(usage, price, service_tier="batch") * 2 == standard
    assert list_cost(usage, price, service_tier="flex") * 2 == standard
    assert list_cost(usage, price, service_tier="priority") == 2 * standard
    assert list_cost(usage, price, service_tier="default") == standard


def test_a_one_hour_write_of_claude_costs_twice_the_input_everywhere(book: PriceBook) -> None:
    for provider, model in (
        ("anthropic", "claude-opus-4-5"),
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("gcp.vertex_ai", "claude-haiku-4-5@20251001"),
    ):
        price = book.quote(provider, model, NOW).price
        assert price.cache_write_1h == 2 * price.input, model


def test_the_data_residency_surcharge_is_known(book: PriceBook) -> None:
    here, there = book.quote("openai", "gpt-5.4", NOW), book.quote("openai", "gpt-5.4", NOW, "eu")
    usage = Usage(input_tokens=1_000_000)

    assert list_cost(usage, there.price) * 10 == list_cost(usage, here.price) * 11
    assert (there.region, there.elsewhere, there.grade) == ("eu", here.price, "listed")


def test_limits_come_with_the_price(book: PriceBook) -> None:
    quote = book.quote("openai", "gpt-4o", NOW)

    assert (quote.context_tokens, quote.max_output_tokens) == (128_000, 16_384)


def test_a_configured_price_wins(book_of: Any) -> None:
    book = book_of(
        litellm={
            "gpt-x": {
                "litellm_provider": "openai",
                "mode": "chat",
                "input_cost_per_token": 1e-6,
                "output_cost_per_token": 2e-6,
                "max_output_tokens": 77,
            }
        },
        configured={
            "gpt-x": {"input": Decimal("0.9"), "output": 1},
            "vllm/qwen3-8b": {"input": "0.05", "output": 0.2},
        },
    )

    quote = book.quote("openai", "openai/GPT-X", NOW)
    assert (quote.grade, quote.price.input, quote.max_output_tokens) == (PriceGrade.CONFIGURED, 900_000, 77)
    own = book.quote("vllm", "qwen3-8b", NOW)
    assert (own.grade, own.price.output) == (PriceGrade.CONFIGURED, 200_000)
    assert book.quote("elsewhere", "qwen3-8b", NOW).grade is PriceGrade.PRIOR


def test_configured_prices_change_the_version(book: PriceBook) -> None:
    cheap = PriceBook.load({"m": {"input": "0.01", "output": "0.02"}})
    dear = PriceBook.load({"m": {"input": "0.01", "output": "0.03"}})

    assert len({book.version, cheap.version, dear.version}) == 3
    assert PriceBook.load({"m": {"output": "0.02", "input": "0.01"}}).version == cheap.version


def test_every_mistake_in_the_configured_prices_is_named() -> None:
    with pytest.raises(InvalidPrices) as caught:
        PriceBook.load({"m": {"input": 1, "outptu": 2}, "n": {"input": -1}, "o": {"output": "much"}})

    text = str(caught.value)
    assert "prices.m.outptu" in text and "did you mean output" in text
    assert "prices.n.input" in text and "prices.o.output" in text


def test_names_without_number_take_bounded_memory(book_of: Any) -> None:
    book = book_of(
        litellm={"a": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6}}
    )
    for number in range(MAX_HELD + 50):
        book.quote("openai", f"name-{number}", NOW)

    assert len(book._held) == MAX_HELD


def test_the_ledger_gets_every_price_with_its_version(book: PriceBook) -> None:
    rows = list(book.rows())

    assert len({(row.provider_name, row.model, row.effective_from) for row in rows}) == len(rows)
    assert {row.price_version for row in rows} == {book.version}
    [opus] = [row for row in rows if (row.provider_name, row.model) == ("anthropic", "claude-opus-4-5")]
    assert (opus.input, opus.cache_write_1h, opus.source[:12]) == (5 * MTOK, 10 * MTOK, "genai-prices")
    dated = [
        row.effective_from
        for row in rows
        if (row.provider_name, row.model) == ("deepseek", "deepseek-v4-pro")
    ]
    assert dated == ["", "2026-08-17", "01:00-04:00", "06:00-10:00"]


def test_every_listed_price_can_be_charged(book: PriceBook) -> None:
    usage = Usage(input_tokens=10, output_tokens=10, cache_read_input_tokens=4, cache_write_input_tokens=3)
    free = 0
    for table in book.tables:
        for name, provider in table.providers.items():
            for key in provider.models:
                price = book.quote(name, key, NOW).price
                assert all(type(getattr(price, rate)) is int for rate in RATE_NAMES)
                free += list_cost(usage, price) == 0
    assert free < 200  # OpenRouter's free variants, mostly


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-opus-5.5-ultra"),
        ("anthropic", "claude-opus-5.5-fast"),
        ("anthropic", "claude-haiku-4-5-turbo-20260101"),
        ("anthropic", "claude-3-haiku-48k"),
        ("openai", "gpt-5-nano-max"),
        ("openai", "gpt-5-nano-v2"),
        ("openai", "gpt-4o-realtime-ultra"),
        ("openai", "ft:gpt-3.5-turbo-ultra"),
        ("gcp.gemini", "gemini-2.5-pro-ultra"),
        ("gcp.gemini", "gemini-3.5-flash-2"),
        ("gcp.gemini", "gemini-3.7-flash-thinking"),
        ("gcp.vertex_ai", "super-claude-opus-4-5"),
        ("gcp.vertex_ai", "claude-opus-4-5-fast@20251101"),
        ("azure", "o4-mini-max"),
        ("aws.bedrock", "us.anthropic.claude-opus-4-5-fast-v1:0"),
        ("aws.bedrock", "my.amazon.nova-lite-v1:0"),
        ("aws.bedrock", "amazon.nova-lite-max-v1:0"),
        ("mistral_ai", "magistral-medium-turbo"),
        ("deepseek", "deepseek-v4-pro-max"),
        ("openrouter", "anthropic/claude-opus-5.5-ultra"),
        ("my-proxy", "claude-opus-5.5-ultra"),
        ("", "claude-opus-5.5-ultra"),
    ],
)
def test_a_name_that_only_begins_like_a_model_is_not_taken_for_it(
    book: PriceBook, provider: str, model: str
) -> None:
    quote = book.quote(provider, model, NOW)

    assert quote.grade is PriceGrade.PRIOR, quote.reason


@pytest.mark.parametrize(
    ("provider", "model", "usd_in"),
    [
        ("anthropic", "claude-opus-5.5-20270101", "4"),
        ("anthropic", "claude-opus-5.5-latest", "4"),
        ("anthropic", "claude-opus-5.0", "5"),
        ("openai", "gpt-3.5-turbo-instruct:20230824-v2", "1.5"),
        ("openai", "gpt-4o-realtime-preview-2025-06-03", "5"),
        ("azure", "gpt-4o-mini-2024-07-18.ft-0123abcd-models", "0.3"),
        ("azure", "ft:o4-mini-2025-04-16", "4"),
        ("gcp.gemini", "gemini-2.5-flash-lite-preview-09-2025", "0.1"),
        ("gcp.gemini", "gemini-3.8-live-extended-thinking", "0.75"),
        ("gcp.vertex_ai", "claude-3-opus@20240229", "15"),
        ("gcp.vertex_ai", "claude-3-5-sonnet-v2@20241022", "3"),
        ("anthropic", "claude-2.1", "8"),
        ("anthropic", "claude-instant-1.2", "0.8"),
        ("gcp.gemini", "gemini-1.5-flash-8b", "0.0375"),
        ("gcp.gemini", "gemini-1.5-flash-8b-001", "0.0375"),
        ("gcp.gemini", "gemini-3.5-flash-20270101", "1.5"),
        ("cohere", "command-light-nightly", "0.3"),
        ("aws.bedrock", "bedrock/us-gov-west-1/amazon.nova-lite-v1:0", "0.072"),
        ("aws.bedrock", "eu.anthropic.claude-opus-4-5-20251101-v1:0", "5.5"),
    ],
)
def test_a_release_of_a_model_is_known_by_the_rule_of_its_list(
    book: PriceBook, provider: str, model: str, usd_in: str
) -> None:
    quote = book.quote(provider, model, NOW)

    assert quote.grade is PriceGrade.LISTED, quote.reason
    assert quote.price.input == Decimal(usd_in) * MTOK


@given(
    name=st.sampled_from(["claude-opus-5.5", "gemini-2.5-pro", "gemini-3-pro-preview", "o4-mini"]),
    rest=st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12),
    provider=st.sampled_from(["anthropic", "gcp.gemini", "azure", "openrouter", ""]),
)
def test_what_begins_like_a_model_costs_no_less_than_it(
    book: PriceBook, name: str, rest: str, provider: str
) -> None:
    longer = book.quote(provider, f"{name}-{rest}", NOW)

    if longer.grade is PriceGrade.PRIOR:
        like = book.quote(provider, name, NOW).price
        assert 3 * longer.price.input + longer.price.output >= 3 * like.input + like.output
