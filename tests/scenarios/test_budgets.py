"""Budgets over real sockets: what is refused, cut, held and settled, and what agents are told."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest
from support.agent import ASK, post
from support.stack import ROOT, Stack, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

from sidecar.keys import KeyRing

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
    # At the price of the model that answered: a tenth.
    assert not rows[0]["downgraded_from"]
    assert Decimal(rows[0]["effective_cost_usd"]) == 10 * Decimal(rows[-1]["effective_cost_usd"]) > 0


def test_a_downgrade_passes_over_models_that_the_key_may_not_use(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole(asked_model(seen))])
    budgets = [
        {"name": "all", "limit": "1 USD", "window": "day", "at": {"1%": "downgrade", "100%": "refuse"}}
    ]
    downgrades = [{"from": "gpt-4o-mini", "to": ["gpt-4.1-nano", "small"]}]
    prices = {**PRICES, "gpt-4.1-nano": PRICES["small"]}
    settings = {"budgets": budgets, "downgrades": downgrades, "prices": prices}
    stack = stack_for(upstream, settings=settings, with_collector=False)
    ring = KeyRing(stack.data_dir)
    may = {
        "no other": ("gpt-4o-mini",),
        "the second": ("gpt-4o-mini", "small"),
        "both": ("gpt-4o-mini", "small", "gpt-4.1-nano"),
    }
    tokens = {who: ring.create(time.time(), team=who, models=models)[0] for who, models in may.items()}

    def served(who: str) -> str:
        status, _, _ = post(stack, {**ASK, "max_tokens": 100}, authorization=f"Bearer {tokens[who]}")
        return asked_model(upstream.seen[-1]) if status == 200 else str(status)

    # Without a key, calls pass until there is one.
    wait_for("the keys to be known", lambda: post(stack)[0] == 401)
    wait_for("the budget's first share", lambda: served("both") == "gpt-4.1-nano")
    assert served("no other") == "gpt-4o-mini"
    # Both do for the call; the first of the ladder that the key may use is taken.
    assert served("the second") in ("small", "gpt-4o-mini")
    asked = {asked_model(seen) for seen in upstream.seen}
    upstream.seen.clear()
    for _ in range(5):
        assert served("no other") == "gpt-4o-mini"
        assert served("the second") != "gpt-4.1-nano"
    assert asked >= {"gpt-4o-mini", "gpt-4.1-nano"}


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

    request = urllib.request.Request(stack.url + path, headers={"x-bursar-agent": agent})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def operate(stack: Stack, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One request of an operator, on the control port."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(stack.control_url + path, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_raise_gives_more_room_until_it_is_taken_back(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole()])
    budgets = [{"name": "all", "limit": "0.003 USD", "window": "day"}]
    stack = stack_for(upstream, settings={"budgets": budgets, "prices": PRICES})
    ask = {**ASK, "max_tokens": 100}
    assert [post(stack, ask)[0] for _ in range(3)] == [200, 402, 402]
    said = {"budget": "all", "amount": "1 USD", "for_s": 60, "reason": "month end"}
    status, made = operate(stack, "POST", "/bursar/v1/raises", said)
    assert status == 200
    assert post(stack, ask)[0] == 200
    [shown] = operate(stack, "GET", "/bursar/v1/budgets")[1]["budgets"]
    assert shown["limit"] == "1.003000000000"
    assert operate(stack, "DELETE", f"/bursar/v1/raises/{made['id']}")[0] == 200
    assert post(stack, ask)[0] == 402
    status, wrong = operate(stack, "POST", "/bursar/v1/raises", {**said, "budget": "none"})
    assert (status, "'none'" in wrong["error"]) == (400, True)


def test_directives_pause_and_cut_at_once_and_end(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    upstream.script = lambda seen: (
        Answer(headers=SSE, pieces=[event("word ")], gap_s=0.02, chunked=True, endless=True)
        if b'"stream"' in seen.body
        else Answer(pieces=[whole()])
    )
    stack = stack_for(upstream, settings={"prices": PRICES})
    pause = {"action": "pause", "match": {"agent": "loop"}, "expires_in_s": 60, "reason": "it loops"}
    made = operate(stack, "POST", "/bursar/v1/directives", pause)[1]
    assert post(stack, ASK, x_bursar_agent="other")[0] == 200
    status, _, body = post(stack, ASK, x_bursar_agent="loop")
    assert status == 402
    assert "it loops" in json.loads(body)["error"]["message"]
    assert operate(stack, "DELETE", f"/bursar/v1/directives/{made['id']}")[0] == 200
    assert post(stack, ASK, x_bursar_agent="loop")[0] == 200
    client = openai.OpenAI(api_key="x", base_url=f"{stack.url}/v1", max_retries=0)
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "go"}], stream=True
    )
    reasons = []
    for number, chunk in enumerate(stream):
        reasons.append(chunk.choices[0].finish_reason)
        if number == 3:
            cut = {"action": "cut", "match": {"model": "gpt-4o-mini"}, "expires_in_s": 60}
            assert operate(stack, "POST", "/bursar/v1/directives", cut)[0] == 200
    assert reasons[-1] == "length"
    assert len(reasons) < 500


def test_a_paused_budget_stands_in_its_own_history_with_what_is_configured(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole()])
    budgets = [
        {"name": "agents", "limit": "1 USD", "window": "day", "each": "agent", "at": {"80%": "notify"}},
        {"name": "unused", "limit": "9 calls", "window": "hour", "match": {"team": "none"}, "mode": "soft"},
    ]
    stack = stack_for(upstream, settings={"budgets": budgets, "prices": PRICES})
    assert post(stack, ASK, x_bursar_agent="loop")[0] == 200
    pause = {"action": "pause", "budget": "agents", "subject": "loop", "expires_in_s": 60, "source": "ann"}
    status, made = operate(stack, "POST", "/bursar/v1/directives", pause)
    assert status == 200
    assert post(stack, ASK, x_bursar_agent="loop")[0] == 402
    assert post(stack, ASK, x_bursar_agent="other")[0] == 200
    assert operate(stack, "DELETE", f"/bursar/v1/directives/{made['id']}")[0] == 200
    assert post(stack, ASK, x_bursar_agent="loop")[0] == 200
    shown = operate(stack, "GET", "/bursar/v1/budgets")[1]
    assert {one["subject"] for one in shown["budgets"]} == {"loop", "other"}
    assert shown["configured"][0] == {
        "name": "agents", "limit": "1.000000000000", "unit": "usd", "window": "day", "match": {},
        "each": "agent", "mode": "hard", "at": [{"share": 0.8, "action": "notify"}],
    }  # fmt: skip
    assert [shown["configured"][1][name] for name in ("limit", "unit", "mode", "match")] == [
        9, "calls", "soft", {"team": ["none"]},
    ]  # fmt: skip
    question = f"{stack.collector_url}/v1/questions/budget_events?budget=agents"

    def events() -> list[tuple[str, str]]:
        with urllib.request.urlopen(question, timeout=10) as reply:
            return [(row["action"], row["detail"]) for row in json.load(reply)["rows"]]

    wait_for("the history of the budget", lambda: len(events()) == 2)
    (last, which), (first, why) = events()
    assert (last, which, first) == ("withdrawn", made["id"], "pause")
    assert "by ann" in why


def bursar(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """One command of ``bursar budgets``."""
    command = [sys.executable, "-m", "sidecar.cli", "budgets", "--config", str(stack.config_file), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def test_the_command_lists_shows_raises_and_simulates(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole()])
    budgets = [{"name": "search", "match": {"team": "search"}, "limit": "1 USD", "window": "day"}]
    stack = stack_for(upstream, settings={"budgets": budgets, "prices": PRICES})
    assert post(stack, ASK, x_bursar_team="search", x_bursar_agent="planner")[0] == 200
    stack.calls(1)
    listed = json.loads(bursar(stack, "list", "--format", "json").stdout)
    assert [(row["name"], row["spent"]) for row in listed] == [("search", "0.002000000000")]
    shown = bursar(stack, "show", "search").stdout
    assert "planner gpt-4o-mini" in shown
    assert "resets" in shown
    said = bursar(stack, "raise", "search", "2USD", "--for", "1h", "--reason", "a test")
    assert said.returncode == 0, said.stderr
    assert "3.000000000000" in bursar(stack, "list").stdout
    allowed = bursar(stack, "simulate", "--model", "gpt-4o-mini", "--team", "search")
    assert (allowed.returncode, allowed.stdout.startswith("allow")) == (0, True)
    refused = bursar(
        stack, "simulate", "--model", "gpt-4o-mini", "--team", "search", "--max-tokens", "1000000"
    )
    assert (refused.returncode, "no room" in refused.stdout) == (1, True)
    wrong = bursar(stack, "raise", "nothing", "2USD", "--for", "1h")
    assert (wrong.returncode, "'nothing'" in wrong.stderr) == (1, True)


def test_a_restarted_sidecar_knows_what_was_spent(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole()])
    budgets = [{"name": "all", "limit": "0.006 USD", "window": "day"}]
    stack = stack_for(upstream, settings={"budgets": budgets, "prices": PRICES}, with_collector=False)
    ask = {**ASK, "max_tokens": 100}
    assert [post(stack, ask)[0] for _ in range(2)] == [200, 200]
    stack.stop("sidecar", signal.SIGKILL)
    stack.start("sidecar")
    assert post(stack, ask)[0] == 200
    assert post(stack, ask)[0] == 402
    [shown] = read(stack, "/bursar/v1/budgets")["budgets"]
    assert shown["spent"] == "0.006000000000"


def test_a_stream_that_loops_is_cut_where_the_policy_says_so(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    looping = [event("The same sentence, over and over again. ")]
    upstream.script = lambda seen: Answer(
        headers=SSE, pieces=looping, gap_s=0.001, chunked=True, endless=True
    )
    stack = stack_for(upstream, settings={"off_track": {"action": "cut"}, "prices": PRICES})
    client = openai.OpenAI(api_key="x", base_url=f"{stack.url}/v1", max_retries=0)
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "go"}], stream=True
    )
    reasons = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]
    assert reasons[-1] == "length"
    assert len(reasons) < 500
    [row] = stack.calls(1)
    assert row["outcome"] == "cut"
    assert "again and again" in row["outcome_reason"]


def test_directives_and_raises_outlive_a_restart(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole()])
    budgets = [{"name": "all", "limit": "0.001 USD", "window": "day"}]
    stack = stack_for(upstream, settings={"budgets": budgets, "prices": PRICES}, with_collector=False)
    pause = {"action": "pause", "match": {"agent": "loop"}, "expires_in_s": 600}
    assert operate(stack, "POST", "/bursar/v1/directives", pause)[0] == 200
    more = {"budget": "all", "amount": "1 USD", "for_s": 600}
    assert operate(stack, "POST", "/bursar/v1/raises", more)[0] == 200
    stack.stop("sidecar", signal.SIGKILL)
    stack.start("sidecar")
    assert post(stack, ASK, x_bursar_agent="loop")[0] == 402
    assert post(stack, ASK, x_bursar_agent="other")[0] == 200


def test_a_cut_stream_can_end_with_an_error_instead(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    words = [event("word " * 40) for _ in range(400)]
    upstream.script = lambda seen: Answer(headers=SSE, pieces=words, gap_s=0.002, chunked=True)
    budgets = [{"name": "all", "limit": "0.03 USD", "window": "day"}]
    settings = {"budgets": budgets, "prices": PRICES, "cut_style": "error"}
    stack = stack_for(upstream, settings=settings, with_collector=False)
    client = openai.OpenAI(api_key="x", base_url=f"{stack.url}/v1", max_retries=0)
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "go"}], stream=True
    )
    with pytest.raises(openai.APIError, match="budget_exceeded: all"):
        for _ in stream:
            pass
