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


def test_a_column_that_says_the_same_of_every_call_says_it_as_often_as_there_are_calls(call):
    """Such columns are kept from batch to batch; one that says something else or more often is made anew."""
    here, there = {"tags": {"env": "prod"}, "tool_names": ["search"]}, {"tags": {}, "tool_names": []}
    for number, said in ((3, here), (2, there), (1, here), (1500, here), (4, here), (5, there)):
        status = None if said is there else 200
        calls = [call(team="search", http_status=status, **said) for _ in range(number)]

        staged = schema.staged_calls(calls)

        staged.validate(full=True)
        assert staged.num_rows == number
        assert staged.column("tags").to_pylist() == [list(said["tags"].items())] * number
        assert staged.column("tool_names").to_pylist() == [said["tool_names"]] * number
        assert staged.column("http_status").to_pylist() == [status] * number
        assert staged.column("team").to_pylist() == ["search"] * number
        assert staged.column("call_id").to_pylist() == [one.call_id for one in calls]
