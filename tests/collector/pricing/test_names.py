"""The many names of a model lead to the names that lists use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.pricing.names import MAX_NAME, candidates, maker_of, normal, prefix_provider, provider_id


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        ("GPT-4o", "gpt-4o"),
        (" gpt-4o ", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        (
            "projects/p/locations/eu/publishers/anthropic/models/claude-opus-4-5@20251101",
            "claude-opus-4-5@20251101",
        ),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929-v1:0"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1%3A0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (
            "arn:aws:bedrock:us-east-1:1234:inference-profile/eu.amazon.nova-lite-v1:0",
            "eu.amazon.nova-lite-v1:0",
        ),
        ("bedrock/us-east-1/amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        ("gpt-35-turbo", "gpt-3.5-turbo"),
        ("gpt-oss:20b", "gpt-oss-20b"),
        ("gpt-5.2-20251211", "gpt-5.2-2025-12-11"),
        ("claude-3.5-sonnet", "claude-3-5-sonnet"),
        ("anthropic/claude-4.6-sonnet", "claude-sonnet-4-6"),
        ("ft:gpt-4o-2024-08-06:org:name:id", "ft:gpt-4o-2024-08-06"),
        ("accounts/fireworks/models/llama-v3p1-8b-instruct", "llama-v3p1-8b-instruct"),
    ],
)
def test_another_spelling_of_a_model_is_understood(written: str, listed: str) -> None:
    assert listed in candidates(written).literal


@pytest.mark.parametrize(
    ("written", "family"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("mistral-large-2411", "mistral-large"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("claude-opus-4-5@20251101", "claude-opus-4-5"),
        ("gemini-2.5-flash-preview-05-20", "gemini-2.5-flash"),
        ("gemini-1.5-pro-002", "gemini-1.5-pro"),
        ("amazon.nova-lite-v1:0", "nova-lite"),
        ("meta-llama/llama-3-8b:nitro", "meta-llama/llama-3-8b"),
    ],
)
def test_a_release_belongs_to_its_family(written: str, family: str) -> None:
    names = candidates(written)

    assert family in names.family
    assert family not in names.literal


@pytest.mark.parametrize(
    "model", ["gpt-5-pro", "o1-mini", "gpt-4.1-nano", "claude-opus-4-1", "command-r-plus"]
)
def test_a_sibling_is_not_the_family(model: str) -> None:
    """Sizes and versions are other models at other prices."""
    bare = model.rpartition("-")[0]
    names = candidates(model)

    assert bare not in names.literal + names.family


def test_what_was_written_comes_first() -> None:
    assert candidates("azure/gpt-4o").literal[0] == "azure/gpt-4o"


@given(st.text(max_size=600))
def test_any_text_gives_few_short_names(text: str) -> None:
    names = candidates(text)

    assert len(names.literal) + len(names.family) <= 400
    assert all(name and len(name) <= MAX_NAME + len("-latest") for name in names.literal + names.family)
    assert len(set(names.literal + names.family)) == len(names.literal + names.family)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("aws.bedrock", "aws"),
        ("bedrock_converse", "aws"),
        ("azure.ai.openai", "azure"),
        ("azure.ai.inference", "azure"),
        ("gcp.gemini", "google"),
        ("gcp.vertex_ai", "vertex"),
        ("vertex_ai-anthropic_models", "vertex"),
        ("mistral_ai", "mistral"),
        ("x_ai", "x-ai"),
        ("OpenAI", "openai"),
        ("my-own", "my-own"),
    ],
)
def test_a_provider_has_one_id(said: str, meant: str) -> None:
    assert provider_id(said) == meant


@pytest.mark.parametrize(
    ("model", "maker"),
    [
        ("claude-opus-4-5", "anthropic"),
        ("gpt-4o", "openai"),
        ("o3-mini", "openai"),
        ("gpt-oss-120b", ""),
        ("gemini-2.5-pro", "google"),
        ("mistral-large-latest", "mistral"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws"),
        ("llama-3", ""),
    ],
)
def test_a_bare_name_may_say_who_makes_it(model: str, maker: str) -> None:
    assert maker_of(model) == maker


def test_a_path_says_whom_to_ask() -> None:
    assert prefix_provider("azure/gpt-4o") == "azure"
    assert prefix_provider("bedrock/us.amazon.nova-lite-v1:0") == "aws"
    assert prefix_provider("gpt-4o") == ""


def test_names_are_compared_in_one_form() -> None:
    assert normal(" Meta-Llama%2FLlama-3 ") == "meta-llama/llama-3"
