"""The collector's own metrics, read from its state when they are scraped."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collector.ingest.state import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MOST_SOURCES = 100


class StateMetrics(Collector):
    """Families over ``state``; nothing is kept between two scrapes."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """The families at this moment."""
        state = self._state
        yield GaugeMetricFamily(
            "bursar_collector_ready", "1 while the ledger is open", value=0 if state.trouble else 1
        )
        yield GaugeMetricFamily(
            "bursar_journal_lag_seconds", "Age of the oldest journal frame not booked", value=state.lag_s()
        )
        yield CounterMetricFamily(
            "bursar_collector_rebuilds", "Databases set aside and rebuilt", value=state.rebuilds
        )
        if state.ledger is None:
            return
        books, follower = state.ledger.books, state.ledger.follower
        counts = books.counts
        behind = GaugeMetricFamily(
            "bursar_journal_behind_bytes", "Journal bytes not booked yet", labels=["source"]
        )
        for source, lag in list(follower.lag.items())[:_MOST_SOURCES]:
            behind.add_metric([source], lag.bytes)
        yield behind
        rows = CounterMetricFamily("bursar_collector_rows", "Rows booked", labels=["table"])
        rows.add_metric(["calls"], counts.calls)
        rows.add_metric(["attempts"], counts.attempts)
        rows.add_metric(["events"], counts.events)
        yield rows
        yield CounterMetricFamily("bursar_collector_commits", "Transactions", value=counts.commits)
        yield CounterMetricFamily("bursar_collector_frames", "Journal frames booked", value=counts.frames)
        yield CounterMetricFamily(
            "bursar_collector_presumed_calls", "Calls booked from their intent", value=counts.presumed
        )
        yield CounterMetricFamily(
            "bursar_collector_corrected_calls",
            "Of those, calls whose record came after all",
            value=counts.corrected,
        )
        dropped = CounterMetricFamily(
            "bursar_dropped", "What was lost, by stage and reason", labels=["stage", "reason"]
        )
        for reason, count in sorted(counts.notes.items()):
            dropped.add_metric(["ingest", reason], count)
        yield dropped
        yield CounterMetricFamily(
            "bursar_journal_lost_frames", "Frames that gaps and damage cost", value=counts.lost_frames
        )
        yield GaugeMetricFamily(
            "bursar_collector_open_calls", "Intents without a record", value=len(books.opened)
        )
        yield GaugeMetricFamily(
            "bursar_collector_database_bytes", "Size of the ledger", value=books.database.size_bytes
        )
        yield GaugeMetricFamily(
            "bursar_collector_last_commit_timestamp_seconds",
            "When rows last came in",
            value=counts.committed_at,
        )
        yield GaugeMetricFamily(
            "bursar_collector_snapshot_timestamp_seconds",
            "When the snapshot was published",
            value=state.ledger.publisher.published_at,
        )


def exposition(state: State) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    for measured in (StateMetrics(state), *state.measured):
        registry.register(measured)
    return generate_latest(registry) + "".join([tell() for tell in state.told]).encode()
