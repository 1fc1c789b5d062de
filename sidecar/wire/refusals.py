"""Errors of our own, in the dialect of the agent that gets them.

The shapes are those of the providers, so that the official SDKs raise the very
classes their users already catch.
"""

from types import MappingProxyType
from typing import Any, Final

import msgspec

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

_encode: Final = msgspec.json.Encoder().encode


def error_body(
    api: str, status: int, *, kind: str, code: str, message: str, param: str | None = None
) -> bytes:
    """An error as the body of a reply with HTTP ``status``.

    Args:
        api: the dialect; anything but Anthropic's gets OpenAI's shape, which most others share.
        status: the HTTP status, which decides Anthropic's ``error.type``.
        kind: ``error.type`` of OpenAI's shape.
        code: what exactly is wrong, for programs (``budget_exceeded``).
        message: what is wrong and what happens next, for people.
        param: the field of the request at fault.
    """
    return _encode(_error(api, status, kind, code, message, param))


def error_event(
    api: str,
    status: int,
    *,
    kind: str,
    code: str,
    message: str,
    param: str | None = None,
    sequence_number: int = 0,
) -> bytes:
    """An error as the last event of a stream that has begun; arguments as of :func:`error_body`.

    ``sequence_number`` is that of the stream's next event (OpenAI responses).
    """
    error = _error(api, status, kind, code, message, param)
    if api.startswith("anthropic."):
        return event_bytes(_encode(error), "error")
    if api == "openai.responses":
        # The API's own error event has its fields at the top; the SDK raises on "error".
        event = {"type": "error", "code": code, "message": message, "param": param}
        return event_bytes(_encode({**event, "sequence_number": sequence_number, **error}), "error")
    return event_bytes(_encode(error)) + DONE


def _error(api: str, status: int, kind: str, code: str, message: str, param: str | None) -> dict[str, Any]:
    if api.startswith("anthropic."):
        named = _ANTHROPIC_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": named, "message": message}}
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
