"""A real llama.cpp behind the sidecar: every dialect, its errors, its cache, and a replica that is killed.

It runs in an environment of its own (`make test-llama-cpp`), with a model that is made up here.
"""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from support.llama_servers import PYTHON, LlamaServer, llama_servers
from support.stack import Stack, wait_for
from support.tiny_gguf import make_gguf

pytestmark = [pytest.mark.llama_cpp, pytest.mark.timeout(600)]

CLERK = "You are a careful clerk who reads every invoice twice before anything is said about it. " * 3
STREAMS = 16
Servers = dict[str, LlamaServer]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    if not PYTHON.exists():
        pytest.skip(f"no llama.cpp at {PYTHON}: make test-llama-cpp installs it, LLAMA_PYTHON names another")
    folder = tmp_path_factory.mktemp("llama")
    with llama_servers(make_gguf(folder / "model"), folder, one=4, two=4, embed=1) as made:
        yield made


@pytest.fixture
def stack(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    upstreams = {
        "local": {"kind": "vllm", "replicas": [servers["one"].url]},
        "pool": {"kind": "vllm", "replicas": [servers[name].url for name in ("one", "two")]},
        "embed": {"kind": "vllm", "replicas": [servers["embed"].url]},
    }
    models = {name: {"upstream": name, "model": "tiny"} for name in upstreams}
    prices = {"tiny": {"input": "1", "output": "4", "cache_read": "0.1"}}
    with Stack(tmp_path / "stack", upstreams, {"models": models, "prices": prices}) as made:
        yield made


@pytest.fixture
def agent(stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def claude(stack: Stack) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=stack.url, api_key="none", max_retries=0, timeout=120)


def asked(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": CLERK}, {"role": "user", "content": text}]
    return {"model": "local", "messages": messages, "max_tokens": 6, **more}


def counted(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["input_tokens"], row["output_tokens"], row["cache_read_input_tokens"]


def test_chats_whole_and_streamed_are_booked_with_the_engines_own_count(
    stack: Stack, agent: openai.OpenAI
) -> None:
    said = agent.chat.completions.create(**asked("whole"))
    streamed = agent.chat.completions.create(
        **asked("whole", stream=True, stream_options={"include_usage": True})
    )
    told = [said.usage, list(streamed)[-1].usage]
    list(agent.chat.completions.create(**asked("whole", stream=True)))

    rows = stack.calls(3)
    for row, usage in zip(rows, told, strict=False):
        assert usage is not None and usage.prompt_tokens_details is not None
        cached = usage.prompt_tokens_details.cached_tokens
        assert counted(row) == (usage.prompt_tokens, usage.completion_tokens, cached)
    # The second and the third found all of the prompt but its last token.
    assert [row["input_tokens"] - row["cache_read_input_tokens"] for row in rows[1:]] == [1, 1]
    for row in rows:
        uncached = row["input_tokens"] - row["cache_read_input_tokens"]
        expected = uncached + Decimal(row["cache_read_input_tokens"]) / 10 + 4 * row["output_tokens"]
        assert Decimal(row["list_cost_usd"]) * 10**6 == expected
        assert (row["usage_grade"], row["outcome"]) == ("reported", "served")


def test_its_other_dialects_are_booked_too(
    stack: Stack, agent: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    completed = agent.completions.create(model="local", prompt=CLERK, max_tokens=3)
    answered = agent.responses.create(model="local", input="hello there", max_output_tokens=4)
    # Its events have no output_index, which the SDK's own collector of events wants.
    events = list(
        agent.responses.create(model="local", input="hello there", max_output_tokens=5, stream=True)
    )
    assert events[-1].type == "response.completed"
    again = events[-1].response
    message: dict[str, Any] = {
        "model": "local", "max_tokens": 6, "system": CLERK, "messages": [{"role": "user", "content": "hi"}],
    }  # fmt: skip
    whole = claude.messages.create(**message)
    with claude.messages.stream(**message) as said:
        said.get_final_message()
    free = claude.messages.count_tokens(model="local", messages=message["messages"])

    rows = stack.calls(6)
    assert completed.usage and answered.usage and again.usage
    assert counted(rows[0])[:2] == (completed.usage.prompt_tokens, 3)
    assert counted(rows[1])[:2] == (answered.usage.input_tokens, 4)
    assert counted(rows[2])[:2] == (again.usage.input_tokens, 5)
    # Here the cached part stands beside the input, and the end of a stream repeats neither.
    prompt = whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    assert rows[3]["input_tokens"] == rows[4]["input_tokens"] == prompt
    assert rows[4]["cache_read_input_tokens"] == prompt - 1
    assert {row["usage_grade"] for row in rows[:5]} == {"reported"}
    assert free.input_tokens > 0 and Decimal(rows[5]["list_cost_usd"]) == 0


def test_embeddings_are_booked(stack: Stack, agent: openai.OpenAI) -> None:
    said = agent.embeddings.create(model="embed", input=["one", "and another"], encoding_format="float")

    (row,) = stack.calls(1)
    assert len(said.data) == 2
    assert (row["input_tokens"], row["output_tokens"]) == (said.usage.prompt_tokens, 0)


def test_its_errors_pass_and_cost_nothing(stack: Stack, agent: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        agent.chat.completions.create(**asked("invoice " * 3000))
    with pytest.raises(openai.InternalServerError):
        agent.embeddings.create(model="local", input="it was not started for that", encoding_format="float")

    too_long, not_here = stack.calls(2)
    assert (too_long["http_status"], too_long["error_type"]) == (400, "context_length")
    assert not_here["http_status"] == 501
    assert {Decimal(row["effective_cost_usd"]) for row in (too_long, not_here)} == {Decimal(0)}


async def test_an_agent_that_leaves_is_charged_for_what_it_saw_and_the_engine_stops(
    stack: Stack, servers: Servers
) -> None:
    body = asked("talk", max_tokens=1500, ignore_eos=True, stream=True)
    url = f"{stack.url}/v1/chat/completions"
    async with httpx.AsyncClient(timeout=120) as client, client.stream("POST", url, json=body) as reply:
        seen = 0
        async for line in reply.aiter_lines():
            seen += line.startswith("data:")
            if seen == 20:
                break

    (row,) = await asyncio.to_thread(stack.calls, 1)
    assert (row["outcome"], row["usage_grade"]) == ("abandoned", "estimated")
    assert 10 <= row["output_tokens"] < 1500
    idle = lambda: servers["one"].metric("llamacpp:requests_processing") == 0  # noqa: E731
    await asyncio.to_thread(wait_for, "the engine's rest", idle, 60)


async def test_a_server_that_is_killed_loses_no_call(stack: Stack, servers: Servers) -> None:
    """Four of its eight streams run when it is killed; the others wait for a slot, and go elsewhere."""
    dead = servers["two"]
    begun: set[int] = set()

    async def one(client: httpx.AsyncClient, number: int) -> bool:
        body = asked(f"{number} talk", model="pool", max_tokens=300, ignore_eos=True, stream=True)
        said = b""
        try:
            async with client.stream("POST", f"{stack.url}/v1/chat/completions", json=body) as reply:
                assert reply.status_code == 200
                async for data in reply.aiter_bytes():
                    begun.add(number)
                    said += data
        except httpx.HTTPError:
            return False
        return b"[DONE]" in said

    async def kill() -> None:
        while len(begun) < STREAMS // 4 or dead.metric("llamacpp:requests_processing") < 4:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(dead.kill)

    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=STREAMS)) as client:
        whole = await asyncio.gather(*(one(client, number) for number in range(STREAMS)), kill())

    rows = await asyncio.to_thread(stack.calls, STREAMS)
    there = f"127.0.0.1:{dead.port}"
    moved = broken = 0
    for row in rows:
        tried = stack.ask("attempts", call_id=row["call_id"])
        if row["outcome"] == "served":
            moved += len(tried) == 2 and tried[0]["replica"] == there
            assert row["output_tokens"] == 300
        else:
            broken += 1
            assert (tried[-1]["replica"], row["outcome"]) == (there, "failed")
            assert row["output_tokens"] > 0
    assert broken == sum(not one for one in whole[:-1])
    assert moved >= 1, "nothing waited at the server that was killed"
    dead.start()
    await asyncio.to_thread(dead.wait)


async def test_calls_are_sent_where_their_beginning_is_cached(servers: Servers, tmp_path: Path) -> None:
    """Two beginnings a slot, eight in all: each replica has room for its own, and not for the others'."""
    replicas = [servers[name].url for name in ("one", "two")]
    upstreams = {
        way: {"kind": "vllm", "replicas": replicas, "balance": way} for way in ("prefix", "round_robin")
    }
    settings = {"models": {way: {"upstream": way, "model": "tiny"} for way in upstreams}}
    hits = {}
    with Stack(tmp_path / "stack", upstreams, settings) as made:
        async with httpx.AsyncClient(timeout=120) as client:
            for way in upstreams:
                for turn in range(5):
                    for group in range(5):
                        text = f"{way} {group} {CLERK * 2}"
                        body = asked(f"question {turn}", model=way, max_tokens=1)
                        body["messages"][0]["content"] = text
                        reply = await client.post(f"{made.url}/v1/chat/completions", json=body)
                        assert reply.status_code == 200
        await asyncio.to_thread(made.calls, 50)
        for row in made.ask("spend_by", by="upstream"):
            hits[row["upstream"]] = row["cache_read_input_tokens"] / row["input_tokens"]
    print(
        f"\nprompt tokens from the cache: {hits['prefix']:.3f} by prefix, {hits['round_robin']:.3f} in turn"
    )
    assert hits["prefix"] > hits["round_robin"]
