"""Spend in the words of the FinOps FOCUS specification, version 1.2: https://focus.finops.org/focus-specification/

A row is what one model cost one agent of one team on one day (UTC), for tokens of text; sound, images,
searches, fees for calls and what a region cost more have rows of their own. They are made from the answers
to the questions ``spend_over_time`` and ``charges`` in days, told apart by :data:`DIMENSIONS`; their costs
sum to those of ``spend_over_time``, to the last digit. (As in the ledger, the list price of a search is 0:
what is charged for it is owed beyond the tokens' list price.)
"""

import csv
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TextIO

from collector.domain.record import REGION
from collector.export.cells import cell

DIMENSIONS = ("provider_name", "request_model", "tenant", "team", "agent")
"""What the rows of both questions must be told apart by."""


class Meter(NamedTuple):
    """What a row is for."""

    name: str
    """``SkuMeter``."""
    unit: str


TEXT = Meter("Text tokens", "Tokens")
METERS = {
    "audio_input": Meter("Audio input tokens", "Tokens"),
    "cache_read_audio": Meter("Cached audio input tokens", "Tokens"),
    "audio_output": Meter("Audio output tokens", "Tokens"),
    "image_input": Meter("Image input tokens", "Tokens"),
    "image_output": Meter("Image output tokens", "Tokens"),
    "per_search": Meter("Searches", "Searches"),
    "per_request": Meter("Requests", "Requests"),
    REGION: Meter("Regional surcharge", "Regional Tokens"),
}
"""By part of a bill. A region's tokens have a unit of their own, for they are counted before."""


def write(rows: Iterable[Mapping[str, Any]], out: TextIO, charges: Iterable[Mapping[str, Any]] = ()) -> None:
    """Rows as CSV; text that a spreadsheet would run as a formula is defused.

    Args:
        rows: the answer to ``spend_over_time``.
        out: where to.
        charges: the answer to ``charges`` of the same period; asked before the other, so that whatever came
            in between is in the rows of text.
    """
    apart: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for charge in charges:
        apart.setdefault(_key(charge), []).append(charge)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        for line in focus_rows(row, apart.get(_key(row), ())):
            writer.writerow([cell(line[name]) for name in COLUMNS])


def focus_rows(row: Mapping[str, Any], charges: Iterable[Mapping[str, Any]] = ()) -> Iterable[dict[str, Any]]:
    """One day of one model for one agent, in FOCUS's words; an unknown bucket has no period."""
    tokens = int(row.get("input_tokens") or 0) + int(row.get("output_tokens") or 0)
    effective, listed = row.get("effective_cost_usd"), row.get("list_cost_usd")
    lines = []
    for charge in charges:
        meter = METERS.get(str(charge["part"]), Meter(str(charge["part"]), "Units"))
        quantity = int(charge["quantity"])
        owed, at_list = (Decimal(str(charge[name])) for name in ("effective_cost_usd", "list_cost_usd"))
        lines.append(_line(row, meter, quantity, owed, at_list, str(charge.get("region") or "")))
        effective, listed = Decimal(str(effective or 0)) - owed, Decimal(str(listed or 0)) - at_list
        tokens -= quantity if meter.unit == TEXT.unit else 0
    return [_line(row, TEXT, tokens, effective, listed), *lines]


def _line(
    row: Mapping[str, Any], meter: Meter, quantity: int, effective: object, listed: object, region: str = ""
) -> dict[str, Any]:
    start = _instant(row.get("bucket"))
    month = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0) if start else None
    after = (month + timedelta(days=32)).replace(day=1) if month else None
    account, provider = row.get("tenant") or "default", row.get("provider_name")
    model = row.get("request_model")
    about = f"{row.get('calls') or 0} calls of {model or 'no model'}"
    if meter is not TEXT:
        about = f"{meter.name} of {model or 'no model'}{f' in {region}' if region else ''}"
    return {
        "BilledCost": effective,
        "EffectiveCost": effective,
        "ListCost": listed,
        "ContractedCost": effective,
        "BillingCurrency": "USD",
        "BillingPeriodStart": _written(month),
        "BillingPeriodEnd": _written(after),
        "ChargePeriodStart": _written(start),
        "ChargePeriodEnd": _written(start + timedelta(days=1) if start else None),
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": about,
        "ConsumedQuantity": quantity,
        "ConsumedUnit": meter.unit,
        "PricingCategory": "Standard",
        "PricingQuantity": quantity,
        "PricingUnit": meter.unit,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": provider,
        "ProviderName": provider,
        "PublisherName": provider,
        "InvoiceIssuerName": provider,
        "BillingAccountId": account,
        "BillingAccountName": account,
        "SubAccountId": row.get("team"),
        "SubAccountName": row.get("team"),
        "RegionId": region or None,
        "RegionName": region or None,
        "ResourceId": row.get("agent"),
        "ResourceName": row.get("agent"),
        "ResourceType": "Agent" if row.get("agent") else None,
        "SkuId": model,
        "SkuMeter": meter.name,
        "Tags": json.dumps({"agent": row.get("agent") or ""}),
    }


def _key(row: Mapping[str, Any]) -> tuple[object, ...]:
    return (_instant(row.get("bucket")), *(row.get(name) or "" for name in DIMENSIONS))


def _instant(bucket: object) -> datetime | None:
    """A bucket's start, however the answer came: as a time or as ISO 8601; without a zone it is UTC."""
    if not bucket:
        return None
    start = bucket if isinstance(bucket, datetime) else datetime.fromisoformat(str(bucket))
    return start.astimezone(UTC) if start.tzinfo else start.replace(tzinfo=UTC)


def _written(instant: datetime | None) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ") if instant else ""


COLUMNS = tuple(_line({}, TEXT, 0, None, None))
"""In the order they are written."""
