"""kill -9 at random moments during traffic: nothing is lost, nothing is doubled, sums are exact."""

import http.client
import json
import random
import signal
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

StackMaker = Callable[..., Stack]


class Client(threading.Thread):
    """An agent that calls one after the other and remembers which replies it got completely."""

    def __init__(self, stack: Stack, number: int, stopping: threading.Event) -> None:
        super().__init__(daemon=True)
        self.stack, self.number, self.stopping = stack, number, stopping
        self.answered: dict[str, int] = {}
        self.random = random.Random(number)

    def run(self) -> None:
        while not self.stopping.is_set():
            tokens = self.random.randrange(1, 10_000)
            messages = [{"role": "user", "content": str(tokens)}]
            body: dict[str, Any] = {"model": "gpt-4o-mini", "messages": messages}
            if streams := self.random.random() < 0.5:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
            connection = http.client.HTTPConnection("127.0.0.1", self.stack.ports[0], timeout=10)
            try:
                connection.request(
                    "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"}
                )
                reply = connection.getresponse()
                read = reply.read()
                if reply.status == 200:
                    data = json.loads(read.split(b"\n\n")[-3].removeprefix(b"data: ") if streams else read)
                    self.answered[reply.headers["x-bursar-call-id"]] = data["usage"]["completion_tokens"]
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)  # the sidecar was just killed
            finally:
                connection.close()


def answer(seen: Seen) -> Answer:
    """As many output tokens as the question says."""
    asked = json.loads(seen.body)
    tokens = int(asked["messages"][0]["content"])
    usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}
    said = {"id": "c", "model": "gpt-4o-mini"}
    if asked.get("stream"):
        choices = [
            [{"index": 0, "delta": {"role": "assistant", "content": "x"}, "finish_reason": None}],
            [{"index": 0, "delta": {"content": "y"}, "finish_reason": "stop"}],
        ]
        chunks = [*({**said, "choices": each} for each in choices), {**said, "choices": [], "usage": usage}]
        pieces = [b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks]
        events = (("content-type", "text/event-stream"),)
        return Answer(headers=events, pieces=[*pieces, b"data: [DONE]\n\n"], chunked=True, gap_s=0.001)
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    return Answer(pieces=[json.dumps({**said, "choices": [choice], "usage": usage}).encode()], delay_s=0.002)


def survive(stack: Stack, kills: int, seed: int) -> None:
    """Kill sidecar and collector in turn, then compare the ledger with what the agents got."""
    chooser = random.Random(seed)
    stopping = threading.Event()
    clients = [Client(stack, number, stopping) for number in range(4)]
    for client in clients:
        client.start()
    for kill in range(kills):
        name = ("sidecar", "collector")[kill % 2]
        time.sleep(chooser.uniform(0.05, 0.5))
        stack.stop(name, signal.SIGKILL)
        stack.start(name)
    stopping.set()
    for client in clients:
        client.join(30)
    assert stack.stop("sidecar") == 0

    answered = {call: tokens for client in clients for call, tokens in client.answered.items()}
    assert len(answered) > 5 * kills
    rows = settled_rows(stack, set(answered))

    ids = [row["call_id"] for row in rows]
    assert len(ids) == len(set(ids))
    by_id = {row["call_id"]: row for row in rows}
    wrong = {
        call: (tokens, by_id[call]["output_tokens"], by_id[call]["usage_grade"])
        for call, tokens in answered.items()
        if (by_id[call]["output_tokens"], by_id[call]["usage_grade"]) != (tokens, "reported")
    }
    assert wrong == {}
    # 10 x 0.15 and tokens x 0.60 USD per million
    expected = sum(Decimal(1500 + 600 * tokens) for tokens in answered.values()) / Decimal(10**9)
    booked = sum(Decimal(by_id[call]["effective_cost_usd"]) for call in answered)
    assert booked == expected
    unanswered = [row for row in rows if row["call_id"] not in answered]
    assert all(row["usage_grade"] in ("reported", "assumed", "estimated") for row in unanswered)
    total = stack.ask("totals")[0]
    assert Decimal(total["effective_cost_usd"]) == sum(Decimal(row["effective_cost_usd"]) for row in rows)
    assert total["calls"] == len(rows)


def settled_rows(stack: Stack, wanted: set[str]) -> list[dict]:
    def rows() -> list[dict] | None:
        found = page = stack.ask("calls", limit=10_000)
        while len(page) == 10_000:
            page = stack.ask("calls", limit=10_000, before=page[-1]["call_id"])
            found += page
        return found if wanted <= {row["call_id"] for row in found} else None

    return list(wait_for("all answered calls in the ledger", rows, 60))


def test_nothing_is_lost_or_doubled_when_processes_are_killed(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = answer
    survive(stack_for(upstream), kills=10, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_in_a_hundred_kills(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = answer
    survive(stack_for(upstream), kills=100, seed=2)


def test_a_call_that_was_running_when_the_sidecar_died_is_booked_at_its_hold(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(delay_s=30)
    stack = stack_for(upstream)
    body = {"model": "gpt-4o-mini", "max_tokens": 1000, "messages": [{"role": "user", "content": "x"}]}
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports[0], timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    wait_for("the request upstream", lambda: upstream.seen)

    stack.stop("sidecar", signal.SIGKILL)
    connection.close()
    stack.start("sidecar")

    (row,) = stack.calls(1)
    assert (row["outcome"], row["outcome_reason"], row["usage_grade"]) == ("failed", "crashed", "assumed")
    assert row["output_tokens"] == 1000
    assert Decimal(row["effective_cost_usd"]) >= Decimal("0.0006")  # 1,000 x 0.60 USD/Mtok, and the prompt
