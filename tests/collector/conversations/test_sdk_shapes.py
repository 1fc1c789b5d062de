"""Conversations in the shapes of the official SDKs, read by the sidecar's own readers.

Each agent appends what its SDK gave it, as its documentation shows, and sends it all again.
"""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from support.stitchers import Stitchers

from collector.domain.stitching import Via
from sidecar.wire import meter_for, read_request

WORDS = ("ledger", "invoice", "bank", "entry", "branch", "month", "rent", "account", "balance", "letter")
PROMPT = "You are an agent of the finance team; answer briefly and use the tools you are given. " * 3


def words(noise: random.Random, count: int) -> str:
    return " ".join(noise.choices(WORDS, k=count)) + f" {noise.randrange(10**6)}"


class Agent:
    """A conversation of some length; asks a tool now and then."""

    api = ""
    path = ""

    def __init__(self, name: str, opening: str, noise: random.Random) -> None:
        self.name = name
        self.noise = noise
        self.history: list[Any] = []
        self.say(opening)

    def say(self, text: str) -> None:
        self.history.append({"role": "user", "content": text})

    def body(self) -> dict[str, Any]:
        raise NotImplementedError

    def answer(self, text: str, tool: str) -> dict[str, Any]:
        """The provider's reply: ``text``, and a call of a tool with the id ``tool`` if there is one."""
        raise NotImplementedError

    def take(self, reply: dict[str, Any], tool: str) -> None:
        """Append the reply as the SDK hands it over, and the tool's result."""
        raise NotImplementedError


class Chat(Agent):
    api, path = "openai.chat", "/v1/chat/completions"

    def body(self) -> dict[str, Any]:
        return {"model": "gpt-5-mini", "messages": [{"role": "system", "content": PROMPT}, *self.history]}

    def answer(self, text: str, tool: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if tool:
            function = {"name": "look", "arguments": '{"n": 1}'}
            message["tool_calls"] = [{"id": tool, "type": "function", "function": function}]
        choice = {
            "index": 0,
            "finish_reason": "tool_calls" if tool else "stop",
            "message": message,
            "logprobs": None,
        }
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        head = {"id": f"chatcmpl-{self.noise.random()}", "object": "chat.completion", "created": 1}
        return head | {"model": "gpt-5-mini", "choices": [choice], "usage": usage}

    def take(self, reply: dict[str, Any], tool: str) -> None:
        message = ChatCompletion.model_validate(reply).choices[0].message
        self.history.append(message.to_dict())
        if tool:
            self.history.append({"role": "tool", "tool_call_id": tool, "content": words(self.noise, 12)})


class Claude(Agent):
    api, path = "anthropic.messages", "/v1/messages"

    def body(self) -> dict[str, Any]:
        return {"model": "claude-sonnet-4-5", "max_tokens": 500, "system": PROMPT, "messages": self.history}

    def answer(self, text: str, tool: str) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}]
        content += [{"type": "text", "text": text}] if text else []
        content += [{"type": "tool_use", "id": tool, "name": "look", "input": {"n": 1}}] if tool else []
        head = {"id": f"msg_{self.noise.random()}", "type": "message", "role": "assistant"}
        head |= {"model": "claude-sonnet-4-5", "stop_reason": "end_turn", "stop_sequence": None}
        return head | {"content": content, "usage": {"input_tokens": 9, "output_tokens": 3}}

    def take(self, reply: dict[str, Any], tool: str) -> None:
        content = [block.to_dict() for block in Message.model_validate(reply).content]
        self.history.append({"role": "assistant", "content": content})
        if tool:
            result = {"type": "tool_result", "tool_use_id": tool, "content": words(self.noise, 12)}
            self.history.append({"role": "user", "content": [result]})


class Responses(Agent):
    api, path = "openai.responses", "/v1/responses"

    def body(self) -> dict[str, Any]:
        return {"model": "gpt-5-mini", "instructions": PROMPT, "input": self.history}

    def answer(self, text: str, tool: str) -> dict[str, Any]:
        output: list[dict[str, Any]] = [
            {"type": "reasoning", "id": f"rs_{self.noise.random()}", "summary": []}
        ]
        if text:
            part = {"type": "output_text", "text": text, "annotations": []}
            about = {"type": "message", "id": f"msg_{self.noise.random()}", "role": "assistant"}
            output.append(about | {"status": "completed", "content": [part]})
        if tool:
            about = {"type": "function_call", "id": "fc_1", "call_id": tool, "name": "look"}
            output.append(about | {"arguments": '{"n": 1}', "status": "completed"})
        head = {
            "id": f"resp_{self.noise.random()}",
            "object": "response",
            "created_at": 1,
            "model": "gpt-5-mini",
        }
        head |= {"status": "completed", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        return head | {"output": output}

    def take(self, reply: dict[str, Any], tool: str) -> None:
        self.history += [item.to_dict() for item in Response.model_validate(reply).output]
        if tool:
            result = {"type": "function_call_output", "call_id": tool, "output": words(self.noise, 12)}
            self.history.append(result)


class Chained(Responses):
    """Keeps nothing itself: names the response that it goes on from."""

    previous = ""

    def body(self) -> dict[str, Any]:
        return super().body() | ({"previous_response_id": self.previous} if self.previous else {})

    def take(self, reply: dict[str, Any], tool: str) -> None:
        self.previous = reply["id"]
        self.history = []
        if tool:
            self.history = [
                {"type": "function_call_output", "call_id": tool, "output": words(self.noise, 12)}
            ]


def step(agent: Agent, stitcher: Stitchers, turn_id: str) -> tuple[str, Via]:
    """One call, as the sidecar sees it: read, place, meter the reply, settle."""
    noise = agent.noise
    facts = read_request(agent.api, json.dumps(agent.body()).encode())
    placement = stitcher.place(
        ("acme", "vk_1", ""),
        facts.message_hashes,
        turn_id,
        previous_response_id=str(facts.attributes.get("previous_response_id", "")),
        instructions_apart=agent.api != "openai.chat",
    )
    tool = f"call_{noise.getrandbits(64):x}" if noise.random() < 0.5 else ""
    text = "" if tool and noise.random() < 0.5 else words(noise, noise.randint(4, 30))
    reply = agent.answer(text, tool)
    headers = [(b"content-type", b"application/json")]
    meter = meter_for(
        agent.api, path=agent.path, status=200, headers=headers, request=facts, withhold_usage=False
    )
    meter.feed(json.dumps(reply).encode())
    meter.finish()
    told = meter.facts()
    stitcher.settle(placement, told.last_message_hash, told.response_id)
    agent.take(reply, tool)
    if not tool:
        agent.say(words(noise, noise.randint(1, 12)))
    return placement.conversation_id, placement.via


@pytest.mark.parametrize("kind", [Chat, Claude, Responses, Chained])
def test_conversations_of_an_sdk_are_told_apart_and_kept_together(
    kind: Callable[..., Agent],
) -> None:
    """Forty agents with one system prompt under one key, in any order; two of them send each opening."""
    noise = random.Random(11)
    openings = [words(noise, 9) for _ in range(20)]
    agents = [kind(f"agent {n}", openings[n // 2], random.Random(n)) for n in range(40)]
    stitcher = Stitchers()
    ids: dict[str, list[str]] = {agent.name: [] for agent in agents}
    for number in range(600):
        agent = noise.choice(agents)
        ids[agent.name].append(step(agent, stitcher, f"c{number}")[0])

    right = sum(names.count(max(set(names), key=names.count)) for names in ids.values() if names)
    owners: dict[str, set[str]] = {}
    for name, placed in ids.items():
        for conversation in placed:
            owners.setdefault(conversation, set()).add(name)
    assert right / 600 >= 0.99
    assert all(len(names) == 1 for names in owners.values())
