"""The queue between those who send spans and the ledger."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from collector.ingest.otlp.batch import SpanBatch
from collector.ingest.otlp.intake import Full, Intake, IntakeLimits
from collector.ingest.otlp.normalise import Spans
from collector.ingest.otlp.protobuf import SpanDecoder
from collector.ingest.otlp.table import TABLE_COLUMNS, LedgerSink
from collector.store.duckdb import DatabaseUnavailable


def spans_of(maker: Any, *spans: Any) -> Spans:
    made = Spans(1_790_000_000_000_000)
    SpanDecoder().read(maker.request(*spans), made)
    return made


class FlakySink:
    """Refuses at first."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.batches: list[SpanBatch] = []

    def accept(self, batches: Sequence[SpanBatch]) -> int:
        if self.refusals:
            self.refusals -= 1
            raise DatabaseUnavailable("no space left")
        self.batches += batches
        return sum(batch.count for batch in batches)


def test_a_ledger_that_is_away_is_waited_for(maker: Any, wait_until: Callable[..., None]) -> None:
    sink = FlakySink(refusals=2)
    intake = Intake(sink, IntakeLimits(commit_interval_s=0.01, retry_s=0.01))
    intake.start()
    intake.offer(spans_of(maker, maker.model()), 1)
    wait_until(lambda: intake.counts.stored == 1)
    intake.stop()

    assert [batch.count for batch in sink.batches] == [1]


def test_what_is_queued_is_stored_before_the_end(maker: Any) -> None:
    sink = FlakySink(refusals=0)
    intake = Intake(sink, IntakeLimits(commit_interval_s=60.0, commit_spans=1000))
    intake.start()
    for _ in range(5):
        intake.offer(spans_of(maker, maker.model()), 1)
    intake.stop()

    assert sum(batch.count for batch in sink.batches) == 5
    with pytest.raises(Full):
        intake.check_room()


def test_the_queue_is_bounded_by_bytes_too(maker: Any) -> None:
    intake = Intake(FlakySink(0), IntakeLimits(bytes=1))
    intake.offer(spans_of(maker, maker.model()), 1)

    with pytest.raises(Full):
        intake.check_room()


def test_the_lag_is_the_age_of_the_oldest_span(maker: Any) -> None:
    now = [100.0]
    intake = Intake(FlakySink(0), clock=lambda: now[0])
    intake.offer(spans_of(maker, maker.model()), 1)
    now[0] = 103.5

    assert intake.lag_s == 3.5


def test_a_span_is_stored_once_though_nobody_remembers_it(ledger: Any, maker: Any) -> None:
    sink = LedgerSink(lambda: ledger.database)
    first, second = (maker.model(trace=trace) for trace in (1, 2))
    for spans in ((first,), (first, second), (second, first)):
        intake = Intake(sink)  # As after a restart: it has seen none of them.
        intake.start()
        intake.offer(spans_of(maker, *spans), 1)
        intake.stop()

    assert ledger.rows("SELECT trace_id FROM spans_received ORDER BY 1") == [(f"{1:032x}",), (f"{2:032x}",)]


def test_a_ledger_that_is_not_open_takes_nothing(maker: Any) -> None:
    with pytest.raises(DatabaseUnavailable):
        LedgerSink(lambda: None).accept([])


def test_every_column_comes_back_as_it_was(ledger: Any, maker: Any) -> None:
    span = maker.model(
        trace=9,
        at=1.5,
        lasts=2.25,
        gen_ai__usage__input_tokens=5,
        gen_ai__response__finish_reasons=["stop", "length"],
        gen_ai__request__stream=True,
        gen_ai__usage__cost=0.5,
        gen_ai__tool__name="look",
        gen_ai__request__max_tokens=7,
    )
    intake = Intake(LedgerSink(lambda: ledger.database))
    intake.start()
    intake.offer(spans_of(maker, span), 1_790_000_005_000_000)
    intake.stop()

    row = ledger.one(
        "SELECT *, epoch_us(started_at) AS at, epoch_us(received_at) AS came FROM spans_received"
    )
    assert (row["at"], row["came"]) == (1_790_000_001_500_000, 1_790_000_005_000_000)
    assert (row["duration_ms"], row["kind"], row["status"]) == (2250.0, "CLIENT", "UNSET")
    assert (row["input_tokens"], row["output_tokens"], row["stream"]) == (5, None, True)
    assert (row["finish_reasons"], row["foreign_cost_usd"], row["tool"]) == (["stop", "length"], 0.5, "look")
    assert row["attributes"] == '{"gen_ai.request.max_tokens":7}'
    assert ledger.rows("SELECT count(*) FROM spans WHERE origin = 'otlp'") == [(1,)]


def test_the_table_has_a_column_for_each_of_the_vocabulary_in_its_order(ledger: Any) -> None:
    described = ledger.rows("DESCRIBE spans_received")

    assert tuple(name for name, *_ in described) == TABLE_COLUMNS
