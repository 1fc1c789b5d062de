"""A call's spans in the forms that others read: the OpenTelemetry SDK's, and plain rows.

The third form, OTLP's bytes, is :mod:`.protobuf`; all three come from the same facts.
The SDK is imported on first use: a collector that exports nothing never loads it.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from collector.domain.record import CallRecord
from collector.export.conventions import SCHEMA_URL
from collector.export.facts import span_facts
from collector.export.otlp import ExportLimits, SpanExport
from collector.export.resource import SCOPE, service_resource, version
from collector.export.span_data import SERVER, Cleaner, SpanFacts

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["ExportLimits", "SpanExport", "SpanRow", "spans_of", "spans_rows"]

_clean = Cleaner()


class SpanRow(NamedTuple):
    """One span as a row of the ledger's `spans`. Times are in nanoseconds since the Unix epoch."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    """``SERVER`` or ``CLIENT``."""
    start_ns: int
    end_ns: int
    status: str
    """``UNSET`` or ``ERROR``."""
    attributes: str
    """A JSON object."""


def spans_rows(record: CallRecord) -> list[SpanRow]:
    """The spans of a call as rows, parents first."""
    return [
        SpanRow(
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            span.name,
            "SERVER" if span.kind == SERVER else "CLIENT",
            span.start_ns,
            span.end_ns,
            "ERROR" if span.error_type else "UNSET",
            json.dumps(span.attributes, separators=(",", ":")),
        )
        for span in span_facts(record, _clean)
    ]


def spans_of(record: CallRecord, resource: "Resource | None" = None) -> "list[ReadableSpan]":
    """The spans of a call as the SDK's exporters and processors take them, parents first."""
    convert = _converter()
    where = resource if resource is not None else service_resource()
    return [convert(span, where) for span in span_facts(record, _clean)]


@cache
def _converter() -> "Callable[[SpanFacts, Resource], ReadableSpan]":
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    scope = InstrumentationScope(SCOPE, version(), SCHEMA_URL)
    sampled = TraceFlags(TraceFlags.SAMPLED)

    def convert(span: SpanFacts, resource: "Resource") -> ReadableSpan:
        trace_id = int(span.trace_id, 16)
        parent = (
            SpanContext(trace_id, int(span.parent_span_id, 16), span.parent_is_remote, sampled)
            if span.parent_span_id
            else None
        )
        attributes: Mapping[str, object] = span.attributes
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), False, sampled),
            parent=parent,
            resource=resource,
            attributes=attributes,  # type: ignore[arg-type]  # structured content is newer than the SDK's types
            kind=SpanKind.SERVER if span.kind == SERVER else SpanKind.CLIENT,
            status=Status(StatusCode.ERROR if span.error_type else StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=scope,
        )

    return convert
