"""Events of the journal as rows: how tasks ended, what befell budgets, how right similar answers were.

An event is taken as it is told, cut to what its columns hold; a kind that we do not know comes
from a newer writer and is noted, not booked.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from collector.domain.money import usd
from collector.domain.record import Event, EventKind
from collector.journal import decode_event
from collector.store.schema import MAX_PICO

MOST_ID_CHARS = 512
MOST_TEXT_CHARS = 8192


class OutcomeRow(NamedTuple):
    """One row of ``outcomes``, by its columns."""

    reported_at_us: int
    tenant: str
    task_id: str
    conversation_id: str
    trace_id: str
    success: bool
    score: float | None
    value_usd: Decimal | None
    note: str
    source: str = "reported"
    """Who says so."""


class BudgetRow(NamedTuple):
    """One row of ``budget_events``, by its columns."""

    happened_at_us: int
    budget: str
    counter: str
    action: str
    call_id: str
    limit_usd: Decimal | None
    spent_usd: Decimal | None
    held_usd: Decimal | None
    detail: str
    tenant: str
    event_id: str


class SimilarRow(NamedTuple):
    """One row of ``similar_checks``, by its columns."""

    happened_at_us: int
    tenant: str
    call_id: str
    request_model: str
    likeness: str
    distance: float
    serving: bool
    is_right: bool
    event_id: str


class _Similar(msgspec.Struct):
    right: bool
    serving: bool = False
    request_model: str = ""
    likeness: str = ""
    distance: float = 0.0


class _Outcome(msgspec.Struct):
    success: bool
    task_id: str = ""
    conversation_id: str = ""
    trace_id: str = ""
    score: float | None = None
    value_pico: int | None = None
    note: str = ""


class _Budget(msgspec.Struct):
    action: str
    budget: str = ""
    counter: str = ""
    limit_nano: int | None = None
    spent_nano: int | None = None
    held_nano: int | None = None
    detail: str = ""


def row_of(payload: bytes, event_id: str) -> OutcomeRow | BudgetRow | SimilarRow:
    """The row that an event's frame becomes.

    Args:
        payload: of the frame.
        event_id: what tells this event from every other.

    Raises:
        ValueError: it is no event, or of a kind that we do not know.
    """
    try:
        event = msgspec.convert(tuple(decode_event(payload)), Event)
        match event.kind:
            case EventKind.OUTCOME:
                return _outcome_row(event, msgspec.convert(event.fields, _Outcome))
            case EventKind.BUDGET:
                return _budget_row(event, msgspec.convert(event.fields, _Budget), event_id)
            case EventKind.SIMILAR:
                return _similar_row(event, msgspec.convert(event.fields, _Similar), event_id)
    except (msgspec.MsgspecError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise ValueError(f"not an event: {error}") from error
    raise ValueError(f"an event of kind {event.kind[:64]!r}")


def _outcome_row(event: Event, said: _Outcome) -> OutcomeRow:
    value = said.value_pico
    if value is not None and abs(value) > MAX_PICO:
        raise ValueError(f"an outcome worth {value} pico-USD")
    return OutcomeRow(
        reported_at_us=event.happened_at_us,
        tenant=event.tenant[:MOST_ID_CHARS],
        task_id=said.task_id[:MOST_ID_CHARS],
        conversation_id=said.conversation_id[:MOST_ID_CHARS],
        trace_id=said.trace_id[:MOST_ID_CHARS],
        success=said.success,
        score=said.score,
        value_usd=None if value is None else usd(value),
        note=said.note[:MOST_TEXT_CHARS],
    )


def _budget_row(event: Event, said: _Budget, event_id: str) -> BudgetRow:
    return BudgetRow(
        happened_at_us=event.happened_at_us,
        budget=said.budget[:MOST_ID_CHARS],
        counter=said.counter[:MOST_ID_CHARS],
        action=said.action[:MOST_ID_CHARS],
        call_id=event.call_id[:MOST_ID_CHARS],
        limit_usd=_usd_of_nano(said.limit_nano),
        spent_usd=_usd_of_nano(said.spent_nano),
        held_usd=_usd_of_nano(said.held_nano),
        detail=said.detail[:MOST_TEXT_CHARS],
        tenant=event.tenant[:MOST_ID_CHARS],
        event_id=event_id[:MOST_ID_CHARS],
    )


def _similar_row(event: Event, said: _Similar, event_id: str) -> SimilarRow:
    return SimilarRow(
        happened_at_us=event.happened_at_us,
        tenant=event.tenant[:MOST_ID_CHARS],
        call_id=event.call_id[:MOST_ID_CHARS],
        request_model=said.request_model[:MOST_ID_CHARS],
        likeness=said.likeness[:MOST_ID_CHARS],
        distance=said.distance,
        serving=said.serving,
        is_right=said.right,
        event_id=event_id[:MOST_ID_CHARS],
    )


def _usd_of_nano(nano: int | None) -> Decimal | None:
    return None if nano is None else Decimal(nano).scaleb(-9)


def columns_of(rows: Iterable[tuple[Any, ...]], layout: pa.Schema) -> pa.RecordBatch:
    """Rows of one table as Arrow columns."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, layout, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=layout)
