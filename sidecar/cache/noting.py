"""What the ledger is told of a comparison."""

import time

from collector.domain.record import Event, EventKind
from collector.journal import JournalWriter
from sidecar.cache.resemblance import Check


def note_comparison(journal: JournalWriter, check: Check, right: bool) -> None:
    """Write down how a similar answer compared with the model's."""
    fields: dict[str, object] = {
        "request_model": check.entry.request_model,
        "likeness": check.place.likeness,
        "distance": round(check.distance, 4),
        "serving": check.serving,
        "right": right,
    }
    journal.event(Event(EventKind.SIMILAR, time.time_ns() // 1000, check.tenant, check.call_id, fields))
