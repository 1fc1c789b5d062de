"""A real vLLM, its CPU build unless VLLM_BIN names another: two replicas of a tiny model, one that embeds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stack import Stack
from support.vllm_servers import Servers, running, skip_without_vllm

from inference.tiny_model import make_model

KV_BLOCKS = 72
BLOCK_BYTES = 128 * 1024
"""128 tokens of a kilobyte each: two layers, two heads of 64, keys and values in two bytes."""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_without_vllm()
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Servers]:
    def server(**options: str) -> dict[str, Any]:
        return {"model": str(tiny_model), "profile": ["tiny-cpu"], "served_name": "tiny", "options": options}

    generating = {
        "kv-cache-memory-bytes": str(KV_BLOCKS * BLOCK_BYTES),
        "max-model-len": "4096",
        "max-num-queued-reqs": "72",
        "enable-logging-iteration-details": "true",
    }
    embedding = server() | {"profile": ["tiny-cpu", "embeddings"], "served_name": "tiny-embed"}
    wanted = {"one": server(**generating), "two": server(**generating), "embed": embedding}
    with running(tmp_path_factory.mktemp("vllm"), wanted) as made:
        yield made


@pytest.fixture
def stack(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    upstreams = {
        "local": {"kind": "vllm", "replicas": [servers.url("one")]},
        "embed": {"kind": "vllm", "replicas": [servers.url("embed")]},
    }
    models = {"tiny": {"upstream": "local"}, "tiny-embed": {"upstream": "embed"}}
    prices = {name: {"input": "1", "output": "4", "cache_read": "0.1"} for name in models}
    with Stack(tmp_path / "stack", upstreams, {"models": models, "prices": prices}) as made:
        yield made
