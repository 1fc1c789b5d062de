"""Whatever goes wrong between agent and upstream, the agent is told and the call is booked once."""

import contextlib
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.agent import ASK, post
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream

StackMaker = Callable[..., Stack]

SSE = (("content-type", "text/event-stream"),)


def event(text: str) -> bytes:
    """One chunk of a chat stream."""
    chunk = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


def whole(content: str = "hello") -> bytes:
    """A chat completion that used 1,000 input and 100 output tokens."""
    return json.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "model": "gpt-4o-mini",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        }
    ).encode()


@contextlib.contextmanager
def raw_upstream(*pieces: bytes) -> Iterator[int]:
    """The port of a server that answers each connection with ``pieces``, one by one, and holds it open."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as held:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = held.enter_context(listener.accept()[0])
                    client.recv(65536)
                    for piece in pieces:
                        client.sendall(piece)
                        time.sleep(0.1)

        threading.Thread(target=answer, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedUpstream, Stack]]:
    """By its defaults, for all tests that need nothing else: most of a start's time goes to imports."""
    with ScriptedUpstream(lambda seen: Answer()) as upstream:
        kinds = {
            "openai": {"kind": "openai", "base_url": f"{upstream.url}/v1"},
            "anthropic": {"kind": "anthropic", "base_url": upstream.url},
        }
        with Stack(tmp_path_factory.mktemp("shared"), kinds) as stack:
            yield upstream, stack


@pytest.fixture
def upstream(shared: tuple[ScriptedUpstream, Stack]) -> ScriptedUpstream:
    shared[0].forget()
    return shared[0]


@pytest.fixture
def stack(shared: tuple[ScriptedUpstream, Stack], upstream: ScriptedUpstream) -> Stack:
    shared[1].begin_anew()
    return shared[1]


def half_asked(stack: Stack, body: Any) -> socket.socket:
    """A request that was sent, and whose reply nobody has read yet."""
    raw = json.dumps(body).encode()
    client = socket.create_connection(("127.0.0.1", stack.ports[0]), 10)
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(raw), raw)
    )
    return client


def test_a_whole_reply_says_what_it_cost(upstream: ScriptedUpstream, stack: Stack) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole()])

    status, headers, body = post(stack)

    assert (status, body) == (200, whole())
    # 1,000 x 0.15 USD/Mtok + 100 x 0.60 USD/Mtok
    assert Decimal(headers["x-bursar-cost-usd"]) == Decimal("0.00021")
    (row,) = stack.calls(1)
    assert Decimal(row["effective_cost_usd"]) == Decimal("0.00021")
    assert row["call_id"] == headers["x-bursar-call-id"]


def test_usage_is_asked_for_upstream_and_kept_from_an_agent_that_did_not_ask(
    upstream: ScriptedUpstream, stack: Stack
) -> None:
    counts = b'{"prompt_tokens":7,"completion_tokens":2}'
    usage = b'data: {"id":"c1","model":"gpt-4o-mini","choices":[],"usage":' + counts + b"}\n\n"
    pieces = [event("a"), event("b"), usage[:30], usage[30:], b"data: [DONE]\n\n"]
    upstream.script = lambda seen: Answer(headers=SSE, pieces=pieces, chunked=True, gap_s=0.01)

    _, _, body = post(stack, {**ASK, "stream": True})

    assert body == event("a") + event("b") + b"data: [DONE]\n\n"
    assert json.loads(upstream.seen[0].body)["stream_options"] == {"include_usage": True}
    (row,) = stack.calls(1)
    assert (row["input_tokens"], row["output_tokens"], row["usage_grade"]) == (7, 2, "reported")


def test_an_agent_that_leaves_before_the_first_token_frees_the_upstream_at_once(
    upstream: ScriptedUpstream, stack: Stack
) -> None:
    upstream.script = lambda seen: Answer(delay_s=20)
    waits: list[float] = []
    while len(waits) < 5 and min(waits, default=1.0) > 0.25:  # a busy machine is given five tries
        client = half_asked(stack, {**ASK, "stream": True})
        wait_for("the request upstream", lambda: len(upstream.seen) > len(waits))
        left = time.monotonic()
        client.close()
        wait_for("the upstream to be left", lambda: len(upstream.gone) > len(waits))
        waits.append(upstream.gone[-1] - left)

    assert min(waits) <= 0.25
    for row in stack.calls(len(waits)):
        assert (row["outcome"], row["usage_grade"], row["http_status"]) == ("abandoned", "estimated", 499)
        assert row["input_tokens"] > 0
        assert Decimal(row["effective_cost_usd"]) > 0


def test_an_abandoned_whole_reply_is_charged_at_its_hold(upstream: ScriptedUpstream, stack: Stack) -> None:
    upstream.script = lambda seen: Answer(delay_s=20)
    client = half_asked(stack, {**ASK, "max_tokens": 500})
    wait_for("the request upstream", lambda: upstream.seen)
    client.close()

    (row,) = stack.calls(1)
    assert (row["outcome"], row["usage_grade"], row["output_tokens"]) == ("abandoned", "assumed", 500)


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_that_leaves_just_before_the_end_of_a_whole_reply_pays_for_it(
    upstream: ScriptedUpstream, stack: Stack, stream: bool
) -> None:
    body = whole("word " * 80_000)
    upstream.script = lambda seen: Answer(pieces=[body[:-1], body[-1:]], gap_s=2)
    client = half_asked(stack, {**ASK, "max_tokens": 3000, "stream": stream})
    got = b""
    while len(got) < len(body) - 1:
        got += client.recv(65536)
    client.close()

    (row,) = stack.calls(1)
    assert (row["outcome"], row["usage_grade"], row["output_tokens"]) == ("abandoned", "assumed", 3000)


def test_an_agent_that_leaves_in_mid_stream_pays_for_what_came(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    """Counted as replies that were heard to their end have shown: here a token has seven letters."""
    words = [event("word ") for _ in range(56)]
    usage = {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49}
    end = f"data: {json.dumps({'id': 'c1', 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode()
    upstream.script = lambda seen: Answer(headers=SSE, pieces=[*words, end], chunked=True)
    stack = stack_for(upstream)
    for _ in range(5):
        assert post(stack, {**ASK, "stream": True})[0] == 200
    upstream.script = lambda seen: Answer(headers=SSE, pieces=words[:50], chunked=True, hold=True)
    client = half_asked(stack, {**ASK, "stream": True})
    received = b""
    while received.count(b"data:") < 50:
        received += client.recv(65536)
    client.close()
    wait_for("the upstream to be left", lambda: upstream.gone)

    row = stack.calls(6)[-1]
    assert (row["outcome"], row["usage_grade"]) == ("abandoned", "estimated")
    # 250 letters are 35.7 tokens; a twentieth off at most.
    assert 34 <= row["output_tokens"] <= 37


@pytest.mark.slow
def test_an_upstream_that_holds_on_after_the_final_event_does_not_hold_the_agent(
    upstream: ScriptedUpstream, stack: Stack
) -> None:
    upstream.script = lambda seen: Answer(
        headers=SSE, pieces=[event("a"), b"data: [DONE]\n\n"], chunked=True, hold=True
    )

    began = time.monotonic()
    _, _, body = post(stack, {**ASK, "stream": True})

    assert body == event("a") + b"data: [DONE]\n\n"
    assert 3 < time.monotonic() - began < 60
    (row,) = stack.calls(1)
    assert row["outcome"] == "served"


@pytest.mark.parametrize("chunked", [True, False])
def test_a_reply_that_breaks_off_is_seen_as_broken_and_booked_as_failed(
    upstream: ScriptedUpstream, stack: Stack, chunked: bool
) -> None:
    upstream.script = lambda seen: Answer(
        headers=SSE, pieces=[event("a"), event("b")], chunked=chunked, announced=9999, break_off=True
    )

    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        post(stack, {**ASK, "stream": True})

    (row,) = stack.calls(1)
    assert (row["outcome"], row["usage_grade"]) == ("failed", "estimated")
    assert row["error_type"]
    assert row["output_tokens"] > 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", ASK),
        ("/v1/messages", {"model": "claude-sonnet-4-6", "max_tokens": 5, "messages": ASK["messages"]}),
    ],
)
def test_an_upstream_that_is_not_there_is_a_502_in_the_callers_dialect(
    upstream: ScriptedUpstream, stack_for: StackMaker, path: str, body: Any
) -> None:
    nowhere = {
        "openai": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"},
        "anthropic": {"kind": "anthropic", "base_url": "http://127.0.0.1:9"},
    }
    stack = stack_for(upstream, upstreams=nowhere)

    status, headers, said = post(stack, body, path)

    error = json.loads(said)
    assert status == 502
    assert "cannot be reached" in error["error"]["message"]
    assert (error.get("type") == "error") == (path == "/v1/messages")
    (row,) = stack.calls(1)
    assert (row["outcome"], row["error_type"], row["usage_grade"]) == ("failed", "upstream_connect", "")
    assert headers["x-bursar-call-id"] == row["call_id"]


def test_a_stream_whose_framing_breaks_before_the_agent_got_anything_is_a_502(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    said = {"usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, "choices": []}
    events = event("hello") + f"data: {json.dumps(said)}\n\n".encode() + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    with raw_upstream(head + b"%x\r\n%b\r\nzz\r\n" % (len(events), events)) as port:
        openai = {"kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "retries": 0}
        stack = stack_for(upstream, upstreams={"openai": openai})

        status, _, body = post(stack, {**ASK, "stream": True})

        assert status == 502
        assert json.loads(body)["error"]["code"] == "upstream_protocol"
        (row,) = stack.calls(1)
    assert (row["outcome"], row["http_status"], row["error_type"]) == ("failed", 502, "upstream_protocol")
    assert (row["input_tokens"], row["output_tokens"]) == (10, 5)


def test_a_stream_whose_framing_breaks_later_reaches_the_agent_up_to_there(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    first, second = (b"%x\r\n%b\r\n" % (len(said), said) for said in (event("hello"), event("you")))
    with raw_upstream(head + first, second + b"zz\r\n") as port:
        openai = {"kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "retries": 0}
        stack = stack_for(upstream, upstreams={"openai": openai})
        with half_asked(stack, {**ASK, "stream": True}) as client:
            got = b""
            while more := client.recv(65536):
                got += more
        (row,) = stack.calls(1)

    assert got.endswith(first + second)  # and no last chunk: the agent sees that it is incomplete
    assert (row["outcome"], row["error_type"]) == ("failed", "upstream_protocol")


def test_a_redirect_is_never_followed(upstream: ScriptedUpstream, stack: Stack) -> None:
    with ScriptedUpstream(lambda seen: Answer(pieces=[whole()])) as elsewhere:
        upstream.script = lambda seen: Answer(
            status=307, headers=[("location", f"{elsewhere.url}/v1/x")], pieces=[]
        )

        status, _, _ = post(stack)

        assert status == 502
        assert elsewhere.connections == 0
    (row,) = stack.calls(1)
    assert (row["error_type"], row["usage_grade"]) == ("upstream_redirect", "")  # nobody has worked on it
    assert Decimal(row["effective_cost_usd"]) == 0


def test_what_has_no_place_in_a_reply_and_what_only_we_say_is_left_out(
    upstream: ScriptedUpstream, stack: Stack
) -> None:
    forged = [("Host", "elsewhere"), ("X-Bursar-Cost-USD", "0"), ("x-bursar-cache", "hit"), ("x-own", "1")]
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}
    last = f"data: {json.dumps(usage)}\n\n".encode() + b"data: [DONE]\n\n"
    upstream.script = lambda seen: (
        Answer(
            headers=[("content-type", "Text/Event-Stream"), *forged], pieces=[event("a"), last], chunked=True
        )
        if b"stream" in seen.body
        else Answer(headers=[("content-type", "application/json"), *forged], pieces=[whole()])
    )

    for body in (ASK, {**ASK, "stream": True}):
        status, headers, _ = post(stack, body)

        assert status == 200
        assert (headers["x-own"], "host" in headers) == ("1", False)
        assert headers["x-bursar-cache"] != "hit"
        assert headers.get("x-bursar-cost-usd") != "0"
    rows = stack.calls(2)
    assert [(row["outcome"], row["usage_grade"]) for row in rows] == [("served", "reported")] * 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "JSON"),
        (b'{"model": "a", "model": "b", "messages": []}', "model"),
        (b'{"model": ["a"], "messages": []}', "model"),
        (b'{"model": "a", "messages": [], "api_base": "http://evil"}', "api_base"),
        (b'{"model": "a", "messages": [{"role": "user", "content": "\xff"}]}', ""),
        (b'{"model": "a", "messages": ' + b"[" * 70 + b"]" * 70 + b"}", ""),
        (b'{"model": "a", "temperature": NaN, "messages": []}', ""),
        (
            b'{"model": "a", "messages": [], "tools": [' + b"{}," * 100_000 + b"{}]}",
            "more than 65536 members",
        ),
        (b'{"model": "a", "messages": [], ' + b'"x":1,' * 2_000 + b'"y":1}', "appears twice"),
        (b'{"model": "a", ' + b",".join(b'"x%d":1' % name for name in range(2_000)) + b"}", "2001 fields"),
    ],
)
def test_a_bad_request_is_refused_in_words_and_recorded(
    upstream: ScriptedUpstream, stack: Stack, body: bytes, said: str
) -> None:

    status, headers, reply = post(stack, body)

    error = json.loads(reply)["error"]
    assert status == 400
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]
    assert headers["x-should-retry"] == "false"
    assert (upstream.connections, upstream.seen) == (0, [])
    (row,) = stack.calls(1)
    assert (row["outcome"], row["http_status"]) == ("refused", 400)


def test_what_is_not_served_is_said_to_be_no_fault_of_the_request(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.ports[0]), 10) as client:
        client.sendall(b"BREW /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n")
        reply = http.client.HTTPResponse(client)
        reply.begin()
        assert reply.status == 501
        assert json.loads(reply.read())["error"]["type"] == "api_error"


def test_paths_that_could_spend_unseen_are_refused(upstream: ScriptedUpstream, stack: Stack) -> None:

    status, _, body = post(stack, {"model": "x", "prompt": "y"}, "/openai/v1/images/generations")

    assert status == 403
    assert "unmetered_paths" in json.loads(body)["error"]["message"]
    assert (upstream.connections, upstream.seen) == (0, [])


def test_a_path_allowed_by_the_configuration_passes_though_it_says_no_usage(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstreams = {
        "openai": {"kind": "openai", "base_url": f"{upstream.url}/v1", "unmetered_paths": ["/v1/images"]},
    }
    upstream.script = lambda seen: Answer(pieces=[b'{"data": []}'])
    stack = stack_for(upstream, upstreams=upstreams)

    status, _, body = post(stack, {"model": "dall-e-3", "prompt": "y"}, "/openai/v1/images/generations")

    assert (status, body) == (200, b'{"data": []}')
    assert upstream.seen[0].target == "/v1/images/generations"


def test_what_the_agent_sends_along_stays_with_us(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    upstream.script = lambda seen: Answer(
        headers=[
            ("content-type", "application/json"),
            ("set-cookie", "a=b"),
            ("x-request-id", "r1"),
            ("openai-organization", "org-1"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
        ],
        pieces=[whole()],
    )
    upstreams = {"openai": {"kind": "openai", "base_url": f"{upstream.url}/v1", "api_key": "${OUR_KEY}"}}
    stack = stack_for(upstream, upstreams=upstreams, environment={"OUR_KEY": "sk-ours"})

    _, headers, _ = post(
        stack,
        authorization="Bearer sk-agent",
        cookie="c=d",
        x_forwarded_for="1.2.3.4",
        baggage="user.id=u1",
        proxy_authorization="Basic x",
        x_bursar_agent="a",
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
    )

    seen = {name for name, _ in upstream.seen[0].headers}
    assert upstream.seen[0].header("authorization") == "Bearer sk-ours"
    assert seen <= {
        "host",
        "content-length",
        "content-type",
        "authorization",
        "accept",
        "accept-encoding",
        "user-agent",
    }
    assert headers["x-request-id"] == "r1"
    assert not {"set-cookie", "openai-organization", "x-hop"} & {name.lower() for name in headers}
    (row,) = stack.calls(1)
    assert (row["trace_id"], row["parent_span_id"], row["user_id"]) == ("a" * 32, "b" * 16, "u1")


def test_a_virtual_key_opens_the_door_until_it_is_revoked(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    from sidecar.keys import KeyRing

    upstream.script = lambda seen: Answer(pieces=[whole()])
    stack = stack_for(upstream)
    ring = KeyRing(stack.data_dir)
    token, key = ring.create(time.time(), team="search", tenant="acme", models=("gpt-4o-mini",))

    def status_with(**headers: str) -> int:
        return post(stack, **headers)[0]

    wait_for(
        "the key to be known",
        lambda: status_with(authorization=f"Bearer {token}") == 200 and status_with() == 401,
    )
    for header in ("x_api_key", "api_key", "x_goog_api_key"):
        assert status_with(**{header: token}) == 200
    assert status_with(authorization=f"Bearer {token}", x_api_key="other") == 401
    assert status_with(authorization=f"Bearer {token}x") == 401
    assert status_with(x_api_key=key.digest) == 401
    other = post(stack, {**ASK, "model": "gpt-4o"}, x_api_key=token)
    assert other[0] == 403
    assert (
        status_with(x_api_key=token, x_bursar_tenant="evil", x_bursar_team="evil", x_bursar_agent="mine")
        == 200
    )
    ring.refresh()
    ring.revoke(key.id, time.time())
    wait_for("the key to be refused", lambda: status_with(x_api_key=token) == 401)

    rows = wait_for("the call in the ledger", lambda: stack.ask("calls", agent="mine", limit=10))
    assert [(row["tenant"], row["team"], row["key_id"]) for row in rows] == [("acme", "search", key.id)]
    assert all(seen.header("x-api-key") is None for seen in upstream.seen)


def test_a_stopping_sidecar_lets_streams_end_and_books_them(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    pieces = [event("word ") for _ in range(10)] + [b"data: [DONE]\n\n"]
    upstream.script = lambda seen: Answer(headers=SSE, pieces=pieces, chunked=True, gap_s=0.1)
    stack = stack_for(upstream)
    client = half_asked(stack, {**ASK, "stream": True})
    wait_for("the request upstream", lambda: upstream.seen)

    assert stack.stop("sidecar") == 0

    received = b""
    while data := client.recv(65536):
        received += data
    client.close()
    assert received.endswith(b"0\r\n\r\n")
    (row,) = stack.calls(1)
    assert row["outcome"] == "served"


def test_a_stream_that_outlasts_the_drain_is_cut_with_a_valid_end(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(headers=SSE, pieces=[event("word ")], chunked=True, hold=True)
    stack = stack_for(upstream, settings={"deadlines": {"drain": "500ms"}})
    client = half_asked(stack, {**ASK, "stream": True})
    received = client.recv(65536)

    assert stack.stop("sidecar", signal.SIGTERM) == 0

    while data := client.recv(65536):
        received += data
    client.close()
    assert b'"finish_reason":"length"' in received.replace(b" ", b"")
    assert b"data: [DONE]" in received
    (row,) = stack.calls(1)
    assert (row["outcome"], row["usage_grade"]) == ("cut", "estimated")


def test_a_changed_configuration_is_taken_up_and_a_broken_one_is_not(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[whole()])
    stack = stack_for(upstream)
    assert post(stack, path="/later/v1/chat/completions")[0] == 404

    later = {"openai": dict(stack.upstreams["openai"]), "later": dict(stack.upstreams["openai"])}
    stack.write_config(upstreams=later)
    wait_for("the new upstream", lambda: post(stack, path="/later/v1/chat/completions")[0] == 200)
    stack.write_config(upstreams=later, max_budet=3)
    wait_for("the complaint", lambda: "max_budet" in stack.log("sidecar"))

    assert post(stack, path="/later/v1/chat/completions")[0] == 200
