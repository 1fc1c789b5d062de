"""``bursar mcp`` as an agent meets it: the official SDK's own client over standard input and output."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from support.stack import Stack

from sidecar.mcp.asking import Asking, SidecarUnavailable

mcp = pytest.importorskip("mcp", reason="the mcp extra is not installed")

ROOT = Path(__file__).parents[3]
BUDGET = {
    "name": "search-team",
    "subject": "crawler",
    "window": "day",
    "unit": "usd",
    "limit": "25.000000000",
    "spent": "3.250000000",
    "held": "0.500000000",
    "remaining": "21.250000000",
    "resets_at": "2026-11-23T00:00:00Z",
}


@dataclass
class Scripted:
    """A real HTTP server with a sidecar's two pages; answers as told, remembers what came."""

    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                scripted.seen.append((self.command, self.path, headers, body))
                status, answer = scripted.answers.get(self.path, (404, b""))
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "http://example.invalid/")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


CONFIG = {
    "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:9/v1"}},
    "models": {"qwen3-8b": {"upstream": "local"}},
    "prices": {"qwen3-8b": {"input": 0.05, "output": 0.2}},
}


class Agent:
    """An agent that has started ``bursar mcp``, in a loop of its own so that tests may share it."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        parameters = mcp.StdioServerParameters(
            command=sys.executable,
            args=["-m", "sidecar.cli", "mcp", *arguments],
            env={"PYTHONPATH": str(ROOT), **environment},
            cwd=folder,
        )
        self._client = mcp.Client(parameters, read_timeout_seconds=100)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._live(),))

    async def _live(self) -> None:
        try:
            async with self._client:
                self._started.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._started.result(90)
        except BaseException:
            self._thread.join(10)
            self._loop.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def tools(self) -> dict[str, Any]:
        listed = asyncio.run_coroutine_threadsafe(self._client.list_tools(), self._loop).result(90)
        return {tool.name: tool for tool in listed.tools}

    def call(self, tool: str, **arguments: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(self._client.call_tool(tool, arguments), self._loop).result(
            90
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with Scripted() as server:
        yield server


@pytest.fixture
def scripted(server: Scripted) -> Scripted:
    """The agent's sidecar, with nothing seen yet."""
    server.seen.clear()
    server.answers = {
        "/bursar/v1/budgets": (200, json.dumps({"budgets": [BUDGET]}).encode()),
        "/bursar/v1/outcomes": (200, b'{"recorded":true}'),
    }
    return server


@pytest.fixture(scope="module")
def agent(server: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    folder = tmp_path_factory.mktemp("agent")
    (folder / "bursar.yaml").write_text(yaml.safe_dump(CONFIG))
    with Agent(folder, "--agent", "crawler", BURSAR_URL=server.url, BURSAR_AGENT_KEY="vk_mine\n") as agent:
        yield agent


def said(result: Any) -> str:
    return "".join(block.text for block in result.content)


def test_an_agent_finds_three_tools_that_explain_themselves(agent: Agent) -> None:
    tools = agent.tools()

    assert set(tools) == {"budget_status", "estimate_cost", "report_outcome"}
    assert all(len(tool.description) > 80 for tool in tools.values())
    assert tools["budget_status"].annotations.read_only_hint
    assert not tools["report_outcome"].annotations.read_only_hint
    assert tools["estimate_cost"].input_schema["required"] == ["model"]


def test_an_agent_reads_its_budgets_with_its_own_key(agent: Agent, scripted: Scripted) -> None:
    result = agent.call("budget_status")

    assert result.structured_content == {"budgets": [BUDGET]}
    ((method, path, headers, _),) = scripted.seen
    assert (method, path) == ("GET", "/bursar/v1/budgets")
    assert (headers["authorization"], headers["x-bursar-agent"]) == ("Bearer vk_mine", "crawler")
    assert "x-bursar-team" not in headers


def test_without_a_key_none_is_sent(scripted: Scripted) -> None:
    assert Asking(url=f"{scripted.url}/").get("/bursar/v1/budgets") == {"budgets": [BUDGET]}

    assert "authorization" not in scripted.seen[0][2]


def test_an_outcome_is_sent_as_it_was_said(agent: Agent, scripted: Scripted) -> None:
    result = agent.call("report_outcome", success=False, task_id="t-1", score=0.25, note="No flights.")

    assert result.structured_content == {"recorded": True}
    method, path, headers, body = scripted.seen[0]
    assert (method, path, headers["content-type"]) == ("POST", "/bursar/v1/outcomes", "application/json")
    assert json.loads(body) == {"success": False, "task_id": "t-1", "score": 0.25, "note": "No flights."}


def test_an_outcome_of_nothing_is_not_sent(agent: Agent, scripted: Scripted) -> None:
    result = agent.call("report_outcome", success=True)

    assert result.is_error
    assert "name what succeeded or failed: task_id, conversation_id or trace_id" in said(result)
    assert scripted.seen == []


def test_an_estimate_is_a_range_with_grade_and_source(agent: Agent) -> None:
    found = agent.call(
        "estimate_cost", model="gpt-5-mini", input_tokens=100_000, max_output_tokens=1_000
    ).structured_content

    # At 0.25, 0.025 (cached) and 2 USD per million tokens.
    assert (found["low_usd"], found["prompt_usd"], found["high_usd"]) == ("0.0025", "0.025", "0.027")
    assert found["grade"] == "listed"
    assert "genai-prices" in found["source"] or "litellm" in found["source"]
    assert found["input_tokens"] == {"low": 100_000, "high": 100_000}


def test_an_estimate_of_a_text_says_how_sure_it_is_of_the_tokens(agent: Agent) -> None:
    found = agent.call("estimate_cost", model="claude-sonnet-4-6", text="word " * 1_000).structured_content

    assert found["input_tokens"]["low"] < 1_250 < found["input_tokens"]["high"]  # 5,000 bytes
    assert Decimal(found["low_usd"]) < Decimal(found["prompt_usd"]) < Decimal(found["high_usd"])
    assert found["max_output_tokens"] > 10_000  # the model's own


def test_estimates_go_by_the_configured_price_and_upstream(agent: Agent) -> None:
    known = agent.call(
        "estimate_cost", model="qwen3-8b", input_tokens=1_000_000, max_output_tokens=0
    ).structured_content
    unknown = agent.call("estimate_cost", model="frontier-1", input_tokens=10).structured_content

    assert (known["high_usd"], known["grade"], known["provider"]) == ("0.05", "configured", "vllm")
    assert unknown["grade"] == "prior"
    assert Decimal(unknown["high_usd"]) > 0


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"model": "gpt-5-mini"}, "give either input_tokens or text"),
        ({"model": "gpt-5-mini", "input_tokens": 5, "text": "a"}, "give either input_tokens or text"),
        ({"model": "gpt-5-mini", "input_tokens": -1}, "greater than or equal to 0"),
        ({"model": " ", "input_tokens": 1}, "name the model"),
        ({"input_tokens": 1}, "model"),
    ],
)
def test_a_question_that_makes_no_sense_is_explained(
    agent: Agent, asked: dict[str, Any], complaint: str
) -> None:
    result = agent.call("estimate_cost", **asked)

    assert result.is_error
    assert complaint in said(result)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((401, b'{"error":{"message":"this key is unknown"}}'), "the sidecar says 401: this key is unknown"),
        ((500, b"<html>oops"), "the sidecar says 500: <html>oops"),
        ((404, b""), "is it a sidecar, and of this version?"),
        ((200, b"<html>welcome"), "does not answer as a sidecar does"),
        ((200, b"[1]"), "does not answer as a sidecar does"),
        ((302, b""), "does not answer as a sidecar does (status 302)"),
        ((200, b"[" + b" " * (1 << 20) + b"]"), "answers with more than"),
    ],
)
def test_an_answer_that_is_no_answer_is_explained(
    agent: Agent, scripted: Scripted, answer: tuple[int, bytes], complaint: str
) -> None:
    scripted.answers["/bursar/v1/budgets"] = answer

    result = agent.call("budget_status")

    assert result.is_error
    assert complaint in said(result)
    assert len(scripted.seen) == 1  # a redirect is not followed


def test_a_real_sidecar_answers_and_its_absence_is_explained(tmp_path: Path) -> None:
    upstreams = {"openai": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}}
    with (
        Stack(tmp_path / "stack", upstreams, with_collector=False) as stack,
        Agent(tmp_path, "--config", str(stack.config_file)) as agent,
    ):
        budgets = agent.call("budget_status")
        outcome = agent.call("report_outcome", success=True, task_id="t-1", value_usd=12.5)
        stack.stop("sidecar")
        gone = [agent.call("budget_status"), agent.call("report_outcome", success=True, task_id="t-1")]

    assert (budgets.is_error, budgets.structured_content) == (False, {"budgets": []}), said(budgets)
    assert (outcome.is_error, outcome.structured_content) == (False, {"recorded": True}), said(outcome)
    for result in gone:
        assert result.is_error
        assert f"the sidecar at {stack.url} does not answer" in said(result)
        assert "bursar up" in said(result)


def test_a_sidecar_that_hangs_is_given_up(scripted: Scripted) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asking = Asking(url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(SidecarUnavailable, match="does not answer \\(timed out\\)"):
            asking.get("/bursar/v1/budgets")


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar.cli", "mcp", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_it_ends_when_the_agent_closes_its_input(tmp_path: Path) -> None:
    done = run(tmp_path)

    assert (done.returncode, done.stdout) == (0, "")


def test_an_address_that_is_none_is_misuse(tmp_path: Path) -> None:
    done = run(tmp_path, "--url", "localhost:4000")

    assert done.returncode == 2
    assert "not an http(s) address" in done.stderr


def test_without_the_sdk_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError('No module named mcp', name='mcp')\n")

    done = run(tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")

    assert done.returncode == 1
    assert "pip install '.[mcp]'" in done.stderr


def test_other_commands_do_without_the_sdk() -> None:
    asked = "import sys, sidecar.cli; sidecar.cli.main(['check']); sys.exit('mcp' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
