"""What an answer that is given again takes: whole round trips of one client, by real processes.

    python tests/bench/reuse.py            # in memory, and from a Redis (redis-server must be installed)

One connection, one call after the other, 3,000 of them; a bare HTTP request that nothing is looked up for
(``/healthz``) stands beside it: what the client, the kernel and the server's HTTP take by themselves.
"""

import argparse
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.stack import Stack  # noqa: E402
from support.upstream import Answer, ScriptedUpstream  # noqa: E402

from tests.scenarios.budget_scenes import PRICES, chat_reply  # noqa: E402
from tests.sidecar.budgets.redis_server import RedisServer  # noqa: E402

BODY = json.dumps(
    {
        "model": "gpt-4o-mini",
        "temperature": 0,
        "messages": [
            {"role": "system", "content": "You answer questions of customers. " * 20},
            {"role": "user", "content": "How do I change my address?"},
        ],
    }
).encode()


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, head: str, body: bytes = b"") -> bytes:
        """The reply to one request, head and body."""
        self._socket.sendall(f"{head} HTTP/1.1\r\nhost: x\r\n".encode() + body)
        said = b""
        while b"\r\n\r\n" not in said:
            said += self._socket.recv(1 << 16)
        start, _, rest = said.partition(b"\r\n\r\n")
        lines = start.lower().split(b"\r\n")
        size = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
        while len(rest) < size:
            rest += self._socket.recv(1 << 16)
        return said[: len(start)]


def times(ask: Callable[[], Any], count: int) -> list[float]:
    """Milliseconds of each of ``count`` calls."""
    spent = []
    for _ in range(count):
        began = time.perf_counter()
        ask()
        spent.append((time.perf_counter() - began) * 1e3)
    return spent


def measure(name: str, redis: str | None, calls: int) -> None:
    """Print one line for each kind of request."""
    asked = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
    cache = {"exact": True} | ({"redis": redis} if redis else {})
    kinds = {"openai": {"kind": "openai", "api_key": "${PROVIDER_KEY}"}}
    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedUpstream(lambda seen: Answer(pieces=[chat_reply()])) as up,
    ):
        kinds["openai"]["base_url"] = f"{up.url}/v1"
        settings = {"prices": PRICES, "cache": cache}
        stack = Stack(
            Path(folder),
            upstreams=kinds,
            settings=settings,
            environment={"PROVIDER_KEY": "sk-x"},
            with_collector=False,
        )
        with stack:
            client = Client(stack.ports[0])

            def hit() -> bytes:
                return client.ask("POST /v1/chat/completions", asked)

            until = time.monotonic() + 30
            while b"x-bursar-cache: hit" not in hit():
                assert time.monotonic() < until, "the answer was never given again"
                time.sleep(0.05)
            rows = {"bare": [], "hit": []}  # type: dict[str, list[float]]
            for _ in range(max(1, calls // 100)):  # In turn, for the machine is not always as busy.
                rows["bare"] += times(lambda: client.ask("GET /healthz", b"\r\n"), 100)
                rows["hit"] += times(hit, 100)
            assert b"x-bursar-cache: hit" in hit()
            for kind, values in rows.items():
                cut = statistics.quantiles(values, n=100)
                print(
                    f"{name:<7} {kind:<5} ms: min {min(values):.3f}  p50 {cut[49]:.3f}  p90 {cut[89]:.3f}  "
                    f"p99 {cut[98]:.3f}"
                )


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=3_000)
    given = parser.parse_args()
    measure("memory", None, given.calls)
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            measure("redis", f"{server.url}/1", given.calls)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
