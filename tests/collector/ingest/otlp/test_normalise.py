"""The words of older versions, of model servers, and of those that count in their own way."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from collector.ingest.otlp.normalise import plan_of
from collector.ingest.otlp.vocabulary import COLUMNS, KEPT, OPERATIONS, PROVIDERS, ROLES

RowsOf = Callable[[bytes], list[dict[str, Any]]]


def row(maker: Any, rows_of: RowsOf, **about: Any) -> dict[str, Any]:
    (made,) = rows_of(maker.request(maker.span(**about)))
    return made


def test_a_name_from_before_is_read_as_its_successor(maker: Any, rows_of: RowsOf) -> None:
    old = row(
        maker,
        rows_of,
        gen_ai__system="az.ai.openai",
        gen_ai__operation__name="acompletion",
        gen_ai__usage__prompt_tokens=900,
        gen_ai__usage__completion_tokens=50,
        gen_ai__usage__cache_read_input_tokens=600,
    )

    assert (old["provider_name"], old["operation"], old["role"]) == ("azure.ai.openai", "chat", "model")
    assert (old["input_tokens"], old["output_tokens"], old["cache_read_input_tokens"]) == (900, 50, 600)


def test_the_better_name_wins_whatever_stands_first(maker: Any, rows_of: RowsOf) -> None:
    both = {"gen_ai.usage.input_tokens": 7, "llm.usage.prompt_tokens": 9, "gen_ai.operation.name": "chat"}
    for attributes in (both, dict(reversed(both.items()))):
        assert row(maker, rows_of, **attributes)["input_tokens"] == 7


def test_a_value_that_does_not_fit_gives_way_to_the_next_best(maker: Any, rows_of: RowsOf) -> None:
    made = row(
        maker,
        rows_of,
        gen_ai__operation__name="chat",
        gen_ai__usage__input_tokens=-1,
        llm__usage__prompt_tokens="42",
        gen_ai__usage__output_tokens=float("nan"),
        gen_ai__usage__completion_tokens=3.0,
    )

    assert (made["input_tokens"], made["output_tokens"]) == (42, 3)


def test_a_servers_own_span_is_a_model_call_with_its_queue(maker: Any, rows_of: RowsOf) -> None:
    # As vLLM sends it (vllm/tracing.py): no operation, no provider, older names.
    made = row(
        maker,
        rows_of,
        name="llm_request",
        kind=2,
        gen_ai__response__model="qwen3-8b",
        gen_ai__request__id="chatcmpl-9",
        gen_ai__usage__prompt_tokens=300,
        gen_ai__usage__completion_tokens=20,
        gen_ai__latency__time_in_queue=0.25,
        gen_ai__latency__time_to_first_token=0.4,
    )

    assert (made["role"], made["provider_name"], made["kind"]) == ("model", "vllm", "SERVER")
    assert (made["input_tokens"], made["queue_ms"], made["time_to_first_chunk_ms"]) == (300, 250.0, 400.0)
    assert json.loads(made["attributes"])["gen_ai.request.id"] == "chatcmpl-9"


def test_counts_beside_the_input_are_added_up_and_marked(maker: Any, rows_of: RowsOf) -> None:
    made = row(
        maker,
        rows_of,
        gen_ai__operation__name="chat",
        gen_ai__usage__input_tokens=10,
        gen_ai__usage__cache_read__input_tokens=90,
        gen_ai__usage__cache_creation__input_tokens=5,
    )

    assert made["input_tokens"] == 105
    assert json.loads(made["attributes"])["bursar.repaired"] == "exclusive_counts"


def test_an_agents_sums_of_its_calls_are_not_its_own(maker: Any, rows_of: RowsOf) -> None:
    made = row(
        maker,
        rows_of,
        name="invoke_agent planner",
        gen_ai__operation__name="invoke_agent",
        gen_ai__usage__input_tokens=5000,
        gen_ai__usage__cost=0.25,
    )

    assert (made["role"], made["agent"]) == ("agent", "planner")
    assert made["input_tokens"] is None
    assert made["foreign_cost_usd"] is None


def test_a_span_of_mcp_is_a_tool(maker: Any, rows_of: RowsOf) -> None:
    made = row(
        maker, rows_of, name="tools/call search", mcp__method__name="tools/call", gen_ai__tool__name="search"
    )

    assert (made["operation"], made["role"], made["tool"]) == ("execute_tool", "tool", "search")


def test_a_span_of_something_else_is_structure_alone(maker: Any, rows_of: RowsOf) -> None:
    made = row(maker, rows_of, name="GET", http__request__method="GET", server__address="example.org")

    assert (made["role"], made["operation"], made["attributes"]) == ("", "", "{}")


@pytest.mark.parametrize(
    "name",
    [
        "gen_ai.input.messages",
        "gen_ai.prompt.0.content",
        "gen_ai.completion.1.content",
        "gen_ai.tool.call.arguments",
        "llm.input_messages.0.message.content",
        "input.value",
        "traceloop.entity.input",
        "ai.prompt.messages",
        "ai.response.text",
        "ai.toolCall.args",
        "llm.anthropic.content",
        "metadata.user_api_key",
        "hidden_params",
    ],
)
def test_content_is_never_asked_for(name: str) -> None:
    assert plan_of(name) is None


def test_no_source_of_a_column_is_taken_for_content() -> None:
    for column in COLUMNS:
        for source in column.sources:
            assert plan_of(source) is not None, source
    for name in KEPT:
        assert plan_of(name) is not None, name


def test_every_word_for_an_operation_or_a_provider_leads_to_one_of_ours() -> None:
    assert all(word == word.lower() for word in (*OPERATIONS, *PROVIDERS))
    assert set(PROVIDERS.values()).isdisjoint(set(PROVIDERS) - set(PROVIDERS.values()))
    known = {*ROLES, "evaluation", "embed_values"}
    assert set(OPERATIONS.values()) <= known
