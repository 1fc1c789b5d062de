"""vLLM's own profiler, asked for by an operator and ended after its time."""

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

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


@pytest.fixture
def allowed(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    local = {"kind": "vllm", "replicas": [servers.url("one")]}
    settings = {"models": {"tiny": {"upstream": "local"}}, "inference": {"profiling": True}}
    with Stack(tmp_path / "stack", {"local": local}, settings, with_collector=False) as made:
        yield made


def test_a_profile_of_a_real_server_is_written_and_names_the_models_work(
    allowed: Stack, servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = servers.folder / "inference" / "profiles"

    def traces() -> list[Path]:
        return [path for path in folder.rglob("*") if path.is_file() and ".trace.json" in path.name]

    before = set(traces())
    body = {"model": "tiny", "messages": [{"role": "user", "content": "profile"}], "max_tokens": 16}

    def ask() -> bool:
        reply = httpx.post(f"{allowed.url}/v1/chat/completions", json=body, timeout=300)
        return reply.status_code == 200

    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            ask()

    agent = threading.Thread(target=keep_asking, daemon=True)
    assert ask()
    agent.start()
    code = main(["profile", "local", "--for", "4s", "--config", str(allowed.config_file)])
    over.set()
    agent.join(300)

    assert code == 0
    assert "profiling 127.0.0.1" in capsys.readouterr().out
    (written,) = wait_for("the trace", lambda: set(traces()) - before, 120)
    text = written.read_bytes()
    if written.suffix == ".gz":
        text = gzip.decompress(text)
    names = {event.get("name", "") for event in json.loads(text)["traceEvents"]}
    assert any(name.startswith("aten::") for name in names)
    assert ask()  # it goes on serving
