"""Why an anomaly is there: the rows are asked of the ledger, the reasons found by :mod:`alerts.why`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from alerts.conversation import MOST_CALLS, state_of
from alerts.detectors.finding import Finding
from alerts.ledger import LABELS, Collector
from alerts.why import Why, explain
from collector.domain.attribution import Use
from collector.domain.money import PICO_PER_USD, usd

BY = ("request_model", "agent", "team", "upstream", "conversation_id")
"""What the rows behind a page are told apart by."""
MOST_ROWS = 1000
BEFORE_S = 3600
LEAST_AFTER_S = 300
MOST_CONTRIBUTORS = 5
CONVERSATION_S = 7 * 86_400
"""How far back a conversation's calls are counted."""
_COLUMNS = {label: column for column, label in LABELS.items()}
_LABELS = {**LABELS, "conversation_id": "conversation"}


class Explainer:
    """Explains findings from the ledger.

    Args:
        collector: who is asked.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def __call__(self, finding: Finding) -> Mapping[str, str]:
        """Annotations that say why; few when the ledger does not answer."""
        whose = {_COLUMNS.get(name, name): value for name, value in finding.subject}
        after_s = max(LEAST_AFTER_S, finding.at + 60 - finding.since)
        start = finding.at + 60 - after_s
        before = await self._rows(whose, start - BEFORE_S, start)
        after = await self._rows(whose, start, finding.at + 60)
        if before is None or after is None:
            return {"why": "the ledger did not answer; see bursar report"}
        found = explain(
            finding,
            [use_of(row) for row in before],
            [use_of(row) for row in after],
            minutes_before=BEFORE_S // 60,
            minutes_after=max(1, after_s // 60),
        )
        told = annotations(found)
        conversation = next((one.value for one in found.contributors if one.dimension == "conversation"), "")
        if conversation and (state := await self._conversation(conversation, whose, finding.at + 60)):
            told["conversation"] = state
        return told

    async def _conversation(self, name: str, whose: Mapping[str, str], until: int) -> str:
        """How the conversation that moved most stands; empty when the ledger does not answer."""
        asked = {
            "since": datetime.fromtimestamp(until - CONVERSATION_S, UTC).isoformat(),
            "until": datetime.fromtimestamp(until, UTC).isoformat(),
            **whose,
            "conversation_id": name,
        }
        totals = await self._collector.ask("totals", **asked)
        newest = await self._collector.ask("calls", limit=MOST_CALLS, order="newest", **asked)
        if not totals or newest is None:
            return ""
        (total,) = totals
        return state_of(name, int(total["calls"]), Decimal(str(total["effective_cost_usd"])), newest)

    async def _rows(self, whose: Mapping[str, str], since: int, until: int) -> list[dict[str, Any]] | None:
        return await self._collector.ask(
            "spend_by",
            by=",".join(BY),
            since=datetime.fromtimestamp(since, UTC).isoformat(),
            until=datetime.fromtimestamp(until, UTC).isoformat(),
            limit=MOST_ROWS,
            **whose,
        )


def use_of(row: Mapping[str, Any]) -> Use:
    """One row of ``spend_by`` as the use of one model."""
    labels = {
        _LABELS.get(name, name): str(row[name]) for name in BY if name != "request_model" and row.get(name)
    }
    return Use(
        model=str(row.get("request_model") or ""),
        calls=int(row["calls"]),
        attempts=int(row["attempts"]),
        input_tokens=int(row["input_tokens"]),
        cached_tokens=int(row["cache_read_input_tokens"]),
        output_tokens=int(row["output_tokens"]),
        cost_pico=int(Decimal(str(row["effective_cost_usd"])) * PICO_PER_USD),
        failed=int(row["failed_calls"]),
        labels=tuple(sorted(labels.items())),
    )


def annotations(found: Why) -> dict[str, str]:
    """What a page says of the reason."""
    told = {
        "why": found.summary,
        "cause": str(found.cause),
        "change_usd_per_hour": f"{usd(found.change_pico_per_hour):+.2f}",
        "advice": found.lever,
    }
    factors = [f"{part.factor} {usd(part.pico_per_hour):+.2f}" for part in found.parts if part.pico_per_hour]
    if factors:
        told["factors"] = ", ".join(factors)
    most = [
        f"{one.dimension} {one.value} {usd(one.pico_per_hour):+.2f}"
        for one in found.contributors[:MOST_CONTRIBUTORS]
    ]
    if most:
        told["contributors"] = ", ".join(most)
    return told
