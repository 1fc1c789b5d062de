"""Intents and records of which only the money matters."""

from typing import Any, get_origin, get_type_hints

from collector.domain.record import CallRecord, Intent


def blank(kind: type, **said: Any) -> Any:
    """A ``kind`` whose fields are empty but for ``said``."""
    plain = {str: "", int: 0, bool: False, dict: {}, list: [], tuple: ()}
    hints = get_type_hints(kind)
    fields = {
        name: plain.get(get_origin(hints[name]) or hints[name])
        for name in kind._fields  # type: ignore[attr-defined]
    }
    return kind(**(fields | said))


def intent(call_id: str, hold_cost_pico: int) -> Intent:
    """An intent with this hold."""
    made: Intent = blank(Intent, call_id=call_id, hold_cost_pico=hold_cost_pico)
    return made


def call_record(call_id: str, effective_cost_pico: int) -> CallRecord:
    """A record of a call that cost so much."""
    made: CallRecord = blank(CallRecord, call_id=call_id, effective_cost_pico=effective_cost_pico)
    return made
