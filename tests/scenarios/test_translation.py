"""Official SDKs in front of providers that speak another dialect, through the running proxy."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import pytest
from support.stack import Stack, simulator, wait_for
from support.upstream import Answer, ScriptedUpstream

from tests.scenarios.conftest import StackMaker

USED = "[[simulate usage input=1200 cache_read=1000 output=50 reasoning=12]]"
WROTE = "[[simulate usage input=1200 cache_read=900 cache_write=100 output=50]]"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CHAT_TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
MESSAGES_TOOL: Any = {"name": "get_weather", "description": "x", "input_schema": WEATHER}
RESPONSES_TOOL: Any = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with simulator("--speed", "20") as url:
        upstreams = {
            "openai": {"kind": "openai", "base_url": f"{url}/v1"},
            "anthropic": {"kind": "anthropic", "base_url": url},
            "newer": {"kind": "openai", "base_url": f"{url}/v1", "dialects": ["responses"]},
        }
        models = {
            "claude-sonnet-4-6": {"upstream": "anthropic"},
            "gpt-5-mini": {"upstream": "openai"},
            "gpt-5.1": {"upstream": "newer"},
        }
        folder = tmp_path_factory.mktemp("stack")
        with Stack(folder, upstreams, settings={"models": models}) as running:
            yield running


@pytest.fixture(scope="module")
def gpt(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="sk-agent", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.url, api_key="sk-ant-agent", max_retries=0) as client:
        yield client


def newest(stack: Stack, agent: str) -> dict[str, Any]:
    """The ledger's row of the one call of ``agent``."""
    return dict(wait_for(f"a call of {agent}", lambda: stack.ask("calls", agent=agent, limit=10))[0])


def named(agent: str) -> Any:
    return {"x-bursar-agent": agent}


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens")


def booked(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["api"], row["provider_name"], row["usage_grade"], *(row[name] for name in COUNTS))


# -- OpenAI's SDK, other dialects


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_is_answered_by_claude_and_booked_in_anthropics_own_numbers(
    stack: Stack, gpt: openai.OpenAI, stream: bool
) -> None:
    agent = f"chat-claude-{stream}"
    asked: Any = {
        "model": "claude-sonnet-4-6",
        "messages": [{"role": "system", "content": "Be brief."}, *said(WROTE)],
        "extra_headers": named(agent),
    }
    if stream:
        chunks = list(
            gpt.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked)
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        finish = next(chunk.choices[0].finish_reason for chunk in reversed(chunks) if chunk.choices)
        usage = chunks[-1].usage
    else:
        reply = gpt.chat.completions.create(**asked)
        text, finish, usage = reply.choices[0].message.content, reply.choices[0].finish_reason, reply.usage
    assert text
    assert finish == "stop"
    # Anthropic counts 200 tokens beside 900 read from and 100 written to the cache; OpenAI's prompt is all.
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (1200, 50)
    assert usage.prompt_tokens_details.cached_tokens == 900
    row = newest(stack, agent)
    assert booked(row) == ("openai.chat", "anthropic", "reported", 1200, 50, 900, 100)
    assert row["response_model"].startswith("claude")


def test_a_stream_of_claude_that_did_not_ask_for_usage_sees_none(stack: Stack, gpt: openai.OpenAI) -> None:
    stream = gpt.chat.completions.create(
        model="claude-sonnet-4-6", messages=said(USED), stream=True, extra_headers=named("no-usage")
    )
    assert all(chunk.usage is None and chunk.choices for chunk in stream)
    assert newest(stack, "no-usage")["usage_grade"] == "reported"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "gpt-5.1"])
def test_tools_go_there_and_back_from_a_chat(
    stack: Stack, gpt: openai.OpenAI, model: str, stream: bool
) -> None:
    agent = f"tools-{model}-{stream}"
    asked: Any = {"model": model, "tools": [CHAT_TOOL], "extra_headers": named(agent)}
    question = said("What is the weather in Bonn?")
    if stream:
        with gpt.chat.completions.stream(messages=question, tool_choice="required", **asked) as events:
            reply = events.get_final_completion()
    else:
        reply = gpt.chat.completions.create(messages=question, tool_choice="required", **asked)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert call.function.arguments.startswith("{")
    assert list(newest(stack, agent)["tool_names"]) == ["get_weather"]

    turn = choice.message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})
    for sent in turn["tool_calls"]:
        sent["function"] = {name: sent["function"][name] for name in ("name", "arguments")}
        sent.pop("index", None)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    after = gpt.chat.completions.create(messages=[*question, turn, result], **asked)
    assert after.choices[0].finish_reason in ("stop", "tool_calls", "length")


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_reaches_a_model_that_only_the_responses_api_serves(
    stack: Stack, gpt: openai.OpenAI, stream: bool
) -> None:
    agent = f"newer-{stream}"
    asked: Any = {"model": "gpt-5.1", "messages": said(USED), "extra_headers": named(agent)}
    if stream:
        *chunks, last = gpt.chat.completions.create(
            stream=True, stream_options={"include_usage": True}, **asked
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        usage = last.usage
    else:
        reply = gpt.chat.completions.create(**asked)
        text, usage = reply.choices[0].message.content, reply.usage
    assert text
    assert usage is not None
    assert usage.completion_tokens_details.reasoning_tokens == 12
    assert booked(newest(stack, agent))[2:] == ("reported", 1200, 50, 1000, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_the_responses_api_is_answered_by_claude(stack: Stack, gpt: openai.OpenAI, stream: bool) -> None:
    agent = f"responses-claude-{stream}"
    asked: Any = {
        "model": "claude-sonnet-4-6",
        "input": USED,
        "instructions": "Be brief.",
        "extra_headers": named(agent),
    }
    if stream:
        events = list(gpt.responses.create(stream=True, **asked))
        reply = events[-1].response
        assert [event.sequence_number for event in events] == list(range(len(events)))
        told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert told == reply.output_text
    else:
        reply = gpt.responses.create(**asked)
    assert reply.status == "completed"
    assert reply.output_text
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (1200, 50)
    assert reply.usage.input_tokens_details.cached_tokens == 1000
    row = newest(stack, agent)
    assert booked(row) == ("openai.responses", "anthropic", "reported", 1200, 50, 1000, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_go_there_and_back_from_the_responses_api(
    stack: Stack, gpt: openai.OpenAI, stream: bool
) -> None:
    asked: Any = {"model": "claude-sonnet-4-6", "tools": [RESPONSES_TOOL], "tool_choice": "required"}
    question: Any = [{"role": "user", "content": "What is the weather in Bonn?"}]
    if stream:
        reply = list(gpt.responses.create(stream=True, input=question, **asked))[-1].response
    else:
        reply = gpt.responses.create(input=question, **asked)
    (call,) = [item for item in reply.output if item.type == "function_call"]
    assert call.name == "get_weather"
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    sent = call.model_dump(include={"type", "call_id", "name", "arguments"})
    after = gpt.responses.create(
        model="claude-sonnet-4-6", tools=[RESPONSES_TOOL], input=[*question, sent, result]
    )
    assert after.status in ("completed", "incomplete")


# -- Anthropic's SDK, other dialects


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["gpt-5-mini", "gpt-5.1"])
def test_messages_are_answered_by_gpt_and_booked_in_openais_own_numbers(
    stack: Stack, claude: anthropic.Anthropic, model: str, stream: bool
) -> None:
    agent = f"messages-{model}-{stream}"
    asked: Any = {
        "model": model,
        "max_tokens": 200,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": said(USED),
        "extra_headers": named(agent),
    }
    if stream:
        with claude.messages.stream(**asked) as events:
            reply = events.get_final_message()
    else:
        reply = claude.messages.create(**asked)
    assert reply.content[0].type == "text"
    assert reply.content[0].text
    assert reply.stop_reason == "end_turn"
    # OpenAI's prompt of 1,200 has 1,000 cached; Anthropic counts them beside.
    assert (reply.usage.input_tokens, reply.usage.cache_read_input_tokens) == (200, 1000)
    assert reply.usage.output_tokens == 50
    row = newest(stack, agent)
    assert booked(row)[0] == "anthropic.messages"
    assert booked(row)[2:] == ("reported", 1200, 50, 1000, 0)
    assert row["reasoning_output_tokens"] == 12


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["gpt-5-mini", "gpt-5.1"])
def test_tools_go_there_and_back_from_messages(
    stack: Stack, claude: anthropic.Anthropic, model: str, stream: bool
) -> None:
    asked: Any = {"model": model, "max_tokens": 200, "tools": [MESSAGES_TOOL]}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    question = [{"role": "user", "content": [image, {"type": "text", "text": "The weather in Bonn?"}]}]
    if stream:
        with claude.messages.stream(messages=question, tool_choice={"type": "any"}, **asked) as events:
            reply = events.get_final_message()
    else:
        reply = claude.messages.create(messages=question, tool_choice={"type": "any"}, **asked)
    assert reply.stop_reason == "tool_use"
    (call,) = [block for block in reply.content if block.type == "tool_use"]
    assert (call.name, type(call.input)) == ("get_weather", dict)
    turn = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in reply.content]}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "no such city", "is_error": True}
    after = claude.messages.create(messages=[*question, turn, {"role": "user", "content": [result]}], **asked)
    assert after.stop_reason in ("end_turn", "tool_use", "max_tokens")


# -- errors, cuts, refusals


@pytest.mark.parametrize(
    ("fault", "status", "kind", "other"),
    [
        ("rate_limit", 429, openai.RateLimitError, anthropic.RateLimitError),
        ("server_error", 500, openai.InternalServerError, anthropic.InternalServerError),
    ],
)
def test_an_error_comes_back_in_the_callers_dialect(
    gpt: openai.OpenAI,
    claude: anthropic.Anthropic,
    fault: str,
    status: int,
    kind: type[openai.APIStatusError],
    other: type[anthropic.APIStatusError],
) -> None:
    text = f"[[simulate {fault}]]"
    with pytest.raises(kind) as caught:
        gpt.chat.completions.create(model="claude-sonnet-4-6", messages=said(text))
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"]
    with pytest.raises(other) as seen:
        claude.messages.create(model="gpt-5-mini", max_tokens=10, messages=said(text))
    assert isinstance(seen.value.body, dict)
    assert seen.value.body["type"] == "error"
    assert seen.value.body["error"]["message"]


def test_what_cannot_be_said_there_is_refused_by_its_name_before_anybody_is_asked(
    stack: Stack, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    with pytest.raises(openai.BadRequestError, match="seed cannot be carried over") as caught:
        gpt.chat.completions.create(
            model="claude-sonnet-4-6", messages=said("Hello"), seed=7, extra_headers=named("refused")
        )
    assert caught.value.param == "seed"
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\].type cannot be carried over"):
        claude.messages.create(
            model="gpt-5-mini",
            max_tokens=10,
            messages=said("Hello"),
            tools=[{"type": "web_search_20250305", "name": "web_search"}],
        )
    row = newest(stack, "refused")
    assert (row["outcome"], Decimal(row["effective_cost_usd"])) == ("refused", 0)


def test_what_the_provider_gets_is_its_own_dialect_and_nothing_of_the_agents_head(
    stack_for: StackMaker, upstream: ScriptedUpstream
) -> None:
    stack = stack_for(
        upstream, settings={"models": {"claude": {"upstream": "anthropic", "model": "claude-x"}}}
    )
    httpx.post(
        f"{stack.url}/v1/chat/completions?beta=true",
        headers={"authorization": "Bearer sk-agents-own", "openai-beta": "x"},
        json={"model": "claude", "messages": said("Hello")},
    )
    (seen,) = upstream.seen
    assert seen.target == "/v1/messages"
    assert seen.header("anthropic-version") == "2023-06-01"
    assert "sk-agents-own" not in str(seen.headers)
    assert seen.header("openai-beta") is None
    assert json.loads(seen.body)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
    ]


def test_bytes_are_the_agents_own_where_nothing_is_translated(
    stack_for: StackMaker, upstream: ScriptedUpstream
) -> None:
    models = {"claude-x": {"upstream": "anthropic"}}
    stack = stack_for(upstream, settings={"models": models}, with_collector=False)
    body = b'{ "model":"claude-x",\t"max_tokens" : 5, "messages": [ {"role":"user","content":"\\u00e9"} ] }'
    httpx.post(f"{stack.url}/v1/messages", headers={"x-api-key": "sk-ant-own"}, content=body)
    (seen,) = upstream.seen
    assert seen.body == body
    assert seen.header("x-api-key") == "sk-ant-own"


def test_a_reply_that_makes_no_sense_becomes_an_error_of_ours(
    stack_for: StackMaker, upstream: ScriptedUpstream
) -> None:
    models = {"claude": {"upstream": "anthropic"}}
    stack = stack_for(upstream, settings={"models": models}, with_collector=False)
    for body in (b"[]", b'{"content": 7}', b'{"content": [7]}', b"no JSON"):
        upstream.script = lambda seen, body=body: Answer(pieces=[body])  # type: ignore[misc]
        asked = {"model": "claude", "messages": said("Hello")}
        reply = httpx.post(f"{stack.url}/v1/chat/completions", json=asked)
        assert reply.status_code == 502
        assert reply.json()["error"]["code"] == "untranslatable_reply"
