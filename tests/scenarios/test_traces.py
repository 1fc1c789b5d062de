"""Real traces through the real proxy: tokens to the last one, costs to a tenth of a percent."""

import asyncio
import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from support.stack import Stack, simulator, wait_for

from inference.workload.replay import ReplaySummary, replay
from inference.workload.traces import read_trace


@contextmanager
def running(tmp_path: Path) -> Iterator[Stack]:
    with simulator("--speed", "1000") as url:
        upstreams = {
            "openai": {"kind": "openai", "base_url": f"{url}/v1"},
            "anthropic": {"kind": "anthropic", "base_url": url},
        }
        with Stack(tmp_path / "stack", upstreams) as stack:
            yield stack


def replayed(stack: Stack, trace: Path, sessions: frozenset[str] | None = None) -> ReplaySummary:
    calls = (
        replace(call, instant=True)
        for call in read_trace(trace).calls()
        if sessions is None or call.conversation in sessions
    )
    summary = asyncio.run(replay(calls, base_url=stack.url, concurrency=32))
    assert summary.failed == summary.broken == summary.left == 0
    wait_for("all calls in the ledger", lambda: stack.total("calls") >= summary.sent, 120)
    return summary


@pytest.mark.timeout(600)
def test_the_code_completion_trace_is_booked_to_the_last_token(shared_data: Path, tmp_path: Path) -> None:
    with running(tmp_path) as stack:
        replayed(stack, shared_data / "llm_traces" / "azure2023_code.parquet")
        (total,) = stack.ask("totals")

    assert total["calls"] == 8819
    assert (int(total["input_tokens"]), int(total["output_tokens"])) == (18_059_974, 245_896)


def expected_costs(shared_data: Path) -> dict[str, Decimal]:
    with gzip.open(shared_data / "llm_traces" / "agentic_expected_costs.csv.gz", "rt") as file:
        return {row["trace_id"]: Decimal(row["cost_cached_usd"]) for row in csv.DictReader(file)}


def assert_costs_agree(stack: Stack, expected: dict[str, Decimal]) -> None:
    booked: dict[str, Decimal] = defaultdict(Decimal)
    for row in stack.ask("spend_by", by="conversation_id", limit=1000):
        booked[row["conversation_id"]] = Decimal(row["list_cost_usd"])
    wrong = {
        session: (cost, booked[session])
        for session, cost in expected.items()
        if abs(booked[session] - cost) > cost / 1000
    }
    assert wrong == {}


def test_coding_sessions_cost_what_was_worked_out_independently(shared_data: Path, tmp_path: Path) -> None:
    expected = dict(sorted(expected_costs(shared_data).items())[::12])

    with running(tmp_path) as stack:
        replayed(stack, shared_data / "llm_traces" / "agentic_coding_sessions.parquet", frozenset(expected))
        assert_costs_agree(stack, expected)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_coding_sessions_cost_what_was_worked_out_independently(
    shared_data: Path, tmp_path: Path
) -> None:
    with running(tmp_path) as stack:
        replayed(stack, shared_data / "llm_traces" / "agentic_coding_sessions.parquet")
        assert_costs_agree(stack, expected_costs(shared_data))
