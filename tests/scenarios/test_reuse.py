"""Answers that are given again, by real processes: to whom, when, and what the ledger says of it."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.agent import post
from support.alerting import program
from support.stack import ROOT, Stack, wait_for
from support.upstream import Answer, ScriptedUpstream

from sidecar.keys import KeyRing
from tests.scenarios.budget_scenes import PRICES, SSE, chat_event, chat_reply, operate

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
END = b'data: {"id":"c1","model":"gpt-4o-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = (
    b'data: {"id":"c1","model":"gpt-4o-mini","choices":[],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}\n\n'
)
DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(lambda seen: Answer(pieces=[chat_reply()])) as server:
        yield server


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def stack(
    upstream: ScriptedUpstream, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("reuse")
    ring = KeyRing(folder / "data")
    for name, tenant, models in (
        ("a", "acme", ()),
        ("a-mini-only", "acme", ("gpt-4.1-nano",)),
        ("b", "beta", ()),
        ("nobody", "", ()),
        ("poor", "acme", ()),
        ("short", "acme", ()),
    ):
        keys[name], _ = ring.create(time.time(), name=name, tenant=tenant, models=models, agent=name)
    settings = {
        "prices": {**PRICES, "gpt-4.1-mini": {"input": 1, "output": 10, "cache_read": 0.1}},
        "cache": {"routes": [{"match": {"team": "targeted"}, "name": "faq", "hit_target": "70%"}]},
        "budgets": [
            {"name": "poor", "match": {"agent": "poor"}, "limit": "0.000001 USD", "window": "total"},
            {"name": "short", "match": {"agent": "short"}, "limit": "0.03 USD", "window": "total"},
        ],
    }
    kinds = {
        "openai": {"kind": "openai", "base_url": f"{upstream.url}/v1", "api_key": "${PROVIDER_KEY}"},
        "anthropic": {"kind": "anthropic", "base_url": upstream.url, "api_key": "${PROVIDER_KEY}"},
    }
    with Stack(folder, upstreams=kinds, settings=settings, environment={"PROVIDER_KEY": "sk-x"}) as running:
        yield running


@pytest.fixture(autouse=True)
def afresh(upstream: ScriptedUpstream, request: pytest.FixtureRequest) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    upstream.seen.clear()


def unique(text: str, **more: Any) -> dict[str, Any]:
    return {**ASK, "messages": [{"role": "user", "content": text}], **more}


class Asker:
    """One agent with its key."""

    def __init__(self, stack: Stack, token: str) -> None:
        self._stack, self._token = stack, token

    def __call__(
        self, body: Any, path: str = "/v1/chat/completions", **headers: str
    ) -> tuple[int, Any, bytes]:
        return post(self._stack, body, path, authorization=f"Bearer {self._token}", **headers)

    def how(self, body: Any, **headers: str) -> str:
        status, said, _ = self(body, **headers)
        assert status == 200
        return str(said["x-bursar-cache"])


@pytest.fixture
def ask(stack: Stack, keys: dict[str, str]) -> Asker:
    return Asker(stack, keys["a"])


def test_an_identical_call_is_answered_again_and_booked_as_saved(
    stack: Stack, ask: Asker, upstream: ScriptedUpstream
) -> None:
    first = ask(unique("booked"))
    again = ask(unique("booked"))

    assert (first[1]["x-bursar-cache"], again[1]["x-bursar-cache"]) == ("miss", "hit")
    assert again[2] == first[2] and len(upstream.seen) == 1
    assert again[1]["age"] == "0" and again[1]["content-type"] == "application/json"

    def row() -> Any:
        found = stack.ask("call", call_id=again[1]["x-bursar-call-id"])
        return found[0] if found else None

    booked = wait_for("the row of the hit", row)
    assert (booked["outcome"], booked["cache"], booked["http_status"]) == ("reused", "hit", 200)
    assert (booked["input_tokens"], booked["output_tokens"]) == (0, 0)
    assert Decimal(booked["effective_cost_usd"]) == 0
    # 1,000 tokens at 1 and 100 at 10 USD per million; too few for OpenAI's own cache, which begins at 1,024.
    assert Decimal(booked["avoided_cost_usd"]) == Decimal("0.002")
    assert stack.ask("attempts", call_id=booked["call_id"]) == []


def test_what_the_providers_own_cache_would_have_let_off_is_not_counted_as_saved(
    stack: Stack, ask: Asker, upstream: ScriptedUpstream
) -> None:
    reply = json.loads(chat_reply("gpt-4.1-mini"))
    reply["usage"] = {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100}
    upstream.script = lambda seen: Answer(pieces=[json.dumps(reply).encode()])
    body = unique("let off", model="gpt-4.1-mini")
    first, again = (ask(body)[1]["x-bursar-call-id"] for _ in range(2))

    def rows() -> Any:
        found = [row for call in (first, again) for row in stack.ask("call", call_id=call)]
        return found if len(found) == 2 else None

    asked, reused = wait_for("both rows", rows)
    assert Decimal(asked["effective_cost_usd"]) == Decimal("0.003")  # 2,000 at 1 and 100 at 10 a million.
    # Of 2,000 tokens OpenAI would have had 15 blocks of 128: 80 at 1, 1,920 at 0.1, 100 at 10 a million.
    assert Decimal(reused["avoided_cost_usd"]) == Decimal("0.001272")
    assert Decimal(reused["effective_cost_usd"]) == Decimal(reused["list_cost_usd"]) == 0


def test_a_call_that_draws_lots_is_asked_each_time(ask: Asker, upstream: ScriptedUpstream) -> None:
    body = {key: value for key, value in unique("lots").items() if key != "temperature"}
    assert [ask.how(body), ask.how(body)] == ["bypass", "bypass"]
    # A seed is a provider's best effort, not a promise.
    seeded = {**body, "seed": 7, "temperature": 0.7}
    assert [ask.how(seeded), ask.how(seeded)] == ["bypass", "bypass"]
    assert len(upstream.seen) == 4


def test_who_asks_and_how_it_is_written_make_no_difference_and_all_else_does(ask: Asker) -> None:
    body = unique("written")
    assert ask.how(body) == "miss"
    same = [
        {**body, "user": "u1", "metadata": {"a": "b"}},
        {**body, "temperature": 0.0},
        dict(reversed(body.items())),
        json.dumps(body, indent=3).encode(),
        json.dumps(body).replace("written", "\\u0077ritten").encode(),
        {**body, "stream": False, "stop": None},
    ]
    assert [ask.how(one) for one in same] == ["hit"] * len(same)
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    other = [
        {**body, "n": 2},
        {**body, "logprobs": True},
        {**body, "tools": [tool]},
        {**body, "max_tokens": 100},
        {**body, "seed": 1},
        {**body, "top_p": 0.5},
        {**body, "model": "gpt-4.1-nano"},
        {**body, "messages": [{"role": "system", "content": "Be brief."}, *body["messages"]]},
    ]
    assert [ask.how(one) for one in other] == ["miss"] * len(other)


def test_a_body_that_can_be_read_in_two_ways_is_never_answered_from_memory(ask: Asker) -> None:
    twice = (
        b'{"model":"gpt-4o-mini","temperature":0,"messages":[{"role":"user","content":"x","content":"two"}]}'
    )
    assert [ask.how(twice), ask.how(twice)] == ["bypass", "bypass"]
    huge = (
        json.dumps(unique("huge")).replace('"hello"', '"hello"')[:-1].encode() + b',"logit_bias":{"5":1e300}}'
    )
    assert ask.how(huge) == "bypass"


def test_tenants_never_see_each_others_answers(stack: Stack, keys: dict[str, str]) -> None:
    body = unique("secret")
    assert Asker(stack, keys["a"]).how(body) == "miss"
    assert Asker(stack, keys["b"]).how(body) == "miss"
    # A key without a tenant of its own may write one into a header: it is not believed here.
    assert Asker(stack, keys["nobody"]).how(body, x_bursar_tenant="acme") == "miss"
    assert Asker(stack, keys["poor"]).how(body) == "hit"  # The same tenant.


def test_a_key_that_may_not_use_the_model_gets_no_answer_of_it(stack: Stack, keys: dict[str, str]) -> None:
    assert Asker(stack, keys["a"]).how(unique("models")) == "miss"
    status, _, said = Asker(stack, keys["a-mini-only"])(unique("models"))
    assert status == 403 and b"may not use model" in said


def test_an_empty_budget_refuses_what_costs_and_not_what_is_there(stack: Stack, keys: dict[str, str]) -> None:
    poor = Asker(stack, keys["poor"])
    assert poor(unique("dear"))[0] == 402
    assert Asker(stack, keys["a"]).how(unique("dear")) == "miss"
    assert poor.how(unique("dear")) == "hit"


def test_what_the_agent_says_of_reuse_is_heeded(ask: Asker, upstream: ScriptedUpstream) -> None:
    body = unique("heeded")
    assert ask.how(body, cache_control="no-store") == "bypass"
    assert ask.how(body) == "miss"  # It was not kept.
    assert ask.how(body, x_bursar_cache="bypass") == "bypass"
    assert ask.how(body, cache_control="no-cache") == "miss"
    assert ask.how(body, cache_control="max-age=600") == "hit"
    assert ask.how(body, cache_control="max-age=what") == "miss"
    assert ask.how(body, x_bursar_cache="refresh") == "miss"
    assert len(upstream.seen) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"finish_reason": "length"},
        {"finish_reason": "content_filter"},
        {"message": {"role": "assistant", "content": None, "refusal": "I will not."}},
        {"message": {"role": "assistant", "content": ""}},
        {"finish_reason": None},
    ],
    ids=["cut", "filtered", "refused", "empty", "unfinished"],
)
def test_an_answer_that_is_not_whole_is_never_kept(
    ask: Asker, upstream: ScriptedUpstream, change: dict[str, Any]
) -> None:
    reply = json.loads(chat_reply())
    reply["choices"][0].update(change)
    upstream.script = lambda seen: Answer(pieces=[json.dumps(reply).encode()])
    body = unique(f"not whole {change}")
    assert [ask.how(body), ask.how(body)] == ["miss", "miss"]


def test_an_error_is_never_kept(ask: Asker, upstream: ScriptedUpstream) -> None:
    error = b'{"error":{"message":"overloaded","type":"server_error"}}'
    for status in (500, 200):
        upstream.seen.clear()
        upstream.script = lambda seen, status=status: Answer(status=status, pieces=[error])
        for _ in range(2):
            ask(unique(f"error {status}"))
        assert len(upstream.seen) == 2


# ---- streams


def stream_of(*pieces: bytes, **more: Any) -> Answer:
    return Answer(headers=SSE, pieces=pieces, chunked=True, **more)


@pytest.mark.parametrize("content_type", ["text/event-stream", "Text/Event-Stream;Charset=UTF-8"])
def test_a_stream_is_given_again_with_its_usage_for_those_alone_who_asked(
    ask: Asker, upstream: ScriptedUpstream, content_type: str
) -> None:
    pieces = chat_event("hel"), chat_event("lo"), END, USAGE, DONE
    headers = [("content-type", content_type)]
    upstream.script = lambda seen: Answer(headers=headers, pieces=pieces, chunked=True)
    body = unique(f"streamed as {content_type}", stream=True)
    first = ask(body)
    again = ask(body)
    told = ask({**body, "stream_options": {"include_usage": True}})

    assert first[2] == again[2] == chat_event("hel") + chat_event("lo") + END + DONE
    assert told[2] == chat_event("hel") + chat_event("lo") + END + USAGE + DONE
    assert [reply[1]["x-bursar-cache"] for reply in (first, again, told)] == ["miss", "hit", "hit"]
    assert again[1]["content-type"] == content_type
    assert ask.how({**body, "stream": False}) == "miss"  # A stream is no answer to who wants it whole.


@pytest.mark.parametrize(
    "answer",
    [
        stream_of(chat_event("hel"), break_off=True),
        stream_of(chat_event("hel"), END.replace(b'"stop"', b'"length"'), USAGE, DONE),
        stream_of(chat_event("hel"), b'data: {"error":{"message":"no","type":"server_error"}}\n\n'),
        stream_of(
            chat_event("hel"), chat_event("lo").replace(b'{"content"', b'{"refusal"'), END, USAGE, DONE
        ),
    ],
    ids=["broken off", "length", "error inside", "refusal"],
)
def test_a_stream_that_did_not_end_well_is_never_kept(
    ask: Asker, upstream: ScriptedUpstream, answer: Answer, request: pytest.FixtureRequest
) -> None:
    upstream.script = lambda seen: answer
    for _ in range(2):
        with contextlib.suppress(http.client.HTTPException):
            ask(unique(request.node.name, stream=True))
    assert len(upstream.seen) == 2


def test_a_stream_that_a_budget_cut_is_never_kept(
    stack: Stack, keys: dict[str, str], upstream: ScriptedUpstream
) -> None:
    upstream.script = lambda seen: stream_of(*[chat_event("word " * 40)] * 400, gap_s=0.002)
    body = unique("too long", stream=True)
    cut = Asker(stack, keys["short"])(body)
    assert cut[2].count(b"word ") < 400 * 40 and b'"length"' in cut[2]

    upstream.script = lambda seen: stream_of(chat_event("hello"), END, USAGE, DONE)
    others = Asker(stack, keys["a"])  # Of the same tenant.
    assert [others.how(body), others.how(body)] == ["miss", "hit"]


# ---- identical calls in the air


def test_twenty_identical_calls_are_asked_once_and_each_is_booked(
    stack: Stack, ask: Asker, upstream: ScriptedUpstream
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()], delay_s=0.5)
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: ask(unique("at once"), x_bursar_task="at-once"), range(20)))
    assert len(upstream.seen) == 1
    assert sorted(reply[1]["x-bursar-cache"] for reply in replies) == ["hit"] * 19 + ["miss"]
    assert len({reply[1]["x-bursar-call-id"] for reply in replies}) == 20

    def rows() -> Any:
        found = [row for row in stack.ask("calls", limit=1000) if row["task_id"] == "at-once"]
        return found if len(found) == 20 else None

    booked = wait_for("20 rows", rows)
    assert sum(Decimal(row["avoided_cost_usd"]) for row in booked) == 19 * Decimal("0.002")
    waits = [row for row in booked if row["outcome"] == "reused"]
    assert all(row["overhead_us"] < 400_000 for row in waits)  # Waiting for another is not our work.


@pytest.mark.parametrize("when", ["before the head", "inside the stream"])
def test_when_the_one_that_asks_leaves_another_asks(
    stack: Stack, ask: Asker, keys: dict[str, str], upstream: ScriptedUpstream, when: str
) -> None:
    good = stream_of(chat_event("hello"), END, USAGE, DONE)
    slow = (
        stream_of(chat_event("hello"), delay_s=300)
        if when == "before the head"
        else stream_of(chat_event("hello"), END, gap_s=300)
    )
    upstream.script = lambda seen: slow if len(upstream.seen) == 1 else good
    body = json.dumps(unique(f"leaves {when}", stream=True)).encode()
    leader = http.client.HTTPConnection("127.0.0.1", stack.ports[0], timeout=30)
    headers = {"content-type": "application/json", "authorization": f"Bearer {keys['a']}"}
    leader.request("POST", "/v1/chat/completions", body, headers)
    wait_for("the leader's request", lambda: len(upstream.seen) == 1)
    replies: list[tuple[int, Any, bytes]] = []
    waiters = [threading.Thread(target=lambda: replies.append(ask(body))) for _ in range(5)]
    for thread in waiters:
        thread.start()
    time.sleep(0.3)  # Until they wait; should one not yet, it is answered all the same.
    leader.close()
    for thread in waiters:
        thread.join(30)
    assert len(upstream.seen) == 2
    assert [reply[2] for reply in replies] == [chat_event("hello") + END + DONE] * 5


def test_when_the_answer_cannot_be_shared_the_others_ask_for_themselves(
    ask: Asker, upstream: ScriptedUpstream
) -> None:
    upstream.script = lambda seen: Answer(
        status=400, pieces=[b'{"error":{"message":"no","type":"invalid_request_error"}}'], delay_s=0.4
    )
    with ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(lambda _: ask(unique("limited")), range(5)))
    assert [reply[0] for reply in replies] == [400] * 5
    assert len(upstream.seen) == 5


# ---- other dialects


def test_embeddings_messages_and_responses_are_given_again(ask: Asker, upstream: ScriptedUpstream) -> None:
    vector = b'{"object":"list","model":"e","data":[{"embedding":[0.5],"index":0}],'
    vector += b'"usage":{"prompt_tokens":9,"total_tokens":9}}'
    message = (
        b'{"id":"m","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"hi"}],'
        b'"stop_reason":"%s","usage":{"input_tokens":5,"output_tokens":2}}'
    )
    response = (
        b'{"id":"r","object":"response","status":"%s","model":"gpt-5","output":[{"type":"message","role":'
        b'"assistant","content":[{"type":"output_text","text":"hi"}]}],"usage":{"input_tokens":5,"output_tokens":2}}'
    )
    said = [{"role": "user", "content": "hi"}]
    cases: list[tuple[str, dict[str, Any], bytes, list[str]]] = [
        ("/v1/embeddings", {"model": "e", "input": "text"}, vector, ["miss", "hit"]),
        (
            "/v1/messages",
            {"model": "claude-x", "max_tokens": 9, "temperature": 0, "messages": said},
            message % b"end_turn",
            ["miss", "hit"],
        ),
        (
            "/v1/messages",
            {"model": "claude-x", "max_tokens": 8, "temperature": 0, "messages": said},
            message % b"max_tokens",
            ["miss", "miss"],
        ),
        (
            "/v1/messages",
            {"model": "claude-x", "max_tokens": 7, "temperature": 0, "messages": said},
            message % b"refusal",
            ["miss", "miss"],
        ),
        (
            "/v1/responses",
            {"model": "gpt-5", "temperature": 0, "input": "x"},
            response % b"completed",
            ["miss", "hit"],
        ),
        (
            "/v1/responses",
            {"model": "gpt-5", "temperature": 0, "input": "y"},
            response % b"incomplete",
            ["miss", "miss"],
        ),
        (
            "/v1/responses",
            {"model": "gpt-5", "temperature": 0, "input": "x", "tools": [{"type": "web_search"}]},
            response % b"completed",
            ["bypass", "bypass"],
        ),
    ]
    for path, body, reply, expected in cases:
        upstream.script = lambda seen, reply=reply: Answer(pieces=[reply])
        assert [ask(body, path)[1]["x-bursar-cache"] for _ in range(2)] == expected, (path, body)


def events(*said: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in said)


def message_stream(stop: str = "end_turn", text: str = "hi") -> tuple[bytes, ...]:
    """Anthropic's events (docs.claude.com/en/docs/build-with-claude/streaming)."""
    head = {"id": "m", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    return events(
        {"type": "message_start", "message": {**head, "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )


def response_stream(status: str = "completed", kind: str = "output_text") -> tuple[bytes, ...]:
    """OpenAI's events of a response (platform.openai.com/docs/api-reference/responses-streaming)."""
    response = {"id": "r", "object": "response", "model": "gpt-5", "output": []}
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    part = {"type": kind, "text" if kind == "output_text" else kind: "hi"}
    item = {"type": "message", "id": "i", "role": "assistant", "content": [part]}
    return events(
        {"type": "response.created", "response": {**response, "status": "in_progress"}},
        {
            "type": f"response.{kind}.delta",
            "item_id": "i",
            "output_index": 0,
            "content_index": 0,
            "delta": "hi",
        },
        {
            "type": f"response.{status}",
            "response": {**response, "status": status, "output": [item], "usage": usage},
        },
    )


@pytest.mark.parametrize(
    ("path", "pieces", "second"),
    [
        ("/v1/messages", message_stream(), "hit"),
        ("/v1/messages", message_stream("max_tokens"), "miss"),
        ("/v1/messages", message_stream("refusal"), "miss"),
        ("/v1/messages", message_stream()[:-1], "miss"),  # It has no end.
        ("/v1/responses", response_stream(), "hit"),
        ("/v1/responses", response_stream("incomplete"), "miss"),
        ("/v1/responses", response_stream("failed"), "miss"),
        ("/v1/responses", response_stream(kind="refusal"), "miss"),
        ("/v1/responses", response_stream()[:-1], "miss"),
    ],
)
def test_streams_of_messages_and_responses_are_given_again_as_they_came_if_they_are_whole(
    ask: Asker,
    upstream: ScriptedUpstream,
    path: str,
    pieces: tuple[bytes, ...],
    second: str,
    request: pytest.FixtureRequest,
) -> None:
    upstream.script = lambda seen: stream_of(*pieces)
    said = [{"role": "user", "content": request.node.name}]
    asked = {"messages": said, "max_tokens": 9} if path == "/v1/messages" else {"input": said}
    body = {"model": "claude-x" if "messages" in path else "gpt-5", "temperature": 0, "stream": True, **asked}

    first, again = ask(body, path), ask(body, path)

    assert (first[1]["x-bursar-cache"], again[1]["x-bursar-cache"]) == ("miss", second)
    if second == "hit":
        assert again[2] == first[2] == b"".join(pieces)
        assert again[1]["content-type"] == "text/event-stream"
        assert len(upstream.seen) == 1


def test_reuse_is_counted_by_model_and_team(stack: Stack, ask: Asker) -> None:
    ask(unique("counted"))
    ask(unique("counted"), x_bursar_team="search")

    def counted() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", stack.ports[1], timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        wanted = (
            'bursar_cache_requests_total{result="hit",api="openai.chat",model="gpt-4o-mini",team="search"} 1'
        )
        return wanted in text

    wait_for("the counter", counted)


def test_a_route_that_misses_its_target_raises_the_alert_by_the_metrics_that_are_really_there(
    stack: Stack, ask: Asker, tmp_path: Path
) -> None:
    for question in ("one", "other", "one"):
        ask(unique(f"targeted {question}"), x_bursar_team="targeted")

    def series() -> list[str]:
        with urllib.request.urlopen(f"{stack.control_url}/metrics", timeout=10) as reply:
            return [
                line for line in reply.read().decode().splitlines() if line.startswith("bursar_cache_route_")
            ]

    requests = 'bursar_cache_route_requests_total{route="faq",result='
    counted = [f'{requests}"hit"}} 1', f'{requests}"miss"}} 2']
    wait_for("the counts", lambda: set(counted) <= set(series()))
    assert 'bursar_cache_route_hit_target_ratio{route="faq"} 0.7' in series()
    # As they would go on for an hour: one of three is reused.
    told = [line.rpartition(" ") for line in series()]
    growing = {name: f"{value}x240" if "target" in name else f"0+{value}x240" for name, _, value in told}
    labels = 'alertname="CacheHitRateLow", alertstate="firing", impact="cost", route="faq", severity="warn"'
    case = {
        "rule_files": [str(ROOT / "alerts/rules/reuse.yml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in growing.items()],
                "promql_expr_test": [
                    {
                        "expr": 'ALERTS{alertstate="firing"}',
                        "eval_time": "50m",
                        "exp_samples": [{"labels": f"ALERTS{{{labels}}}", "value": 1}],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "case.yml"
    path.write_text(json.dumps(case))
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def purge(stack: Stack, **which: str) -> tuple[int, Any]:
    return operate(stack, "POST", "/bursar/v1/cache/purge", which)


def test_answers_are_taken_away_by_tenant_model_and_tag(
    stack: Stack, ask: Asker, keys: dict[str, str]
) -> None:
    mini, nano = unique("purged"), unique("purged", model="gpt-4.1-nano")
    other = Asker(stack, keys["b"])
    for asker, body in ((ask, mini), (ask, nano), (other, mini)):
        assert asker.how(body) == "miss"

    assert purge(stack, tenant="acme", model="gpt-4.1-nano")[1]["gone"] >= 1
    assert (ask.how(mini), ask.how(nano), other.how(mini)) == ("hit", "miss", "hit")
    assert purge(stack, tenant="beta")[1]["gone"] >= 1
    assert (ask.how(mini), other.how(mini)) == ("hit", "miss")
    assert purge(stack)[0] == 400

    tagged = unique("tagged")
    assert ask.how(tagged, x_bursar_tags="case=17") == "miss"
    assert purge(stack, tag="case=17")[1] == {"gone": 1}
    assert ask.how(tagged) == "miss"


def test_the_command_line_tells_what_is_saved_and_why(stack: Stack, ask: Asker) -> None:
    def say(*words: str) -> str:
        command = [sys.executable, "-m", "sidecar.cli", "cache", "--config", str(stack.config_file), *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PROVIDER_KEY": "sk-x"}
        done = subprocess.run(command, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    ask(unique("told"))
    call = ask(unique("told"))[1]["x-bursar-call-id"]
    wait_for("the row", lambda: stack.ask("call", call_id=call))
    assert "0.002" in say("explain", call)
    told = json.loads(say("stats", "--by", "request_model", "--format", "json"))
    chat = next(row for row in told["reuse"] if row["request_model"] == "gpt-4o-mini")
    assert 0 < chat["reused"] < chat["reusable"] and told["kept"]["answers"] > 0
    assert Decimal(chat["avoided_cost_usd"]) == chat["reused"] * Decimal("0.002")
    assert "answers are forgotten" in say("purge", "--everything")
