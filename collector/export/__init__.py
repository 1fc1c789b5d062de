"""What leaves the books: metrics text and spans.

Metrics, which the sidecar imports (standard library only):

    prometheus      calls added up by label, several workers merged, their text exposition
    aggregates      the figures of one label set, and `inferences` by the GenAI conventions
    families        every metric that is set rather than added up; `values` keeps their samples
    exposition      the text format; `labels` says which names become label values

Spans, made in the collector from records:

    facts           a call told as spans, plain data; `inference_span` and `content` are parts of it
    spans           those facts in the SDK's form and as rows of the ledger
    protobuf        those facts as OTLP bytes
    otlp            their way out: queued within bounds, sent by `transport`

    conventions     what the GenAI conventions say; `targets` which inferences a call made

Files, for people (standard library only):

    focus           spend in the columns of the FinOps FOCUS specification
    cells           values as cells that no spreadsheet runs
"""
