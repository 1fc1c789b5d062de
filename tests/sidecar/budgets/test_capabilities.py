"""A downgrade loses nothing that the call uses, and is cheaper for this very call."""

import json
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.domain.price import TokenPrice, list_cost
from collector.domain.usage import Usage
from collector.pricing.book import PriceBook
from sidecar.budgets.capabilities import (
    ABILITIES,
    TABLE_PATH,
    UNKNOWN,
    UNKNOWN_CONTEXT,
    Capabilities,
    Catalogue,
    Served,
    cold,
    configured_capabilities,
    cost_after,
    loses,
    saved,
    write_table,
)
from sidecar.budgets.needs import Needs, needs_of
from sidecar.wire import read_request

ROOT = Path(__file__).parents[3]
GPT = Served("gpt-5", "openai", "openai", "openai")
MINI = Served("gpt-5-mini", "openai", "openai", "openai")
OLD = Served("gpt-3.5-turbo", "openai", "openai", "openai")
OMNI = Served("gpt-4o-mini", "openai", "openai", "openai")
SONNET = Served("claude-sonnet-4-6", "anthropic", "anthropic", "anthropic")
HAIKU = Served("claude-haiku-4-5", "anthropic", "anthropic", "anthropic")
QWEN = Served("qwen3-8b", "local", "vllm", "vllm")
QUESTION = [{"role": "user", "content": "What is due?"}]
BEGUN = [*QUESTION, {"role": "assistant", "content": "Due is"}]
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
NO_HOSTED = "it does not serve tools that the provider runs"
TOOL = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SPEECH = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
PAPER = {"type": "file", "file": {"file_data": "AAAA", "filename": "a.pdf"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def needs(api: str = "openai.chat", *, input_tokens: int = 100, expected: int = 50, **fields: Any) -> Needs:
    """What a call with these fields needs, read from its bytes."""
    fields.setdefault("model", "asked")
    if api != "openai.responses":
        fields.setdefault("messages", QUESTION)
    if api == "anthropic.messages":
        fields.setdefault("max_tokens", 500)
    body = json.dumps(fields).encode()
    facts = read_request(api, body)
    return needs_of(facts, body, input_tokens=input_tokens, expected_output_tokens=expected)


def with_part(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "Look."}, part]}]


@pytest.mark.parametrize(
    ("fields", "target", "lost"),
    [
        ({}, MINI, None),
        ({}, OLD, None),
        ({"tools": [TOOL]}, MINI, None),
        ({"tools": [TOOL]}, QWEN, "it is not known to serve tools"),
        ({"messages": with_part(PICTURE)}, MINI, None),
        ({"messages": with_part(PICTURE)}, OLD, "it does not serve images"),
        ({"messages": with_part(SPEECH)}, MINI, "it does not serve audio"),
        ({"messages": with_part(PAPER)}, MINI, None),
        ({"messages": with_part(PAPER)}, OLD, "it does not serve files"),
        ({"response_format": SCHEMA}, MINI, None),
        ({"response_format": SCHEMA}, QWEN, None),
        ({"response_format": SCHEMA}, OLD, "it does not serve structured output"),
        ({"response_format": {"type": "json_object"}}, OLD, "it does not serve structured output"),
        ({"reasoning_effort": "low"}, MINI, None),
        ({"reasoning_effort": "low"}, OMNI, "it does not serve reasoning"),
        ({"reasoning_effort": "xhigh"}, MINI, "it has no reasoning effort 'xhigh'"),
        ({"temperature": 0.2}, OMNI, None),
        (
            {"temperature": 0.2},
            MINI,
            "it does not serve sampling parameters (temperature, top_p, penalties, stop)",
        ),
        ({"stop": ["END"]}, QWEN, None),
        ({"max_tokens": 200}, OMNI, None),
        ({"max_tokens": 200}, MINI, "it does not serve the parameter max_tokens"),
        ({"max_completion_tokens": 200}, MINI, None),
        ({"max_completion_tokens": 5_000}, OLD, "the call may write 5000 tokens, it writes 4096 at most"),
        ({"logprobs": True}, OMNI, None),
        ({"logprobs": True}, MINI, "it does not serve log probabilities"),
        ({"modalities": ["text", "audio"]}, MINI, "it does not serve spoken answers"),
        ({"tools": [TOOL, {"type": "custom", "custom": {"name": "x"}}]}, OLD, NO_HOSTED),
        ({}, HAIKU, "it is not served in the dialect openai.chat"),
    ],
)  # fmt: skip
def test_a_chat_call_goes_only_where_nothing_is_lost(
    catalogue: Catalogue, fields: dict[str, Any], target: Served, lost: str | None
) -> None:
    assert loses(needs(**fields), GPT, target, catalogue) == lost


@pytest.mark.parametrize(
    ("fields", "target", "lost"),
    [
        ({}, HAIKU, None),
        ({}, QWEN, None),
        ({}, MINI, "it is not served in the dialect anthropic.messages"),
        ({"tools": [{"name": "pay", "input_schema": {"type": "object"}}]}, HAIKU, None),
        ({"tools": [SEARCH]}, HAIKU, None),
        ({"tools": [SEARCH]}, QWEN, "vllm does not run the tools of anthropic"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, HAIKU, None),
        ({"thinking": {"type": "disabled"}}, QWEN, None),
        ({"thinking": {"type": "adaptive"}}, HAIKU, "it does not serve adaptive thinking"),
        ({"output_config": {"effort": "high"}}, HAIKU, "it has no reasoning effort 'high'"),
        ({"messages": BEGUN}, HAIKU, None),
        ({"messages": BEGUN}, SONNET, "it does not serve an answer begun by the caller"),
        ({"max_tokens": 100_000}, HAIKU, "the call may write 100000 tokens, it writes 64000 at most"),
    ],
)  # fmt: skip
def test_a_message_goes_only_where_nothing_is_lost(
    catalogue: Catalogue, fields: dict[str, Any], target: Served, lost: str | None
) -> None:
    opus = Served("claude-opus-5", "anthropic", "anthropic", "anthropic")

    assert loses(needs("anthropic.messages", **fields), opus, target, catalogue) == lost


def test_a_call_must_fit_into_the_context_with_what_it_will_write(catalogue: Catalogue) -> None:
    fits = needs(input_tokens=16_000, expected=385)
    too_long = needs(input_tokens=16_000, expected=386)

    assert loses(fits, GPT, OLD, catalogue) is None  # 16,385 tokens
    assert loses(too_long, GPT, OLD, catalogue) == (
        "the call takes 16000 tokens of input and 386 of output, its context 16385"
    )


def test_a_call_without_expectation_counts_with_its_own_cap(catalogue: Catalogue) -> None:
    asked = needs(input_tokens=16_000, expected=0, max_completion_tokens=4_000)

    assert "16000 tokens of input and 4000 of output" in str(loses(asked, GPT, OLD, catalogue))


def test_what_is_stored_at_a_provider_stays_there(catalogue: Catalogue) -> None:
    other = Served("gpt-5-mini", "azure", "azure", "azure")
    continued = needs("openai.responses", input="And?", previous_response_id="resp_1")

    assert loses(continued, GPT, MINI, catalogue) is None
    assert loses(continued, GPT, other, catalogue) == "it continues what is stored at its provider"


def test_a_model_of_the_responses_api_alone_serves_no_chat(catalogue: Catalogue) -> None:
    codex = Served("gpt-5-codex", "openai", "openai", "openai")

    assert loses(needs(), GPT, codex, catalogue) == "it is not served in the dialect openai.chat"
    assert loses(needs("openai.responses", input="Fix it."), GPT, codex, catalogue) is None


def test_a_body_of_unknown_shape_is_not_downgraded(catalogue: Catalogue) -> None:
    odd = needs(thinking="hard")

    assert loses(odd, GPT, MINI, catalogue) == "it does not serve its unusual body"


def test_a_model_that_nobody_knows_gets_short_text_alone(catalogue: Catalogue) -> None:
    unknown = Served("frontier-1", "other", "example", "openai")

    assert catalogue.find(unknown) is None
    assert loses(needs(temperature=0.1, max_tokens=100), GPT, unknown, catalogue) is None
    assert loses(needs(tools=[TOOL]), GPT, unknown, catalogue) == "it is not known to serve tools"
    assert "context 8192" in str(loses(needs(input_tokens=UNKNOWN_CONTEXT), GPT, unknown, catalogue))
    new = Served("gpt-11", "openai", "openai", "openai")
    assert "not known to serve" in str(loses(needs(temperature=0.1), GPT, new, catalogue))


def test_the_configuration_says_what_a_model_of_ones_own_can_do() -> None:
    said = configured_capabilities({"context_tokens": 32_768, "abilities": ["tools", "max_tokens"]})
    catalogue = Catalogue({"qwen3-8b": said})

    assert loses(needs(tools=[TOOL], input_tokens=20_000), GPT, QWEN, catalogue) is None
    assert loses(needs(messages=with_part(PICTURE)), GPT, QWEN, catalogue) == "it does not serve images"
    assert "its context 32768" in str(loses(needs(input_tokens=32_768), GPT, QWEN, catalogue))


def test_the_configuration_wins_over_the_table() -> None:
    blind = Catalogue({"openai/gpt-5-mini": configured_capabilities({"context_tokens": 100_000})})

    assert loses(needs(messages=with_part(PICTURE)), GPT, MINI, blind) == "it does not serve images"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"context": 5}, "context: not one of abilities, apis, context_tokens"),
        ({"abilities": ["vision"]}, "vision: not one of tools, images"),
        ({"apis": ["openai"]}, "apis: openai: not one of anthropic.messages"),
        ({"context_tokens": 0}, "at least 1"),
    ],
)
def test_a_slip_in_the_configuration_is_named(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        configured_capabilities(settings)


@pytest.mark.parametrize(
    ("model", "provider", "listed"),
    [
        ("gpt-4o-2024-08-06", "openai", True),
        ("claude-haiku-4-5-20251001", "anthropic", True),
        ("openai/gpt-5-mini", "openrouter", True),
        ("GPT-5-Mini", "openai", True),
        ("frontier-1", "openai", False),
        ("", "openai", False),
    ],
)
def test_models_are_found_under_the_names_that_people_use(
    catalogue: Catalogue, model: str, provider: str, listed: bool
) -> None:
    assert (catalogue.find(Served(model, "x", provider, "openai")) is not None) is listed


def test_a_reseller_is_only_trusted_with_the_plain_dialect(catalogue: Catalogue) -> None:
    resold = catalogue.find(Served("openai/gpt-5-mini", "router", "somebody", "openai"))

    assert resold is not None
    assert resold.apis == {"openai.chat"}
    assert "tools" in resold.abilities
    assert "hosted_tools" not in resold.abilities


@given(st.sets(st.sampled_from(sorted(ABILITIES))), st.sets(st.sampled_from(sorted(ABILITIES))))
def test_a_call_goes_nowhere_that_lacks_an_ability_it_uses(wanted: set[str], has: set[str]) -> None:
    catalogue = Catalogue({"target": replace(UNKNOWN, abilities=frozenset(has))})
    target = Served("target", "openai", "openai", "openai")

    lost = loses(Needs(api="openai.chat", abilities=frozenset(wanted)), GPT, target, catalogue)

    assert (lost is None) == (wanted <= has)


def test_the_table_is_read_in_ten_milliseconds_into_three_mebibytes() -> None:
    def first_answer_ms() -> float:
        started = time.perf_counter()
        assert Catalogue().find(MINI) is not None
        return (time.perf_counter() - started) * 1000

    assert min(first_answer_ms() for _ in range(5)) <= 10
    tracemalloc.start()
    try:
        held = Catalogue()
        assert tracemalloc.get_traced_memory()[0] < 64_000  # nothing is read before somebody asks
        held.find(MINI)
        assert tracemalloc.get_traced_memory()[0] <= 3 << 20
    finally:
        tracemalloc.stop()


def test_every_model_of_the_table_can_be_read(catalogue: Catalogue) -> None:
    table = json.loads(TABLE_PATH.read_text())
    places = {place for models in table["providers"].values() for place in models.values()}

    assert places == set(range(len(table["sets"])))
    assert sum(map(len, table["providers"].values())) > 3_000
    for provider, models in table["providers"].items():
        for model in list(models)[:20]:
            assert catalogue.find(Served(model, provider, provider, "openai")) is not None, (provider, model)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    can = Capabilities(
        context_tokens=7, max_output_tokens=5, abilities=frozenset({"tools"}), efforts=frozenset({"low"})
    )
    write_table({("p", "m"): can}, tmp_path / "table.json", made="2026-11-22", source={"name": "test"})

    assert Catalogue(path=tmp_path / "table.json").find(Served("m", "u", "p", "openai")) == can


def test_the_committed_table_is_what_the_script_makes(shared_data: Path, tmp_path: Path) -> None:
    made = json.loads(TABLE_PATH.read_text())
    out = tmp_path / "capabilities.json"

    subprocess.run(
        [
            sys.executable,
            str(ROOT / "scripts" / "prices" / "capabilities.py"),
            *("--litellm", str(shared_data / "prices" / "litellm_model_prices.json.gz")),
            *("--litellm-version", made["source"]["version"]),
            *("--date", made["made"]),
            *("--out", str(out)),
        ],
        check=True,
        capture_output=True,
    )

    assert out.read_bytes() == TABLE_PATH.read_bytes()


def test_the_others_cache_is_cold() -> None:
    warm = Usage(input_tokens=100, output_tokens=10, cache_read_input_tokens=70, cache_write_input_tokens=20)

    assert cold(warm) == Usage(input_tokens=100, output_tokens=10, cache_write_input_tokens=90)


def test_a_cheaper_model_may_cost_a_cached_conversation_more() -> None:
    dear = TokenPrice(input=3_000_000, output=15_000_000, cache_read=300_000, cache_write=3_750_000)
    cheap = TokenPrice(input=1_000_000, output=5_000_000, cache_read=100_000, cache_write=1_250_000)
    warm = Usage(input_tokens=100_000, output_tokens=200, cache_read_input_tokens=99_000)
    fresh = Usage(input_tokens=1_000, output_tokens=500)

    # 99,000 x 0.3 + 1,000 x 3 + 200 x 15 = 35,700 micro-USD here; 99,000 x 1.25 + 1,000 x 1 + 200 x 5 there.
    assert list_cost(warm, dear) == 35_700_000_000
    assert cost_after(cheap, warm) == 125_750_000_000
    assert saved(dear, cheap, warm) == -90_050_000_000
    # 1,000 x 3 + 500 x 15 = 10,500 here; 1,000 x 1 + 500 x 5 = 3,500 there.
    assert saved(dear, cheap, fresh) == 7_000_000_000


def test_real_prices_say_when_a_downgrade_is_worth_it() -> None:
    book = PriceBook.load()
    sonnet = book.quote("anthropic", "claude-sonnet-4-6", book.made_us).price
    haiku = book.quote("anthropic", "claude-haiku-4-5", book.made_us).price
    late = Usage(input_tokens=150_000, output_tokens=300, cache_read_input_tokens=148_000)
    early = Usage(input_tokens=5_000, output_tokens=300)

    assert saved(sonnet, haiku, late) < 0 < saved(sonnet, haiku, early)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**5))
def test_a_cold_cache_never_makes_a_call_cheaper(plain: int, read: int, output: int) -> None:
    usage = Usage(input_tokens=plain + read, output_tokens=output, cache_read_input_tokens=read)
    price = TokenPrice(input=2_500_000, output=10_000_000, cache_read=1_250_000)

    assert cost_after(price, usage) >= list_cost(usage, price)
    assert saved(price, price, usage) == -read * 1_250_000
