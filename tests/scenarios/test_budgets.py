"""Budgets over real sockets: what is refused, cut, held and settled, and what agents are told."""

import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from support.agent import ASK, post
from support.stack import Stack
from support.upstream import Answer, ScriptedUpstream, Seen

StackMaker = Callable[..., Stack]

SSE = (("content-type", "text/event-stream"),)
PRICES = {"gpt-4o-mini": {"input": 1, "output": 10}, "small": {"input": 0.1, "output": 1}}
"""USD per million tokens."""


def whole(model: str = "gpt-4o-mini", *, reads: int = 1000, writes: int = 100) -> bytes:
    usage = {"prompt_tokens": reads, "completion_tokens": writes, "total_tokens": reads + writes}
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps(
        {"id": "c1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
    ).encode()


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-4o-mini", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def asked_model(seen: Seen) -> str:
    return str(json.loads(seen.body)["model"])


def test_a_used_up_budget_refuses_in_the_agents_dialect_and_loses_nothing(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole()])
    budgets = [{"name": "all", "limit": "0.005 USD", "window": "day"}]
    stack = stack_for(upstream, settings={"budgets": budgets, "prices": PRICES})
    ask = {**ASK, "max_tokens": 100}
    status, headers, _ = post(stack, ask)
    assert status == 200
    assert float(headers["x-bursar-budget-remaining-usd"]) > 0
    statuses = [post(stack, ask)[0] for _ in range(4)]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    _, headers, body = post(stack, ask)
    error = json.loads(body)["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
    assert "'all'" in error["message"]
    assert "0.005 USD" in error["message"]
    assert headers["x-should-retry"] == "false"
    with pytest.raises(anthropic.APIStatusError) as refused:
        anthropic.Anthropic(api_key="x", base_url=stack.url).messages.create(
            model="claude-sonnet-4-6", max_tokens=100, messages=[{"role": "user", "content": "hi"}]
        )
    assert refused.value.status_code == 402
    assert refused.value.body["error"]["type"] == "billing_error"  # type: ignore[index]
    served = statuses.count(200) + 1
    rows = stack.calls(7)
    assert [row["outcome"] for row in rows].count("served") == served
    assert [row["outcome"] for row in rows].count("refused") == 7 - served
    assert len(upstream.seen) == served


def test_a_stream_that_runs_into_its_budget_ends_validly_and_is_paid_for(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    words = [event("word " * 40) for _ in range(400)]
    upstream.script = lambda seen: Answer(headers=SSE, pieces=words, gap_s=0.002, chunked=True)
    budgets = [{"name": "all", "limit": "0.03 USD", "window": "day"}]
    stack = stack_for(upstream, settings={"budgets": budgets, "prices": PRICES})
    client = openai.OpenAI(api_key="x", base_url=f"{stack.url}/v1", max_retries=0)
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "go"}], stream=True
    )
    reasons = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]
    assert reasons[-1] == "length"
    assert len(reasons) < 400
    [row] = stack.calls(1)
    assert row["outcome"] == "cut"
    assert "all" in row["outcome_reason"]
    assert 0.01 < float(row["effective_cost_usd"]) <= 0.03


def test_a_downgrade_saves_money_and_says_so(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole(asked_model(seen))])
    budgets = [
        {"name": "all", "limit": "1 USD", "window": "day", "at": {"1%": "downgrade", "100%": "refuse"}}
    ]
    downgrades = [{"from": "gpt-4o-mini", "to": ["gpt-4.1-nano"]}]
    prices = {**PRICES, "gpt-4.1-nano": PRICES["small"]}
    stack = stack_for(upstream, settings={"budgets": budgets, "downgrades": downgrades, "prices": prices})
    for _ in range(8):
        status, headers, _ = post(stack, {**ASK, "max_tokens": 100})
        assert status == 200
    assert headers["x-bursar-downgraded-from"] == "gpt-4o-mini"
    assert asked_model(upstream.seen[-1]) == "gpt-4.1-nano"
    rows = stack.calls(8)
    assert rows[-1]["downgraded_from"] == "gpt-4o-mini"
    assert rows[-1]["request_model"] == "gpt-4.1-nano"


def test_an_agent_sees_its_budgets(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole()])
    budgets = [{"name": "agents", "limit": "1 USD", "window": "day", "each": "agent"}]
    stack = stack_for(upstream, settings={"budgets": budgets, "prices": PRICES})
    assert post(stack, ASK, x_bursar_agent="planner")[0] == 200
    shown = read(stack, "/bursar/v1/budgets", agent="planner")["budgets"]
    assert [(one["name"], one["subject"], one["limit"], one["spent"]) for one in shown] == [
        ("agents", "planner", "1.000000000000", "0.002000000000")
    ]


def read(stack: Stack, path: str, *, agent: str = "") -> Any:
    import urllib.request

    request = urllib.request.Request(stack.url + path, headers={"x-bursar-agent": agent})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)
