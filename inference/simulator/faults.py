"""What can go wrong, by name, and how often it should.

A fault comes from a directive of the request, or from a rule of the command
line such as ``--fault 'gpt-*:rate_limit=0.02'``. Rules draw from the seed and the
request's own bytes, so the same requests meet the same faults in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Fault(StrEnum):
    """One way in which a provider fails."""

    RATE_LIMIT = "rate_limit"
    """429 with Retry-After."""
    SERVER_ERROR = "server_error"
    """500 in the dialect's error shape."""
    OVERLOADED = "overloaded"
    """529 of Anthropic, 503 of OpenAI."""
    BAD_GATEWAY = "bad_gateway"
    """502 with an HTML page, as a load balancer in between would send it."""
    UNAUTHORIZED = "unauthorized"
    """401: the provider does not know the key."""
    EMPTY = "empty"
    """200 and an empty body."""
    DROP = "drop"
    """The connection is reset before a byte of the reply."""
    SLOW = "slow"
    """The first token takes ``delay`` seconds."""
    STALL = "stall"
    """The stream pauses for ``delay`` seconds after ``after`` events, then goes on."""
    RESET = "reset"
    """The connection is reset after ``after`` events, or in the middle of a whole body."""
    TRUNCATED = "truncated"
    """The stream ends politely after ``after`` events, without its terminal event."""
    MISSING_USAGE = "missing_usage"
    """Everything but the usage."""
    STREAM_ERROR = "stream_error"
    """An error event inside a 200 stream, after ``after`` events."""
    MALFORMED = "malformed"
    """JSON that breaks off, in one event or in the whole body."""
    ENDLESS = "endless"
    """A stream that never ends by itself."""
    WRONG_MODEL = "wrong_model"
    """The reply names another model than was asked."""
    HUGE = "huge"
    """A reply padded to ``mib`` MiB."""


STATUS_FAULTS = {
    Fault.RATE_LIMIT: 429,
    Fault.SERVER_ERROR: 500,
    Fault.OVERLOADED: 529,
    Fault.BAD_GATEWAY: 502,
    Fault.UNAUTHORIZED: 401,
}
"""Faults that are an HTTP error, and its status (503 instead of 529 in OpenAI's dialects)."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """``fault`` strikes requests for models matching ``model`` with this probability."""

    model: str
    """A shell pattern."""
    fault: Fault
    probability: float


def fault_rule(text: str) -> FaultRule:
    """The rule written as ``MODEL_PATTERN:FAULT=PROBABILITY``.

    Raises:
        ValueError: it is not written so; the message lists the faults.
    """
    where, _, probability = text.rpartition("=")
    model, _, name = where.rpartition(":")
    try:
        fault, share = Fault(name), float(probability)
    except ValueError:
        raise ValueError(f"{text!r} is not MODEL:FAULT=PROBABILITY; faults: {', '.join(Fault)}") from None
    if not model or not 0 <= share <= 1:
        raise ValueError(f"{text!r}: a model pattern and a probability from 0 to 1 are needed")
    return FaultRule(model, fault, share)


def strike(rules: Sequence[FaultRule], model: str, draw: float) -> Fault | None:
    """The fault that ``draw``, uniform in [0, 1), selects for this model; rules are disjoint slices of it."""
    reached = 0.0
    for rule in rules:
        if fnmatchcase(model, rule.model):
            reached += rule.probability
            if draw < reached:
                return rule.fault
    return None
