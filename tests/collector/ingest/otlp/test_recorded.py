"""Spans that libraries really made (`record_spans.py`): the same calls, read as the same facts."""

from collections.abc import Callable
from typing import Any

import pytest

Rows = list[dict[str, Any]]
Recorded = Callable[[str], Rows]

LIBRARIES = ("genai", "litellm", "openinference", "openlit", "traceloop", "vercel")
OPENAI = {
    "operation": "chat",
    "provider_name": "openai",
    "input_tokens": 1200,
    "output_tokens": 80,
    "finish_reasons": ["stop"],
}
ANTHROPIC = {"operation": "chat", "provider_name": "anthropic", "input_tokens": 1200, "output_tokens": 60}
"""The stub reports 100 uncached, 900 read and 200 written: 1,200 in all."""


def model_calls(rows: Rows, provider: str) -> Rows:
    chat = [row for row in rows if row["role"] == "model" and row["operation"] == "chat"]
    return [row for row in chat if row["provider_name"] == provider and not row["error_type"]]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_call_of_openai_is_read_alike_from_every_library(recorded: Recorded, library: str) -> None:
    rows = model_calls(recorded(library), "openai")

    assert len(rows) >= (1 if library == "litellm" else 2)
    for row in rows:
        if library == "vercel" and row["finish_reasons"] == ["tool-calls"]:
            row["finish_reasons"] = ["stop"]
        assert {name: row[name] for name in OPENAI} == OPENAI
        assert row["request_model"].startswith("gpt-5-mini")
        assert row["response_model"] == "gpt-5-mini-2025-08-07" or library == "openinference"


@pytest.mark.parametrize("library", ["genai", "openinference", "openlit", "traceloop", "vercel"])
def test_what_was_read_from_the_cache_is_known(recorded: Recorded, library: str) -> None:
    assert {row["cache_read_input_tokens"] for row in model_calls(recorded(library), "openai")} == {1024}


@pytest.mark.parametrize("library", ["genai", "litellm", "openinference", "openlit", "traceloop"])
def test_input_includes_what_was_cached_whoever_counts(recorded: Recorded, library: str) -> None:
    rows = model_calls(recorded(library), "anthropic")

    assert rows
    for row in rows:
        assert {name: row[name] for name in ANTHROPIC} == ANTHROPIC
        if library != "litellm":
            assert (row["cache_read_input_tokens"], row["cache_write_input_tokens"]) == (900, 200)


@pytest.mark.parametrize("library", ["genai", "openinference", "openlit", "traceloop"])
def test_a_failed_call_has_its_error_and_no_tokens(recorded: Recorded, library: str) -> None:
    (failed,) = [row for row in recorded(library) if row["error_type"] and row["role"] == "model"]

    assert failed["status"] == "ERROR"
    assert failed["error_type"].endswith("RateLimitError")
    assert failed["input_tokens"] is None


@pytest.mark.parametrize("library", ["genai", "openinference", "openlit", "traceloop"])
def test_embeddings_are_model_calls_of_their_own_kind(recorded: Recorded, library: str) -> None:
    (row,) = [row for row in recorded(library) if row["operation"] == "embeddings"]

    assert (row["role"], row["request_model"], row["input_tokens"]) == ("model", "text-embedding-3-small", 7)


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_spans_of_model_calls_carry_tokens(recorded: Recorded, library: str) -> None:
    others = [row for row in recorded(library) if row["role"] != "model"]

    assert all(row["input_tokens"] is None and row["foreign_cost_usd"] is None for row in others)


@pytest.mark.parametrize("library", LIBRARIES)
def test_nothing_that_people_or_models_wrote_is_kept(recorded: Recorded, library: str) -> None:
    for row in recorded(library):
        for value in row.values():
            assert "weather in Ghent" not in str(value)
            assert "ain, " not in str(value)
            assert "sk-" not in str(value)


def test_agents_tools_and_workflows_have_their_names(recorded: Recorded) -> None:
    named = {
        library: {
            (row["role"], row["agent"] if row["role"] == "agent" else row["tool"] or row["task"])
            for row in recorded(library)
            if row["role"] in ("agent", "tool", "workflow")
        }
        for library in ("genai", "openinference", "traceloop", "vercel")
    }

    assert named == {
        "genai": {("agent", "forecaster"), ("tool", "lookup")},
        "openinference": {("agent", "forecaster"), ("tool", "lookup")},
        "traceloop": {("agent", "forecaster"), ("tool", "lookup"), ("workflow", "weather")},
        "vercel": {("agent", "weather"), ("tool", "lookup")},
    }


@pytest.mark.parametrize("library", ["openinference", "traceloop", "vercel"])
def test_the_session_and_the_user_are_known(recorded: Recorded, library: str) -> None:
    rows = [row for row in recorded(library) if row["role"] == "model" and "sdk" not in row["producer"]]

    assert {row["conversation_id"] for row in rows} == {"talk-1"}
    assert {row["user_id"] for row in rows} <= {"ann", "fail"}


def test_the_first_chunk_of_a_stream_is_timed(recorded: Recorded) -> None:
    for library in ("genai", "openlit", "vercel"):
        streamed = [row for row in recorded(library) if row["response_id"] == "chatcmpl-streamed"]
        assert streamed[0]["time_to_first_chunk_ms"] > 0


def test_the_loop_of_the_vercel_sdk_is_an_agent_and_its_steps_are_the_calls(recorded: Recorded) -> None:
    rows = recorded("vercel")

    assert [row["response_id"] for row in rows if row["role"] == "model"] == [
        "chatcmpl-1",
        "chatcmpl-2",
        "chatcmpl-streamed",
    ]
    assert {row["name"] for row in rows if row["role"] == "agent"} == {"ai.generateText", "ai.streamText"}


def test_litellm_tells_the_providers_own_id_in_its_second_span(recorded: Recorded) -> None:
    rows = recorded("litellm")
    ids = {
        row["role"]: row["response_id"] for row in rows if row["parent_span_id"] in ("", rows[2]["span_id"])
    }

    assert ids["detail"] == "msg_01Recorded"
    assert ids["model"] != "msg_01Recorded"
    assert [row["foreign_cost_usd"] for row in rows if row["role"] == "model"] == [
        pytest.approx(0.0002296),
        pytest.approx(0.00222),
    ]
