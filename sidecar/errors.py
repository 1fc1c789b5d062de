"""Errors with which the sidecar itself ends a call. Providers' own errors pass through untouched."""

from typing import ClassVar


class SidecarError(Exception):
    """A call that we ended; the message is for the agent: who, what, and what happens next.

    SidecarError               500
    ├── InvalidCall            400  the request is not what its API defines
    ├── UnknownKey             401  no valid virtual key
    ├── OutOfBudget            402  a budget has no room, or the call is paused
    ├── NotAllowed             403  the key may not do this
    ├── NoRoute                404  no such path, model or upstream
    ├── WrongMethod            405  the path is there, for another method
    ├── SlowedDown             429  spending is slowed down, or too many run for one key
    ├── Overloaded             503  too many calls at once
    ├── NoReplica              503  no replica may be asked now
    ├── JournalUnavailable     503  the call could not be written down
    └── UpstreamFailed         502  no upstream answered; 504 when it was too slow
    """

    http_status: ClassVar[int] = 500
    kind: ClassVar[str] = "api_error"
    """``error.type`` of OpenAI-like bodies; ``sidecar.wire`` finds the other dialects' word for it."""
    retryable: ClassVar[bool] = False
    retry_after_s: int = 1
    """What ``Retry-After`` says, where trying again may help."""

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param

    @property
    def status(self) -> int:
        """HTTP status of this very error."""
        return self.http_status


class InvalidCall(SidecarError):
    """The request is not what its API defines."""

    http_status = 400
    kind = "invalid_request_error"


class UnknownKey(SidecarError):
    """No valid virtual key came with the call."""

    http_status = 401
    kind = "authentication_error"


class OutOfBudget(SidecarError):
    """A budget has no room for the call. 402, because the official SDKs would try again after a 429."""

    http_status = 402
    kind = "insufficient_quota"


class NotAllowed(SidecarError):
    """The key may not do this."""

    http_status = 403
    kind = "permission_error"


class NoRoute(SidecarError):
    """No such path, model or upstream."""

    http_status = 404
    kind = "not_found_error"


class WrongMethod(SidecarError):
    """The path is there, for another method."""

    http_status = 405
    kind = "invalid_request_error"


class SlowedDown(SidecarError):
    """The call may be tried again later."""

    http_status = 429
    kind = "rate_limit_error"
    retryable = True

    def __init__(self, message: str, *, code: str, retry_after_s: int) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = max(1, retry_after_s)


class Overloaded(SidecarError):
    """Too many calls run at once."""

    http_status = 503
    kind = "overloaded_error"
    retryable = True


class NoReplica(SidecarError):
    """No replica of the upstream may be asked now: drained, failing, or it asked us to wait."""

    http_status = 503
    kind = "overloaded_error"
    retryable = True

    def __init__(self, message: str, *, code: str, retry_after_s: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = max(1, retry_after_s)


class JournalUnavailable(SidecarError):
    """The call could not be written down, and the configuration says to refuse it then."""

    http_status = 503
    kind = "api_error"


class UpstreamFailed(SidecarError):
    """No upstream answered."""

    http_status = 502
    kind = "api_error"

    def __init__(self, message: str, *, code: str, timed_out: bool = False) -> None:
        super().__init__(message, code=code)
        self._timed_out = timed_out

    @property
    def status(self) -> int:
        """504 when it was too slow."""
        return 504 if self._timed_out else self.http_status
