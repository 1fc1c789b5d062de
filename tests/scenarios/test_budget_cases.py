"""What must hold of budgets whatever is asked of a sidecar and whatever becomes of it: real processes."""

import http.client
import json
import random
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import pytest
from support.agent import ASK, post
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream

from collector.journal import FrameKind, decode_event, read_frames, segments
from sidecar.keys import KeyRing
from sidecar.routes import OWN_ROUTES
from tests.scenarios.budget_scenes import PRICES, SSE, chat_event, chat_reply, operate, standings

StackMaker = Callable[..., Stack]

CAPPED = {**ASK, "max_tokens": 100}


def day(name: str = "all", limit: str = "1 USD", **more: Any) -> dict[str, Any]:
    return {"name": name, "limit": limit, "window": "day", **more}


def with_budgets(*budgets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"budgets": list(budgets), "prices": PRICES, **more}


def refused_by(body: bytes) -> str:
    return str(json.loads(body)["error"]["message"])


def open_call(stack: Stack, body: Any) -> socket.socket:
    """A request that was sent, and whose reply nobody has read yet."""
    raw = json.dumps(body).encode()
    client = socket.create_connection(("127.0.0.1", stack.ports[0]), 10)
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(raw), raw)
    )
    return client


# ---- several budgets, every route ---------------------------------------------------------------


SCOPES: dict[str, dict[str, Any]] = {
    "team": {"match": {"team": "t"}},
    "agent": {"match": {"agent": "a"}},
    "model": {"match": {"model": "gpt-4o-mini"}},
    "everyone": {},
}


def test_the_tightest_of_four_budgets_is_named_and_none_of_them_keeps_anything(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    rooms = dict(zip(SCOPES, ("0.9 USD", "0.0005 USD", "0.7 USD", "0.0004 USD"), strict=True))
    budgets = [day(name, limit, **SCOPES[name]) for name, limit in rooms.items()]
    stack = stack_for(upstream, settings=with_budgets(*budgets), with_collector=False)

    def refusal() -> str:
        status, _, body = post(stack, CAPPED, x_bursar_agent="a", x_bursar_team="t")
        assert status == 402
        return refused_by(body)

    assert "'everyone'" in refusal()
    # Wherever it stands in the list, and though a second one has too little room as well.
    rooms = dict.fromkeys(SCOPES, "0.8 USD") | {"everyone": "0.0005 USD", "model": "0.0004 USD"}
    names = random.Random(1).sample(list(SCOPES), len(SCOPES))
    stack.write_config(budgets=[day(name, rooms[name], **SCOPES[name]) for name in names])
    wait_for("another to be the tightest", lambda: "'model'" in refusal())
    assert upstream.seen == []
    shown = standings(stack, agent="a", team="t")
    assert {one["name"] for one in shown} >= {"team", "agent", "everyone"}
    assert {(one["spent"], one["held"]) for one in shown} == {("0.000000000000", "0.000000000000")}


PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CAPPED,
    "/v1/completions": {"model": "gpt-4o-mini", "prompt": "x", "max_tokens": 100},
    "/v1/responses": {"model": "gpt-4o-mini", "input": "x", "max_output_tokens": 100},
    "/v1/embeddings": {"model": "gpt-4o-mini", "input": "x"},
    "/v1/messages": {**CAPPED, "model": "claude-sonnet-4-6"},
    "/openai/v1/chat/completions": CAPPED,
    "/openai/v1/embeddings": {"model": "gpt-4o-mini", "input": "x"},
    "/anthropic/v1/messages": {**CAPPED, "model": "claude-sonnet-4-6"},
}


def test_no_path_to_a_model_leads_around_a_used_up_budget(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    stack = stack_for(upstream, settings=with_budgets(day(limit="0 USD")), with_collector=False)
    # All that there are: a new dialect cannot be forgotten here.
    assert OWN_ROUTES.keys() - {"/v1/messages/count_tokens"} <= PATHS.keys()
    assert {path: post(stack, body, path)[0] for path, body in PATHS.items()} == dict.fromkeys(PATHS, 402)
    for path in ("/openai/v1/batches", "/openai/v1/files", "/openai/v1/fine_tuning/jobs"):
        assert post(stack, {"input_file_id": "f"}, path)[0] in (402, 403, 404)
    assert upstream.seen == []
    assert post(stack, {**CAPPED, "model": "claude-sonnet-4-6"}, "/v1/messages/count_tokens")[0] == 200


def test_what_is_said_twice_on_pass_through_is_held_for_at_the_dearer(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    """Some parsers take the first of two values, others the last: neither may lead around a budget."""
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=with_budgets(day(limit="0.0005 USD")), with_collector=False)
    ring = KeyRing(stack.data_dir)
    token, _ = ring.create(time.time(), team="t", models=("gpt-4.1-nano",))

    def status_of(said: bytes) -> int:
        body = b'{"messages":[{"role":"user","content":"hi"}],%b}' % said
        return post(stack, body, "/openai/v1/chat/completions", x_api_key=token)[0]

    wait_for("the key to be known", lambda: post(stack)[0] == 401)
    cheap, dear = b'"model":"gpt-4.1-nano"', b'"model":"gpt-4o-mini"'
    few, many = b'"max_tokens":100', b'"max_tokens":1000'
    for said in ((cheap, many, few), (cheap, few, many), (cheap, many, b'"max_tok\\u0065ns":100')):
        assert status_of(b",".join(said)) == 402
    for said in ((cheap, dear, few), (dear, cheap, few)):
        assert status_of(b",".join(said)) == 403  # The key may use only one of them.
    assert upstream.seen == []
    assert status_of(b",".join((cheap, few))) == 200


def test_a_model_without_a_price_is_refused_where_the_budget_says_so_and_else_never_free(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply("nobody-knows-1")])
    strict = day("strict", match={"agent": "careful"}, unpriced="refuse")
    soft = day("soft", mode="soft", at={"80%": "notify"})
    stack = stack_for(upstream, settings=with_budgets(strict, soft))
    unknown = {**CAPPED, "model": "nobody-knows-1"}
    status, _, body = post(stack, unknown, x_bursar_agent="careful")
    assert (status, json.loads(body)["error"]["code"]) == (402, "unpriced_model")
    assert post(stack, unknown, x_bursar_agent="other")[0] == 200
    refused, served = stack.calls(2)
    assert (refused["outcome"], served["outcome"], served["price_grade"]) == ("refused", "served", "prior")
    assert Decimal(served["effective_cost_usd"]) > 0
    [shown] = [one for one in standings(stack) if one["name"] == "soft"]
    assert Decimal(shown["spent"]) == Decimal(served["effective_cost_usd"]).quantize(Decimal("1e-12"))
    # What the alert UnpricedCalls watches.
    with urllib.request.urlopen(f"{stack.control_url}/metrics", timeout=10) as reply:
        assert re.search(rb"bursar_unpriced_calls_total\{[^}]*\} 1\n", reply.read())


def test_forty_streams_with_a_high_cap_run_at_once_under_a_budget_that_could_not_pay_for_all(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    """40 x 128,000 tokens x 10 USD/Mtok are 51 USD; what is really written costs cents."""
    upstream.script = lambda seen: Answer(headers=SSE, pieces=[chat_event("word ")], chunked=True, hold=True)
    stack = stack_for(upstream, settings=with_budgets(day(limit="25 USD")), with_collector=False)
    clients = [open_call(stack, {**ASK, "max_tokens": 128_000, "stream": True}) for _ in range(40)]
    try:
        heads = [client.recv(4096).split(b"\r\n", 1)[0] for client in clients]
    finally:
        for client in clients:
            client.close()
    assert heads.count(b"HTTP/1.1 200 OK") >= 35
    wait_for("nothing held", lambda: Decimal(standings(stack)[0]["held"]) == 0)


# ---- crashes and clients that go ----------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_a_sidecar_killed_between_hold_and_settlement_knows_the_truth_when_it_is_back(
    upstream: ScriptedUpstream, stack_for: StackMaker, rounds: int
) -> None:
    upstream.script = lambda seen: Answer(delay_s=30)
    stack = stack_for(upstream, settings=with_budgets(day(limit="5 USD")))
    for round_ in range(1, rounds + 1):
        client = open_call(stack, {**ASK, "max_tokens": 1000})
        wait_for("the request upstream", lambda wanted=round_: len(upstream.seen) == wanted)
        stack.stop("sidecar", signal.SIGKILL)
        client.close()
        stack.start("sidecar")
        [shown] = standings(stack)
        assert Decimal(shown["held"]) == 0
        # 1,000 x 10 USD/Mtok, and the prompt
        assert Decimal(shown["spent"]) >= Decimal("0.01") * round_
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    assert post(stack, CAPPED)[0] == 200
    booked = sum(Decimal(row["effective_cost_usd"]) for row in stack.calls(rounds + 1))
    [shown] = standings(stack)
    # Each call is rounded up to whole nano-USD once.
    assert booked <= Decimal(shown["spent"]) <= booked + Decimal(rounds + 1) / 10**9


def test_an_agent_that_leaves_right_before_the_usage_pays_for_what_it_got(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    words = [chat_event(f"word{number} ") for number in range(200)]
    upstream.script = lambda seen: Answer(headers=SSE, pieces=words, chunked=True, hold=True)
    stack = stack_for(upstream, settings=with_budgets(day()))
    waits: list[float] = []
    while len(waits) < 5 and min(waits, default=1.0) > 0.25:  # a busy machine is given five tries
        client = open_call(stack, {**ASK, "stream": True})
        received = b""
        while received.count(b"data:") < 200:
            received += client.recv(65536)
        left = time.monotonic()
        client.close()
        wait_for("the upstream to be left", lambda: len(upstream.gone) > len(waits))
        waits.append(upstream.gone[-1] - left)
    assert min(waits) <= 0.25
    rows = stack.calls(len(waits))
    assert {(row["outcome"], row["usage_grade"]) for row in rows} == {("abandoned", "estimated")}
    # "wordN " is at least two tokens for any tokenizer; half of that is the least we may charge.
    assert all(row["output_tokens"] >= 200 for row in rows)
    assert all(Decimal(row["effective_cost_usd"]) >= Decimal("0.002") for row in rows)
    [shown] = standings(stack)
    assert Decimal(shown["spent"]) >= sum(Decimal(row["effective_cost_usd"]) for row in rows)
    assert Decimal(shown["held"]) == 0


@pytest.mark.slow
def test_a_client_that_stops_reading_is_cut_at_the_idle_limit_and_pays_for_what_was_sent(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    block = chat_event("word " * 2000)
    upstream.script = lambda seen: Answer(headers=SSE, pieces=[block] * 4000, chunked=True)
    stack = stack_for(upstream, settings=with_budgets(day(limit="9 USD"), deadlines={"idle": "2s"}))
    client = open_call(stack, {**ASK, "stream": True})
    client.recv(1)
    [row] = stack.calls(1, 40)
    client.close()
    assert row["outcome"] in ("abandoned", "failed")
    assert row["output_tokens"] >= 2000
    assert row["response_bytes"] < 16 << 20
    [shown] = standings(stack)
    assert Decimal(shown["held"]) == 0
    assert Decimal(shown["spent"]) >= Decimal(row["effective_cost_usd"])


# ---- streams at the limit -----------------------------------------------------------------------


def message_events(count: int) -> list[bytes]:
    start = {
        "type": "message_start",
        "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6",
            "content": [], "stop_reason": None, "stop_sequence": None,
            "usage": {"input_tokens": 12, "output_tokens": 1},
        },
    }  # fmt: skip
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "word " * 40},
    }
    return [
        f"event: {body['type']}\ndata: {json.dumps(body)}\n\n".encode()
        for body in (start, block, *[delta] * count)
    ]


def test_a_message_stream_that_crosses_its_budget_ends_as_anthropics_sdk_expects(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(headers=SSE, pieces=message_events(8000), gap_s=0.005, chunked=True)
    stack = stack_for(upstream, settings=with_budgets(day(limit="0.05 USD")))
    with (
        anthropic.Anthropic(api_key="x", base_url=stack.url, max_retries=0) as client,
        client.messages.stream(
            model="claude-sonnet-4-6", max_tokens=60_000, messages=[{"role": "user", "content": "go"}]
        ) as stream,
    ):
        message = stream.get_final_message()
    assert message.stop_reason == "max_tokens"
    wait_for("the upstream to be left", lambda: upstream.gone)
    [row] = stack.calls(1)
    assert row["outcome"] == "cut"
    assert Decimal("0.01") < Decimal(row["effective_cost_usd"]) <= Decimal("0.05")


# ---- limits that change -------------------------------------------------------------------------


def test_a_limit_that_changes_holds_from_the_next_call_and_a_wrong_one_changes_nothing(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=with_budgets(day()), with_collector=False)
    assert post(stack, CAPPED)[0] == 200  # 0.002 USD

    def served() -> bool:
        return post(stack, CAPPED)[0] == 200

    stack.write_config(budgets=[day(limit="0.001 USD")])
    wait_for("the lower limit", lambda: not served())
    wrong = ("-5 USD", "1e30 USD", "NaN USD", "'10'")
    stack.write_config(budgets=[day(f"b{place}", limit.strip("'")) for place, limit in enumerate(wrong)])
    wait_for("the complaints", lambda: all(limit in stack.log("sidecar") for limit in wrong))
    assert not served()
    stack.write_config(budgets=[])
    wait_for("no limit at all", served)
    stack.write_config(budgets=[day(limit="0 USD")])
    wait_for("a limit of nothing", lambda: not served())
    stack.write_config(budgets=[day(limit="3 USD")])
    wait_for("the higher limit", served)


def test_a_share_that_was_reached_is_told_once_and_still_holds_after_a_restart(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply(str(json.loads(seen.body)["model"]))])
    at = {"50%": "notify", "80%": "downgrade", "100%": "refuse"}
    downgrades = [{"from": "gpt-4o-mini", "to": ["gpt-4.1-nano"]}]
    settings = with_budgets(day(limit="0.01 USD", at=at), downgrades=downgrades)
    stack = stack_for(upstream, settings=settings, with_collector=False)
    # 0.002 USD each: half is reached with the third, four fifths with the fourth.
    assert [post(stack, CAPPED)[0] for _ in range(4)] == [200] * 4
    stack.stop("sidecar", signal.SIGKILL)
    stack.start("sidecar")
    status, headers, _ = post(stack, CAPPED)
    assert (status, headers["x-bursar-downgraded-from"]) == (200, "gpt-4o-mini")
    stack.stop("sidecar")
    assert told(stack) == [("notify", "50% reached"), ("downgrade", "80% reached")]


def told(stack: Stack) -> list[tuple[object, object]]:
    """Thresholds that were reached, by the journal, in order."""
    events = [
        decode_event(frame.payload)
        for segment in segments(stack.data_dir / "journal")
        for frame in read_frames(segment.path)[0]
        if frame.kind == FrameKind.EVENT
    ]
    return [
        (event.fields["action"], event.fields["detail"])
        for event in events
        if "reached" in str(event.fields.get("detail"))
    ]


# ---- misuse -------------------------------------------------------------------------------------


def test_operators_reach_a_single_worker_and_agents_their_budgets(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=with_budgets(day()), with_collector=False)
    asked = {"model": "gpt-4o-mini", "input_tokens": 10, "max_tokens": 10}
    assert operate(stack, "POST", "/bursar/v1/simulate", asked)[0] == 200
    throttle = {"action": "throttle", "per_minute": "5 calls"}
    status, said = operate(stack, "POST", "/bursar/v1/directives", throttle)
    assert (status, "not money" in said["error"]) == (400, True)
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports[0], timeout=10)
    connection.request("POST", "/bursar/v1/budgets", b"{}")
    assert connection.getresponse().status == 405
    connection.close()
