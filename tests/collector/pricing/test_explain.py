"""`bursar check --price MODEL`: both sources, the choice, and why."""

from typing import Any

from collector.pricing.book import PriceBook
from collector.pricing.explain import format_explanation


def test_agreement_is_shown_side_by_side(book: PriceBook) -> None:
    found = book.explain("claude-sonnet-4-5")

    [input_rate] = [figure for figure in found.figures if figure.rate == "input"]
    assert (input_rate.chosen, input_rate.other, input_rate.charged) == (3_000_000, 3_000_000, 3_000_000)
    assert "agree" in found.why
    assert str(found.chosen) == "genai-prices 0.2.3"


def test_a_disagreement_shows_both_figures_and_the_rule(book: PriceBook) -> None:
    found = book.explain("mistral-large-latest")

    [input_rate] = [figure for figure in found.figures if figure.rate == "input"]
    assert (input_rate.chosen, input_rate.other) == (2_000_000, 500_000)
    assert "genai-prices is taken" in found.why


def test_a_filled_in_rate_is_not_put_into_the_wrong_mouth(book_of: Any) -> None:
    book = book_of(
        litellm={
            "acme/m": {
                "litellm_provider": "acme",
                "mode": "chat",
                "input_cost_per_token": 1e-6,
                "output_cost_per_token": 2e-6,
                "cache_read_input_token_cost": 1e-7,
            }
        },
        genai=[
            {
                "id": "acme",
                "models": [
                    {
                        "id": "m",
                        "match": {"equals": "m"},
                        "prices": {"input_mtok": 1, "output_mtok": 2, "cache_write_mtok": 1.25},
                    }
                ],
            }
        ],
    )
    figures = {figure.rate: figure for figure in book.explain("m", "acme").figures}

    assert (figures["cache_read"].chosen, figures["cache_read"].other) == (None, 100_000)
    assert (figures["cache_write"].chosen, figures["cache_write"].other) == (1_250_000, None)


def test_the_text_names_model_grade_version_and_every_term(book: PriceBook) -> None:
    text = "\n".join(format_explanation(book.explain("gpt-5.5")))

    for part in (
        "gpt-5.5",
        "listed",
        book.version,
        "genai-prices 0.2.3",
        "litellm 1.109.1",
        "batch service",
        "above 272000 tokens",
        "in region eu",
    ):
        assert part in text


def test_a_region_is_told_with_what_it_does_and_who_says_so(book: PriceBook) -> None:
    lines = format_explanation(book.explain("gpt-5.4", region="eu"))

    assert "region     eu: openai charges x 1.1 in eu" in lines
    assert any("data-residency" in line and "read on" in line for line in lines)
    assert any(line.split()[:2] == ["input", "2.75"] for line in lines)
    (long,) = [line.split() for line in lines if line.startswith("above 272000")]
    assert long[3:] == ["5.5", "in", "24.75", "out", "0.55", "read"]  # 1.1 x 5, 22.5 and 0.5
    (flex,) = [line.split() for line in lines if line.startswith("flex service")]
    assert flex[2:4] == ["1.375", "in"]  # 1.1 x 1.25
    assert not any(line.startswith("in region") for line in lines)  # it is in all figures
    unknown = "\n".join(format_explanation(book.explain("gpt-5.4", region="mars")))
    assert "is not known" in unknown
    assert "prior" in unknown
    assert "region " not in "\n".join(format_explanation(book.explain("gpt-4o")))


def test_a_stand_in_for_a_model_of_no_named_provider_says_so(book: PriceBook) -> None:
    said = "no provider was named; the dearest host of one, groq, stands in"
    assert f"why        {said}" in format_explanation(book.explain("llama-3.3-70b-versatile"))

    assert "openai lists no such model" in book.explain("llama-3.3-70b-versatile", "openai").why


def test_hours_and_days_are_listed(book: PriceBook) -> None:
    text = "\n".join(format_explanation(book.explain("deepseek-v4-pro")))

    assert "from 2026-08-17" in text
    assert "01:00-04:00 UTC" in text


def test_a_stand_in_says_that_it_is_one(book: PriceBook) -> None:
    found = book.explain("never-heard-of", "openai")

    assert found.quote.grade == "prior"
    assert "nobody lists it" in found.why
    assert format_explanation(found)


def test_a_configured_price_is_set_beside_the_listed_one() -> None:
    book = PriceBook.load({"gpt-4o": {"input": 2, "output": 8}})
    found = book.explain("gpt-4o")

    [input_rate] = [figure for figure in found.figures if figure.rate == "input"]
    assert (input_rate.charged, input_rate.chosen) == (2_000_000, 2_500_000)
    assert "configuration" in found.why


def test_a_configured_price_that_nobody_lists_stands_alone() -> None:
    found = PriceBook.load({"own-model": {"input": 2, "output": 8}}).explain("own-model")

    assert (found.chosen, found.provider) == (None, "")
    assert any("2" in line for line in format_explanation(found))


def test_every_model_can_be_explained(book: PriceBook) -> None:
    [table] = book.tables
    for provider in ("openai", "anthropic", "aws", "google", "deepseek", "mistral"):
        for key in table.providers[provider].models:
            lines = format_explanation(book.explain(key, provider))
            assert lines[0].endswith(key)
