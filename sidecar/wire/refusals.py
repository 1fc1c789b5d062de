"""Errors of our own, in the dialect of the agent that gets them.

The shapes are those of the providers, so that the official SDKs raise the very
classes their users already catch.
"""

from types import MappingProxyType
from typing import Any, Final

import msgspec

from sidecar.wire.eventstream import frame_bytes
from sidecar.wire.facts import ReplyFacts
from sidecar.wire.sse import event_bytes
from sidecar.wire.terminal import DONE

_ANTHROPIC_TYPES: Final = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        408: "timeout_error",
        409: "invalid_request_error",
        413: "request_too_large",
        415: "invalid_request_error",
        422: "invalid_request_error",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
"""docs.anthropic.com/en/api/errors"""

_GOOGLE_STATUS: Final = MappingProxyType(
    {
        401: "UNAUTHENTICATED",
        402: "RESOURCE_EXHAUSTED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        501: "UNIMPLEMENTED",
        502: "UNAVAILABLE",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }
)
"""github.com/googleapis/googleapis/blob/master/google/rpc/code.proto"""

_AMAZON_TYPES: Final = MappingProxyType(
    {
        401: "UnrecognizedClientException",
        402: "ServiceQuotaExceededException",
        403: "AccessDeniedException",
        404: "ResourceNotFoundException",
        429: "ThrottlingException",
        502: "ServiceUnavailableException",
        503: "ServiceUnavailableException",
        504: "ModelTimeoutException",
    }
)
"""docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html; botocore's class is named so."""

_API_OF: Final = MappingProxyType(
    {"responses": "openai.responses", "messages": "anthropic.messages", "gemini": "gemini"}
)
"""By what a stream on pass-through turned out to be (:mod:`sidecar.wire.dialects`)."""

_encode: Final = msgspec.json.Encoder().encode


def error_body(
    api: str, status: int, *, kind: str, code: str, message: str, param: str | None = None
) -> bytes:
    """An error as the body of a reply with HTTP ``status``.

    Args:
        api: the dialect, one of ours or ``gemini``, ``bedrock``, ``cohere``; any other gets OpenAI's shape,
            which most share.
        status: the HTTP status, which decides Anthropic's ``error.type`` and Google's ``error.status``.
        kind: ``error.type`` of OpenAI's shape.
        code: what exactly is wrong, for programs (``budget_exceeded``).
        message: what is wrong and what happens next, for people.
        param: the field of the request at fault.
    """
    return _encode(_error(api, status, kind, code, message, param))


def error_fields(api: str, status: int) -> list[tuple[bytes, bytes]]:
    """The header fields that belong to :func:`error_body`: Amazon names the error's type there alone."""
    fields = [(b"content-type", b"application/json")]
    if api == "bedrock":
        other = "InternalServerException" if status >= 500 else "ValidationException"
        fields.append((b"x-amzn-errortype", _AMAZON_TYPES.get(status, other).encode()))
    return fields


def error_event(
    api: str,
    status: int,
    *,
    kind: str,
    code: str,
    message: str,
    param: str | None = None,
    facts: ReplyFacts | None = None,
) -> bytes:
    """An error as the last event of a stream that has begun; arguments as of :func:`error_body`.

    ``facts`` are the reply's so far: where it stands, and for ``raw``, what the stream turned out to be.
    """
    facts = facts or ReplyFacts()
    place = facts.place
    if api == "raw":
        if place.framing == "frames":
            return _exception_frame(status, message)
        if place.framing == "array":
            last = _encode(_error("gemini", status, kind, code, message, param))
            return (b"," if facts.chunks else b"[") + last + b"]"
        api = _API_OF.get(place.dialect, api)
    lead = b"\n\n" if place.inside_event else b""
    error = _error(api, status, kind, code, message, param)
    if api.startswith("anthropic."):
        return lead + event_bytes(_encode(error), "error")
    if api == "openai.responses":
        # The API's own error event has its fields at the top; the SDK raises on "error".
        event = {"type": "error", "code": code, "message": message, "param": param}
        number = place.sequence_number + 1
        return lead + event_bytes(_encode({**event, "sequence_number": number, **error}), "error")
    return lead + event_bytes(_encode(error)) + (b"" if api == "gemini" else DONE)


def _exception_frame(status: int, message: str) -> bytes:
    """An error among the events of Amazon's streams, of those that their operations name."""
    kind = "internalServerException" if status >= 500 else "throttlingException"
    headers = {
        ":exception-type": kind,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return frame_bytes(headers, _encode({"message": message}))


def _error(api: str, status: int, kind: str, code: str, message: str, param: str | None) -> dict[str, Any]:
    if api.startswith("anthropic."):
        named = _ANTHROPIC_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": named, "message": message}}
    if api == "gemini":
        said = _GOOGLE_STATUS.get(status) or ("INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
        reason = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": code.upper(),
            "domain": "bursar",
        }
        return {"error": {"code": status, "message": message, "status": said, "details": [reason]}}
    if api in ("bedrock", "cohere"):
        return {"message": message}
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
