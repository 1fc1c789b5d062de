"""What an agent asks of the sidecar itself, over real sockets."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.stack import Stack

from collector.journal import FrameKind, decode_event, read_frames, segments


def ask(url: str, body: object = None, *, method: str | None = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def events(data_dir: Path) -> list[Any]:
    found = []
    for segment in segments(data_dir / "journal"):
        frames, _ = read_frames(segment.path)
        found += [decode_event(frame.payload) for frame in frames if frame.kind == FrameKind.EVENT]
    return found


@pytest.fixture
def stack(tmp_path: Path) -> Any:
    with Stack(
        tmp_path, {"openai": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}}, with_collector=False
    ) as it:
        yield it


def test_an_outcome_is_written_down_and_a_bad_one_is_explained(stack: Stack) -> None:
    said = {"task_id": "t1", "success": True, "score": 0.5, "value_usd": "1.25", "note": "done"}
    assert ask(f"{stack.url}/bursar/v1/outcomes", said) == (200, {"recorded": True})
    status, body = ask(f"{stack.url}/bursar/v1/outcomes", {"success": True})
    assert status == 400
    assert "task_id" in body["error"]["message"]
    status, body = ask(f"{stack.url}/bursar/v1/outcomes")
    assert status == 405
    [event] = events(stack.data_dir)
    assert event.kind == "outcome"
    assert event.fields["task_id"] == "t1"
    assert event.fields["value_pico"] == 1_250_000_000_000


def test_without_budgets_there_are_none_to_show(stack: Stack) -> None:
    assert ask(f"{stack.url}/bursar/v1/budgets") == (200, {"budgets": []})
