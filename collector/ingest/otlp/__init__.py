"""OpenTelemetry spans of others, taken in by OTLP and told in one vocabulary.

    vocabulary  what each library calls a thing, and what we call it: the whole mapping
    normalise   a span as somebody made it becomes a row of ours
    protobuf, jsonform   the two encodings of OTLP
    batch       rows as Arrow columns
    intake      a bounded queue, and the thread that empties it
    table       the tables, and how spans get in once
    linking     which call of ours a span tells of; what bypassed the sidecar
    requests    what is common to both ways in: limits, decompression, answers
    http, grpc  the ways in, ports 4318 and 4317
    receiver    all of it together: `OtlpReceiver`, with start() and stop()

Our own record of a call wins: spans say which agent, tool, task and step it was for, and never
add a token or a cent to it.
"""
