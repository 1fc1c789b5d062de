"""A model server is kept running: readiness, restarts with growing pauses, a bounded log, a clean end."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from inference import launched
from inference.launch import Launch
from inference.launched import LogFile, Server
from inference.readiness import models, version

STAND_IN = """
import http.server, json, os, subprocess, sys, time
port, behaviour, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
starts = os.path.join(folder, "starts")
with open(starts, "a") as file:
    file.write("x")
number = os.path.getsize(starts)
print("starting, number", number, flush=True)
if behaviour == "invalid":
    print("vllm serve: error: unrecognized arguments: --fast", flush=True)
    sys.exit(2)
if behaviour == "falls twice" and number < 3:
    sys.exit(1)
if behaviour == "headless":
    time.sleep(600)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(os.path.join(folder, "worker"), "w") as file:
    file.write(str(worker.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {"/v1/models": {"data": [{"id": "tiny"}]}, "/version": {"version": "0.32.0"}}
        body = json.dumps(told.get(self.path, {})).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def server_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Server]]:
    monkeypatch.setattr(launched, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(launched, "_LOOK_EVERY_S", 0.05)
    made: list[Server] = []

    def make(behaviour: str = "runs", log_bytes: int = 1 << 20, ready_within_s: float = 60) -> Server:
        port = free_port()
        launch = Launch(
            name="one",
            argv=(sys.executable, "-c", STAND_IN, str(port), behaviour, str(tmp_path)),
            environment={"PATH": os.environ["PATH"]},
            options_file=tmp_path / "one.yml",
            options={"headless": True} if behaviour == "headless" else {"max-num-seqs": 32},
            url=f"http://127.0.0.1:{port}",
            served_name="tiny",
        )
        log = LogFile(tmp_path / "one.log", log_bytes)
        made.append(Server(launch, log, ready_within_s=ready_within_s, stop_within_s=10))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        if server.phase != "stopped":
            await server.stop()


async def within(what: Any) -> Any:
    return await asyncio.wait_for(what, 60)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody waited for yet has ended all the same.
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


async def test_it_is_ready_when_it_answers_and_ends_with_its_workers(
    server_of: Callable[..., Server], tmp_path: Path
) -> None:
    server = server_of()
    assert await within(server.wait_for("ready", "given up")) == "ready"
    assert (tmp_path / "one.yml").read_text() == "max-num-seqs: 32\n"
    assert await models(server.launch.url) == ["tiny"]
    assert await version(server.launch.url) == "0.32.0"
    worker = int((tmp_path / "worker").read_text())
    assert is_alive(worker)

    await within(server.stop())

    assert server.phase == "stopped"
    for _ in range(600):
        if not is_alive(worker):
            break
        await asyncio.sleep(0.05)
    assert not is_alive(worker)
    assert "starting, number 1" in (tmp_path / "one.log").read_text()


async def test_the_second_machine_of_a_server_answers_nobody_and_is_left_to_work(
    server_of: Callable[..., Server], tmp_path: Path
) -> None:
    server = server_of("headless", ready_within_s=0.1)
    assert await within(server.wait_for("ready", "given up")) == "ready"

    await asyncio.sleep(0.4)  # far longer than one may take that is to answer

    assert (server.phase, server.restarts) == ("ready", 0)


async def test_one_that_falls_is_started_again(server_of: Callable[..., Server]) -> None:
    server = server_of("falls twice")
    assert await within(server.wait_for("ready", "given up")) == "ready"
    assert server.restarts == 2


async def test_one_that_is_killed_is_started_again(server_of: Callable[..., Server]) -> None:
    server = server_of()
    await within(server.wait_for("ready"))
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    await within(server.wait_for("waiting", "starting", "not answering"))
    assert await within(server.wait_for("ready")) == "ready"
    assert server.restarts == 1


async def test_options_that_vllm_does_not_take_are_no_reason_to_try_for_ever(
    server_of: Callable[..., Server],
) -> None:
    server = server_of("invalid")
    assert await within(server.wait_for("ready", "given up")) == "given up"
    assert any("unrecognized arguments: --fast" in line for line in server.log.last)
    assert server.restarts == 0


def test_the_log_is_bounded_and_the_file_before_is_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "one.log", 1000)
    for number in range(100):
        log.write(b"line %03d, and more of it to fill the file\n" % number)
    log.close()

    kept = (tmp_path / "one.log.1").read_text() + (tmp_path / "one.log").read_text()
    assert kept.splitlines()[-1].startswith("line 099")
    assert (tmp_path / "one.log").stat().st_size <= 1000
    assert len(list(tmp_path.iterdir())) == 2
    assert log.last[-1].startswith("line 099")
