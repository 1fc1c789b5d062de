"""Making a record fit its columns, when something in it is absurd.

A field beyond all measure is cut down or left out; the call itself is never lost for it.
Only suspicious batches come here: a very long frame, an instant from another century, a
number that no column holds.
"""

import json
from typing import Any

from collector.domain.record import AttemptRecord, CallRecord
from collector.store.schema import MAX_PICO

LONGEST_TEXT = 4096
LONGEST_CONTENT = 1 << 20
LONGEST_ATTRIBUTES = 16 << 10
MOST_ENTRIES = 1024
MOST_TAGS = 64
EARLIEST_US = 946_684_800_000_000
"""The year 2000."""
AHEAD_US = 86_400_000_000
"""How far a sidecar's clock may be ahead of ours: a day."""

_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_SMALL = frozenset({"http_status", "server_port"})


def clamped(record: CallRecord, now_us: int) -> CallRecord:
    """``record`` with every field inside what its column holds."""
    fields = {name: _fitted(name, value, now_us) for name, value in record._asdict().items()}
    fields["attempts"] = tuple(_attempt(attempt, now_us) for attempt in record.attempts[:MOST_ENTRIES])
    return CallRecord(**fields)


def sensible_instant(instant_us: int, now_us: int) -> bool:
    """Whether a call may have begun then."""
    return EARLIEST_US <= instant_us <= now_us + AHEAD_US


def _attempt(attempt: AttemptRecord, now_us: int) -> AttemptRecord:
    return AttemptRecord(**{name: _fitted(name, value, now_us) for name, value in attempt._asdict().items()})


def _fitted(name: str, value: Any, now_us: int) -> Any:
    match value:
        case bool():
            return value
        case int() if name == "started_at_us":
            return value if sensible_instant(value, now_us) else now_us
        case int():
            most = MAX_PICO if name.endswith("_pico") else _INT32 if name in _SMALL else _INT64
            return max(-most, min(value, most))
        case str():
            return value[:LONGEST_TEXT]
        case dict() if name == "content":
            return {str(key)[:32]: str(text)[:LONGEST_CONTENT] for key, text in list(value.items())[:4]}
        case dict() if name == "tags":
            return {str(key)[:256]: str(tag)[:1024] for key, tag in list(value.items())[:MOST_TAGS]}
        case dict():
            return value if _json_length(value) <= LONGEST_ATTRIBUTES else {}
        case list():
            return [_fitted("", entry, now_us) for entry in value[:MOST_ENTRIES]]
        case _:
            return value


def _json_length(value: dict[str, object]) -> int:
    try:
        return len(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return LONGEST_ATTRIBUTES + 1
