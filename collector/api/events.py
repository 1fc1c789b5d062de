"""`POST /v1/events`: what was done to budgets and calls, told by those who did it."""

from datetime import UTC, datetime

import msgspec

from collector.ingest.events import MOST_ID_CHARS, MOST_TEXT_CHARS, BudgetRow

MOST_EVENTS = 1000


class BadEvents(ValueError):
    """The body does not hold events; the message says why."""


class _Event(msgspec.Struct):
    event_id: str
    """The sender's own; an event that is sent again has the same."""
    happened_at: datetime
    action: str
    budget: str = ""
    counter: str = ""
    call_id: str = ""
    tenant: str = ""
    detail: str = ""
    """JSON, as text."""


class _Events(msgspec.Struct):
    events: list[_Event]


_decode = msgspec.json.Decoder(_Events).decode


def event_rows(body: bytes) -> list[BudgetRow]:
    """Rows of table ``budget_events``.

    Raises:
        BadEvents: the message says what is wrong, and with which event.
    """
    try:
        events = _decode(body).events
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadEvents(str(error)) from error
    if len(events) > MOST_EVENTS:
        raise BadEvents(f"at most {MOST_EVENTS} events at once")
    return [_row(place, event) for place, event in enumerate(events)]


def _row(place: int, event: _Event) -> BudgetRow:
    if not event.event_id or not event.action:
        raise BadEvents(f"$.events[{place}]: event_id and action must not be empty")
    names = (event.event_id, event.action, event.budget, event.counter, event.call_id, event.tenant)
    if any(len(name) > MOST_ID_CHARS for name in names) or len(event.detail) > MOST_TEXT_CHARS:
        raise BadEvents(
            f"$.events[{place}]: names of at most {MOST_ID_CHARS} characters, a detail of {MOST_TEXT_CHARS}"
        )
    at = event.happened_at if event.happened_at.tzinfo else event.happened_at.replace(tzinfo=UTC)
    return BudgetRow(
        happened_at_us=round(at.timestamp() * 1e6),
        budget=event.budget,
        counter=event.counter,
        action=event.action,
        call_id=event.call_id,
        limit_usd=None,
        spent_usd=None,
        held_usd=None,
        detail=event.detail,
        tenant=event.tenant,
        event_id=event.event_id,
    )
