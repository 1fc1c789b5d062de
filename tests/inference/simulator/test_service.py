import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from collector.probes.vllm_metrics import parse
from inference.simulator.app import main


def post(path: str, body: dict[str, Any], *, close: bool = False) -> bytes:
    content = json.dumps(body).encode()
    ending = b"connection: close\r\n" if close else b""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n".encode()
    return head + ending + b"\r\n" + content


CHAT = {"model": "gpt-4.1-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}


async def test_pipelined_requests_are_answered_in_their_order(simulator: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    caps = [5, 1, 9, 3]
    for cap in caps:
        writer.write(post("/v1/chat/completions", CHAT | {"max_tokens": cap}, close=cap == caps[-1]))
    replies = (await reader.read(-1)).split(b"HTTP/1.1 200 OK")[1:]
    writer.close()
    got = [json.loads(reply.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"] for reply in replies]
    assert got == caps


async def test_a_request_in_single_bytes_is_understood(simulator: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    for byte in post("/v1/chat/completions", CHAT, close=True):
        writer.write(bytes([byte]))
        await writer.drain()
    assert (await reader.read(-1)).startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_expect_100_continue_is_answered(simulator: Any) -> None:
    reply = await simulator.raw("/v1/chat/completions", json.dumps(CHAT).encode(), "expect: 100-continue\r\n")
    assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai/v1", "/some/gateway"])
async def test_any_prefix_leads_to_the_dialect(simulator: Any, prefix: str) -> None:
    reply = await simulator.raw(f"{prefix}/chat/completions", json.dumps(CHAT).encode())
    assert reply.startswith(b"HTTP/1.1 200 OK")


async def test_an_unknown_path_is_a_404_in_json(simulator: Any) -> None:
    reply = await simulator.raw("/v1/images/generations", b"{}")
    assert reply.startswith(b"HTTP/1.1 404 ")
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"model": 5, "messages": []}',
        b'{"model": "m", "messages": "x"}',
        b'{"model": "m", "messages": [1]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "n": "many"}',
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": 5}',
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": 5}',
    ],
)
async def test_a_body_of_the_wrong_shape_is_a_400_in_the_dialect(simulator: Any, body: bytes) -> None:
    reply = await simulator.raw("/v1/chat/completions", body)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["message"]


async def test_broken_http_closes_the_connection_with_a_400(simulator: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(b"NONSENSE\x00 / SOMETHING\r\n\r\n")
    assert (await reader.read(-1)).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_a_reply_takes_the_models_time_divided_by_the_speed(start_simulator: Any) -> None:
    running = await start_simulator(speed=10.0)
    body = CHAT | {"max_tokens": 200, "stream": True, "messages": [
        {"role": "user", "content": "[[simulate output_tokens=200]]"}
    ]}  # fmt: skip
    started = asyncio.get_running_loop().time()
    await running.raw("/v1/chat/completions", json.dumps(body).encode())
    elapsed = asyncio.get_running_loop().time() - started
    assert elapsed >= (0.4 + 200 * 0.012) / 10 * 0.95


async def test_a_directive_may_ask_not_to_wait(start_simulator: Any) -> None:
    running = await start_simulator(speed=0.001)  # a reply would take minutes
    body = CHAT | {"messages": [{"role": "user", "content": "[[simulate speed=0]]"}]}
    assert (await running.raw("/v1/chat/completions", json.dumps(body).encode())).startswith(b"HTTP/1.1 200")


async def test_the_simulator_keeps_the_sums_that_it_reported(simulator: Any) -> None:
    marker = "[[simulate usage input=100 cache_read=60 output=7 reasoning=2]]"
    body = CHAT | {"messages": [{"role": "user", "content": marker}]}
    for _ in range(3):
        await simulator.raw("/v1/chat/completions", json.dumps(body).encode())
    tokens = simulator.simulator.state()["tokens"]["gpt-4.1-mini"]
    assert tokens == {
        "calls": 3,
        "input_tokens": 300,
        "output_tokens": 21,
        "cache_read_input_tokens": 180,
        "cache_write_input_tokens": 0,
        "reasoning_output_tokens": 6,
    }


async def test_the_process_says_when_it_is_ready_and_ends_cleanly_on_sigterm() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inference.simulator", "--port", "0", "--speed", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    assert line.startswith("bursar simulator ready on http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize(
    "arguments",
    [["--port", "x"], ["--port", "0", "--speed", "-1"], ["--port", "0", "--fault", "nonsense"], []],
)
def test_misuse_ends_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_port_in_use_is_told_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


async def test_its_metrics_read_like_vllms_and_count_no_tokens_of_hosted_models(simulator: Any) -> None:
    for model in ("gpt-4.1-mini", "qwen3-8b"):
        await simulator.raw("/v1/chat/completions", json.dumps(CHAT | {"model": model}).encode())
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    writer.close()

    assert b"200 OK" in head
    assert b"x-bursar-simulator: 1" in head.lower()
    told = parse(body.decode(), 0)
    assert told.model == "qwen3-8b"
    assert told.counters["generation_tokens"] == 5
    assert told.gauges == {"running": 0.0, "waiting": 0.0}
    assert b"simulated" in body
