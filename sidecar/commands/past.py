"""A made-up past for the demonstration: calls of weeks, written into the journal before anything runs.

The same imaginary company as in the demonstration's present, priced by the same price book. What no proxy
ever saw is said to be so: the tag ``simulated=true`` stands on every call, as on the present ones.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from collector.domain.ids import uuid7
from collector.domain.price import list_cost
from collector.domain.record import AttemptRecord, CallRecord, Event, EventKind, Outcome
from collector.domain.usage import Usage, UsageGrade
from collector.journal import JournalWriter
from collector.pricing.book import PriceBook, Quote
from inference.workload.calls import TracedCall
from inference.workload.generator import generate
from sidecar.config import BursarConfig

SOURCE = "demo-history"
CALLS_PER_DAY = 900
_WEEKEND = 0.35
"""Part of an ordinary day's calls that a day of the weekend has."""
_SUCCEEDS = {"claude-opus-5": 0.93, "claude-sonnet-5": 0.86, "gpt-5.4": 0.9}
"""How often a task of that model's ends well, in this past."""
_BEGINS_S = {"qwen3-8b": 0.12, "gpt-5-nano": 0.35, "gpt-5.4-mini": 0.5, "claude-haiku-4-5": 0.5}
_A_TOKEN_S = {"qwen3-8b": 0.006, "gpt-5-nano": 0.007, "gpt-5.4-mini": 0.008, "claude-opus-5": 0.022}
"""How long models take until the first token, and for each one after it; in seconds."""


def write_past(config: BursarConfig, *, days: float, seed: int) -> int:
    """Fill the journal of ``config`` with the calls of the last ``days``; returns how many.

    The last hour is left to the present.
    """
    now_us = time.time_ns() // 1000
    book = PriceBook.load(config.prices)
    noise = Random(f"past/{seed}")  # noqa: S311 - a demonstration's
    writer = JournalWriter(config.journal_dir, SOURCE)
    told: set[str] = set()
    count = 0
    try:
        for at_us, call in _calls(now_us, days, seed, noise):
            record = _record(config, book, call, at_us, noise)
            writer.record(record)
            count += 1
            if call.task and call.task not in told:
                told.add(call.task)
                writer.event(_outcome(record, noise))
    finally:
        writer.close()
    return count


def _calls(now_us: int, days: float, seed: int, noise: Random) -> Iterator[tuple[int, TracedCall]]:
    """Calls and when they were made, fewer at weekends."""
    start = datetime.fromtimestamp(now_us / 1e6, UTC) - timedelta(days=days)
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    last_us = now_us - 3_600_000_000
    for call in generate(seed=seed + 1, calls_per_s=CALLS_PER_DAY / 86_400):
        at = midnight + timedelta(seconds=call.at_s)
        at_us = int(at.timestamp() * 1e6)
        if at_us >= last_us:
            return
        if at >= start and (at.weekday() < 5 or noise.random() < _WEEKEND):
            yield at_us, call


def _record(config: BursarConfig, book: PriceBook, call: TracedCall, at_us: int, noise: Random) -> CallRecord:
    upstream = "anthropic" if call.api.startswith("anthropic") else "openai"
    if call.model in config.models:
        upstream = config.models[call.model].upstream
    provider = config.upstreams[upstream].provider_of(upstream)
    failed = bool(call.fault) and not call.fault.startswith("missing_usage")
    usage = Usage() if failed else call.usage
    quote = book.quote(provider, call.model, at_us)
    cost = list_cost(usage, quote.price)
    first_us = int(1e6 * _BEGINS_S.get(call.model, 0.9) * noise.uniform(0.6, 2.2))
    took_us = first_us + int(1e6 * _A_TOKEN_S.get(call.model, 0.014) * usage.output_tokens)
    counts = _counts(usage)
    error, status = (call.fault.partition(" ")[0], 503) if failed else ("", 200)
    attempt = _attempt(call, quote, counts, cost, noise)._replace(
        upstream=upstream, provider_name=provider, started_at_us=at_us, duration_us=took_us,
        time_to_first_chunk_us=None if failed else first_us, http_status=status, error_type=error,
    )  # fmt: skip
    given: dict[str, Any] = dict.fromkeys(CallRecord._fields, "") | CallRecord._field_defaults
    given |= counts | {
        "call_id": uuid7(at_us // 1000, noise.getrandbits(74)), "started_at_us": at_us,
        "duration_us": took_us,
        "time_to_first_chunk_us": attempt.time_to_first_chunk_us, "team": call.team, "user_id": call.user,
        "agent": call.agent, "conversation_id": call.conversation, "conversation_source": "header",
        "task_id": call.task, "tags": {"simulated": "true", "env": "prod" if noise.random() < 0.9 else "dev"},
        "trace_id": call.trace_id, "api": call.api, "stream": call.stream, "request_model": call.model,
        "response_model": call.model, "provider_name": provider, "upstream": upstream,
        "outcome": Outcome.FAILED if failed else Outcome.SERVED,
        "http_status": status, "error_type": error,
        "cache": "bypass", "audio_input_tokens": 0, "audio_output_tokens": 0,
        "usage_grade": attempt.usage_grade,
        "price_grade": quote.grade, "price_version": quote.version, "list_cost_pico": cost,
        "effective_cost_pico": cost, "avoided_cost_pico": 0, "provider_cost_pico": None,
        "overhead_us": noise.randrange(120, 900), "finish_reasons": [] if failed else ["stop"],
        "tool_names": list(call.tools), "request_bytes": 4 * usage.input_tokens,
        "response_bytes": 4 * usage.output_tokens, "chunks": usage.output_tokens if call.stream else 0,
        "server_port": 0, "request_attributes": {}, "response_attributes": {}, "message_hashes": [],
        "last_message_hash": 0, "content": None, "attempts": (attempt,),
    }  # fmt: skip
    return CallRecord(**given)


def _attempt(
    call: TracedCall, quote: Quote, counts: dict[str, Any], cost: int, noise: Random
) -> AttemptRecord:
    consumed = any(counts.values())
    return AttemptRecord(
        attempt=1, upstream="", replica="simulated", provider_name="", request_model=call.model,
        span_id=f"{noise.getrandbits(64):016x}", started_at_us=0, duration_us=0, time_to_first_chunk_us=None,
        http_status=None, error_type="", **counts, usage_grade=UsageGrade.REPORTED if consumed else "",
        price_grade=quote.grade, price_version=quote.version, list_cost_pico=cost, effective_cost_pico=cost,
    )  # fmt: skip


def _counts(usage: Usage) -> dict[str, Any]:
    kept = (
        *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens"),
        *("cache_write_1h_input_tokens", "reasoning_output_tokens"),
    )
    return {name: count for name, count in asdict(usage).items() if name in kept}


def _outcome(record: CallRecord, noise: Random) -> Event:
    """How the task of a call ended."""
    well = noise.random() < _SUCCEEDS.get(record.request_model, 0.8)
    fields: dict[str, object] = {
        "task_id": record.task_id, "conversation_id": "", "trace_id": "", "success": well,
        "score": round(noise.betavariate(8, 2) if well else noise.betavariate(2, 5), 3),
        "value_pico": None, "note": "simulated",
    }  # fmt: skip
    return Event(EventKind.OUTCOME, record.started_at_us + record.duration_us, "", "", fields)
