"""Which counter of a budget a call touches."""

from hashlib import sha256

from collector.domain.credit import Counter
from collector.domain.policy.asking import Ask
from collector.domain.policy.budget import LARGEST, WHOLE, Budget
from collector.domain.policy.matching import value_of
from collector.domain.policy.windows import WindowKind, span_at

_LONGEST = 128


def counter_of(budget: Budget, ask: Ask, now_us: int) -> Counter | None:
    """The counter that a call touches at that time; None when it has none of its own.

    A call of no named agent, user or team shares one counter with the others of that kind, so leaving a
    name away is no way around a budget. Only of conversations and tasks, each has its own or none:
    calls that belong to no conversation are not one.
    """
    lifetime = ""
    if budget.window.kind in (WindowKind.CONVERSATION, WindowKind.TASK):
        lifetime = subject_of(budget.window.kind.value, ask)
        if not lifetime:
            return None
    subject = subject_of(budget.each, ask)
    if not subject and budget.each in ("conversation", "task"):
        return None
    span = span_at(budget.window, now_us, lifetime)
    return Counter(
        budget=budget.name,
        subject=subject,
        tenant=subject if budget.each == "tenant" else budget.match.only("tenant"),
        window=span.name,
        unit=budget.unit,
        limit=budget.limit * budget.stop_share // WHOLE if budget.enforced else LARGEST,
        starts_us=span.starts_us,
        ends_us=span.ends_us,
        bucket_us=span.bucket_us,
        hard=budget.hard,
        fades=bool(lifetime) or budget.each in ("conversation", "task"),
    )


def subject_of(each: str, ask: Ask) -> str:
    """What tells one counter of a rule from another: text that can be part of a key."""
    value = value_of(ask, each) if each else ""
    if len(value) <= _LONGEST and value.isprintable():
        return value
    return "#" + sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]
