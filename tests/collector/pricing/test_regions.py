"""What a region does to a price: by what the sources say, and never nothing for want of knowledge."""

from pathlib import Path

import pytest

from collector.domain.price import TokenPrice
from collector.pricing.book import PriceBook
from collector.pricing.regions import (
    FACTS,
    geography,
    is_same_elsewhere,
    region_name,
    region_of_address,
    region_of_model,
    surcharge,
)

NOW = 1_795_000_000_000_000  # 2026-11-18

M = 1_000_000  # pico-USD per token for one USD per million


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.load()


@pytest.mark.parametrize(
    ("provider", "model", "region", "usd_per_mtok", "grade"),
    [
        # OpenAI: 10 % at every residency endpoint, for models of 2026-03-05 and later; none for older ones.
        ("openai", "gpt-5.4", "", 2.5, "listed"),
        ("openai", "gpt-5.4", "global", 2.5, "listed"),
        ("openai", "gpt-5.4", "eu", 2.75, "listed"),
        ("openai", "gpt-5.4", "jp", 2.75, "listed"),
        ("openai", "gpt-4o", "eu", 2.5, "listed"),
        ("openai", "gpt-5.4", "mars", 2.75, "prior"),
        ("openai", "gpt-4o", "mars", 2.75, "prior"),
        # Anthropic: 1.1 times in the US, from Opus 4.6 on.
        ("anthropic", "claude-opus-4-6", "us", 5.5, "listed"),
        ("anthropic", "claude-opus-4-6", "global", 5, "listed"),
        ("anthropic", "claude-opus-4-6", "eu", 5.5, "prior"),
        # Vertex: 10 % everywhere but at the global endpoint, for the models that litellm's map says so of.
        ("gcp.vertex_ai", "claude-opus-5", "global", 5, "listed"),
        ("gcp.vertex_ai", "claude-opus-5", "us-east5", 5.5, "listed"),
        ("gcp.vertex_ai", "claude-opus-5", "eu", 5.5, "listed"),
        ("gcp.vertex_ai", "gemini-2.5-pro", "europe-west4", 1.25, "listed"),
        ("gcp.vertex_ai", "claude-opus-5", "mars", 5.5, "prior"),
        # Bedrock: names say it; the address of the data centre does not move a global profile.
        ("aws.bedrock", "anthropic.claude-opus-5", "us-east-1", 5.5, "listed"),
        ("aws.bedrock", "us.anthropic.claude-opus-5", "", 5.5, "listed"),
        ("aws.bedrock", "global.anthropic.claude-opus-5", "us-east-1", 5, "listed"),
        # Azure: rows of their own for the data zones; elsewhere nobody can say.
        ("azure.ai.openai", "gpt-5", "", 1.25, "listed"),
        ("azure.ai.openai", "gpt-5", "eu", 1.375, "listed"),
        ("azure.ai.openai", "eu/gpt-5", "", 1.375, "listed"),
        ("azure.ai.openai", "gpt-5", "swedencentral", 1.375, "prior"),
        # Together: a quarter more, whatever the model. Groq: nothing is known to depend on the region.
        ("together_ai", "zai-org/GLM-5.3", "us", 1.75, "listed"),
        ("groq", "openai/gpt-oss-120b", "eu", 0.15, "listed"),
    ],
)
def test_a_region_costs_what_its_provider_charges_for_it(
    book: PriceBook, provider: str, model: str, region: str, usd_per_mtok: float, grade: str
) -> None:
    quote = book.quote(provider, model, NOW, region)

    assert quote.price.input == round(usd_per_mtok * M)
    assert quote.grade == grade
    assert (quote.elsewhere is None) == (quote.surcharge.permille == 1000)


def test_a_configured_price_holds_in_every_region() -> None:
    book = PriceBook.load({"gpt-5.4": {"input": 7, "output": 8}})

    quote = book.quote("openai", "gpt-5.4", NOW, "eu")

    assert (quote.price.input, quote.grade, quote.region) == (7 * M, "configured", "eu")


def test_no_region_makes_a_price_lower(book: PriceBook) -> None:
    for provider in FACTS:
        for model in list(book.tables[0].providers[provider].models)[:40]:
            everywhere = book.quote(provider, model, NOW).price.input
            for region in ("us", "eu-west-1", "us-central1", "mars"):
                assert book.quote(provider, model, NOW, region).price.input >= everywhere, (model, region)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://api.openai.com/v1", ""),
        ("https://eu.api.openai.com/v1", "eu"),
        ("https://us-east5-aiplatform.googleapis.com/v1", "us-east5"),
        ("https://aiplatform.eu.rep.googleapis.com", "eu"),
        ("https://aiplatform.googleapis.com", "global"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://us-api.together.ai/v1", "us"),
        ("https://eu.api.openai.com.example.org/v1", ""),
        ("http://127.0.0.1:8000", ""),
    ],
)
def test_an_address_tells_its_region(url: str, region: str) -> None:
    assert region_of_address(url) == region


def test_names_of_models_tell_theirs() -> None:
    assert region_of_model("aws", "us.anthropic.claude-opus-5") == "us"
    assert (
        region_of_model("aws", "arn:aws:bedrock:us-east-1:1:inference-profile/global.anthropic.x") == "global"
    )
    assert region_of_model("azure", "azure/eu/gpt-5") == "eu"
    assert region_of_model("azure", "global-standard/gpt-4o") == "global"
    assert region_of_model("openai", "us.whatever") == region_of_model("azure", "eu-model") == ""


def test_what_is_no_region_is_none() -> None:
    assert [region_name(said) for said in (None, 7, " ", "not_available", "US", "r" * 99)] == [
        "", "", "", "", "us", "r" * 64,
    ]  # fmt: skip
    assert [geography(name) for name in ("us-east5", "us-gov-west-1", "europe-west4", "mars")] == [
        "us", "us-gov", "eu", "mars",
    ]  # fmt: skip


def test_whoever_is_said_to_charge_somewhere_is_not_trusted_to_be_free_elsewhere() -> None:
    price = TokenPrice(input=10, output=10, regional_permille=(("eu", 1300), ("us", 1100)))

    assert surcharge("nobody-knows", price, "mars").permille == 1300
    assert not surcharge("nobody-knows", price, "mars").is_known
    assert surcharge("nobody-knows", TokenPrice(input=10, output=10), "mars").permille == 1000


def test_every_fact_has_its_source_and_day() -> None:
    for provider, fact in FACTS.items():
        assert fact.source, provider
        assert len(fact.read_on) == len("2026-11-29")
    said = (Path(__file__).parents[3] / "collector" / "pricing" / "README.md").read_text()
    assert all(provider in said.lower() for provider in ("openai", "anthropic", "vertex", "bedrock", "azure"))


@pytest.mark.parametrize(
    ("model", "answered", "is_same"),
    [
        ("global.anthropic.claude-opus-4-8", "claude-opus-4-8", True),
        ("us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929", True),
        (
            "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-opus-4-8",
            "Claude-Opus-4-8",
            True,
        ),
        ("global.anthropic.claude-opus-4-8", "claude-opus-4-7", False),
        ("anthropic.claude-opus-4-8", "claude-opus-4-8", False),
        ("claude-opus-4-8", "claude-opus-4-8", False),
    ],
)
def test_an_answer_that_leaves_the_region_out_is_the_same(model: str, answered: str, is_same: bool) -> None:
    assert is_same_elsewhere("aws.bedrock", model, answered) is is_same
