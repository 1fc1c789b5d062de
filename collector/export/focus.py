"""Spend in the words of the FinOps FOCUS specification, version 1.2: https://focus.finops.org/focus-specification/

A row is what one model cost one agent of one team on one day (UTC). Rows are made from the answer to the
question ``spend_over_time`` in days, told apart by :data:`DIMENSIONS`; their effective costs sum to that
answer's, to the last digit.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from collector.export.cells import cell

DIMENSIONS = ("provider_name", "request_model", "tenant", "team", "agent")
"""What the rows of the question must be told apart by."""


def write(rows: Iterable[Mapping[str, Any]], out: TextIO) -> None:
    """Rows of the question as CSV; text that a spreadsheet would run as a formula is defused."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        charge = focus_row(row)
        writer.writerow([cell(charge[name]) for name in COLUMNS])


def focus_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One day of one model for one agent, in FOCUS's words; an unknown bucket has no period."""
    tokens = int(row.get("input_tokens") or 0) + int(row.get("output_tokens") or 0)
    start = _instant(row.get("bucket"))
    month = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0) if start else None
    after = (month + timedelta(days=32)).replace(day=1) if month else None
    effective, listed = row.get("effective_cost_usd"), row.get("list_cost_usd")
    account, provider = row.get("tenant") or "default", row.get("provider_name")
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
        "ChargeDescription": f"{row.get('calls') or 0} calls of {row.get('request_model') or 'no model'}",
        "ConsumedQuantity": tokens,
        "ConsumedUnit": "Tokens",
        "PricingCategory": "Standard",
        "PricingQuantity": tokens,
        "PricingUnit": "Tokens",
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
        "ResourceId": row.get("agent"),
        "ResourceName": row.get("agent"),
        "ResourceType": "Agent" if row.get("agent") else None,
        "SkuId": row.get("request_model"),
        "Tags": json.dumps({"agent": row.get("agent") or ""}),
    }


def _instant(bucket: object) -> datetime | None:
    """A bucket's start, however the answer came: as a time or as ISO 8601; without a zone it is UTC."""
    if not bucket:
        return None
    start = bucket if isinstance(bucket, datetime) else datetime.fromisoformat(str(bucket))
    return start.astimezone(UTC) if start.tzinfo else start.replace(tzinfo=UTC)


def _written(instant: datetime | None) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ") if instant else ""


COLUMNS = tuple(focus_row({}))
"""In the order they are written."""
