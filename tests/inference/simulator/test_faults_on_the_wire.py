"""What a client sees of each fault: through the SDKs, and in bare bytes where those hide it."""

import asyncio
import json
from typing import Any

import anthropic
import openai
import pytest

from inference.simulator.faults import Fault, FaultRule


def hello(directive: str = "") -> Any:
    return [{"role": "user", "content": f"hello {directive and f'[[simulate {directive}]]'}"}]


def chat_body(directive: str, *, stream: bool) -> bytes:
    request = {"model": "gpt-4.1-mini", "messages": hello(f"output_tokens=60 {directive}"), "stream": stream}
    return json.dumps(request).encode()


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("rate_limit retry_after=7", openai.RateLimitError, "rate_limit_exceeded"),
        ("server_error", openai.InternalServerError, None),
        ("overloaded", openai.InternalServerError, None),
        ("unauthorized", openai.AuthenticationError, "invalid_api_key"),
        ("bad_gateway", openai.InternalServerError, None),
    ],
)
async def test_error_statuses_reach_the_openai_sdk_as_its_own_errors(
    openai_client: openai.AsyncOpenAI, fault: str, error: type[openai.APIStatusError], code: str | None
) -> None:
    with pytest.raises(error) as caught:
        await openai_client.chat.completions.create(model="gpt-4.1-mini", messages=hello(fault))
    assert caught.value.code == code
    assert caught.value.response.headers["x-bursar-simulator"] == "1"
    if fault.startswith("rate_limit"):
        assert caught.value.response.headers["retry-after"] == "7"
    if fault == "bad_gateway":
        assert caught.value.response.text.startswith("<html>")


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("rate_limit", 429, "rate_limit_error"),
        ("server_error", 500, "api_error"),
        ("overloaded", 529, "overloaded_error"),
        ("unauthorized", 401, "authentication_error"),
    ],
)
async def test_error_statuses_reach_the_anthropic_sdk_in_its_shape(
    anthropic_client: anthropic.AsyncAnthropic, fault: str, status: int, kind: str
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await anthropic_client.messages.create(model="claude-sonnet-5", max_tokens=9, messages=hello(fault))
    body: Any = caught.value.body
    assert (caught.value.status_code, body["error"]["type"]) == (status, kind)


async def test_the_fault_header_works_like_the_marker(openai_client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        await openai_client.chat.completions.create(
            model="gpt-4.1-mini", messages=hello(), extra_headers={"x-simulate": "rate_limit"}
        )


async def test_an_error_inside_a_chat_stream_is_raised_by_the_sdk(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(
        model="gpt-4.1-mini", messages=hello("stream_error after=2"), stream=True
    )
    with pytest.raises(openai.APIError, match="had an error"):
        _ = [chunk async for chunk in stream]


async def test_an_error_inside_a_message_stream_is_raised_by_the_sdk(
    anthropic_client: anthropic.AsyncAnthropic,
) -> None:
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async with anthropic_client.messages.stream(
            model="claude-sonnet-5", max_tokens=99, messages=hello("stream_error")
        ) as stream:
            await stream.get_final_message()


async def test_missing_usage_leaves_everything_else(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.chat.completions.create(model="gpt-4.1-mini", messages=hello("missing_usage"))
    assert reply.usage is None
    assert reply.choices[0].message.content


async def test_missing_usage_in_a_stream_leaves_out_the_usage_chunk(
    openai_client: openai.AsyncOpenAI,
) -> None:
    stream = await openai_client.chat.completions.create(
        model="gpt-4.1-mini",
        messages=hello("missing_usage"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_missing_usage_of_embeddings(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.embeddings.create(
        model="text-embedding-3-small", input="one", extra_headers={"x-simulate": "missing_usage"}
    )
    assert getattr(reply, "usage", None) is None
    assert len(reply.data) == 1


async def test_the_wrong_model_is_named(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.chat.completions.create(model="gpt-4.1-mini", messages=hello("wrong_model"))
    assert reply.model == "gpt-4.1-mini-other"


async def test_an_empty_body_is_a_200_with_nothing_in_it(simulator: Any) -> None:
    whole = await simulator.raw("/v1/chat/completions", chat_body("empty", stream=False))
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert whole.endswith(b"content-length: 0\r\nconnection: close\r\n\r\n")
    streamed = await simulator.raw("/v1/chat/completions", chat_body("empty", stream=True))
    assert streamed.endswith(b"\r\n\r\n0\r\n\r\n")


async def test_malformed_json_breaks_off_but_its_length_is_kept(simulator: Any) -> None:
    reply = await simulator.raw("/v1/chat/completions", chat_body("malformed", stream=False))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_one_malformed_event_does_not_end_its_stream(simulator: Any) -> None:
    reply = await simulator.raw("/v1/chat/completions", chat_body("malformed after=2", stream=True))
    broken = 0
    for line in reply.split(b"\n"):
        if line.startswith(b"data: {"):
            try:
                json.loads(line[6:])
            except json.JSONDecodeError:
                broken += 1
    assert broken == 1
    assert b"data: [DONE]" in reply


async def test_a_truncated_stream_ends_without_its_terminal_event(simulator: Any) -> None:
    reply = await simulator.raw("/v1/chat/completions", chat_body("truncated after=2", stream=True))
    assert reply.count(b"data: ") == 2
    assert reply.endswith(b"0\r\n\r\n")


async def test_a_truncated_body_is_shorter_than_promised(simulator: Any) -> None:
    reply = await simulator.raw("/v1/chat/completions", chat_body("truncated", stream=False))
    head, _, body = reply.partition(b"\r\n\r\n")
    promised = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert len(body) == promised // 2


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reset_is_seen_as_one_after_the_first_part(simulator: Any, stream: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    body = chat_body("reset after=3", stream=stream)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    received = await reader.read(100)
    with pytest.raises(ConnectionResetError):
        while data := await reader.read(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_drop_resets_before_any_byte(simulator: Any) -> None:
    with pytest.raises(ConnectionResetError):
        await simulator.raw("/v1/chat/completions", chat_body("drop", stream=False))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stall_pauses_and_then_ends_well(simulator: Any, stream: bool) -> None:
    started = asyncio.get_running_loop().time()
    reply = await simulator.raw("/v1/chat/completions", chat_body("stall delay=0.3", stream=stream))
    assert asyncio.get_running_loop().time() - started >= 0.3
    assert reply.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n" if stream else b"}")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_slow_first_token_arrives_late(simulator: Any, stream: bool) -> None:
    started = asyncio.get_running_loop().time()
    await simulator.raw("/v1/chat/completions", chat_body("slow delay=0.3", stream=stream))
    assert asyncio.get_running_loop().time() - started >= 0.3


@pytest.mark.parametrize("stream", [True, False])
async def test_an_endless_reply_goes_on_until_the_client_leaves(simulator: Any, stream: bool) -> None:
    with pytest.raises(TimeoutError):
        await simulator.raw("/v1/chat/completions", chat_body("endless", stream=stream), read_s=0.3)
    async with asyncio.timeout(2):
        while simulator.simulator.state()["abandoned"] == 0:
            await asyncio.sleep(0.01)
    assert simulator.simulator.state()["open"] == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_huge_reply_has_its_size_and_is_still_valid(simulator: Any, stream: bool) -> None:
    reply = await simulator.raw("/v1/chat/completions", chat_body("huge mib=3", stream=stream))
    assert 2.9 * 2**20 < len(reply) < 3.1 * 2**20
    if not stream:
        assert json.loads(reply.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"] == 60


async def test_faults_strike_by_chance_as_often_as_the_rule_says(start_simulator: Any) -> None:
    running = await start_simulator(faults=(FaultRule("gpt-*", Fault.SERVER_ERROR, 0.3),))

    async def statuses(model: str) -> list[bytes]:
        bodies = [
            json.dumps(
                {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": f"call {n}"}]}
            )
            for n in range(200)
        ]
        return [(await running.raw("/v1/chat/completions", body.encode()))[9:12] for body in bodies]

    first = await statuses("gpt-4.1-mini")
    assert 40 <= first.count(b"500") <= 80  # 60 expected, standard deviation 6.5
    assert (await statuses("qwen3-8b")).count(b"500") == 0

    again = await start_simulator(faults=(FaultRule("gpt-*", Fault.SERVER_ERROR, 0.3),))
    running = again
    assert await statuses("gpt-4.1-mini") == first


def test_every_fault_is_named_in_one_of_these_tests() -> None:
    """A fault nobody tried is a fault that may not work."""
    from pathlib import Path

    text = Path(__file__).read_text()
    assert [fault for fault in Fault if fault.value not in text] == []
