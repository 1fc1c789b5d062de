"""A past for a ledger: calls that ended long ago, written to the journal as a sidecar would have."""

import itertools
import random
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from collector.domain.record import CallRecord
from collector.journal import JournalConfig, JournalWriter

_ZERO: dict[Any, Any] = {str: "", int: 0, bool: False, dict: {}, list: [], tuple: ()}
_serial = itertools.count()


def past_call(at_s: float, agent: str, usd: float, **changes: Any) -> CallRecord:
    """A served call of ``agent`` at ``at_s`` (seconds since 1970) that cost ``usd``."""
    hints = typing.get_type_hints(CallRecord)
    blank = {name: _ZERO.get(typing.get_origin(hint) or hint) for name, hint in hints.items()}
    serial, pico = next(_serial), round(usd * 10**12)
    rest = random.Random(serial).getrandbits(48)
    stamp = int(at_s * 1000)
    told: dict[str, Any] = {
        "call_id": f"{stamp >> 16:08x}-{stamp & 65535:04x}-7{serial % 4096:03x}-8000-{rest:012x}",
        "started_at_us": int(at_s * 1_000_000),
        "duration_us": 1_000_000,
        "team": "search",
        "agent": agent,
        "conversation_id": f"{agent}-{serial // 10}",
        "conversation_source": "header",
        "api": "openai.chat",
        "request_model": "gpt-5-mini",
        "response_model": "gpt-5-mini",
        "provider_name": "openai",
        "upstream": "openai",
        "outcome": "served",
        "http_status": 200,
        "cache": "miss",
        "input_tokens": 1000,
        "output_tokens": 200,
        "usage_grade": "reported",
        "price_grade": "listed",
        "list_cost_pico": pico,
        "effective_cost_pico": pico,
    }
    return CallRecord(**{**blank, **told, **changes})


def write_past(journal: Path, calls: Iterable[CallRecord], source: str = "past-1") -> int:
    """Write ``calls`` as a source that has ended; how many."""
    writer = JournalWriter(journal, source, JournalConfig(sync_interval_s=5.0))
    count = 0
    for call in calls:
        writer.record(call)
        count += 1
    writer.close()
    return count
