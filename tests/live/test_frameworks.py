"""Agents of well-known frameworks, unchanged, through the sidecar: metered, priced, one conversation each.

They run in an environment of their own (`make frameworks-env`), against simulated models.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stack import ROOT, Stack, free_ports, wait_for

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]

PYTHON = Path(os.environ.get("FRAMEWORKS_PYTHON", ROOT / ".venvs/frameworks/bin/python"))
EXAMPLES = Path(__file__).with_name("frameworks")
APIS = {
    "langgraph": "openai.chat",
    "openai_agents": "openai.responses",
    "pydantic_ai": "anthropic.messages",
    "crewai": "openai.chat",
    "google_adk": "openai.chat",
}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "inference.simulator", "--port", str(port), "--speed", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("the simulator", lambda: listens(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def stack(simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON}: make frameworks-env installs the frameworks")
    upstreams = {
        "openai": {"kind": "openai", "base_url": f"{simulator}/v1"},
        "anthropic": {"kind": "anthropic", "base_url": simulator},
    }
    with Stack(tmp_path_factory.mktemp("frameworks") / "stack", upstreams) as made:
        yield made


def run(stack: Stack, name: str, folder: Path) -> str:
    """Run an example with nothing but the addresses in its environment; what it said at its end."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "OPENAI_BASE_URL": f"{stack.url}/v1",
        "OPENAI_API_BASE": f"{stack.url}/v1",
        "ANTHROPIC_BASE_URL": stack.url,
        "OPENAI_API_KEY": "sk-simulated",
        "ANTHROPIC_API_KEY": "sk-simulated",
        # Nothing of theirs is sent elsewhere.
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_DISABLE_TRACKING": "true",
        "OTEL_SDK_DISABLED": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    done = subprocess.run(
        [str(PYTHON), str(EXAMPLES / f"{name}_agent.py")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout.rpartition("ANSWER ")[2].strip()


@pytest.mark.parametrize("name", APIS)
def test_an_agent_runs_through_the_sidecar_with_no_change_and_is_one_conversation(
    stack: Stack, name: str, tmp_path: Path
) -> None:
    known = {row["call_id"] for row in stack.ask("calls", limit=1000)}

    answer = run(stack, name, tmp_path)

    def fresh() -> list[dict[str, Any]]:
        rows = [row for row in stack.ask("calls", limit=1000) if row["call_id"] not in known]
        return rows if len(rows) >= 2 else []

    calls = wait_for("the calls", fresh)
    assert answer
    assert {row["api"] for row in calls} == {APIS[name]}
    assert {row["outcome"] for row in calls} == {"served"}
    assert len({row["conversation_id"] for row in calls}) == 1
    assert "look_up" in [tool for row in calls for tool in row["tool_names"]]
    assert any(row["input_role"] == "tool" for row in calls)
    assert all(row["usage_grade"] == "reported" and row["price_grade"] == "listed" for row in calls)
    assert all(float(row["effective_cost_usd"]) > 0 for row in calls)
