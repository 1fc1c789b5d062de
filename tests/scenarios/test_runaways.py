"""An agent that runs in circles is stopped, told why, and let go on: with the official SDKs."""

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

from tests.scenarios.budget_scenes import PRICES

SETTINGS = {"prices": PRICES | {"claude-x": {"input": 3, "output": 15}}, "runaway": {"action": "pause"}}
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


def looping_model(seen: Seen) -> Answer:
    """Asks for the same search, whatever it is told."""
    if seen.target.startswith("/v1/messages"):
        block = {"type": "tool_use", "id": f"t{len(seen.body)}", "name": "search", "input": {"q": "again"}}
        usage = {"input_tokens": 1000, "output_tokens": 100}
        said: dict[str, Any] = {
            "id": "m", "type": "message", "role": "assistant", "model": "claude-x", "content": [block],
            "stop_reason": "tool_use", "stop_sequence": None, "usage": usage,
        }  # fmt: skip
    else:
        call = {"id": f"t{len(seen.body)}", "type": "function"}
        call["function"] = {"name": "search", "arguments": '{"q": "again"}'}  # type: ignore[assignment]
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        said = {
            "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
            "choices": [choice], "usage": usage,
        }  # fmt: skip
    return Answer(pieces=[json.dumps(said).encode()])


@pytest.fixture
def stack(upstream: ScriptedUpstream, stack_for: Callable[..., Stack]) -> Stack:
    upstream.script = looping_model
    return stack_for(upstream, settings=SETTINGS)


def run_openai(
    stack: Stack, most: int = 100, question: str = "Find it.", agent: str = ""
) -> tuple[list[Any], Exception | None]:
    """Run an agent's loop until it is refused; the headers of its calls, and the refusal."""
    messages: list[Any] = [{"role": "user", "content": question}]
    headers: list[Any] = []
    who = {"x-bursar-agent": agent} if agent else {}
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="k", max_retries=3, default_headers=who) as client:
        for _ in range(most):
            try:
                raw = client.chat.completions.with_raw_response.create(
                    model="gpt-4o-mini",
                    messages=messages,
                    tools=[TOOL],  # type: ignore[list-item]
                )
            except openai.APIStatusError as error:
                return headers, error
            headers.append(raw.headers)
            message = raw.parse().choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            results = {"role": "tool", "content": "no results"}
            messages.extend(results | {"tool_call_id": call.id} for call in message.tool_calls or ())
    return headers, None


def test_a_loop_is_paused_within_ten_steps_and_the_agent_saw_it_coming(
    stack: Stack, upstream: ScriptedUpstream
) -> None:
    headers, refusal = run_openai(stack)

    assert isinstance(refusal, openai.APIStatusError)
    assert refusal.status_code == 402
    assert refusal.code == "runaway_paused"
    assert "brought nothing new" in str(refusal)
    assert len(upstream.seen) == len(headers) <= 10  # The SDK did not try again either.
    said = [sent["x-bursar-runaway"] for sent in headers if "x-bursar-runaway" in sent]
    left = [int(re.search(r"steps-left=(\d+)", text)[1]) for text in said]  # type: ignore[index]
    assert left == sorted(left, reverse=True)
    assert 1 <= left[-1] <= 2
    wait_for("the events", lambda: len(stack.ask("budget_events", budget="runaway")) >= 2)
    assert [row["action"] for row in stack.ask("budget_events", budget="runaway")] == ["pause", "flag"]


def test_a_paused_conversation_is_refused_in_the_dialect_of_anthropic(stack: Stack) -> None:
    messages: list[Any] = [{"role": "user", "content": "Find it."}]
    tool: Any = {"name": "search", "input_schema": {"type": "object"}}
    with (
        anthropic.Anthropic(base_url=stack.url, api_key="k") as client,
        pytest.raises(anthropic.APIStatusError) as refused,
    ):
        for _ in range(20):
            reply = client.messages.create(model="claude-x", max_tokens=100, messages=messages, tools=[tool])
            messages.append({"role": "assistant", "content": [one.model_dump() for one in reply.content]})
            results = [
                {"type": "tool_result", "tool_use_id": one.id, "content": "no results"}
                for one in reply.content
                if one.type == "tool_use"
            ]
            messages.append({"role": "user", "content": results})

    assert refused.value.status_code == 402
    assert refused.value.body["error"]["type"] == "billing_error"  # type: ignore[index, call-overload]


def test_the_link_in_the_refusal_lets_the_conversation_go_on_and_its_agent_is_stopped_later(
    stack: Stack,
) -> None:
    _, refusal = run_openai(stack, agent="waiter")
    link = re.search(r"http://\S+", str(refusal))
    assert link is not None
    url = link[0].rstrip("'}\"., ")

    with urllib.request.urlopen(url, timeout=10) as page:  # Looking changes nothing.
        assert b"Let it go on" in page.read()
    with urllib.request.urlopen(urllib.request.Request(url, data=b"", method="POST"), timeout=10) as page:
        assert b"Nothing is stopped here any more" in page.read()

    wait_for("the events", lambda: stack.ask("budget_events", budget="runaway", action="resume"))
    with pytest.raises(urllib.error.HTTPError) as forged:
        urllib.request.urlopen(url[:-1] + ("0" if url[-1] != "0" else "1"), timeout=10)
    with forged.value:
        assert forged.value.code == 403

    later, _ = run_openai(stack, question="Once more, please.", agent="waiter")
    others, _ = run_openai(stack, question="Once more, please.", agent="somebody else")
    assert "stops-at=10.00" in later[-1]["x-bursar-runaway"]
    assert "stops-at=8.00" in others[-1]["x-bursar-runaway"]


def test_a_pause_outlives_a_restart_and_the_command_ends_it(stack: Stack) -> None:
    _, refusal = run_openai(stack)
    conversation = re.search(r"bursar budgets resume (\S+),", str(refusal))
    assert conversation is not None
    stack.stop("sidecar")
    stack.start("sidecar")

    def resume(*which: str) -> subprocess.CompletedProcess[str]:
        command = ("budgets", "--config", str(stack.config_file), "resume", *which)
        return subprocess.run(
            [sys.executable, "-m", "sidecar.cli", *command], capture_output=True, text=True, check=False
        )

    listed, done, again = resume(), resume(conversation[1]), resume(conversation[1])

    assert conversation[1] in listed.stdout
    assert (done.returncode, again.returncode) == (0, 1)
    assert "may go on" in done.stdout


def test_other_conversations_of_the_same_agent_go_on(stack: Stack) -> None:
    run_openai(stack)

    headers, refusal = run_openai(stack, most=3, question="Something else entirely, please.")

    assert (len(headers), refusal) == (3, None)
