"""What is done about an agent that runs in circles: a cheaper model, a stop, and both wherever it goes on."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

from tests.scenarios.budget_scenes import PRICES, SSE, chat_event, operate
from tests.sidecar.budgets.redis_server import RedisServer

StackMaker = Callable[..., Stack]
TOOL: Any = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
DEAR, CHEAP = "gpt-4o-mini", "gpt-4.1-nano"


def model(seen: Seen) -> Answer:
    """Asks for the same search, whatever it is told; tells a long story where a stream is wanted."""
    body = json.loads(seen.body)
    if body.get("stream"):
        return Answer(headers=SSE, pieces=[chat_event(" word")], gap_s=0.05, chunked=True, endless=True)
    call = {"id": f"t{len(seen.body)}", "type": "function"}
    call["function"] = {"name": "search", "arguments": '{"q": "again"}'}  # type: ignore[assignment]
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    said = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
    return Answer(pieces=[json.dumps({**said, "choices": [choice], "usage": usage}).encode()])


class Agent:
    """Does what the model asks for, which is always the same, until it is refused."""

    def __init__(self, stack: Stack, conversation: str) -> None:
        self.messages: list[Any] = [{"role": "user", "content": "Find it."}]
        self.client = openai.OpenAI(
            base_url=f"{stack.url}/v1",
            api_key="k",
            max_retries=0,
            default_headers={"x-bursar-conversation": conversation},
        )

    def go_on(self, most: int) -> tuple[list[Any], openai.APIStatusError | None]:
        """The headers of the replies, and the refusal that ended it."""
        headers: list[Any] = []
        for _ in range(most):
            try:
                raw = self.client.chat.completions.with_raw_response.create(
                    model=DEAR, messages=self.messages, tools=[TOOL]
                )
            except openai.APIStatusError as error:
                return headers, error
            headers.append(raw.headers)
            message = raw.parse().choices[0].message
            self.messages.append(message.model_dump(exclude_none=True))
            self.messages += [
                {"role": "tool", "content": "no results", "tool_call_id": call.id}
                for call in message.tool_calls or ()
            ]
        return headers, None


@pytest.fixture
def agents() -> Iterator[Callable[[Stack, str], Agent]]:
    made: list[Agent] = []

    def make(stack: Stack, conversation: str) -> Agent:
        made.append(Agent(stack, conversation))
        return made[-1]

    yield make
    for agent in made:
        agent.client.close()


def test_a_loop_goes_on_with_a_cheaper_model_and_is_charged_for_that(
    upstream: ScriptedUpstream, stack_for: StackMaker, agents: Callable[[Stack, str], Agent]
) -> None:
    upstream.script = model
    settings = {
        "prices": PRICES,
        "runaway": {"action": "downgrade"},
        "downgrades": [{"from": DEAR, "to": [CHEAP]}],
    }
    stack = stack_for(upstream, settings=settings)

    headers, refusal = agents(stack, "circle").go_on(14)

    assert refusal is None
    moved = [sent.get("x-bursar-downgraded-from", "") for sent in headers]
    first = moved.index(DEAR)
    assert first <= 10
    assert moved == [""] * first + [DEAR] * (14 - first)
    asked = [json.loads(seen.body)["model"] for seen in upstream.seen]
    assert asked == [DEAR] * first + [CHEAP] * (14 - first)
    rows = stack.calls(14)
    # 1,000 tokens in and 100 out: 0.002 USD by the dear one's prices, a tenth of it by the cheap one's.
    assert [row["effective_cost_usd"] for row in rows[first:]] == ["0.000200000000"] * (14 - first)
    assert {row["downgraded_from"] for row in rows[first:]} == {DEAR}
    events = stack.ask("budget_events", budget="runaway")
    assert [event["action"] for event in events] == ["downgrade", "flag"]


def test_a_cut_ends_the_stream_that_runs_in_the_same_conversation(
    upstream: ScriptedUpstream, stack_for: StackMaker, agents: Callable[[Stack, str], Agent]
) -> None:
    upstream.script = model
    stack = stack_for(upstream, settings={"prices": PRICES, "runaway": {"action": "cut"}})
    agent, other = agents(stack, "circle"), agents(stack, "another")
    ended: dict[str, Any] = {}

    def listen(whose: Agent, name: str) -> None:
        story = whose.client.chat.completions.create(
            model=DEAR, messages=[{"role": "user", "content": "Tell me a story."}], stream=True
        )
        with story:
            for chunk in story:
                ended[f"{name} began"] = True
                if chunk.choices and chunk.choices[0].finish_reason:
                    ended[name] = chunk.choices[0].finish_reason
                    return
                if ended.get("over"):
                    return

    listeners = [
        threading.Thread(target=listen, args=(agent, "circle")),
        threading.Thread(target=listen, args=(other, "another")),
    ]
    for listener in listeners:
        listener.start()
    wait_for("both streams", lambda: {"circle began", "another began"} <= ended.keys())
    headers, refusal = agent.go_on(20)
    wait_for("the end of the stream", lambda: "circle" in ended)
    ended["over"] = True
    for listener in listeners:
        listener.join(30)

    assert len(headers) <= 10
    assert refusal is not None and refusal.code == "runaway_paused"
    assert ended["circle"] == "length"  # A valid end in the agent's own dialect.
    assert "another" not in ended
    wait_for("the events", lambda: len(stack.ask("budget_events", budget="runaway")) == 2)
    actions = [event["action"] for event in stack.ask("budget_events", budget="runaway")]
    assert actions == ["cut", "flag"]


def test_what_one_sidecar_stops_another_on_the_same_redis_refuses_and_may_let_go(
    upstream: ScriptedUpstream,
    stack_for: StackMaker,
    agents: Callable[[Stack, str], Agent],
    tmp_path: Path,
) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (scripts/setup/services.sh test)")
    upstream.script = model
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    try:
        settings = {"redis": redis.url, "prices": PRICES, "runaway": {"action": "pause"}}
        one, two = (stack_for(upstream, settings=settings, with_collector=False) for _ in range(2))
        _, refusal = agents(one, "circle").go_on(20)
        assert refusal is not None

        def refused_by(stack: Stack) -> bool:
            return agents(stack, "circle").go_on(1)[1] is not None

        wait_for("the other sidecar", lambda: refused_by(two))
        assert agents(two, "another").go_on(1)[1] is None
        said = {"conversation": "circle", "by": "a test"}
        assert operate(two, "POST", "/bursar/v1/resume", said) == (200, {"resumed": 1})
        assert not refused_by(two)
        wait_for("the first sidecar", lambda: not refused_by(one))
    finally:
        redis.kill()
