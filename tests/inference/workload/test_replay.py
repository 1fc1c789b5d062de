import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from collector.domain.usage import Usage
from inference.simulator.http import Exchange, HttpServer
from inference.simulator.service import Simulator, SimulatorConfig
from inference.workload.bodies import MAX_MESSAGES, Conversations, headers_of
from inference.workload.calls import Attribution, TracedCall
from inference.workload.client import Client
from inference.workload.generator import generate
from inference.workload.replay import Progress, at_rate, replay
from inference.workload.traces import read_trace


class Provider:
    """The simulator, and what reached it."""

    def __init__(self) -> None:
        self.simulator = Simulator(SimulatorConfig(speed=0))
        self.requests: list[dict[str, Any]] = []
        self.running = 0
        self.most_running = 0
        self.port = 0

    async def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        self.requests.append({"path": request.path, "headers": request.headers, **json.loads(request.body)})
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.simulator.handle(exchange)
        finally:
            self.running -= 1

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def tokens(self, name: str) -> int:
        state: Any = self.simulator.state()
        return sum(tokens[name] for tokens in state["tokens"].values())


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    server = HttpServer(provider.handle)
    provider.port = await server.start("127.0.0.1", 0)
    yield provider
    await server.stop(0)


def call(**changes: Any) -> TracedCall:
    usage = Usage(input_tokens=2000, output_tokens=60, cache_read_input_tokens=1024)
    return replace(
        TracedCall(
            at_s=0,
            api="openai.chat",
            model="gpt-5.4-mini",
            usage=usage,
            conversation="c1",
            team="t",
            agent="a",
        ),
        **changes,
    )


APIS = ("openai.chat", "openai.completions", "openai.responses", "anthropic.messages")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", APIS)
async def test_figures_reach_the_provider_and_come_back_in_each_dialect(
    provider: Provider, api: str, stream: bool
) -> None:
    summary = await replay([call(api=api, stream=stream)], base_url=provider.base_url)

    assert (summary.expected.calls, summary.expected.input_tokens, summary.expected.output_tokens) == (
        1,
        2000,
        60,
    )
    assert provider.tokens("input_tokens") == 2000
    assert provider.tokens("cache_read_input_tokens") == 1024
    assert provider.requests[0].get("stream", False) == stream


async def test_embeddings_are_replayed_too(provider: Provider) -> None:
    usage = Usage(input_tokens=700)
    summary = await replay([call(api="openai.embeddings", usage=usage)], base_url=provider.base_url)
    assert (summary.expected.calls, provider.tokens("input_tokens")) == (1, 700)


async def test_expected_sums_equal_what_the_provider_reported(provider: Provider) -> None:
    """The generated workload, faults and departures left out: both sides must agree to the last token."""
    calls = [replace(call, fault="", leaves_after_events=None) for call in islice(generate(seed=5), 600)]
    summary = await replay(calls, base_url=provider.base_url)

    assert (summary.sent, summary.expected.calls, summary.failed) == (600, 600, 0)
    for name in (
        "calls", "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens",
        "reasoning_output_tokens",
    ):  # fmt: skip
        assert (
            provider.tokens(name)
            == getattr(summary.expected, name)
            == sum(getattr(sums, name) for sums in summary.by_model.values())
        )


@pytest.mark.slow
async def test_the_code_trace_reaches_the_provider_to_the_last_token(
    provider: Provider, shared_data: Path
) -> None:
    trace = read_trace(shared_data / "llm_traces" / "azure2023_code.parquet")
    summary = await replay(
        (replace(call, instant=True) for call in trace.calls()), base_url=provider.base_url
    )
    assert summary.expected.calls == provider.tokens("calls") == 8819
    assert summary.expected.input_tokens == provider.tokens("input_tokens") == 18_059_974
    assert summary.expected.output_tokens == provider.tokens("output_tokens") == 245_896


async def test_a_failed_call_is_not_expected_in_the_sums(provider: Provider) -> None:
    faults = [
        "rate_limit",
        "server_error",
        "stream_error",
        "missing_usage",
        "truncated",
        "reset",
        "malformed",
    ]
    calls = [call(stream=True, conversation=fault, fault=fault) for fault in [*faults, "", "wrong_model"]]
    summary = await replay(calls, base_url=provider.base_url)
    assert summary.by_status == {429: 1, 500: 1, 200: 7}
    assert (summary.failed, summary.broken, summary.expected.calls) == (2, 5, 2)


async def test_leaving_in_mid_stream_closes_the_connection(provider: Provider) -> None:
    calls = [
        call(stream=True, fault="endless", leaves_after_events=4, conversation=f"c{n}") for n in range(3)
    ]
    summary = await replay(calls, base_url=provider.base_url)
    assert (summary.left, summary.expected.calls, summary.broken) == (3, 0, 0)
    async with asyncio.timeout(2):
        while provider.running:
            await asyncio.sleep(0.01)


async def test_no_more_calls_run_at_once_than_allowed(provider: Provider) -> None:
    calls = [call(conversation=f"c{n}", fault="slow delay=0.02") for n in range(40)]
    await replay(calls, base_url=provider.base_url, concurrency=5)
    assert provider.most_running == 5


async def test_calls_of_one_conversation_follow_one_another(provider: Provider) -> None:
    await replay([call(fault="slow delay=0.01") for _ in range(10)], base_url=provider.base_url)
    assert provider.most_running == 1
    lengths = [len(request["messages"]) for request in provider.requests]
    assert lengths == sorted(lengths)


async def test_time_is_compressed(provider: Provider) -> None:
    calls = [call(at_s=at_s, conversation=f"c{at_s}") for at_s in (0, 10, 40)]
    summary = await replay(calls, base_url=provider.base_url, compression=100)
    assert 0.4 <= summary.duration_s < 2


async def test_an_endless_replay_ends_when_told_and_leaves_what_is_late(provider: Provider) -> None:
    def calls() -> Iterator[TracedCall]:
        yield call(stream=True, fault="endless", conversation="endless")
        yield from at_rate((call(conversation=f"c{n}") for n in range(10**9)), 100)

    summary = await replay(calls(), base_url=provider.base_url, compression=1, until_s=0.5, grace_s=0.1)
    assert 0.5 <= summary.duration_s < 3
    assert 20 <= summary.expected.calls <= 52
    assert summary.left == 1


async def test_progress_is_told_and_the_last_word_agrees_with_the_summary(provider: Provider) -> None:
    told: list[Progress] = []
    calls = [call(conversation=f"c{n}", fault="slow delay=0.01") for n in range(100)]
    summary = await replay(calls, base_url=provider.base_url, concurrency=4, progress=told.append)
    assert len(told) >= 3
    assert all(a.done <= b.done for a, b in pairwise(told))
    assert (told[-1].sent, told[-1].done, told[-1].running) == (100, 100, 0)
    assert told[-1].input_tokens == summary.expected.input_tokens == 200_000


async def test_a_server_that_is_not_there_is_a_failure_not_an_exception() -> None:
    summary = await replay([call()], base_url="http://127.0.0.1:9")
    assert (summary.by_status, summary.failed) == ({0: 1}, 1)


async def test_connections_are_kept(provider: Provider) -> None:
    ports: set[int] = set()
    client = Client(provider.base_url)
    for number in range(5):
        body = Conversations().body(call(conversation=f"c{number}"))
        await client.post("/v1/chat/completions", headers_of(call(), "key"), body)
        ports |= {connection.transport.get_extra_info("sockname")[1] for connection in client._idle}
    await client.close()
    assert len(ports) == 1


@pytest.mark.parametrize("base_url", ["127.0.0.1:4000", "ftp://x", ""])
def test_a_base_url_of_another_kind_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="a base URL such as"):
        Client(base_url)


async def test_headers_say_whom_a_call_is_for(provider: Provider) -> None:
    one = call(user="u", task="k", trace_id="a" * 32)
    await replay([one], base_url=provider.base_url, keys={"t": "vk_team"})
    headers = provider.requests[0]["headers"]
    assert {name: value for name, value in headers.items() if name.startswith("x-bursar")} == {
        "x-bursar-team": "t",
        "x-bursar-agent": "a",
        "x-bursar-user": "u",
        "x-bursar-conversation": "c1",
        "x-bursar-task": "k",
    }
    assert headers["authorization"] == "Bearer vk_team"
    assert headers["traceparent"] == f"00-{'a' * 32}-{'a' * 16}-01"


def test_a_value_that_no_header_may_carry_is_encoded() -> None:
    headers = headers_of(call(team="Käse\r\nx-evil: 1", conversation="plain value"), "key")
    assert headers["x-bursar-team"] == "K%C3%A4se%0D%0Ax-evil: 1"
    assert headers["x-bursar-conversation"] == "plain value"


async def test_the_key_of_an_agent_wins_over_that_of_its_team(provider: Provider) -> None:
    anthropic = call(api="anthropic.messages", conversation="c2")
    await replay(
        [call(), anthropic], base_url=provider.base_url, keys={"a": "of-agent", "t": "of-team", "": "any"}
    )
    keys = {
        request["headers"].get("x-api-key", request["headers"].get("authorization"))
        for request in provider.requests
    }
    assert keys == {"of-agent", "Bearer of-agent"}


async def test_some_agents_say_it_in_the_body_and_some_not_at_all(provider: Provider) -> None:
    await replay(
        [
            call(attribution=Attribution.BODY, user="u7"),
            call(attribution=Attribution.BODY, api="anthropic.messages", user="u8", agent="b"),
            call(attribution=Attribution.NOTHING, agent="c"),
        ],
        base_url=provider.base_url,
        concurrency=1,
    )
    openai, anthropic, nothing = provider.requests
    assert (openai["user"], openai["metadata"]) == (
        "u7",
        {"team": "t", "agent": "a", "conversation_id": "c1"},
    )
    assert anthropic["metadata"] == {"user_id": "u8"}
    assert not {"user", "metadata"} & nothing.keys()
    for request in provider.requests:
        assert not any(name.startswith("x-bursar") for name in request["headers"])


def test_messages_of_a_conversation_extend_the_last_ones_until_it_is_compacted() -> None:
    conversations = Conversations()
    bodies = [json.loads(conversations.body(call())) for _ in range(40)]
    extended = [
        after["messages"][: len(before["messages"])] == before["messages"]
        for before, after in pairwise(bodies)
    ]
    assert extended.count(False) == 2  # 40 turns of two messages: compacted twice
    assert max(len(body["messages"]) for body in bodies) <= MAX_MESSAGES + 2


def test_two_conversations_of_one_agent_share_no_whole_message_but_the_first() -> None:
    conversations = Conversations()
    first, second = (json.loads(conversations.body(call(conversation=name))) for name in ("c1", "c2"))
    assert first["messages"][0] == second["messages"][0]
    assert first["messages"][1] != second["messages"][1]


def test_conversations_are_forgotten_in_order_of_use() -> None:
    conversations = Conversations(limit=2)
    for name in ("c1", "c2", "c1", "c3"):
        conversations.body(call(conversation=name))
    assert len(json.loads(conversations.body(call(conversation="c1")))["messages"]) > 4
    assert len(json.loads(conversations.body(call(conversation="c2")))["messages"]) == 4
