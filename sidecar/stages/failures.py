"""Why an attempt was no answer, and what that says about asking again."""

import time
from typing import Final, NamedTuple, Protocol, cast

from collector.domain.record import Outcome
from inference.pool.retrying import ELSEWHERE_STATUS, RETRY_STATUS, TURNED_AWAY_STATUS
from sidecar.call import Call, Reply, Stream
from sidecar.errors import NoReplica, SidecarError
from sidecar.providers.limits_told import retry_after_s
from sidecar.providers.native import Upstream

_UNREACHABLE: Final = frozenset(
    {"connect", "tls", "timeout_connect", "reset", "protocol", "pool_full", "unavailable"}
)
_TIMED_OUT: Final = frozenset({"timeout_first_byte", "timeout_idle"})
_PASSING: Final = frozenset({"unreachable", "timeout", "rate_limit", "overloaded", "server_error"})
"""What may be otherwise in a moment, or at another replica."""
_UNSENT: Final = frozenset({"upstream_connect", "upstream_timeout_connect", "upstream_pool_full"})


class Failure(NamedTuple):
    """Why an attempt was none."""

    reason: str
    """One of ``FallbackOn``, else the error's class."""
    may_pass: bool
    """Whether the same may be asked again."""
    elsewhere: bool
    """Whether it is the replica's own failure: another one may do better at once."""
    asked_s: float | None = None
    """How long the provider asked to wait."""


class Begun(Stream, Protocol):
    """A stream of which nothing has been passed on yet."""

    @property
    def failed(self) -> str:
        """Why nobody should see it; empty when all is well."""
        ...

    @property
    def asked_s(self) -> float | None:
        """How long the error in it asks to wait."""
        ...

    def seal(self) -> None:
        """Take what has come as all of it, and book it."""
        ...


def failure_of(call: Call, upstream: Upstream, result: Reply | SidecarError) -> Failure | None:
    """Why an attempt is to be tried again or elsewhere; None where it is an answer."""
    if isinstance(result, SidecarError):
        code = result.code.removeprefix("upstream_")
        if code in _TIMED_OUT:
            return Failure("timeout", True, True)
        held = isinstance(result, NoReplica) and result.retry_after_s > 1
        reachable = code not in _UNREACHABLE and not code.startswith("litellm_")
        if held:
            return Failure("rate_limit", False, False)
        return Failure("server_error" if reachable else "unreachable", not reachable, True)
    stream = cast("Begun | None", result.stream)
    if stream is not None:
        kind = stream.failed
        if not kind:
            return None
        if kind.startswith("upstream_"):
            timed_out = kind.removeprefix("upstream_") in _TIMED_OUT
            return Failure("timeout" if timed_out else "unreachable", True, True)
        return Failure(kind, kind in _PASSING, kind in ("overloaded", "server_error"), stream.asked_s)
    if call.outcome is not Outcome.FAILED:
        return None
    named = dict(result.headers)
    wrong = call.reply_facts.error if call.reply_facts is not None else None
    reason = wrong.error_class if wrong is not None else ("server_error" if result.status >= 500 else "")
    asked_s = retry_after_s(result.headers, time.time())
    if asked_s is None and wrong is not None:
        asked_s = wrong.retry_after_s
    should = named.get(b"x-should-retry", b"").lower()
    may_pass = reason in _PASSING and (result.status in RETRY_STATUS or result.status == 200)
    if should == b"false":
        may_pass = False
    return Failure(reason, may_pass, result.status in ELSEWHERE_STATUS, asked_s)


def never_sent(call: Call) -> bool:
    """Whether the last attempt was not seen, or was turned away before anything was done."""
    last = call.attempts[-1]
    return last.error_type in _UNSENT or turned_away(call)


def turned_away(call: Call) -> bool:
    """Whether the last attempt was refused before anything was done there."""
    return call.attempts[-1].status in TURNED_AWAY_STATUS
