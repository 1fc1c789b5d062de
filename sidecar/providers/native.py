"""Providers that speak HTTP: their replicas, and the headers that may travel there and back.

A provider's key leaves only to its configured origin. Headers are built from an allow-list on
the way out; on the way back those are dropped that mean something between two neighbours only,
or say whose account it is.
"""

import re
import time
from typing import ClassVar
from urllib.parse import urlsplit

from collector.domain.ids import format_traceparent
from sidecar.call import Call
from sidecar.config import UpstreamConfig
from sidecar.errors import InvalidCall
from sidecar.http import Deadlines, HeaderList, Limits, Outbox, UpstreamPool, field_lines, upstream_tls
from sidecar.providers.dialects import Speech
from sidecar.providers.limits_told import limits_told, wait_of
from sidecar.providers.replicas import Pool, Replica
from sidecar.stages.identify import CREDENTIAL_HEADERS

USER_AGENT = b"bursar/0.1"

_OURS: HeaderList = [(b"accept-encoding", b"identity"), (b"user-agent", USER_AGENT)]

FORWARDED = frozenset(
    {
        b"content-type",
        b"accept",
        b"anthropic-version",
        b"anthropic-beta",
        b"openai-beta",
        b"idempotency-key",
        b"http-referer",
        b"x-title",
    }
)
OWN_ACCOUNT = frozenset({b"openai-organization", b"openai-project", b"x-goog-user-project"})
"""Which account of its own an agent means; sent on only together with its own key."""
FORWARDED_PREFIX = b"x-amzn-bedrock-"
_PLAIN_VALUE = re.compile(rb"[\x20-\x7e]{0,2048}")
_ENCODED_CONTROL = re.compile(rb"%(?:0[0-9a-f]|1[0-9a-f]|7f)", re.IGNORECASE)

NOT_RETURNED = frozenset(
    {
        b"host",
        b"set-cookie",
        b"alt-svc",
        b"strict-transport-security",
        b"openai-organization",
        b"openai-project",
        b"anthropic-organization-id",
        b"server",
        b"via",
        b"nel",
        b"report-to",
        b"cf-ray",
        b"cf-cache-status",
    }
)
"""What would let a provider reach around us, says whose account it is, or has no place in a reply."""

_SAID_BY_US = b"x-bursar-"
_SIMULATOR = b"x-bursar-simulator"
"""Said by the simulated upstream, so that nobody takes its replies for a model's."""

_OF_THE_BODY = frozenset({b"content-type", b"content-encoding", b"etag", b"content-md5", b"digest"})

_SENDABLE: set[bytes] = set()
"""Values that were found fit to be sent; never a credential."""

_KEY_HEADER = {"anthropic": b"x-api-key", "azure": b"api-key", "google": b"x-goog-api-key"}


class Upstream:
    """A provider account with its replicas."""

    def __init__(
        self, name: str, config: UpstreamConfig, deadlines: Deadlines, outbox: Outbox | None = None
    ) -> None:
        self.name = name
        self.kind = config.kind
        self.inject_usage = config.inject_usage
        self.forward_trace = config.kind == "vllm" if config.forward_trace is None else config.forward_trace
        self.unmetered_paths = config.unmetered_paths
        self.replicas: list[Replica] = []
        host = ""
        for url in config.urls if config.kind != "litellm" else ():
            parts = urlsplit(url)
            host = parts.hostname or ""
            tls = (
                upstream_tls(str(config.ca_file) if config.ca_file else None)
                if parts.scheme == "https"
                else None
            )
            port = parts.port or (443 if tls else 80)
            pool = UpstreamPool(
                host,
                port,
                tls=tls,
                connections=config.connection_limit,
                deadlines=deadlines,
                limits=Limits(waiting=config.queue),
                outbox=outbox,
            )
            number = len(self.replicas)
            weight = config.weights[number] if config.weights else 1
            replica = Replica(f"{host}:{port}", parts.path, pool, index=number, weight=weight)
            self.replicas.append(replica)
        self.provider = config.provider_of(name, host)
        self.region = config.where
        self.speech = Speech(config, self.provider)
        self._fixed = [(key.lower().encode(), value.encode()) for key, value in config.headers.items()]
        self._key = config.api_key.reveal() if config.api_key else None
        self.pool = Pool(name, config)
        self.queue = config.queue
        self.is_plain = config.is_plain
        """One replica, asked again only when it turns a call away: nothing to decide before that."""
        self.is_held = False
        """Some replica has asked us to wait, or an operator wants one left alone."""
        self.tells_limits = self._key is not None
        """Whether limits that it tells of are ours, so that all calls have to heed them."""

    starts_late: ClassVar[bool] = False
    """Whether calls have to wait for :meth:`ready`."""

    async def ready(self) -> None:
        """Wait until this upstream can be asked; most always can."""

    def note_limits(self, replica: Replica, headers: HeaderList) -> None:
        """Heed and remember what a reply says of rate limits."""
        told = limits_told(headers, time.time())
        if not told:
            return
        replica.told = told
        wait_s = wait_of(told)
        if wait_s:
            self.hold_back(replica, wait_s)

    def hold_back(self, replica: Replica, wait_s: float) -> None:
        """Send nothing there for so long."""
        replica.held_until = max(replica.held_until, self.pool.clock() + wait_s)
        self.is_held = True

    def tend(self) -> None:
        """What is done a few times a second: see who is well, and whether anybody is still held back."""
        self.pool.tend(self.replicas)
        if self.is_held:
            now = self.pool.clock()
            self.is_held = any(replica.draining or replica.held_until > now for replica in self.replicas)

    def adopt(self, other: "Upstream") -> None:
        """Go on with what is known of the same servers from a configuration before."""
        before = {replica.name: replica for replica in other.replicas}
        same = before.keys() == {replica.name for replica in self.replicas}
        for replica in self.replicas:
            if replica.name in before:
                replica.adopt(before[replica.name], same_neighbours=same)
        self.is_held = other.is_held

    def head_for(self, call: Call, instead: HeaderList | None = None) -> bytes:
        """What this upstream gets to see of the request's head, as lines.

        Args:
            call: whose request.
            instead: of anything the agent sent: for a request that was translated. An agent's own key
                is for the provider whose dialect it speaks, and for nobody else.

        Raises:
            InvalidCall: a forwarded header holds something that is no header value.
        """
        if instead is not None:
            return self._traced(field_lines(self._headers(instead, False)), call)
        passes_key = self._key is None and not call.caller.key_id and self.kind != "vllm"
        # The same for every request with this head; what is remembered leaves with the connection.
        remembered = call.request.derived
        lines: bytes | None = remembered.get((self, passes_key))
        if lines is None:
            lines = remembered[self, passes_key] = field_lines(
                self._headers(call.request.headers, passes_key)
            )
        return self._traced(lines, call)

    def _traced(self, lines: bytes, call: Call) -> bytes:
        if self.forward_trace:
            span = call.attempts[-1].span_id if call.attempts else call.span_id
            parent = format_traceparent(call.trace_id, span, call.sampled)
            return b"%btraceparent: %b\r\n" % (lines, parent.encode())
        return lines

    def _headers(self, received: HeaderList, passes_key: bool) -> HeaderList:
        headers: HeaderList = []
        for name, value in received:
            if (
                name in FORWARDED
                or name.startswith(FORWARDED_PREFIX)
                or (passes_key and (name in CREDENTIAL_HEADERS or name in OWN_ACCOUNT))
            ):
                if value not in _SENDABLE:
                    check_sendable(name, value)
                headers.append((name, value))
        if self._key is not None:
            header = _KEY_HEADER.get(self.kind, b"authorization")
            value = self._key.encode()
            headers.append((header, b"Bearer " + value if header == b"authorization" else value))
        return headers + _OURS + self._fixed

    def without_key(self, body: bytes, headers: HeaderList) -> tuple[bytes, HeaderList]:
        """An error of the upstream's, unchanged unless it repeats our key."""
        key = self._key.encode() if self._key else b""
        if not key or (key not in body and not any(key in value for _, value in headers)):
            return body, headers
        return body.replace(key, b"***"), [(name, value.replace(key, b"***")) for name, value in headers]

    async def close(self) -> None:
        """Close all connections."""
        await self.pool.close()
        for replica in self.replicas:
            await replica.pool.close()


def check_sendable(name: bytes, value: bytes) -> None:
    """Let a header value pass, and remember it: the same few come with every call.

    Raises:
        InvalidCall: it holds something that is no header value.
    """
    if not _PLAIN_VALUE.fullmatch(value) or _ENCODED_CONTROL.search(value):
        shown = name.decode("latin-1")
        raise InvalidCall(f"header {shown} holds characters that cannot be sent", code="invalid_header")
    if len(_SENDABLE) < 1000 and name not in CREDENTIAL_HEADERS:
        _SENDABLE.add(value)


def translated_headers(headers: HeaderList, content_type: bytes) -> HeaderList:
    """Those of a translated reply: what said how the original was written is said anew."""
    kept = [field for field in returned_headers(headers) if field[0] not in _OF_THE_BODY]
    return [(b"content-type", content_type), *kept]


def returned_headers(headers: HeaderList) -> HeaderList:
    """Those of a reply's end-to-end headers that the agent may see."""
    return [
        field
        for field in headers
        if field[0] not in NOT_RETURNED and (not field[0].startswith(_SAID_BY_US) or field[0] == _SIMULATOR)
    ]
