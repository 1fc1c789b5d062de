"""What leaves the books: metrics text and spans.

prometheus   calls added up by label, and their text exposition (the sidecar imports this)
families     the names, kinds and help texts of every metric of ours
exposition   the text format, and `labels` which names become label values
spans        a call's spans, as the OpenTelemetry SDK knows them and as rows
otlp         their way out: encoded by `protobuf`, queued, sent
conventions  what the GenAI conventions say, and `targets` which inferences a call made
"""
