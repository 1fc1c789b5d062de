"""OTLP over gRPC, where grpcio is installed (extra ``otlp-grpc``).

No generated code: requests are taken as bytes and read by the same decoder as over HTTP.
"""

import hmac
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from collector.ingest.otlp.intake import Full
from collector.ingest.otlp.protobuf import Malformed
from collector.ingest.otlp.requests import PROTOBUF, SIGNALS, Requests, TooLarge, success
from collector.settings import Address

_SERVICE: Final = "opentelemetry.proto.collector.{0}.v1.{1}Service"
_NAMES: Final = {"traces": ("trace", "Trace"), "metrics": ("metrics", "Metrics"), "logs": ("logs", "Logs")}
_WORKERS: Final = 2
_WAITING: Final = 32
"""Calls beyond the workers; more are told to come back."""
_STOP_S: Final = 3.0


class GrpcMissing(Exception):
    """grpcio is not installed."""

    def __init__(self) -> None:
        super().__init__("OTLP over gRPC needs the extra otlp-grpc: pip install 'bursar[otlp-grpc]'")


class GrpcServer:
    """Serves OTLP over gRPC.

    Args:
        requests: what is done with requests.
        listen: where; a port of 0 takes a free one.
        key: the control key; required off loopback, as on the read API.

    Raises:
        GrpcMissing: grpcio is not installed.
    """

    def __init__(self, requests: Requests, listen: Address, key: str | None) -> None:
        try:
            self._grpc: Any = import_module("grpc")
        except ImportError as error:
            raise GrpcMissing from error
        self._requests = requests
        self._listen = listen
        self._key = key.encode() if key else None
        self._server: Any = None
        self.address = listen
        """Where it listens in truth, once started."""

    def start(self) -> None:
        """Listen and serve.

        Raises:
            OSError: the address is taken.
        """
        from concurrent.futures import ThreadPoolExecutor

        grpc = self._grpc
        most = self._requests.limits
        self._server = grpc.server(
            ThreadPoolExecutor(_WORKERS, thread_name_prefix="otlp-grpc"),
            maximum_concurrent_rpcs=_WORKERS + _WAITING,
            options=[
                # Of a message unpacked: grpc unpacks gzip itself, and stops at this.
                ("grpc.max_receive_message_length", most.body_bytes),
                ("grpc.so_reuseport", 0),
            ],
        )
        for signal in SIGNALS:
            package, service = _NAMES[signal]
            handler = grpc.unary_unary_rpc_method_handler(self._handler(signal))
            name = _SERVICE.format(package, service)
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(name, {"Export": handler}),)
            )
        try:
            port = self._server.add_insecure_port(str(self._listen))
        except RuntimeError as error:
            raise OSError(str(error)) from error
        if port == 0:
            raise OSError(f"{self._listen} cannot be listened on")
        self.address = Address(self._listen.host, port)
        self._server.start()

    def stop(self) -> None:
        """Answer what is being asked, then end."""
        if self._server is not None:
            self._server.stop(_STOP_S).wait(_STOP_S + 1)

    def _handler(self, signal: str) -> Callable[[bytes, Any], bytes]:
        code = self._grpc.StatusCode

        def export(body: bytes, context: Any) -> bytes:
            if not self._listen.is_loopback and not self._may(context):
                context.abort(code.UNAUTHENTICATED, "the control key is required as a Bearer token")
            if signal == "metrics":
                self._requests.set_aside(signal)
                return b""
            try:
                if signal == "logs":
                    self._requests.take_logs(body)
                    return b""
                return success(self._requests.take(body), PROTOBUF)
            except Full as error:
                pushback = str(error.retry_after_s * 1000)
                context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback),))
                context.abort(code.UNAVAILABLE, "the queue is full; come back later")
            except (Malformed, TooLarge) as error:
                context.abort(code.INVALID_ARGUMENT, str(error)[:500])
            raise AssertionError("abort raises")

        return export

    def _may(self, context: Any) -> bool:
        given = dict(context.invocation_metadata()).get("authorization", "")
        scheme, _, token = given.partition(" ")
        return bool(
            self._key
            and scheme.lower() == "bearer"
            and hmac.compare_digest(token.strip().encode(), self._key)
        )
