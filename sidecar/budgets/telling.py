"""Calls as the policy knows them while they run, and counters as people are shown them."""

from collections.abc import Mapping
from typing import Any

from collector.domain.credit import Standing, Unit
from collector.domain.money import PICO_PER_NANO, usd_text
from collector.domain.policy import Ask, Budget, Raise
from collector.domain.policy.budget import WHOLE
from collector.domain.policy.wording import time_text
from sidecar.call import Call


def ask_by(call: Call) -> Ask:
    """What is known of a running call, without what it may cost."""
    caller, facts = call.caller, call.facts
    return Ask(
        call_id=call.call_id,
        model=facts.model if facts is not None else "",
        api=call.api,
        upstream=call.attempts[-1].upstream if call.attempts else call.route.upstream,
        tenant=caller.tenant,
        team=caller.team,
        user=caller.user,
        agent=caller.agent,
        conversation=caller.conversation,
        task=caller.task,
        key=caller.key_id,
        tags=caller.tags,
    )


def plain_standing(standing: Standing, limit: int) -> dict[str, Any]:
    """A counter as people and agents are shown it; amounts of money as exact decimal text in USD."""
    counter = standing.counter
    remaining = max(0, limit - standing.spent - standing.held)
    amounts = {"limit": limit, "spent": standing.spent, "held": standing.held, "remaining": remaining}
    shown: dict[str, Any] = {
        name: usd_text(amount * PICO_PER_NANO) if counter.unit is Unit.USD else amount
        for name, amount in amounts.items()
    }
    ends = counter.ends_us
    return {
        "name": counter.budget,
        "subject": counter.subject,
        "window": counter.window,
        "unit": counter.unit.value,
        **shown,
        "starts_at": time_text(counter.starts_us) if counter.starts_us else None,
        "resets_at": time_text(ends) if ends is not None else None,
        "exact": standing.exact,
    }


def plain_budget(budget: Budget) -> dict[str, Any]:
    """What is configured of a budget, for people; shares of the limit are between 0 and 1."""
    limit = budget.limit
    return {
        "name": budget.name,
        "limit": usd_text(limit * PICO_PER_NANO) if budget.unit is Unit.USD else limit,
        "unit": budget.unit.value,
        "window": str(budget.window),
        "match": {name: list(values) for name, values in budget.match.wanted},
        "each": str(budget.each),
        "mode": "hard" if budget.hard else "soft",
        "at": [{"share": one.share / WHOLE, "action": one.action.value} for one in budget.at],
    }


def plain_raise(more: Raise) -> dict[str, Any]:
    """A raise as JSON knows it; :func:`raise_of` reads it again."""
    names = ("id", "budget", "amount", "until_us", "subject", "from_us", "reason", "source")
    return {name: getattr(more, name) for name in names}


def raise_of(plain: Mapping[str, Any]) -> Raise:
    """Read what :func:`plain_raise` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    return Raise(
        id=str(plain["id"]),
        budget=str(plain["budget"]),
        amount=int(plain["amount"]),
        until_us=int(plain["until_us"]),
        subject=str(plain.get("subject", "")),
        from_us=int(plain.get("from_us", 0)),
        reason=str(plain.get("reason", "")),
        source=str(plain.get("source", "")),
    )
