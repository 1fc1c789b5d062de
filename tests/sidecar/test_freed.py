"""What a call made is freed by its last reference: no cycle waits for the collector of cycles."""

import asyncio
import contextlib
import gc
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.stack import IMPORTS
from support.upstream import Answer, ScriptedUpstream, Seen

from collector import ahead

_START = b'data: {"id":"c","model":"gpt-4o-mini","choices":['
CHUNK = _START + b'{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}\n\n'
USAGE = _START + b'],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}\n\n'
TEXT = [CHUNK % (b"word " * 40, b"null")] * 5
STREAM = [*TEXT, CHUNK % (b"", b'"stop"'), USAGE, b"data: [DONE]\n\n"]
WHOLE = json.dumps(
    {
        "id": "c",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
    }
).encode()
SSE = (("content-type", "text/event-stream"),)
ANSWERS = {
    "whole": Answer(pieces=[WHOLE]),
    "slowly whole": Answer(pieces=[WHOLE], delay_s=0.02),
    "stream": Answer(headers=SSE, pieces=STREAM, chunked=True, gap_s=0.002),
    "broken": Answer(headers=SSE, pieces=TEXT, chunked=True, gap_s=0.002, break_off=True),
    "left": Answer(headers=SSE, pieces=TEXT, chunked=True, gap_s=0.005, endless=True),
    "cut": Answer(headers=SSE, pieces=TEXT, chunked=True, gap_s=0.0005, endless=True),
    "failed": Answer(status=500, pieces=[b'{"error":{"message":"no"}}']),
    "moved": Answer(headers=SSE, pieces=STREAM, chunked=True, gap_s=0.002),
    "moved at its first words": Answer(headers=SSE, pieces=STREAM, chunked=True, gap_s=0.002),
    "translated": Answer(headers=SSE, pieces=STREAM, chunked=True, gap_s=0.002),
    "given again": Answer(headers=SSE, pieces=STREAM, chunked=True, gap_s=0.002),
}
AWAY = {
    "moved": Answer(status=503, pieces=[b'{"error":{"message":"later"}}']),
    "moved at its first words": Answer(
        headers=SSE, pieces=[b'data: {"error":{"message":"busy","code":503}}\n\n'], chunked=True
    ),
}
"""What the model answers that is asked first."""
MODELS = {"cut": "gpt-4o", "moved": "gpt-4.1", "moved at its first words": "gpt-4.1"}
PATHS = {"translated": b"/v1/messages"}
SIGNS = {
    "stream": b"[DONE]",
    "cut": b"budget_exceeded",
    "moved": b"[DONE]",
    "moved at its first words": b"[DONE]",
    "translated": b"message_stop",
    "given again": b"x-bursar-cache: hit",
}
"""What is in a reply that is of its kind."""
CONFIGURATION = """
listen: 127.0.0.1:0
control: {{listen: 127.0.0.1:0}}
data_dir: {folder}
upstreams: {{openai: {{base_url: "{upstream}/v1", breaker: {{failures: 100}}}}}}
models: {{gpt-4o-mini: {{upstream: openai}}}}
cache: {{exact: on}}
fallbacks:
  - {{from: gpt-4.1, to: [gpt-4o-mini]}}
budgets:
  - {{name: talk, match: {{model: gpt-4o}}, limit: 0.01 USD, window: conversation, at: {{100%: cut}}}}
"""


_talks = itertools.count()


def answer(seen: Seen) -> Answer:
    """By the text of the request, which names it."""
    asked = json.loads(seen.body)
    kind = asked["messages"][0]["content"]
    return AWAY[kind] if asked["model"] == "gpt-4.1" else ANSWERS[kind]


async def call(port: int, kind: str, *, first: bool = False) -> None:
    """One call of its kind, on a connection of its own."""
    asked = {
        "model": MODELS.get(kind, "gpt-4o-mini"),
        "messages": [{"role": "user", "content": kind}],
        "stream": kind not in ("whole", "slowly whole"),
        "temperature": 0 if kind == "given again" else 1,
        "max_tokens": 100_000 if kind == "cut" else 1000,
    }
    body = json.dumps(asked).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = b"content-type: application/json\r\nauthorization: Bearer sk-0123456789\r\nconnection: close"
    lines += b"\r\nx-bursar-conversation: %d" % next(_talks)
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%b\r\n\r\n"
    writer.write(head % (PATHS.get(kind, b"/v1/chat/completions"), len(body), lines) + body)
    with contextlib.suppress(ConnectionError):
        if kind == "left":
            await reader.readuntil(b"word")
        else:
            read = await asyncio.wait_for(reader.read(), 20)
            assert first or SIGNS.get(kind, b"") in read, (kind, read)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def left_over(folder: Path, kinds: Sequence[str], times: int) -> dict[str, dict[str, int]]:
    """Objects of ours that only the collector of cycles found, after so many calls of each kind."""
    from sidecar.app import Sidecar
    from sidecar.config import load_config

    found: dict[str, dict[str, int]] = {}
    with ScriptedUpstream(answer) as upstream:
        file = folder / "bursar.yaml"
        file.write_text(CONFIGURATION.format(folder=folder / "data", upstream=upstream.url))
        sidecar = Sidecar(load_config(file))
        await sidecar.start()
        port = sidecar.server.addresses[0][1]
        for kind in kinds:
            # What is made once is not meant.
            await call(port, kind, first=True)
            await call(port, kind)
            await asyncio.sleep(0.2)
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            for _ in range(times):
                await call(port, kind)
            await asyncio.sleep(0.3)
            gc.collect()
            gc.set_debug(0)
            ours = Counter(
                type(one).__qualname__
                for one in gc.garbage
                if type(one).__module__.startswith(("sidecar.", "collector."))
            )
            found[kind] = dict(ours)
            gc.garbage.clear()
            gc.enable()
        await sidecar.drain()
    return found


class Knot:
    """One that holds on to itself."""

    def __init__(self) -> None:
        self.itself = self


async def knots_left(folder: Path) -> list[int]:
    """Knots left after the sidecar tidied up: while a call was under way, and when none was."""
    from sidecar.app import LOOSE, Sidecar
    from sidecar.config import load_config

    file = folder / "idle.yaml"
    file.write_text(CONFIGURATION.format(folder=folder / "idle", upstream="http://127.0.0.1:9"))
    sidecar = Sidecar(load_config(file))
    await sidecar.start()
    gc.collect()
    gc.disable()
    for _ in range(LOOSE + 1):
        Knot()
    left = []
    for running in ({"a call"}, set()):
        sidecar._running = running  # type: ignore[assignment]
        sidecar.tidy()
        left.append(sum(isinstance(one, Knot) for one in gc.get_objects()))
    await sidecar.drain()
    return left


def main() -> None:
    """What a process of its own says."""
    import uvloop

    if sys.argv[2] == "compiled":
        assert ahead.use()
    folder = Path(sys.argv[1])
    knots = uvloop.run(knots_left(folder))
    print(json.dumps([uvloop.run(left_over(folder, list(ANSWERS), 5)), knots]))


@pytest.mark.parametrize("how", ["as it stands", "compiled"])
def test_no_call_leaves_a_cycle_and_others_are_found_when_none_is_under_way(tmp_path: Path, how: str) -> None:
    if how == "compiled" and not ahead.is_fresh():
        pytest.skip("nothing is compiled ahead here: no C compiler, or no mypyc")
    tests = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((tests, IMPORTS))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found, knots = json.loads(done.stdout.splitlines()[-1])
    assert found == {kind: {} for kind in ANSWERS}
    assert knots[0] > 20_000
    assert knots[1] == 0


if __name__ == "__main__":
    main()
