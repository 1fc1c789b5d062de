"""A model that does not answer is stood in for by one that speaks another dialect: streams, tools, money."""

import json
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest
from support.stack import Stack, simulator, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
MESSAGES_TOOL: Any = {"name": "get_weather", "description": "x", "input_schema": WEATHER}
RESPONSES_TOOL: Any = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}
QUESTION: Any = [{"role": "user", "content": "What is the weather in Bonn?"}]
ROLE = {"id": "c", "model": "gpt-5-mini", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}
DIED = {"error": {"type": "server_error", "message": "engine died", "code": 500}}
BUDGETS = ("all", "on-gpt", "on-claude", "on-down", "on-openai")


def fails(seen: Seen) -> Answer:
    """Whole replies with a status; streams with a 200 and an error before any content."""
    if not json.loads(seen.body).get("stream"):
        return Answer(status=503, pieces=[b'{"error": {"type": "overloaded", "message": "no"}}'])
    if seen.target.endswith("/messages"):
        return Answer(
            status=529,
            pieces=[b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'],
        )
    pieces = [f"data: {json.dumps(one)}\n\n".encode() for one in (ROLE, DIED)]
    return Answer(headers=[("content-type", "text/event-stream")], pieces=pieces, chunked=True)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with ScriptedUpstream(fails) as one, ScriptedUpstream(fails) as two, simulator("--speed", "0") as url:
        pool = {"kind": "openai", "dialects": ["chat"], "breaker": {"failures": 0}, "retry_budget": 1}
        upstreams = {
            "gpt": {**pool, "replicas": [f"{one.url}/v1", f"{two.url}/v1"]},
            "claude": {"kind": "anthropic", "base_url": url},
            "down": {"kind": "anthropic", "base_url": one.url},
            "openai": {"kind": "openai", "base_url": f"{url}/v1", "dialects": ["chat"]},
        }
        settings = {
            "models": {
                "gpt-5-mini": {"upstream": "gpt"},
                "claude-sonnet-4-6": {"upstream": "claude"},
                "claude-haiku-4-5": {"upstream": "down"},
                "gpt-5-nano": {"upstream": "openai"},
            },
            "fallbacks": [
                {"from": "gpt-5-mini", "to": ["claude-sonnet-4-6"]},
                {"from": "claude-haiku-4-5", "to": ["gpt-5-nano"]},
            ],
            "budgets": [
                {
                    "name": name,
                    "limit": "10 USD",
                    **({"match": {"upstream": name[3:]}} if name[:3] == "on-" else {}),
                }
                for name in BUDGETS
            ],
        }
        with Stack(tmp_path_factory.mktemp("stack"), upstreams, settings) as running:
            yield running


@pytest.fixture(scope="module")
def gpt(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.url, api_key="none", max_retries=0) as client:
        yield client


def spent(stack: Stack) -> dict[str, Decimal]:
    with urllib.request.urlopen(f"{stack.control_url}/bursar/v1/budgets", timeout=10) as reply:
        standings = json.load(reply)["budgets"]
    assert all(Decimal(str(found["held"]).split()[0]) == 0 for found in standings)
    told = {found["name"]: Decimal(str(found["spent"]).split()[0]) for found in standings}
    return dict.fromkeys(BUDGETS, Decimal(0)) | told


def nano(usd: Decimal) -> Decimal:
    """As budgets count: billionths of a dollar, rounded up."""
    return usd.quantize(Decimal("1E-9"), "ROUND_CEILING")


def check(
    stack: Stack, agent: str, before: dict[str, Decimal], first: str, other: str, attempts: int
) -> None:
    """One record, each attempt where it was made, and each budget moved by what was done there alone."""
    (row,) = wait_for(f"the call of {agent}", lambda: stack.ask("calls", agent=agent))
    *failed, taken = wait_for("its attempts", lambda: stack.ask("attempts", call_id=row["call_id"]))
    assert (row["outcome"], list(row["tool_names"])) == ("served", ["get_weather"])
    assert [one["upstream"] for one in failed] == [first] * (attempts - 1)
    assert all(one["error_type"] in ("server_error", "overloaded") for one in failed)
    assert (taken["upstream"], taken["http_status"], taken["usage_grade"]) == (other, 200, "reported")
    costs = [Decimal(one["effective_cost_usd"]) for one in (*failed, taken)]
    assert costs[-1] > 0
    assert Decimal(row["effective_cost_usd"]) == sum(costs)
    moved = {name: after - before[name] for name, after in spent(stack).items()}
    assert moved[f"on-{other}"] == nano(costs[-1])
    assert abs(moved[f"on-{first}"] - sum(costs[:-1])) <= Decimal("1E-9") * attempts
    assert abs(moved["all"] - sum(costs)) <= Decimal("1E-9") * attempts
    assert all(not moved[name] for name in BUDGETS if name not in ("all", f"on-{first}", f"on-{other}"))


@pytest.mark.parametrize("stream", [False, True])
def test_claude_stands_in_for_gpt_in_a_chat_with_tools(
    stack: Stack, gpt: openai.OpenAI, stream: bool
) -> None:
    agent, before = f"chat-{stream}", spent(stack)
    asked: Any = {
        "model": "gpt-5-mini", "messages": QUESTION, "tools": [CHAT_TOOL], "tool_choice": "required",
        "extra_headers": {"x-bursar-agent": agent},
    }  # fmt: skip
    if stream:
        with gpt.chat.completions.stream(**asked) as events:
            reply: Any = events.get_final_completion()
    else:
        reply = gpt.chat.completions.create(**asked)

    (choice,) = reply.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)
    assert reply.model.startswith("claude-sonnet-4-6")
    # Both replicas, and one of them again.
    check(stack, agent, before, "gpt", "claude", 4)


@pytest.mark.parametrize("stream", [False, True])
def test_claude_stands_in_for_gpt_behind_the_responses_api(
    stack: Stack, gpt: openai.OpenAI, stream: bool
) -> None:
    agent, before = f"responses-{stream}", spent(stack)
    asked: Any = {
        "model": "gpt-5-mini", "input": QUESTION, "tools": [RESPONSES_TOOL], "tool_choice": "required",
        "extra_headers": {"x-bursar-agent": agent},
    }  # fmt: skip
    if stream:
        events = list(gpt.responses.create(stream=True, **asked))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        reply: Any = events[-1].response
    else:
        reply = gpt.responses.create(**asked)

    assert [item.name for item in reply.output if item.type == "function_call"] == ["get_weather"]
    check(stack, agent, before, "gpt", "claude", 4)


@pytest.mark.parametrize("stream", [False, True])
def test_gpt_stands_in_for_claude_in_messages_with_tools(
    stack: Stack, claude: anthropic.Anthropic, stream: bool
) -> None:
    agent, before = f"messages-{stream}", spent(stack)
    asked: Any = {
        "model": "claude-haiku-4-5", "max_tokens": 200, "messages": QUESTION, "tools": [MESSAGES_TOOL],
        "tool_choice": {"type": "any"}, "extra_headers": {"x-bursar-agent": agent},
    }  # fmt: skip
    if stream:
        with claude.messages.stream(**asked) as events:
            reply = events.get_final_message()
    else:
        reply = claude.messages.create(**asked)

    assert reply.stop_reason == "tool_use"
    assert [block.name for block in reply.content if block.type == "tool_use"] == ["get_weather"]
    # It is one server alone, and another model stands in: nobody waits for it.
    check(stack, agent, before, "down", "openai", 2)
