"""What is common to OTLP over HTTP and over gRPC: limits, decompression, decoding, answers.

The answers are small and of fixed shape, so they are written by hand: an
``ExportTraceServiceResponse`` is empty, or holds one ``partial_success``.
"""

import json
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from collector.ingest.otlp import evaluations, jsonform, vocabulary
from collector.ingest.otlp.intake import Full, Intake, Told
from collector.ingest.otlp.normalise import Spans
from collector.ingest.otlp.protobuf import Malformed, SpanDecoder

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
SIGNALS: Final = ("traces", "metrics", "logs")
"""Metrics are answered and set aside, logs too but for evaluations: an agent's SDK sends all three here."""


EVALUATION: Final = vocabulary.EVALUATION.encode()
MOST_LOGS: Final = 1 << 20
"""Of a body with log records; longer ones are no evaluations."""


class TooLarge(ValueError):
    """The body is longer than it may be, as it came or unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What one request may take, and all of them together."""

    body_bytes: int = 16 << 20
    """As it is sent."""
    unpacked_bytes: int = 64 << 20
    in_flight_bytes: int = 96 << 20
    """Bodies that are being read at the same time."""


class Requests:
    """Reads requests and hands their spans to ``intake``. May be called from any thread.

    Args:
        intake: where spans go.
        limits: see there.
        told: takes the outcomes that evaluations tell; None to set them aside.
        now_us: the clock.
    """

    def __init__(
        self,
        intake: Intake,
        limits: RequestLimits | None = None,
        *,
        told: Told | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.limits = limits or RequestLimits()
        self._intake = intake
        self._told = told
        self._now_us = now_us
        self._own = threading.local()
        self._lock = threading.Lock()
        self._unpacking = threading.Lock()
        self._in_flight = 0

    def take(self, body: bytes, *, encoding: str = "", content_type: str = PROTOBUF) -> int:
        """Queue the spans of a request; how many of them were rejected.

        Args:
            body: as it came.
            encoding: its Content-Encoding: gzip, deflate, or none.
            content_type: `PROTOBUF` or `JSON`.

        Raises:
            Full: come back later.
            Malformed: never send it again.
            TooLarge: nor this.
        """
        self._intake.check_room()
        # One at a time: what is unpacked counts only once it is known how long it is.
        with self._unpacking:
            data = self._unpacked(body, encoding)
            with self._lock:
                if self._in_flight and self._in_flight + len(data) > self.limits.in_flight_bytes:
                    self._intake.counts.refused += 1
                    raise Full
                self._in_flight += len(data)
        try:
            return self._read(data, content_type)
        finally:
            with self._lock:
                self._in_flight -= len(data)

    def take_logs(self, body: bytes, *, encoding: str = "", content_type: str = PROTOBUF) -> None:
        """Take the evaluations among log records; the others are set aside.

        Raises:
            Full: the ledger is not open; come back later.
            Malformed, TooLarge: never send it again.
        """
        data = self._unpacked(body, encoding) if self._told is not None and len(body) <= MOST_LOGS else b""
        if self._told is None or EVALUATION not in data:
            self.set_aside("logs")
            return
        rows = evaluations.read(data, is_json=content_type == JSON, now_us=self._now_us())
        if rows:
            self._told(rows)

    def set_aside(self, signal: str) -> None:
        """A request with a signal that is not kept has been answered."""
        aside = self._intake.counts.set_aside
        with self._lock:
            aside[signal] = aside.get(signal, 0) + 1

    def _read(self, data: bytes, content_type: str) -> int:
        received_us = self._now_us()
        spans = Spans(received_us)
        try:
            if content_type == JSON:
                jsonform.read(data, spans)
            else:
                self._decoder().read(data, spans)
        except Malformed:
            self._intake.counts.malformed += 1
            raise
        told = list(evaluations.of_spans(spans, received_us)) if spans.evaluations else ()
        return self._intake.offer(spans, received_us, told)

    def _decoder(self) -> SpanDecoder:
        decoder: SpanDecoder | None = getattr(self._own, "decoder", None)
        if decoder is None:
            decoder = self._own.decoder = SpanDecoder()
        return decoder

    def _unpacked(self, body: bytes, encoding: str) -> bytes:
        if len(body) > self.limits.body_bytes:
            raise TooLarge(f"at most {self.limits.body_bytes >> 20} MiB")
        if encoding in ("", "identity"):
            return body
        if encoding not in ("gzip", "deflate"):
            raise Malformed(f"the encoding {encoding[:32]!r} is not understood; send gzip, or none")
        unpacker = zlib.decompressobj(wbits=31 if encoding == "gzip" else 15)
        try:
            data = unpacker.decompress(body, self.limits.unpacked_bytes + 1)
        except zlib.error as error:
            raise Malformed(f"not {encoding}: {error}") from error
        if len(data) > self.limits.unpacked_bytes:
            raise TooLarge(f"at most {self.limits.unpacked_bytes >> 20} MiB when unpacked")
        if not unpacker.eof:
            raise Malformed(f"the {encoding} stream is cut off")
        return data


def success(rejected: int, content_type: str) -> bytes:
    """An answer to a request of which all but ``rejected`` spans were taken."""
    message = "no valid trace id or span id" if rejected else ""
    if content_type == JSON:
        partial = {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": message}}
        return json.dumps(partial if rejected else {}).encode()
    if not rejected:
        return b""
    text = message.encode()
    inner = b"\x08" + _varint(rejected) + b"\x12" + _varint(len(text)) + text
    return b"\x0a" + _varint(len(inner)) + inner


def status(code: int, message: str, content_type: str) -> bytes:
    """A ``google.rpc.Status``, as errors are answered over HTTP."""
    if content_type == JSON:
        return json.dumps({"code": code, "message": message}).encode()
    text = message.encode()[:1024]
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
