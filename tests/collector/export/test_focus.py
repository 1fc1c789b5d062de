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


def test_what_is_no_text_has_lines_of_its_own_and_all_sum_to_the_row() -> None:
    whose = {name: ROW[name] for name in ("bucket", *focus.DIMENSIONS)}
    charges = [
        {**whose, "part": part, "region": region, "quantity": many, "effective_cost_usd": owed,
         "list_cost_usd": listed}
        for part, region, many, owed, listed in (
            ("image_output", "", 40, "0.000000000002", "2.5"),
            ("region", "eu", 1050, "0.000000000001", "1"),
            ("per_search", "", 2, "0.000000000003", "0"),
        )
    ]  # fmt: skip
    other = {**charges[0], "request_model": "gpt-4"}
    out = io.StringIO()

    focus.write([ROW], out, [*charges, other])

    lines = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [(line["SkuMeter"], line["ConsumedUnit"], line["ConsumedQuantity"]) for line in lines] == [
        ("Text tokens", "Tokens", "1010"),
        ("Image output tokens", "Tokens", "40"),
        ("Regional surcharge", "Regional Tokens", "1050"),
        ("Searches", "Searches", "2"),
    ]
    assert sum(Decimal(line["EffectiveCost"]) for line in lines) == ROW["effective_cost_usd"]
    assert sum(Decimal(line["ListCost"]) for line in lines) == ROW["list_cost_usd"]
    assert [line["RegionId"] for line in lines] == ["", "", "eu", ""]
    assert lines[0]["EffectiveCost"] == "0.000000000001"


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
