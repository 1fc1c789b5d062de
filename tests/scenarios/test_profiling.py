"""Profiles on demand: only where they are allowed, one at a time, and always with an end."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.stack import Stack, wait_for

from sidecar.cli import main

PATH = "/bursar/v1/profiles"


class Engine:
    """A server that can be told to profile, and notes it."""

    def __init__(self, status: int = 200) -> None:
        self.told: list[str] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                engine.told.append(self.path)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


def ask(stack: Stack, method: str, **body: Any) -> tuple[int, dict[str, Any]]:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{stack.control_url}{PATH}", data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def stack_of(folder: Path, engine: Engine, **settings: Any) -> Stack:
    local = {"kind": "vllm", "replicas": [engine.url]}
    return Stack(folder / "stack", {"local": local}, settings, with_collector=False)


def test_it_is_off_unless_it_is_turned_on(tmp_path: Path, engine: Engine) -> None:
    with stack_of(tmp_path, engine) as stack:
        assert ask(stack, "POST", upstream="local")[0] == 403
        status, said = ask(stack, "GET")
        assert (status, said["pid"]) == (200, stack.processes["sidecar"].pid)
    assert engine.told == []


def test_a_profile_ends_by_itself_and_only_one_runs(tmp_path: Path, engine: Engine) -> None:
    with stack_of(tmp_path, engine, inference={"profiling": True}) as stack:
        assert ask(stack, "POST", upstream="local", seconds=61)[0] == 400
        assert ask(stack, "POST", upstream="openai")[0] == 400
        assert ask(stack, "POST", upstream="local", replica="elsewhere:1")[0] == 400
        assert engine.told == []

        assert ask(stack, "POST", upstream="local", seconds=60)[0] == 202
        assert ask(stack, "POST", upstream="local", seconds=1)[0] == 409
        assert ask(stack, "DELETE") == (200, {"running": None})
        assert engine.told == ["/start_profile", "/stop_profile"]

        assert ask(stack, "POST", upstream="local", seconds=0.2)[0] == 202
        wait_for("the end", lambda: engine.told[2:] == ["/start_profile", "/stop_profile"])
        wait_for("no profile", lambda: ask(stack, "GET")[1]["running"] is None)

        # A sidecar that ends does not leave a server profiling.
        assert ask(stack, "POST", upstream="local", seconds=60)[0] == 202
    assert engine.told[4:] == ["/start_profile", "/stop_profile"]


def test_a_server_without_a_profiler_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(404)
    try:
        with stack_of(tmp_path, engine, inference={"profiling": True}) as stack:
            assert main(["profile", "local", "--for", "1s", "--config", str(stack.config_file)]) == 1
            assert "without a profiler" in capsys.readouterr().err
            assert ask(stack, "GET")[1]["running"] is None
            assert main(["profile", "local", "--for", "5m", "--config", str(stack.config_file)]) == 2
    finally:
        engine.close()
