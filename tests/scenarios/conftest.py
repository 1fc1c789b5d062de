"""Whole processes for the scenarios."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stack import Stack
from support.upstream import Answer, ScriptedUpstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream that answers ``{}`` until a test gives it another script."""
    with ScriptedUpstream(lambda seen: Answer()) as server:
        yield server


StackMaker = Callable[..., Stack]


@pytest.fixture
def stack_for(tmp_path: Path) -> Iterator[StackMaker]:
    """Start a stack in front of an upstream; stopped when the test ends."""
    started: list[Stack] = []

    def make(upstream: ScriptedUpstream, **options: Any) -> Stack:
        kinds = {
            "openai": {"kind": "openai", "base_url": f"{upstream.url}/v1"},
            "anthropic": {"kind": "anthropic", "base_url": upstream.url},
        }
        options.setdefault("upstreams", kinds)
        stack = Stack(tmp_path / f"stack{len(started)}", **options)
        started.append(stack)
        return stack.__enter__()

    yield make
    for stack in started:
        stack.__exit__()
