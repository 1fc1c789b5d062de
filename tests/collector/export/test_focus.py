"""Spend as FinOps FOCUS rows."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from collector.export import focus

ROW = {
    "bucket": datetime(2026, 12, 31),
    "provider_name": "openai",
    "request_model": "gpt-5",
    "tenant": "",
    "team": "=cmd()",
    "agent": "crawler",
    "calls": 3,
    "input_tokens": 1000,
    "output_tokens": 50,
    "effective_cost_usd": Decimal("0.000000000007"),
    "list_cost_usd": Decimal("12.5"),
}


def written(*rows: dict) -> list[dict[str, str]]:
    out = io.StringIO()
    focus.write(rows, out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def test_a_day_of_a_model_is_one_charge_in_its_day_and_month() -> None:
    (charge,) = written(ROW)
    assert (charge["EffectiveCost"], charge["ListCost"]) == ("0.000000000007", "12.5")
    assert (charge["ChargePeriodStart"], charge["ChargePeriodEnd"]) == (
        "2026-12-31T00:00:00Z",
        "2027-01-01T00:00:00Z",
    )
    assert (charge["BillingPeriodStart"], charge["BillingPeriodEnd"]) == (
        "2026-12-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
    )
    assert (charge["ConsumedQuantity"], charge["ConsumedUnit"]) == ("1050", "Tokens")
    assert (charge["BillingAccountId"], charge["SkuId"], charge["ResourceId"]) == (
        "default",
        "gpt-5",
        "crawler",
    )


def test_names_that_are_formulas_are_defused() -> None:
    assert written(ROW)[0]["SubAccountName"] == "'=cmd()"


@pytest.mark.parametrize(
    "bucket", ["2026-12-31T00:00:00Z", "2026-12-31T00:00:00", datetime(2026, 12, 31, tzinfo=UTC)]
)
def test_a_bucket_may_come_as_json_or_arrow(bucket: object) -> None:
    assert written(ROW | {"bucket": bucket}) == written(ROW)


def test_without_spend_there_are_only_the_column_names() -> None:
    out = io.StringIO()
    focus.write([], out)
    assert out.getvalue().strip().split(",") == list(focus.COLUMNS)
