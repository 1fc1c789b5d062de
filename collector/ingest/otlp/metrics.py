"""What Prometheus is told of the spans that come in."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collector.ingest.otlp.intake import Intake
from collector.ingest.otlp.linking import Linker


class OtlpMetrics(Collector):
    """Families over an intake and a linker; nothing is kept between two scrapes."""

    def __init__(self, intake: Intake, linker: Linker) -> None:
        self._intake = intake
        self._linker = linker

    def collect(self) -> Iterable[Metric]:
        """The families at this moment."""
        counts, links = self._intake.counts, self._linker.counts
        spans = CounterMetricFamily("bursar_otlp_spans", "Spans taken in by OTLP", labels=["result"])
        for result, count in (
            ("stored", counts.stored),
            ("duplicate", counts.duplicates),
            ("rejected", counts.rejected),
        ):
            spans.add_metric([result], count)
        yield spans
        asked = CounterMetricFamily("bursar_otlp_refusals", "OTLP requests not taken", labels=["reason"])
        asked.add_metric(["full"], counts.refused)
        asked.add_metric(["malformed"], counts.malformed)
        yield asked
        aside = CounterMetricFamily(
            "bursar_otlp_set_aside", "OTLP requests with signals that are not kept", labels=["signal"]
        )
        for signal, count in sorted(counts.set_aside.items()):
            aside.add_metric([signal], count)
        yield aside
        yield GaugeMetricFamily(
            "bursar_otlp_lag_seconds", "Age of the oldest span not stored", value=self._intake.lag_s
        )
        yield GaugeMetricFamily("bursar_otlp_waiting_spans", "Spans queued", value=self._intake.waiting)
        matched = CounterMetricFamily(
            "bursar_otlp_matched_spans", "Spans of model calls that tell of a call of ours", labels=["by"]
        )
        for by, count in sorted(links.matched.items()):
            matched.add_metric([by], count)
        yield matched
        yield CounterMetricFamily(
            "bursar_bypass_calls",
            "Model calls seen in spans that never passed the sidecar",
            value=links.bypassed,
        )
