"""One POST to an OTLP receiver, with an end to it whatever the receiver does.

The deadline covers the whole exchange: a receiver that accepts and never answers, or
answers one byte a second, is given up at the same moment. Another thread may abort it.
"""

import gzip
import http.client
import socket
import ssl
import threading
import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

DEFAULT_TIMEOUT_S = 10.0
_LONGEST_TIMEOUT_S = 60.0
_LARGEST_REPLY = 64 << 10


class Reply(NamedTuple):
    """What the receiver said."""

    status: int
    retry_after: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where spans go, as the ``OTEL_EXPORTER_OTLP_*`` variables say."""

    scheme: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S
    compression: str = "none"
    certificate: str = ""
    """File of the authorities to trust instead of the system's."""
    client_certificate: str = ""
    client_key: str = ""

    @property
    def address(self) -> str:
        """For people: without credentials, query or headers."""
        return f"{self.scheme}://{self.host}:{self.port}{self.path.partition('?')[0]}"


def destination(environ: Mapping[str, str]) -> Destination | None:
    """Where the environment points spans to; None when it points nowhere.

    The names are those of the OpenTelemetry specification, where the ones for traces
    win over the general ones.

    Raises:
        ValueError: the endpoint is not an HTTP URL.
    """
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    if not endpoint:
        base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
        if not base:
            return None
        endpoint = base.rstrip("/") + "/v1/traces"
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("the OTLP endpoint must be a URL such as http://localhost:4318")

    def setting(name: str) -> str:
        return (
            environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}")
            or environ.get(f"OTEL_EXPORTER_OTLP_{name}")
            or ""
        ).strip()

    headers = _headers(setting("HEADERS"))
    if url.username is not None and "authorization" not in headers:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    return Destination(
        scheme=url.scheme,
        host=url.hostname,
        port=url.port or (443 if url.scheme == "https" else 80),
        path=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        headers=headers,
        timeout_s=_timeout(setting("TIMEOUT")),
        compression=setting("COMPRESSION").lower() or "none",
        certificate=setting("CERTIFICATE"),
        client_certificate=setting("CLIENT_CERTIFICATE"),
        client_key=setting("CLIENT_KEY"),
    )


def _headers(text: str) -> dict[str, str]:
    """``name=value,name=value``, values percent-encoded as in W3C baggage."""
    headers = {}
    for pair in text.split(","):
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            headers[name.strip().lower()] = unquote(value.strip())
    return headers


def _timeout(text: str) -> float:
    """The specification counts milliseconds, Python's SDK seconds.

    Nobody waits a minute for a batch or less than a tenth of a second, so more than
    60 must be milliseconds.
    """
    try:
        value = float(text)
    except ValueError:
        return DEFAULT_TIMEOUT_S
    if not value > 0:
        return DEFAULT_TIMEOUT_S
    return min(value / 1000 if value > _LONGEST_TIMEOUT_S else value, _LONGEST_TIMEOUT_S)


class Transport:
    """A connection to a receiver, kept open between batches. For one thread; any may abort."""

    def __init__(self, where: Destination) -> None:
        self._where = where
        self._tls = _tls_context(where) if where.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        self._aborted = False
        self._was_cut = False
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": "bursar",
            **where.headers,
        }
        if where.compression in ("gzip", "deflate"):
            self._headers["content-encoding"] = where.compression

    def post(self, body: bytes, timeout_s: float) -> Reply:
        """Send one batch.

        Raises:
            OSError: no answer came, or not in time.
            http.client.HTTPException: what came was not HTTP.
        """
        if self._where.compression == "gzip":
            body = gzip.compress(body, compresslevel=1)
        elif self._where.compression == "deflate":
            body = zlib.compress(body, level=1)
        reused = self._connection is not None
        try:
            return self._exchange(body, timeout_s)
        except (ConnectionError, http.client.RemoteDisconnected):
            # The receiver may have closed a connection that was idle; that says nothing about it.
            if not reused or self._aborted:
                raise
            return self._exchange(body, timeout_s)

    def abort(self) -> None:
        """End the exchange under way, and every later one, at once."""
        self._aborted = True
        self._cut()

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, body: bytes, timeout_s: float) -> Reply:
        if self._aborted:
            raise ConnectionAbortedError("the export is shutting down")
        if self._connection is None:
            self._connection = self._new_connection(timeout_s)
        connection = self._connection
        # Socket timeouts are for one read each; this one is for all of them together.
        limit = threading.Timer(timeout_s, self._cut)
        limit.daemon = True
        self._was_cut = False
        limit.start()
        try:
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            connection.request("POST", self._where.path, body, self._headers)
            answer = connection.getresponse()
            told = answer.read(_LARGEST_REPLY)
            if self._was_cut:
                # To http.client the end of the connection is as good as the end of the headers.
                raise TimeoutError("the answer did not come in time")
            if not answer.isclosed() or answer.will_close:
                self.close()
            return Reply(answer.status, answer.headers.get("retry-after", ""), told)
        except BaseException:
            self.close()
            raise
        finally:
            limit.cancel()

    def _new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        where = self._where
        if self._tls is not None:
            return http.client.HTTPSConnection(where.host, where.port, timeout=timeout_s, context=self._tls)
        return http.client.HTTPConnection(where.host, where.port, timeout=timeout_s)

    def _cut(self) -> None:
        self._was_cut = True
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # It was closed in the meantime, which is all we wanted.


def _tls_context(where: Destination) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=where.certificate or None)
    if where.client_certificate:
        context.load_cert_chain(where.client_certificate, where.client_key or None)
    return context
