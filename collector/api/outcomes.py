"""`POST /v1/outcomes`: how a task ended, so that spend can be set against success."""

from collector.domain.money import pico_from_usd, usd
from collector.ingest.events import OutcomeRow
from collector.outcomes import read_outcome


def outcome_row(body: bytes, now_us: int) -> OutcomeRow:
    """One row of table ``outcomes``.

    Raises:
        BadOutcome: the message says what is wrong.
    """
    said = read_outcome(body)
    return OutcomeRow(
        reported_at_us=now_us,
        tenant=said.tenant,
        task_id=said.task_id,
        conversation_id=said.conversation_id,
        trace_id=said.trace_id,
        success=said.success,
        score=said.score,
        value_usd=None if said.value_usd is None else usd(pico_from_usd(said.value_usd)),
        note=said.note,
    )
