"""Unmodified official SDKs and an agent framework, with nothing changed but their base URL."""

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from support.stack import Stack, simulator, wait_for

QUESTION = [{"role": "user", "content": "What does a treasurer do? [[simulate output_tokens=20 speed=50]]"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with simulator("--speed", "20") as url:
        upstreams = {
            "openai": {"kind": "openai", "base_url": f"{url}/v1"},
            "anthropic": {"kind": "anthropic", "base_url": url},
        }
        with Stack(tmp_path_factory.mktemp("stack"), upstreams) as running:
            yield running


@pytest.fixture
def gpt(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="sk-agent", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.url, api_key="sk-ant-agent", max_retries=0) as client:
        yield client


def row_of(stack: Stack, call_id: str) -> dict[str, Any]:
    """The ledger's row of one call."""
    return dict(wait_for(f"call {call_id}", lambda: stack.ask("call", call_id=call_id))[0])


def rows_of(stack: Stack, agent: str, count: int) -> list[dict[str, Any]]:
    """The ledger's rows of ``agent``, once there are ``count`` of them."""

    def found() -> list[dict[str, Any]] | None:
        rows = stack.ask("calls", agent=agent, limit=100)
        return rows if len(rows) >= count else None

    return list(wait_for(f"{count} calls of {agent}", found))


def newest(stack: Stack, agent: str) -> dict[str, Any]:
    """The ledger's newest row of ``agent``."""
    return rows_of(stack, agent, 1)[0]


def test_a_chat_completion_is_answered_and_booked(stack: Stack, gpt: openai.OpenAI) -> None:
    raw = gpt.chat.completions.with_raw_response.create(model="gpt-5-mini", messages=QUESTION)
    reply = raw.parse()
    row = row_of(stack, raw.headers["x-bursar-call-id"])

    assert reply.choices[0].message.content
    assert (row["input_tokens"], row["output_tokens"]) == (
        reply.usage.prompt_tokens,
        reply.usage.completion_tokens,
    )
    assert (row["outcome"], row["usage_grade"], row["price_grade"]) == ("served", "reported", "listed")
    assert Decimal(raw.headers["x-bursar-cost-usd"]) == Decimal(row["effective_cost_usd"]) > 0
    assert raw.headers["x-bursar-cache"] == "bypass"


def test_a_stream_that_did_not_ask_for_usage_sees_none_and_is_booked_in_full(
    stack: Stack, gpt: openai.OpenAI
) -> None:
    with gpt.chat.completions.with_streaming_response.create(
        model="gpt-5-mini", messages=QUESTION, stream=True, extra_headers={"x-bursar-agent": "no-usage"}
    ) as raw:
        chunks = list(raw.parse())

    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    row = newest(stack, "no-usage")
    assert (row["usage_grade"], row["stream"]) == ("reported", True)
    assert row["output_tokens"] >= 20
    assert row["time_to_first_chunk_ms"] is not None


def test_a_stream_that_asked_for_usage_gets_it(stack: Stack, gpt: openai.OpenAI) -> None:
    stream = gpt.chat.completions.create(
        model="gpt-5-mini",
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"x-bursar-agent": "usage"},
    )
    last = list(stream)[-1]

    assert last.usage is not None
    row = newest(stack, "usage")
    assert (row["input_tokens"], row["output_tokens"]) == (
        last.usage.prompt_tokens,
        last.usage.completion_tokens,
    )


def test_tools_are_called_and_named_in_the_ledger(stack: Stack, gpt: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
    raw = gpt.chat.completions.with_raw_response.create(
        model="gpt-5-mini", messages=QUESTION, tools=[tool], tool_choice="required"
    )

    (called,) = raw.parse().choices[0].message.tool_calls
    assert called.function.name == "get_weather"
    row = row_of(stack, raw.headers["x-bursar-call-id"])
    assert list(row["tool_names"]) == ["get_weather"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_responses_api_works_whole_and_streamed(stack: Stack, gpt: openai.OpenAI, stream: bool) -> None:
    asked = {
        "model": "gpt-5-mini",
        "input": QUESTION[0]["content"],
        "extra_headers": {"x-bursar-agent": f"r{stream}"},
    }
    if stream:
        reply = list(gpt.responses.create(stream=True, **asked))[-1].response
    else:
        reply = gpt.responses.create(**asked)

    assert reply.status == "completed"
    row = newest(stack, f"r{stream}")
    assert (row["api"], row["input_tokens"], row["output_tokens"]) == (
        "openai.responses",
        reply.usage.input_tokens,
        reply.usage.output_tokens,
    )


def test_completions_and_embeddings_are_booked(stack: Stack, gpt: openai.OpenAI) -> None:
    completion = gpt.completions.with_raw_response.create(model="gpt-3.5-turbo-instruct", prompt="Say hello")
    embedding = gpt.embeddings.with_raw_response.create(model="text-embedding-3-small", input=["one", "two"])

    row = row_of(stack, completion.headers["x-bursar-call-id"])
    assert (row["api"], row["output_tokens"]) == (
        "openai.completions",
        completion.parse().usage.completion_tokens,
    )
    row = row_of(stack, embedding.headers["x-bursar-call-id"])
    assert (row["api"], row["input_tokens"]) == ("openai.embeddings", embedding.parse().usage.prompt_tokens)
    assert row["output_tokens"] == 0
    assert Decimal(row["effective_cost_usd"]) > 0


def test_the_list_of_models_passes_and_leaves_no_record(stack: Stack, gpt: openai.OpenAI) -> None:
    before = stack.total("calls")

    assert list(gpt.models.list())

    time.sleep(0.5)  # long enough for a record, had there been one, to be committed
    assert stack.total("calls") == before


def test_messages_are_answered_and_booked(stack: Stack, claude: anthropic.Anthropic) -> None:
    raw = claude.messages.with_raw_response.create(
        model="claude-sonnet-4-6", max_tokens=100, messages=QUESTION
    )
    reply = raw.parse()
    row = row_of(stack, raw.headers["x-bursar-call-id"])

    cached = (reply.usage.cache_read_input_tokens or 0) + (reply.usage.cache_creation_input_tokens or 0)
    assert row["input_tokens"] == reply.usage.input_tokens + cached
    assert row["output_tokens"] == reply.usage.output_tokens
    assert (row["api"], row["provider_name"]) == ("anthropic.messages", "anthropic")


def test_a_message_stream_is_booked_with_its_tools(stack: Stack, claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model="claude-sonnet-4-6",
        max_tokens=100,
        messages=QUESTION,
        tools=[{"name": "get_weather", "description": "x", "input_schema": WEATHER}],
        tool_choice={"type": "any"},
        extra_headers={"x-bursar-agent": "stream-claude"},
    ) as stream:
        final = stream.get_final_message()

    assert final.stop_reason == "tool_use"
    row = newest(stack, "stream-claude")
    assert (row["output_tokens"], list(row["tool_names"])) == (final.usage.output_tokens, ["get_weather"])


def test_counting_tokens_is_free(stack: Stack, claude: anthropic.Anthropic) -> None:
    counted = claude.messages.with_raw_response.count_tokens(model="claude-sonnet-4-6", messages=QUESTION)

    assert counted.parse().input_tokens > 0
    row = row_of(stack, counted.headers["x-bursar-call-id"])
    assert (row["usage_grade"], Decimal(row["effective_cost_usd"])) == ("", 0)


def test_async_clients_run_many_calls_at_once(stack: Stack) -> None:
    async def many() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="x", max_retries=0) as client:
            calls = [
                client.chat.completions.with_raw_response.create(model="gpt-5-mini", messages=QUESTION)
                for _ in range(20)
            ]
            return await asyncio.gather(*calls)

    ids = [raw.headers["x-bursar-call-id"] for raw in asyncio.run(many())]

    assert len(set(ids)) == 20
    assert all(row_of(stack, call_id)["outcome"] == "served" for call_id in ids)


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [("rate_limit", openai.RateLimitError, 429), ("server_error", openai.InternalServerError, 500)],
)
def test_a_providers_error_reaches_the_sdk_untouched(
    stack: Stack, gpt: openai.OpenAI, fault: str, error: type[openai.APIStatusError], status: int
) -> None:
    with pytest.raises(error) as caught:
        gpt.chat.completions.create(
            model="gpt-5-mini",
            messages=[{"role": "user", "content": f"[[simulate {fault}]]"}],
            extra_headers={"x-bursar-agent": fault},
        )

    assert caught.value.response.headers["x-bursar-simulator"] == "1"
    row = newest(stack, fault)
    assert (row["http_status"], row["outcome"], row["usage_grade"]) == (status, "failed", "")
    assert Decimal(row["effective_cost_usd"]) == 0


def test_our_own_refusal_is_an_error_of_the_sdk(
    stack: Stack, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    with pytest.raises(openai.BadRequestError, match="model"):
        gpt.chat.completions.create(model="", messages=QUESTION)
    with pytest.raises(anthropic.BadRequestError, match="model"):
        claude.messages.create(model="", max_tokens=1, messages=QUESTION)


def test_a_cancelled_stream_is_booked_as_abandoned_with_an_estimate(stack: Stack, gpt: openai.OpenAI) -> None:
    stream = gpt.chat.completions.create(
        model="gpt-5-mini",
        messages=[{"role": "user", "content": "[[simulate output_tokens=2000 speed=1]] Tell me all."}],
        stream=True,
        extra_headers={"x-bursar-agent": "leaver"},
    )
    for _, _chunk in zip(range(5), stream, strict=False):
        pass
    stream.close()

    row = newest(stack, "leaver")
    assert (row["outcome"], row["usage_grade"]) == ("abandoned", "estimated")
    assert 0 < row["output_tokens"] < 2000
    assert Decimal(row["effective_cost_usd"]) > 0


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_an_agent_framework_runs_unchanged(stack: Stack, dialect: str) -> None:
    headers = {"x-bursar-agent": f"pydantic-ai-{dialect}"}
    client: Any
    model: Any
    if dialect == "openai":
        client = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="x", default_headers=headers)
        model = OpenAIChatModel("gpt-5-mini", provider=OpenAIProvider(openai_client=client))
    else:
        client = anthropic.AsyncAnthropic(base_url=stack.url, api_key="x", default_headers=headers)
        model = AnthropicModel("claude-sonnet-4-6", provider=AnthropicProvider(anthropic_client=client))
    agent = Agent(model, system_prompt="You are brief.")

    @agent.tool_plain
    def treasury(city: str) -> str:
        """What is in the treasury of a city."""
        return f"{city}: 3 coins"

    async with client:
        result = await agent.run("What is in the treasury? [[simulate output_tokens=10]]")

    assert result.output
    rows = await asyncio.to_thread(rows_of, stack, f"pydantic-ai-{dialect}", result.usage.requests)
    assert sum(row["output_tokens"] for row in rows) == result.usage.output_tokens


def test_nothing_of_the_agents_key_is_left_behind(stack: Stack, gpt: openai.OpenAI) -> None:
    gpt.chat.completions.create(model="gpt-5-mini", messages=QUESTION)

    for path in [
        *Path(stack.folder).rglob("*.log"),
        *stack.data_dir.rglob("*.seg"),
        *stack.data_dir.rglob("*.duckdb*"),
    ]:
        assert b"sk-agent" not in path.read_bytes(), path
