"""Several replicas, retries and fallbacks, through whole processes: what agents see, and what is booked."""

import concurrent.futures
import json
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest
from support.agent import ASK, post
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

StackMaker = Callable[..., Stack]

SSE = (("content-type", "text/event-stream"),)


def chunk(**fields: Any) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


def named(name: str, **fields: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


WHOLE = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "model": "gpt-4o-mini",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }
).encode()
ROLE = chunk(
    id="c", model="gpt-4o-mini", choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]
)
CHAT = [
    ROLE,
    chunk(id="c", model="gpt-4o-mini", choices=[{"index": 0, "delta": {"content": "hello"}}]),
    chunk(id="c", model="gpt-4o-mini", choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
    chunk(id="c", model="gpt-4o-mini", choices=[], usage={"prompt_tokens": 1000, "completion_tokens": 100}),
    b"data: [DONE]\n\n",
]
START = named(
    "message_start",
    message={
        "id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "content": [],
        "usage": {"input_tokens": 10, "output_tokens": 1},
    },
)  # fmt: skip
MESSAGES = [
    START,
    named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    named("content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"}),
    named("content_block_stop", index=0),
    named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
    named("message_stop"),
]
RESPONSE = {"id": "r", "object": "response", "model": "gpt-4o-mini", "status": "in_progress", "output": []}
CREATED = named("response.created", response=RESPONSE, sequence_number=0)
RESPONSES = [
    CREATED,
    named("response.output_text.delta", item_id="i", output_index=0, content_index=0, delta="hello"),
    named(
        "response.completed",
        response={**RESPONSE, "status": "completed", "usage": {"input_tokens": 10, "output_tokens": 2}},
    ),
]
FAILED = named(
    "response.failed",
    response={**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "oh"}},
)
ANTHROPIC_ASK = {"model": "claude-sonnet-4-6", "max_tokens": 50, "messages": ASK["messages"]}
RESPONSES_ASK = {"model": "gpt-4o-mini", "input": "hi"}


JSON = [("content-type", "application/json")]
MESSAGE = json.dumps(
    {
        "id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6",
        "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 2},
    }
).encode()  # fmt: skip


def stream(*pieces: bytes, **more: Any) -> Answer:
    return Answer(headers=SSE, pieces=list(pieces), chunked=True, **more)


def error(status: int, kind: str, **headers: str) -> Answer:
    body = json.dumps({"error": {"type": kind, "message": "no"}}).encode()
    sent = [("content-type", "application/json"), *((n.replace("_", "-"), v) for n, v in headers.items())]
    return Answer(status=status, headers=sent, pieces=[body])


STREAM = {"stream": True}
FINE = Answer(pieces=[WHOLE])
DIED = chunk(error={"type": "server_error", "message": "engine died", "code": 500})
OVERLOADED = named("error", error={"type": "overloaded_error", "message": "Overloaded"})
OH = named("error", code="server_error", message="oh", sequence_number=1)
HALF = Answer(pieces=[WHOLE[:40]], announced=900, break_off=True)
CHAT_ASK, MESSAGES_ASK, ASK_RESPONSE = ASK | STREAM, ANTHROPIC_ASK | STREAM, RESPONSES_ASK | STREAM
SLOW_DOWN = error(429, "rate_limit_error", retry_after="0.05")

WAYS: dict[str, tuple[str, Any, Answer, Answer, str]] = {
    # path, request, first answer, second answer, error_type of the first attempt
    "429": ("chat/completions", ASK, SLOW_DOWN, FINE, "rate_limit"),
    "503": ("chat/completions", ASK, error(503, "overloaded"), FINE, "overloaded"),
    "529": ("messages", MESSAGES_ASK, error(529, "overloaded_error"), stream(*MESSAGES), "overloaded"),
    "500": ("chat/completions", CHAT_ASK, error(500, "server_error"), stream(*CHAT), "server_error"),
    "chat": ("chat/completions", CHAT_ASK, stream(ROLE, DIED), stream(*CHAT), "server_error"),
    "messages": ("messages", MESSAGES_ASK, stream(START, OVERLOADED), stream(*MESSAGES), "overloaded"),
    "failed": ("responses", ASK_RESPONSE, stream(CREATED, FAILED), stream(*RESPONSES), "server_error"),
    "error": ("responses", ASK_RESPONSE, stream(CREATED, OH), stream(*RESPONSES), "server_error"),
    "reset": ("chat/completions", CHAT_ASK, stream(ROLE, break_off=True), stream(*CHAT), "upstream_reset"),
    "head": ("chat/completions", CHAT_ASK, stream(break_off=True), stream(*CHAT), "upstream_reset"),
    "whole": ("chat/completions", ASK, HALF, FINE, "upstream_reset"),
}


@pytest.fixture
def two() -> Iterator[list[ScriptedUpstream]]:
    with ExitStack() as running:
        yield [running.enter_context(ScriptedUpstream(lambda seen: Answer(pieces=[WHOLE]))) for _ in "ab"]


def pool(servers: list[ScriptedUpstream], **more: Any) -> dict[str, Any]:
    # Of a kind whose engine the collector does not watch: every request that is seen is a call's.
    replicas = [f"{server.url}/v1" for server in servers]
    return {"kind": "openai", "replicas": replicas, "dialects": ["chat", "responses", "messages"], **more}


def attempts_of(stack: Stack, call_id: str) -> list[dict[str, Any]]:
    rows = wait_for("the attempts", lambda: stack.ask("attempts", call_id=call_id))
    return sorted(rows, key=lambda row: row["attempt"])


def control(stack: Stack, path: str, method: str = "GET") -> Any:
    request = urllib.request.Request(stack.control_url + path, method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def test_what_fails_before_any_content_is_asked_elsewhere_and_both_attempts_are_booked(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    met: Counter[str] = Counter()

    def script(seen: Seen) -> Answer:
        way = next(way for way in WAYS if f'"way-{way}"' in seen.body.decode())
        met[way] += 1
        return WAYS[way][2 if met[way] == 1 else 3]

    for server in two:
        server.script = script
    stack = stack_for(
        two[0],
        upstreams={"local": pool(two, breaker={"failures": 0}, retry_budget=1)},
        settings={"models": {"claude-sonnet-4-6": {"upstream": "local"}}},
    )

    for way, (path, body, _, _, error_type) in WAYS.items():
        asked = (
            {**body, "user": f"way-{way}"}
            if path != "messages"
            else {**body, "metadata": {"user_id": f"way-{way}"}}
        )
        status, headers, said = post(stack, asked, f"/v1/{path}")

        assert status == 200, (way, said)
        assert b"hello" in said, (way, said)
        assert b"error" not in said.replace(b'"error":null', b""), (way, said)
        first, second = attempts_of(stack, headers["x-bursar-call-id"])
        assert first["error_type"] == error_type, way
        assert (second["error_type"] or "", second["http_status"]) == ("", 200), way
        assert first["replica"] != second["replica"], way
    rows = stack.calls(len(WAYS))
    assert {row["outcome"] for row in rows} == {"served"}
    assert set(met.values()) == {2}


def test_one_server_alone_is_asked_again_for_what_it_turned_away_and_for_nothing_else(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    met: Counter[str] = Counter()
    times: list[float] = []
    first = {
        "slow-down": error(429, "rate_limit_error", retry_after="1"),
        "overloaded": error(529, "overloaded_error"),
        "not-so": error(429, "rate_limit_error", x_should_retry="false"),
        "no-money": error(429, "insufficient_quota"),
        "broken": error(500, "server_error"),
    }

    def script(seen: Seen) -> Answer:
        way = next(way for way in first if way in seen.body.decode())
        met[way] += 1
        if way == "slow-down":
            times.append(time.monotonic())
        return first[way] if met[way] == 1 else stream(*CHAT)

    two[0].script = script
    stack = stack_for(two[0])

    statuses = {way: post(stack, CHAT_ASK | {"user": way})[0] for way in first}

    assert statuses == {"slow-down": 200, "overloaded": 200, "not-so": 429, "no-money": 429, "broken": 500}
    assert met == {"slow-down": 2, "overloaded": 2, "not-so": 1, "no-money": 1, "broken": 1}
    assert times[1] - times[0] >= 1.0
    rows = {row["user_id"]: row for row in stack.calls(5)}
    waiter = rows["slow-down"]
    assert waiter["duration_ms"] >= 1000 > waiter["overhead_us"] / 1000  # the pause was the provider's wish
    waited = stack.ask("attempts", call_id=waiter["call_id"])
    assert [(one["error_type"] or "", one["http_status"]) for one in waited] == [
        ("rate_limit", 429),
        ("", 200),
    ]
    assert [Decimal(one["effective_cost_usd"]) > 0 for one in waited] == [False, True]


def test_nothing_is_tried_again_once_content_has_reached_the_agent(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    for server in two:
        server.script = lambda seen: stream(
            *CHAT[:2], chunk(error={"type": "server_error", "message": "died"})
        )
    stack = stack_for(two[0], upstreams={"local": pool(two)})

    _, headers, said = post(stack, {**ASK, "stream": True})

    assert b"hello" in said
    assert b"died" in said
    assert len(attempts_of(stack, headers["x-bursar-call-id"])) == 1
    assert sum(len(server.seen) for server in two) == 1


def test_a_replica_that_is_drained_gets_no_calls_until_it_is_let_in_again(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    ours = pool(two, api_key="${OUR_KEY}")  # of an agent with a key of its own, only that agent would wait
    environment = {"OUR_KEY": "sk-x"}
    stack = stack_for(two[0], upstreams={"local": ours}, environment=environment, with_collector=False)
    name = f"127.0.0.1:{two[0].port}"

    assert control(stack, f"/bursar/v1/upstreams/local/{name}/drain", "POST")["draining"] is True
    for _ in range(6):
        assert post(stack)[0] == 200
    assert (len(two[0].seen), len(two[1].seen)) == (0, 6)
    stack.write_config(tags={"env": "new"})  # A reload does not let it in again.
    time.sleep(2.5)
    post(stack)
    assert len(two[0].seen) == 0
    (shown,) = control(stack, "/bursar/v1/upstreams")["upstreams"]
    assert [one["draining"] for one in shown["replicas"]] == [True, False]

    control(stack, f"/bursar/v1/upstreams/local/{name}/undrain", "POST")
    for _ in range(6):
        post(stack)
    assert len(two[0].seen) == 3


def test_a_failing_upstream_sees_little_more_than_its_usual_load(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    for server in two:
        server.script = lambda seen: error(503, "overloaded")
    options = pool(two, retries=5, breaker={"failures": 0})
    stack = stack_for(two[0], upstreams={"local": options}, with_collector=False)

    with concurrent.futures.ThreadPoolExecutor(8) as agents:
        statuses = list(agents.map(lambda _: post(stack)[0], range(60)))

    assert set(statuses) == {503}
    # 60 calls, 10 retries to begin with, and 0.2 for each call.
    assert 60 < sum(len(server.seen) for server in two) <= 60 + 10 + 12


def test_a_call_falls_back_to_another_provider_and_each_pays_for_itself(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    first, second = two
    first.script = lambda seen: Answer(headers=SSE, pieces=[ROLE], chunked=True, break_off=True)
    second.script = lambda seen: stream(*CHAT)
    stack = stack_for(
        first,
        upstreams={
            "one": {"kind": "openai", "base_url": f"{first.url}/v1"},
            "two": {"kind": "openai", "base_url": f"{second.url}/v1"},
        },
        settings={
            "models": {"a": {"upstream": "one"}, "b": {"upstream": "two", "model": "real-b"}},
            "prices": {
                    "a": {"input": 10, "output": 20},
                    "real-b": {"input": 1, "output": 2},
                    "gpt-4o-mini": {"input": 1, "output": 2},
                },
            "fallbacks": [{"from": "a", "to": ["b"]}],
            "budgets": [
                {"name": "all", "limit": "1 USD"},
                {"name": "on-two", "limit": "1 USD", "match": {"upstream": "two"}},
                {"name": "on-one", "limit": "1 USD", "match": {"upstream": "one"}},
            ],
        },
    )  # fmt: skip

    status, headers, said = post(stack, {**ASK, "model": "a", "stream": True, "max_tokens": 100})

    assert status == 200
    assert b"hello" in said
    assert json.loads(second.seen[0].body)["model"] == "real-b"
    one, other = attempts_of(stack, headers["x-bursar-call-id"])
    assert (one["upstream"], one["error_type"]) == ("one", "upstream_reset")
    assert (other["upstream"], other["http_status"]) == ("two", 200)
    # 1,000 x 1 USD/Mtok + 100 x 2 USD/Mtok
    assert Decimal(other["effective_cost_usd"]) == Decimal("0.0012")
    assert Decimal(one["effective_cost_usd"]) > 0  # its prompt was read before it broke off
    (row,) = stack.calls(1)
    both = Decimal(one["effective_cost_usd"]) + Decimal(other["effective_cost_usd"])
    assert Decimal(row["effective_cost_usd"]) == both
    standings = {one["name"]: one for one in control(stack, "/bursar/v1/budgets")["budgets"]}
    spent = {name: Decimal(str(found["spent"]).split()[0]) for name, found in standings.items()}
    assert spent["all"] == both
    assert spent["on-two"] == Decimal("0.0012")
    assert spent["on-one"] == Decimal(one["effective_cost_usd"])
    assert all(Decimal(str(found["held"]).split()[0]) == 0 for found in standings.values())


def test_no_attempt_is_made_that_the_budget_has_no_room_for(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    # A whole reply that breaks off is charged; what is left does not pay for another.
    for server in two:
        server.script = lambda seen: Answer(pieces=[WHOLE[:40]], announced=900, break_off=True)
    stack = stack_for(
        two[0],
        upstreams={"local": pool(two)},
        settings={
            "prices": {"gpt-4o-mini": {"input": 0, "output": 0, "per_request": 1}},
            "budgets": [{"name": "all", "limit": "1.5 USD"}],
        },
    )

    status, headers, _ = post(stack)

    assert status == 502
    assert len(attempts_of(stack, headers["x-bursar-call-id"])) == 1
    assert sum(len(server.seen) for server in two) == 1


def test_an_agent_that_leaves_during_a_pause_is_recorded_once(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    two[0].script = lambda seen: error(429, "rate_limit_error", retry_after="5")
    one = {"local": {"kind": "openai", "base_url": f"{two[0].url}/v1", "retries": 3}}
    stack = stack_for(two[0], upstreams=one)
    raw = json.dumps(ASK).encode()
    client = socket.create_connection(("127.0.0.1", stack.ports[0]), 10)
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(raw), raw)
    )
    wait_for("the first attempt", lambda: two[0].seen)
    client.close()

    (row,) = stack.calls(1)

    assert (row["outcome"], row["http_status"]) == ("abandoned", 499)
    assert len(attempts_of(stack, row["call_id"])) == 1
    assert len(two[0].seen) == 1


def test_a_limit_that_the_provider_tells_of_is_waited_for(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    times: list[float] = []

    def script(seen: Seen) -> Answer:
        times.append(time.monotonic())
        told = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "700ms")]
        return Answer(headers=[("content-type", "application/json"), *told], pieces=[WHOLE])

    two[0].script = script
    one = {"local": {"kind": "openai", "base_url": f"{two[0].url}/v1", "api_key": "${OUR_KEY}"}}
    stack = stack_for(two[0], upstreams=one, environment={"OUR_KEY": "sk-x"}, with_collector=False)

    assert [post(stack)[0] for _ in range(2)] == [200, 200]

    assert times[1] - times[0] >= 0.7
    wait_for(
        "the gauge",
        lambda: b'bursar_upstream_limit_remaining{upstream="local"' in _metrics(stack),
    )


TOLD = {
    "openai": [
        ("x-ratelimit-limit-requests", "60"), ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-remaining-tokens", "149984"),
    ],
    "anthropic": [
        ("anthropic-ratelimit-input-tokens-limit", "40000"),
        ("anthropic-ratelimit-input-tokens-remaining", "39000"),
    ],
}  # fmt: skip
SHOWN = {
    "openai": {"requests": {"limit": 60, "remaining": 59, "resets_in_s": 1}, "tokens": {"remaining": 149984}},
    "anthropic": {"input-tokens": {"limit": 40000, "remaining": 39000}},
}


def test_what_providers_say_is_left_is_shown_to_operators(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    two[0].script = lambda seen: Answer(headers=[*JSON, *TOLD["openai"]], pieces=[WHOLE])
    two[1].script = lambda seen: Answer(headers=[*JSON, *TOLD["anthropic"]], pieces=[MESSAGE])
    ours = {"api_key": "${OUR_KEY}"}
    upstreams = {
        "openai": {"kind": "openai", "base_url": f"{two[0].url}/v1", **ours},
        "anthropic": {"kind": "anthropic", "base_url": two[1].url, **ours},
    }
    stack = stack_for(two[0], upstreams=upstreams, environment={"OUR_KEY": "sk-x"}, with_collector=False)

    assert post(stack)[0] == 200
    assert post(stack, ANTHROPIC_ASK, path="/v1/messages")[0] == 200

    upstreams_now = upstreams_of(stack)
    assert {name: one["told"] for name, (one,) in upstreams_now.items()} == SHOWN
    labels = 'bursar_upstream_limit_remaining{upstream="%s",replica="%s",limit="%s"} %d'
    expected = {
        labels % (name, one["replica"], limit, told["remaining"])
        for name, (one,) in upstreams_now.items()
        for limit, told in one["told"].items()
    }
    assert len(expected) == 3
    wait_for("the gauges", lambda: expected <= set(_metrics(stack).decode().splitlines()))


def test_a_date_to_come_again_is_heeded_and_the_other_replica_asked(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    def script(seen: Seen) -> Answer:
        return error(429, "rate_limit_error", retry_after=formatdate(time.time() + 3000, usegmt=True))

    two[0].script = script
    ours = pool(two, api_key="${OUR_KEY}")  # of an agent with a key of its own, only that agent would wait
    environment = {"OUR_KEY": "sk-x"}
    stack = stack_for(two[0], upstreams={"local": ours}, environment=environment, with_collector=False)

    assert [post(stack)[0] for _ in range(4)] == [200] * 4

    assert len(two[0].seen) == 1  # the date was far from over when the others came
    held, free = sorted(upstreams_of(stack)["local"], key=lambda one: one["may_be_asked"])
    assert (held["replica"], held["may_be_asked"]) == (two[0].url.removeprefix("http://"), False)
    assert 2000 < held["held_for_s"] <= 3000
    assert (free["may_be_asked"], free["held_for_s"]) == (True, 0)


def upstreams_of(stack: Stack) -> dict[str, list[dict[str, Any]]]:
    """The replicas of every upstream, as operators see them."""
    with urllib.request.urlopen(f"{stack.control_url}/bursar/v1/upstreams", timeout=10) as reply:
        return {one["upstream"]: one["replicas"] for one in json.loads(reply.read())["upstreams"]}


def _metrics(stack: Stack) -> bytes:
    with urllib.request.urlopen(f"{stack.control_url}/metrics", timeout=10) as reply:
        return bytes(reply.read())


def test_a_slow_replica_is_hedged_and_both_attempts_are_booked(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    count = iter(range(100))
    for server in two:
        server.script = lambda seen: Answer(pieces=[WHOLE], delay_s=20 if next(count) == 0 else 0)
    stack = stack_for(two[0], upstreams={"local": pool(two, hedge="100ms")})

    status, headers, said = post(stack, {**ASK, "max_tokens": 77})

    assert (status, said) == (200, WHOLE)
    left, taken = attempts_of(stack, headers["x-bursar-call-id"])
    assert (taken["http_status"], taken["output_tokens"]) == (200, 100)
    # Nobody waited for it, it may be finished and billed: its hold.
    assert (left["usage_grade"], left["output_tokens"]) == ("assumed", 77)
