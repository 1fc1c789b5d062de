"""How a task ended, as an agent or a person says it: read once, the same wherever it is sent."""

from decimal import Decimal

import msgspec

from collector.domain.money import pico_from_usd

MOST_USD = Decimal(1_000_000)
MOST_ID_CHARS = 256
MOST_NOTE_CHARS = 4096


class BadOutcome(ValueError):
    """The body is not an outcome; the message says why."""


class Outcome(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One outcome. At least one of the three ids says what ended."""

    success: bool
    task_id: str = ""
    conversation_id: str = ""
    trace_id: str = ""
    tenant: str = ""
    score: float | None = None
    value_usd: Decimal | None = None
    """What it was worth."""
    note: str = ""

    def fields(self) -> dict[str, object]:
        """As the journal keeps it."""
        return {
            "task_id": self.task_id,
            "conversation_id": self.conversation_id,
            "trace_id": self.trace_id,
            "success": self.success,
            "score": self.score,
            "value_pico": None if self.value_usd is None else pico_from_usd(self.value_usd),
            "note": self.note,
        }


_decode = msgspec.json.Decoder(Outcome).decode


def read_outcome(body: bytes) -> Outcome:
    """The outcome in a JSON body.

    Raises:
        BadOutcome: it is not one.
    """
    try:
        outcome = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadOutcome(str(error)) from error
    if not (outcome.task_id or outcome.conversation_id or outcome.trace_id):
        raise BadOutcome("one of task_id, conversation_id, trace_id says what ended")
    value = outcome.value_usd
    if value is not None and not (value.is_finite() and abs(value) < MOST_USD):
        raise BadOutcome("value_usd: below a million USD")
    ids = (outcome.tenant, outcome.task_id, outcome.conversation_id, outcome.trace_id)
    if any(len(text) > MOST_ID_CHARS for text in ids) or len(outcome.note) > MOST_NOTE_CHARS:
        raise BadOutcome(f"ids of at most {MOST_ID_CHARS} characters, a note of at most {MOST_NOTE_CHARS}")
    return outcome
