"""Replicas that hang, fail, leave and come back, and a sidecar that ends meanwhile: whole processes."""

import concurrent.futures
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.agent import ASK, post
from support.ports import free_ports
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

StackMaker = Callable[..., Stack]

WHOLE = json.dumps(
    {
        "id": "c1",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
).encode()
FINE = Answer(pieces=[WHOLE])
FAILS = Answer(status=500, pieces=[b'{"error": {"type": "server_error", "message": "no"}}'])


@pytest.fixture
def two() -> Iterator[list[ScriptedUpstream]]:
    with ExitStack() as running:
        yield [running.enter_context(ScriptedUpstream(lambda seen: FINE)) for _ in "ab"]


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of a server that takes every connection and request, and never says a word."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    for one in taken:
        one.close()


def pool(*urls: str, **more: Any) -> dict[str, Any]:
    return {"local": {"kind": "openai", "replicas": list(urls), **more}}


def shown(stack: Stack) -> list[dict[str, Any]]:
    """The replicas, as operators see them."""
    with urllib.request.urlopen(f"{stack.control_url}/bursar/v1/upstreams", timeout=10) as reply:
        (upstream,) = json.load(reply)["upstreams"]
    return list(upstream["replicas"])


def asked(server: ScriptedUpstream) -> list[Seen]:
    """Calls, without questions about health."""
    return [seen for seen in server.seen if seen.method == "POST"]


def test_a_replica_that_never_answers_is_given_up_and_then_left_alone(
    two: list[ScriptedUpstream], mute: str, stack_for: StackMaker
) -> None:
    local = pool(mute, two[0].url, balance="round_robin", breaker={"failures": 2, "open": "60s"})
    stack = stack_for(two[0], upstreams=local, settings={"deadlines": {"first_byte": "500ms"}})

    statuses = [post(stack)[0] for _ in range(8)]

    assert statuses == [200] * 8
    assert [one["breaker"] for one in shown(stack)] == ["open", "closed"]
    rows = stack.calls(8)
    tried = [stack.ask("attempts", call_id=row["call_id"]) for row in rows]
    waited = [attempts for attempts in tried if len(attempts) == 2]
    assert len(waited) == 2  # after which the breaker opened
    for first, second in waited:
        assert (first["error_type"], second["http_status"]) == ("upstream_timeout_first_byte", 200)


def test_a_sidecar_that_ends_while_a_call_waits_for_its_next_attempt_answers_and_books_it(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    limited = Answer(
        status=429, headers=[("retry-after", "8")], pieces=[b'{"error": {"type": "rate_limit_error"}}']
    )
    two[0].script = lambda seen: limited
    stack = stack_for(two[0], upstreams=pool(two[0].url), settings={"deadlines": {"drain": "300ms"}})
    with concurrent.futures.ThreadPoolExecutor(1) as agent:
        call = agent.submit(post, stack)
        wait_for("the first attempt", lambda: two[0].seen)
        code = stack.stop("sidecar")
        status, _, said = call.result()

    assert (code, status) == (0, 429)
    assert b"rate_limit" in said
    (row,) = stack.calls(1)
    assert (row["outcome"], row["http_status"]) == ("failed", 429)
    assert len(two[0].seen) == 1


@pytest.mark.slow
def test_a_replica_that_a_reload_takes_away_ends_what_it_does_and_gets_no_more(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    words = [
        f"data: {json.dumps({'id': 'c', 'choices': [{'index': 0, 'delta': {'content': f'w{n} '}}]})}\n\n"
        for n in range(40)
    ]
    slowly = [word.encode() for word in words] + [b"data: [DONE]\n\n"]
    two[1].script = lambda seen: Answer(
        headers=[("content-type", "text/event-stream")], pieces=slowly, chunked=True, gap_s=0.1
    )
    stack = stack_for(two[0], upstreams=pool(two[0].url, two[1].url, balance="round_robin"))
    with concurrent.futures.ThreadPoolExecutor(2) as agents:
        running = [agents.submit(post, stack, ASK | {"stream": True}) for _ in "ab"]
        wait_for("the stream", lambda: asked(two[1]))
        stack.write_config(upstreams=pool(two[0].url))
        wait_for("the new configuration", lambda: len(shown(stack)) == 1)
        later = [post(stack)[0] for _ in range(4)]
        said = sorted((one.result()[2] for one in running), key=len)

    assert later == [200] * 4
    assert len(asked(two[1])) == 1
    assert said[1].count(b"data: ") == 41
    assert {row["outcome"] for row in stack.calls(6)} == {"served"}


def test_a_replica_that_is_not_well_gets_no_calls_until_it_is(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    well = [False]

    def script(seen: Seen) -> Answer:
        return FINE if seen.method == "POST" or well[0] else Answer(status=503)

    two[0].script = script
    local = pool(two[0].url, two[1].url, health="/health", health_every="100ms", balance="round_robin")
    stack = stack_for(two[0], upstreams=local, with_collector=False)
    wait_for("the verdict", lambda: not shown(stack)[0]["healthy"])
    before = len(asked(two[0]))
    assert [post(stack)[0] for _ in range(4)] == [200] * 4
    assert len(asked(two[0])) == before

    well[0] = True
    wait_for("its return", lambda: shown(stack)[0]["healthy"])
    for _ in range(4):
        post(stack)
    assert len(asked(two[0])) == before + 2


def test_a_breaker_opens_lets_one_call_try_and_closes_again(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    two[0].script = lambda seen: FAILS
    breaker = {"failures": 3, "open": "400ms"}
    local = pool(two[0].url, two[1].url, balance="round_robin", breaker=breaker, retry_budget=1)
    stack = stack_for(two[0], upstreams=local, with_collector=False)

    def until(state: str) -> None:
        def look() -> bool:
            post(stack)
            return bool(shown(stack)[0]["breaker"] == state)

        wait_for(f"a breaker that is {state}", look)

    until("open")
    assert len(two[0].seen) == 3
    wait_for("a trial", lambda: post(stack)[0] == 200 and len(two[0].seen) == 4)
    assert shown(stack)[0]["breaker"] == "open"  # it failed; twice as long from now
    two[0].script = lambda seen: FINE
    until("closed")
    before = len(two[0].seen)
    for _ in range(4):
        post(stack)
    assert len(two[0].seen) == before + 2


LIMITED = Answer(
    headers=[("content-type", "text/event-stream")],
    pieces=[b'data: {"error": {"type": "rate_limit_error", "message": "slow down"}}\n\n'],
    chunked=True,
)
SLOW = Answer(pieces=[WHOLE], delay_s=2)


def test_a_trial_that_says_nothing_of_the_server_is_followed_by_another(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    """Such a replica was once left alone for good: its trial had no end."""
    two[0].script = lambda seen: FAILS
    local = pool(
        *(one.url for one in two),
        balance="round_robin",
        breaker={"failures": 1, "open": "100ms"},
        retry_budget=1,
        hedge="50ms",
    )
    stack = stack_for(two[0], upstreams=local, with_collector=False)

    def asks() -> bool:
        before = len(two[0].seen)
        post(stack, ASK | {"stream": True})
        return len(two[0].seen) > before

    wait_for("a failure, after which the breaker opens", asks)
    two[0].script = lambda seen: LIMITED
    wait_for("a trial that is turned away inside its stream", asks)
    two[0].script = lambda seen: SLOW
    wait_for("a trial that another replica answers first", asks)
    two[0].script = lambda seen: FINE
    wait_for("another trial", asks)
    assert shown(stack)[0]["breaker"] == "closed"


def test_connections_are_kept_open_for_calls_to_come(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    local = pool(two[0].url, two[1].url, warm_connections=3, health_every="100ms")
    stack = stack_for(two[0], upstreams=local, with_collector=False)

    wait_for("three to each", lambda: [server.connections for server in two] == [3, 3])
    for _ in range(6):
        assert post(stack)[0] == 200
    time.sleep(0.3)  # a few more looks open no more
    assert [server.connections for server in two] == [3, 3]


def test_where_every_connection_is_in_use_calls_queue_and_the_rest_are_turned_away(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    let_go = threading.Event()

    def script(seen: Seen) -> Answer:
        # One at a time is seen; it ends when the test says so.
        return Answer(pieces=[WHOLE], delay_s=0 if let_go.is_set() else 2)

    two[0].script = script
    local = pool(two[0].url, connections=1, queue=2)
    stack = stack_for(two[0], upstreams=local)
    with concurrent.futures.ThreadPoolExecutor(6) as agents:
        calls = [agents.submit(post, stack) for _ in range(6)]
        wait_for("three that are turned away", lambda: sum(call.done() for call in calls) == 3)
        assert (shown(stack)[0]["inflight"], shown(stack)[0]["waiting"]) == (1, 2)
        let_go.set()
        replies = [call.result() for call in calls]

    assert sorted(status for status, _, _ in replies) == [200, 200, 200, 502, 502, 502]
    rows = stack.calls(6)
    turned_away = [row for row in rows if row["outcome"] == "failed"]
    assert {row["error_type"] for row in turned_away} == {"upstream_pool_full"}
    assert {str(row["effective_cost_usd"]) for row in turned_away} == {"0.000000000000"}
    assert two[0].connections == 1


def test_calls_of_a_server_that_is_gone_are_moved_whatever_the_retry_budget(
    two: list[ScriptedUpstream], stack_for: StackMaker
) -> None:
    (nobody,) = free_ports(1)
    local = pool(
        f"http://127.0.0.1:{nobody}",
        two[0].url,
        balance="round_robin",
        retry_budget=0,
        breaker={"failures": 0},
    )
    stack = stack_for(two[0], upstreams=local, with_collector=False)

    # Every other call is to be moved: more than the ten retries that a budget begins with.
    assert [post(stack)[0] for _ in range(30)] == [200] * 30


def test_nobody_there_at_all_is_said_at_once(stack_for: StackMaker, upstream: ScriptedUpstream) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
    stack = stack_for(upstream, upstreams=pool(*urls))

    status, _, said = post(stack)

    assert status == 502
    assert b"cannot be reached" in said
    (row,) = stack.calls(1)
    assert (row["outcome"], row["error_type"]) == ("failed", "upstream_connect")
    assert len(stack.ask("attempts", call_id=row["call_id"])) == 3
