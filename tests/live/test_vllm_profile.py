"""vLLM's own profiler, asked for by an operator and ended after its time."""

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.stack import Stack, wait_for
from support.vllm_servers import Servers

from sidecar.cli import main

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "profile"}], "max_tokens": 16}


@pytest.fixture
def allowed(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    local = {"kind": "vllm", "replicas": [servers.url("one")]}
    settings = {"models": {"tiny": {"upstream": "local"}}, "inference": {"profiling": True}}
    with Stack(tmp_path / "stack", {"local": local}, settings, with_collector=False) as made:
        yield made


def names_in(folder: Path) -> set[str] | None:
    """What the only trace tells of; None while there is none, or while it is being written."""
    for path in folder.rglob("*.trace.json.gz"):
        with contextlib.suppress(EOFError, ValueError):
            found = json.loads(gzip.decompress(path.read_bytes()))
            return {event.get("name", "") for event in found["traceEvents"]}
    return None


def test_a_profile_of_a_real_server_is_written_and_names_the_models_work(
    allowed: Stack, servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask() -> int:
        return httpx.post(f"{allowed.url}/v1/chat/completions", json=BODY, timeout=300).status_code

    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            with contextlib.suppress(httpx.HTTPError):
                ask()

    assert ask() == 200
    agent = threading.Thread(target=keep_asking, daemon=True)
    agent.start()
    code = main(["profile", "local", "--for", "4s", "--config", str(allowed.config_file)])
    over.set()
    agent.join(310)

    assert code == 0
    assert "profiling 127.0.0.1" in capsys.readouterr().out
    folder = servers.folder / "inference" / "profiles"
    names = wait_for("the trace", lambda: names_in(folder), 240)
    assert any(name.startswith("aten::") for name in names)
    assert ask() == 200  # it goes on serving
