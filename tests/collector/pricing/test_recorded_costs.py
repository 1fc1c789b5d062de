"""Recorded replies, usage blocks and whole agent sessions, priced, against costs worked out by others.

The costs of ``provider_responses`` were made with genai-prices 0.2.3 and litellm 1.109.1; where both
agree, ours must, too. The blocks' prices come from an older genai-prices (47df840), so that a few
models have moved since; each is named below with its reason.
"""

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.domain.price import list_cost
from collector.domain.usage import Usage
from collector.pricing.book import PriceBook

PROVIDER_NAMES = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "together": "together_ai",
}

MOVED = {
    # rate changes after the blocks were priced
    "gpt-5.6-sol": "5/30 became 4/20",
    "mistral-medium-latest": "0.4/2 became 1.5/7.5 on 2026-06-16",
    "mistral-small-latest": "0.1/0.3 became 0.15/0.6",
    # rates that the older list did not have
    "gpt-4o-audio-preview-2024-12-17": "audio was charged as text",
    "qwen-3-coder-480b": "listed without any price; a stand-in is charged, never nothing",
}


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def usage_from(found: dict[str, Any]) -> Usage:
    """The normalised counts of the recordings; a claim of more cached tokens than there is input is cut."""

    def count(*names: str) -> int:
        return next((int(found[name]) for name in names if found.get(name)), 0)

    total, output = count("input_tokens"), count("output_tokens")
    read = min(count("cache_read_tokens"), total)
    write = min(count("cache_write_tokens"), total - read)
    return Usage(
        input_tokens=total,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_write_input_tokens=write,
        cache_write_1h_input_tokens=min(count("cache_write_1h_tokens"), write),
        reasoning_output_tokens=min(count("reasoning_tokens", "output_reasoning_tokens"), output),
        audio_input_tokens=count("audio_input_tokens", "input_audio_tokens"),
        audio_output_tokens=count("audio_output_tokens", "output_audio_tokens"),
        image_input_tokens=count("input_image_tokens"),
        image_output_tokens=count("output_image_tokens"),
    )


def test_every_recorded_reply_on_which_the_lists_agree_is_priced_alike(
    book: PriceBook, shared_data: Path
) -> None:
    wrong, priced = [], 0
    for case in lines(shared_data / "provider_responses" / "cases.jsonl.gz"):
        expected = case["expected"]
        estimates = expected.get("cost_estimates") or {}
        if not estimates.get("agree"):
            continue
        provider = PROVIDER_NAMES.get(case["provider"], case["provider"])
        quote = book.quote(provider, expected["priced_as_model"], book.made_us)
        cost = list_cost(usage_from(expected["usage"]), quote.price) / 1e12
        priced += 1
        if cost != pytest.approx(estimates["genai_prices_usd"], rel=0.005, abs=1e-15):
            wrong.append((case["id"], quote.model, cost, estimates["genai_prices_usd"]))

    assert not wrong
    assert priced >= 100


def test_usage_blocks_cost_what_their_source_expects(book: PriceBook, shared_data: Path) -> None:
    wrong, priced = set(), 0
    for block in lines(shared_data / "provider_responses" / "usage_blocks.jsonl.gz"):
        if block["expected_input_price_usd"] is None:
            continue
        provider = PROVIDER_NAMES.get(block["provider"], block["provider"])
        price = book.quote(provider, block["model"] or "", book.made_us).price
        cost = (list_cost(usage_from(block["expected_usage"]), price) - price.per_request) / 1e12
        expected = block["expected_input_price_usd"] + block["expected_output_price_usd"]
        priced += 1
        if cost != pytest.approx(expected, rel=0.005, abs=1e-15):
            wrong.add(block["model"])

    assert wrong <= MOVED.keys()
    assert priced >= 500


def session_costs(book: PriceBook, folder: Path, every: int) -> Iterator[tuple[str, float, dict[str, str]]]:
    """Cost of every ``every``-th session with an endless cache.

    Leading blocks that the session has seen are reads, the rest of the whole blocks writes.
    """
    import pyarrow.parquet as pq

    with gzip.open(folder / "agentic_expected_costs.csv.gz", "rt") as file:
        expected = {row["trace_id"]: row for row in csv.DictReader(file)}
    chosen = sorted(expected)[::every]
    columns = [
        "trace_id",
        "t_s",
        "subagent_t0_s",
        "model",
        "input_tokens",
        "output_tokens",
        "block_size",
        "block_ranges",
    ]
    table = pq.read_table(
        folder / "agentic_coding_sessions.parquet", columns=columns, filters=[("trace_id", "in", chosen)]
    )
    sessions = defaultdict(list)
    for row in table.to_pylist():
        sessions[row["trace_id"]].append(row)
    for trace, calls in sessions.items():
        seen: set[int] = set()
        total = 0
        for call in sorted(calls, key=lambda call: (call["subagent_t0_s"] or 0) + call["t_s"]):
            blocks: list[int] = []
            for part in filter(None, (call["block_ranges"] or "").split(",")):
                first, _, last = part.partition("-")
                blocks.extend(range(int(first), int(last or first) + 1))
            whole = min(len(blocks), call["input_tokens"] // call["block_size"])
            known = next((n for n in range(whole) if blocks[n] not in seen), whole)
            seen.update(blocks)
            usage = Usage(
                input_tokens=call["input_tokens"],
                output_tokens=call["output_tokens"],
                cache_read_input_tokens=known * call["block_size"],
                cache_write_input_tokens=(whole - known) * call["block_size"],
            )
            total += list_cost(usage, book.quote("anthropic", call["model"], book.made_us).price)
        yield trace, total / 1e12, expected[trace]


@pytest.mark.parametrize(
    "every", [pytest.param(40, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_a_whole_agent_session_costs_what_it_should(book: PriceBook, shared_data: Path, every: int) -> None:
    sessions = list(session_costs(book, shared_data / "llm_traces", every))

    assert len(sessions) == -(-348 // every)
    for trace, cost, expected in sessions:
        assert cost == pytest.approx(float(expected["cost_cached_usd"]), rel=0.001), trace


def test_the_whole_price_files_of_both_sources_make_a_table(shared_data: Path) -> None:
    """Their newest releases are read without a complaint, whatever they have added."""
    from datetime import date

    from collector.pricing.refresh import load_overlay

    book = PriceBook.load()
    for name in ("litellm_model_prices.json.gz", "genai_prices.json.gz"):
        newer = load_overlay(book, (shared_data / "prices" / name).read_bytes(), name, date(2026, 11, 22))
        assert newer.quote("openai", "gpt-4o", newer.made_us).price.input == 2_500_000
