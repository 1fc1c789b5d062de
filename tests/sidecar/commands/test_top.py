"""`bursar top` in a real terminal."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.stack import ROOT

PATIENCE_S = 200
pytestmark = pytest.mark.timeout(300)

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(rb"\x1b\[[0-9;]*(3|4|9|10)[0-7]([0-9;]*)m")

TOTAL = {"calls": 60, "failed_calls": 3, "effective_cost_usd": "0.5", "input_tokens": 10, "output_tokens": 1}


class Answers(BaseHTTPRequestHandler):
    """Answers for the collector and the sidecar's control plane."""

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        name = where.path.rsplit("/", 1)[-1]
        by = parse_qs(where.query).get("by", [""])[0]
        rows: list[dict[str, Any]] = []
        if name == "totals":
            rows = [TOTAL]
        elif name == "spend_by":
            rows = [{by: f"the {by} {n}", **TOTAL, "calls": n, "p95_ms": 5.0} for n in range(3)]
        body = json.dumps({"budgets": []} if name == "budgets" else {"rows": rows}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing to say."""


@pytest.fixture
def config_file(tmp_path: Path) -> Iterator[Path]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"127.0.0.1:{server.server_port}"
    file = tmp_path / "bursar.yaml"
    file.write_text(f"collector: {{listen: {address}}}\ncontrol: {{listen: {address}}}\n")
    yield file
    server.shutdown()
    server.server_close()
    thread.join(10)


class Terminal:
    """A pseudo-terminal of 100 by 30 with `bursar top` in it."""

    def __init__(self, config_file: Path, *words: str) -> None:
        self.said = b""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sidecar.cli", "top", "--config", str(config_file), *words],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        )  # fmt: skip

    def read_until(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        seen = len(self.said)
        while words.encode() not in ESCAPES.sub(b"", self.said[max(0, seen - 200) :]):
            assert time.monotonic() < deadline, self.said[-3000:]
            self._read(1.0)

    def end(self) -> int:
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            self._read(0.2)
        self._read(0.0)
        return self.process.returncode

    def _read(self, wait_s: float) -> None:
        if select.select([self.master], [], [], wait_s)[0]:
            self.said += os.read(self.master, 65536)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(config_file: Path) -> Iterator[Terminal]:
    opened = Terminal(config_file, "--every", "300ms", "--no-color")
    yield opened
    opened.close()


def test_keys_sort_pause_tell_by_something_else_and_quit(terminal: Terminal) -> None:
    terminal.read_until("spend $6.00/h")  # 0.50 USD in five minutes
    terminal.read_until("the agent 2")
    terminal.press("s")
    terminal.read_until("calls v")
    terminal.press("r")
    terminal.read_until("calls ^")
    terminal.press("b")
    terminal.read_until("the team 0")
    terminal.press("p")
    terminal.read_until("PAUSED")
    terminal.press("q")
    assert terminal.end() == 0
    assert termios.tcgetattr(terminal.slave) == terminal.before
    assert terminal.said.rstrip().endswith((b"\x1b[?1049l", b"\x1b[?25h"))  # the shell's screen is back
    assert not COLOURS.search(terminal.said)
    assert b"Traceback" not in terminal.said


@pytest.mark.parametrize("way", ["Ctrl-C", "SIGTERM"])
def test_it_ends_cleanly_when_interrupted(terminal: Terminal, way: str) -> None:
    terminal.read_until("the agent 0")
    if way == "Ctrl-C":
        terminal.press("\x03")
    else:
        terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == 0
    assert termios.tcgetattr(terminal.slave) == terminal.before
    assert b"Traceback" not in terminal.said


def test_without_a_terminal_it_is_printed_once(config_file: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "sidecar.cli", "top", "--config", str(config_file)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "spend $6.00/h" in ran.stdout
    assert "\x1b" not in ran.stdout
