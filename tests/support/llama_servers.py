"""Real llama.cpp servers with a tiny model, each a process of its own."""

import contextlib
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from support.ports import free_ports
from support.stack import ROOT, wait_for

PYTHON = Path(os.environ.get("LLAMA_PYTHON", ROOT / ".venvs/llama-cpp/bin/python"))
CONTEXT = 2048
_READY_WITHIN_S = 120.0

# What `llama-server` is, as a library: the same routes and the same answers.
_PROGRAM = """
import signal, sys, xllamacpp
model, port, slots, context, embeds = sys.argv[1], *map(int, sys.argv[2:])
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = model, {"tiny"}
params.hostnames, params.port = ["127.0.0.1"], port
params.n_parallel, params.n_ctx = slots, slots * context
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.endpoint_metrics, params.embedding = True, bool(embeds)
if embeds:
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(params)
signal.pause()
"""


class LlamaServer:
    """One server; it may be killed and started again."""

    def __init__(self, model: Path, log: Path, *, slots: int = 4, embeds: bool = False) -> None:
        (self.port,) = free_ports(1)
        self._log = log
        numbers = [self.port, slots, CONTEXT, int(embeds)]
        self._argv = [str(PYTHON), "-c", _PROGRAM, str(model), *map(str, numbers)]
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._argv, stdout=log, stderr=log)

    def wait(self) -> "LlamaServer":
        """Until it answers."""
        wait_for("llama.cpp", self._answers, _READY_WITHIN_S)
        return self

    def _answers(self) -> bool:
        code = self.process.poll()
        assert code is None, f"llama.cpp ended with {code}:\n{self._log.read_text(errors='replace')[-3000:]}"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
        return False

    def metric(self, family: str) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{family} "))

    def kill(self) -> None:
        """At once, as ``kill -9`` does."""
        self.process.kill()
        self.process.wait(30)


@contextlib.contextmanager
def llama_servers(model: Path, folder: Path, **slots: int) -> Iterator[dict[str, LlamaServer]]:
    """One server for each name, with so many slots; ``embed`` embeds and does nothing else."""
    made: dict[str, LlamaServer] = {}
    try:
        for name, count in slots.items():
            made[name] = LlamaServer(model, folder / f"{name}.log", slots=count, embeds=name == "embed")
        for server in made.values():
            server.wait()
        yield made
    finally:
        for server in made.values():
            server.kill()
