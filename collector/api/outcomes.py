"""`POST /v1/outcomes`: how a task ended, so that spend can be set against success."""

from decimal import Decimal
from typing import Any

import msgspec

INSERT = "INSERT INTO outcomes VALUES (make_timestamp($1), $2, $3, $4, $5, $6, $7, $8::DECIMAL(18,12), $9)"
MOST_USD = Decimal(1_000_000)


class BadOutcome(ValueError):
    """The body is not an outcome."""


class _Outcome(msgspec.Struct, forbid_unknown_fields=True):
    success: bool
    task_id: str = ""
    conversation_id: str = ""
    trace_id: str = ""
    tenant: str = ""
    score: float | None = None
    value_usd: Decimal | None = None
    note: str = ""


def outcome_row(body: bytes, now_us: int) -> list[Any]:
    """The values of one row of table ``outcomes``.

    Raises:
        BadOutcome: the message says what is wrong.
    """
    try:
        outcome = msgspec.json.decode(body, type=_Outcome)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadOutcome(str(error)) from error
    if not (outcome.task_id or outcome.conversation_id or outcome.trace_id):
        raise BadOutcome("one of task_id, conversation_id, trace_id says what ended")
    value = outcome.value_usd
    if value is not None and not (value.is_finite() and abs(value) < MOST_USD):
        raise BadOutcome("value_usd: below a million USD")
    texts = [outcome.tenant, outcome.task_id, outcome.conversation_id, outcome.trace_id]
    if any(len(text) > 256 for text in texts) or len(outcome.note) > 4096:
        raise BadOutcome("ids of at most 256 characters, a note of at most 4096")
    amount = None if value is None else format(value, "f")
    return [now_us, *texts, outcome.success, outcome.score, amount, outcome.note]
