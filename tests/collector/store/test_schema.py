"""Records as columns: the tables and the code agree, and money is exact."""

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.domain.money import usd
from collector.store import schema


@pytest.mark.parametrize(
    ("table", "columns", "before", "after"),
    [
        ("calls", schema.CALLS, [], [("attempt_count", "BIGINT")]),
        ("attempts", schema.ATTEMPTS, [("call_id", "VARCHAR")], []),
    ],
)
def test_the_tables_of_the_migrations_have_the_columns_that_records_are_turned_into(
    rows, table, columns, before, after
):
    found = rows("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $1", table)
    # Columns that a later migration adds stand at the end.
    assert sorted(found) == sorted(before + [(column.name, column.kind.table) for column in columns] + after)


def test_a_call_comes_back_from_the_ledger_as_it_went_in(enter, rows, call):
    record = call(
        tags={"env": "prod", "ticket": "A-1"},
        tool_names=["search", "read"],
        request_attributes={"temperature": 0.5, "stop_sequences": ["\n"]},
        time_to_first_chunk_us=None,
        provider_cost_pico=12,
    )

    enter(record)

    ((duration, first, tags, tools, attributes, provider_cost, hashes, count),) = rows(
        "SELECT duration_ms, time_to_first_chunk_ms, tags, tool_names, request_attributes->>'$.temperature',"
        " provider_cost_usd, message_hashes, attempt_count FROM calls"
    )
    assert (duration, first, tools, attributes) == (1200.0, None, ["search", "read"], "0.5")
    assert tags == {"env": "prod", "ticket": "A-1"}
    assert provider_cost == Decimal("0.000000000012")
    assert hashes == record.message_hashes
    assert count == 1


def test_every_field_of_a_record_has_its_column(enter, rows, call):
    record = call()
    enter(record)

    names = [column.name for column in schema.CALLS]
    (stored,) = rows(f"SELECT {', '.join(names)} FROM calls")
    for column, value in zip(schema.CALLS, stored, strict=True):
        given_value = getattr(record, column.field)
        if column.kind in (schema.Kind.TEXT, schema.Kind.COUNT, schema.Kind.FLAG, schema.Kind.STATUS):
            assert value == given_value, column.name


amounts = st.integers(-schema.MAX_PICO, schema.MAX_PICO)


@settings(max_examples=60, deadline=None)
@given(st.lists(amounts, min_size=1, max_size=30))
def test_pico_usd_become_usd_without_losing_a_digit(amounts):
    import duckdb

    connection = duckdb.connect()
    connection.register("staged", pa.table({"cost": pa.array(amounts, pa.int64())}))
    stored = connection.execute(f"SELECT {schema.Kind.PICO.expression('cost')} FROM staged").fetchall()
    (total,) = connection.execute(f"SELECT sum({schema.Kind.PICO.expression('cost')}) FROM staged").fetchone()
    connection.close()

    assert [value for (value,) in stored] == [usd(amount) for amount in amounts]
    assert total == usd(sum(amounts))


def test_a_cost_that_no_column_holds_is_refused_before_it_reaches_the_database(call):
    with pytest.raises(OverflowError):
        schema.staged_calls([call(cost=10**18)])
