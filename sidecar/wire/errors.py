"""Providers' errors, sorted into one list of classes.

An error is looked at in this order: its own code or type (the most specific thing
that is said), words of its message where providers hide one cause behind a general
code, then the HTTP status.
"""

import re
from collections.abc import Mapping
from typing import Final

from collector.patterns import expression
from sidecar.wire.facts import WireError

ERROR_CLASSES: Final = (
    "rate_limit",
    "overloaded",
    "quota",
    "auth",
    "permission",
    "not_found",
    "context_length",
    "content_filter",
    "invalid_request",
    "too_large",
    "timeout",
    "server_error",
)

_BY_NAME: Final = {
    name: error_class
    for error_class, names in {
        "rate_limit": "rate_limit_error rate_limit_exceeded ratelimitexceeded too_many_requests requests "
        "tokens throttlingexception throttling_exception toomanyrequestsexception rate_limited "
        "ratelimitreached "
        "rate_limit ratelimiterror resource_exhausted",
        "overloaded": "overloaded_error overloaded unavailable serviceunavailable service_unavailable "
        "service_unavailable_error serviceunavailableexception server_overloaded modelnotreadyexception "
        "service_tier_capacity_exceeded model_overloaded engine_overloaded capacity_exceeded "
        "model_not_ready_exception service_unavailable_exception queue_exceeded",
        "quota": "insufficient_quota billing_error billing_hard_limit_reached billing_not_active "
        "budget_exceeded insufficient_balance insufficient_credits payment_required credit_balance_too_low "
        "quota_exceeded "
        "servicequotaexceededexception service_quota_exceeded_exception account_deactivated unpriced_model",
        "auth": "authentication_error invalid_api_key api_key_invalid unauthenticated unauthorized "
        "incorrect_api_key invalid_authentication unrecognizedclientexception invalidsignatureexception "
        "expiredtokenexception missingauthenticationtokenexception invalid_token wrong_api_key",
        "permission": "permission_error permission_denied accessdeniedexception access_denied forbidden "
        "access_terminated_error unsupported_country_region_territory permissiondeniederror",
        "not_found": "not_found_error not_found model_not_found notfounderror resourcenotfoundexception "
        "resource_not_found_exception deploymentnotfound unknown_model model_not_available",
        "context_length": "context_length_exceeded context_window_exceeded string_above_max_length "
        "too_many_prompt_tokens prompt_too_long model_context_window_exceeded",
        "content_filter": "content_filter content_policy_violation responsibleaipolicyviolation "
        "content_policy_error moderation moderation_blocked sensitive_words",
        "invalid_request": "invalid_request_error validationexception validation_exception badrequesterror "
        "bad_request tool_use_failed invalid_value unsupported_value missing_required_parameter "
        "json_validate_failed "
        "failed_precondition out_of_range unprocessable_entity_error",
        "too_large": "request_too_large payload_too_large requesttoolarge",
        "timeout": "timeout_error timeout request_timeout deadline_exceeded modeltimeoutexception "
        "model_timeout_exception apitimeouterror gateway_timeout",
        "server_error": "api_error server_error internal_error internal_server_error internalserverexception "
        "internal_server_exception internal internalservererror modelerrorexception model_error_exception "
        "modelstreamerrorexception model_stream_error_exception internal_failure",
    }.items()
    for name in names.split()
}

_GENERAL: Final = frozenset({"invalid_request", "server_error", "not_found", "permission"})
"""Classes behind which providers hide a more telling cause; the message is read before they are taken."""

_BY_WORDS: Final = (
    (
        "context_length",
        expression(
            r"context (?:length|window|size)|maximum context|prompt is too long|input is too long"
            r"|too many (?:input |prompt )?tokens|total length of all messages is too long"
            r"|exceeds? the (?:maximum|model'?s maximum)[^.]{0,40}tokens"
            r"|input token count[^.]{0,60}exceeds|reduce the length of",
            re.I,
        ),
    ),
    (
        "content_filter",
        expression(r"content (?:management|filter|policy)|safety system|flagged as|usage polic", re.I),
    ),
    (
        "quota",
        expression(
            r"credit balance is too low|insufficient (?:balance|credits|quota|funds)"
            r"|exceeded your current quota|billing (?:hard )?limit|spending limit|out of credits",
            re.I,
        ),
    ),
    (
        "auth",
        expression(
            r"(?:incorrect|invalid|missing|expired|wrong) (?:api[ _-]?key|auth|credentials|x-api-key)"
            r"|invalid subscription key"
            r"|api key (?:not valid|not found|expired)|security token[^.]{0,40}(?:invalid|expired)",
            re.I,
        ),
    ),
    (
        "not_found",
        expression(
            r"model[^.]{0,120}(?:does not exist|not found|is not supported|not available)"
            r"|model identifier is invalid|unknown model|no such model|models? .{0,80}is not found",
            re.I,
        ),
    ),
    (
        "overloaded",
        expression(r"overloaded|currently busy|temporarily unavailable|high demand|at capacity", re.I),
    ),
    ("rate_limit", expression(r"rate[ -]?limit|too many requests", re.I)),
    ("timeout", expression(r"timed? ?out", re.I)),
)

_BY_STATUS: Final = {
    400: "invalid_request", 401: "auth", 402: "quota", 403: "permission", 404: "not_found",
    405: "invalid_request", 408: "timeout", 409: "invalid_request", 410: "not_found",
    413: "too_large", 415: "invalid_request", 422: "invalid_request",
    424: "server_error", 429: "rate_limit", 498: "overloaded", 499: "timeout",
    503: "overloaded", 504: "timeout", 524: "timeout", 529: "overloaded",
}  # fmt: skip

_STATUS: Final = expression(r"[45]\d\d(?:\d\d)?")
"""A code that is an HTTP status, or begins with one: FastChat has 40303, 50002 and others."""

_OF_MINIMAX: Final = {
    "1001": "timeout",
    "1002": "rate_limit_error",
    "1004": "authentication_error",
    "1008": "insufficient_balance",
    "1024": "internal_error",
    "1026": "content_filter",
    "1027": "content_filter",
    "2013": "invalid_request_error",
    "2049": "invalid_api_key",
    "2056": "quota_exceeded",
}
"""What MiniMax's numbers mean, by our names: https://platform.minimax.io/docs/api-reference/errorcode"""

_LENGTH: Final = r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|hours?|minutes?|seconds?|h|m|s)(?![a-z])"
_SPAN: Final = expression(_LENGTH, re.I)
_WAIT: Final = expression(rf"(?:try again|retry|available) (?:in|after)\s+((?:{_LENGTH}\s*)+)", re.I)
_UNIT_S: Final = {"ms": 0.001, "mi": 60.0, "m": 60.0, "h": 3600.0, "ho": 3600.0, "s": 1.0, "se": 1.0}
_READ_CHARS: Final = 2000
"""How much of a message is looked at."""
_MOST_WAIT_S: Final = 86_400.0 * 31


def error_class(status: int, kind: str, code: str, message: str) -> str:
    """The class of an error, from whatever is known of it; an in-band error has status 200."""
    named = None
    for name in (code, kind):
        found = _BY_NAME.get(name.lower().replace(" ", "_"))
        if found is not None and (named is None or named in _GENERAL):
            named = found
    if named is not None and named not in _GENERAL:
        return named
    words = message[:_READ_CHARS]
    for words_class, pattern in _BY_WORDS:
        if pattern.search(words):
            return words_class
    if status < 400 and _STATUS.fullmatch(code):
        status = int(code[:3])
    by_status = _BY_STATUS.get(status) or ("server_error" if status >= 500 else "")
    if named == "invalid_request" and by_status in (
        "auth",
        "permission",
        "rate_limit",
        "not_found",
        "too_large",
        "quota",
    ):
        return by_status
    return named or by_status or ("invalid_request" if 400 <= status < 500 else "server_error")


def read_error(error: object, status: int, headers: Mapping[bytes, bytes]) -> WireError:
    """An error object (or text) of any provider as a :class:`WireError`."""
    kind = code = message = ""
    details: object = None
    if isinstance(error, dict) and isinstance(went := error.get("base_resp"), dict):
        code, message = _name(went.get("status_code")), _text(went.get("status_msg"))
        kind = _OF_MINIMAX.get(code, "")
    elif isinstance(error, dict):
        kind = _text(error.get("type")) or _text(error.get("status")) or _text(error.get("__type"))
        code = _name(error.get("code"))
        told = error.get("message") or error.get("detail") or error.get("msg") or error.get("error")
        message = told if isinstance(told, str) else "" if told is None else str(told)
        details = error.get("details")
        inner = error.get("innererror")
        if isinstance(inner, dict) and not code:
            code = _name(inner.get("code"))
        code = _reason_of(details) or code
    elif error is not None:
        message = str(error)
    amazon = headers.get(b"x-amzn-errortype", b"").decode("latin-1").partition(":")[0]
    kind = kind or amazon
    return WireError(
        error_class=error_class(status, kind, code, message),
        type=kind[:100],
        code=code[:100],
        message=message[:200],
        retry_after_s=_retry_after(headers, details, message),
    )


def _name(value: object) -> str:
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _reason_of(details: object) -> str:
    """Google's machine-readable reason, such as ``API_KEY_INVALID``."""
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("reason"), str):
            return str(detail["reason"])
    return ""


def _retry_after(headers: Mapping[bytes, bytes], details: object, message: str) -> float | None:
    """Seconds to wait, as headers, Google's ``RetryInfo`` or the message itself say."""
    found = _seconds(headers.get(b"retry-after-ms"), 0.001)
    if found is None:
        found = _seconds(headers.get(b"retry-after"), 1.0)
    if found is None and b"retry-after" in headers:
        found = _until(headers[b"retry-after"], headers.get(b"date"))
    if found is not None:
        return found
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return _seconds(detail["retryDelay"].rstrip("s").encode(), 1.0)
    wait = _WAIT.search(message[:_READ_CHARS])
    if wait is None:
        return None
    spans = _SPAN.findall(wait[1])
    seconds = sum(
        float(number) * _UNIT_S.get(unit.lower()[:2], _UNIT_S.get(unit.lower()[:1], 1.0))
        for number, unit in spans
    )
    return min(round(seconds, 6), _MOST_WAIT_S)


def _seconds(text: bytes | None, unit_s: float) -> float | None:
    try:
        seconds = float(text or b"") * unit_s
    except ValueError:
        return None
    return min(round(seconds, 6), _MOST_WAIT_S) if seconds >= 0 else None


def _until(moment: bytes, now: bytes | None) -> float | None:
    """A date in ``Retry-After``, relative to the reply's own ``Date``: no clock of ours is asked."""
    from email.utils import parsedate_to_datetime  # Three megabytes, and few providers write dates.

    try:
        later = parsedate_to_datetime(moment.decode("latin-1"))
        earlier = parsedate_to_datetime((now or b"").decode("latin-1"))
        return min(max(0.0, (later - earlier).total_seconds()), _MOST_WAIT_S)
    except (ValueError, TypeError):
        return None
