"""What a call in the journal costs each budget: how budgets are rebuilt from the books."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from collector.domain.credit import Claim, Unit
from collector.domain.money import nano_rounded_up
from collector.domain.policy import Ask, Policy, counter_of
from collector.domain.policy.matching import TAG
from collector.domain.record import CallRecord, Intent


def charges_by(policy_now: Callable[[], Policy]) -> Callable[[CallRecord | Intent], Sequence[Claim]]:
    """A function from a record (or an intent that has none) to what it spent, by the policy then in force.

    The counters are those of the call's admission, whatever the clock says now, and each amount is
    rounded as its settlement was: the sums come out the same.
    """

    def charges(told: CallRecord | Intent) -> list[Claim]:
        ask = ask_of(told)
        amounts = amounts_of(told)
        found = []
        for budget in policy_now().budgets:
            counter = counter_of(budget, ask, told.started_at_us) if budget.match.accepts(ask) else None
            if counter is not None and amounts[counter.unit]:
                found.append(Claim(counter, amounts[counter.unit]))
        return found

    return charges


def ask_of(told: CallRecord | Intent) -> Ask:
    """What a call said of itself when it was admitted."""
    return Ask(
        call_id=told.call_id,
        model=told.request_model,
        api=told.api,
        upstream=told.upstream,
        tenant=told.tenant,
        team=told.team,
        user=told.user_id,
        agent=told.agent,
        conversation=told.conversation_id,
        task=told.task_id,
        key=told.key_id,
        tags=told.tags,
    )


def amounts_of(told: CallRecord | Intent) -> dict[Unit, int]:
    """What it spent, by unit; an intent its hold."""
    if isinstance(told, Intent):
        tokens = told.hold_input_tokens + told.hold_output_tokens
        return {Unit.USD: nano_rounded_up(told.hold_cost_pico), Unit.TOKENS: tokens, Unit.CALLS: 1}
    tokens = sum([attempt.input_tokens + attempt.output_tokens for attempt in told.attempts])
    sent = any(attempt.http_status is not None or attempt.usage_grade for attempt in told.attempts)
    return {
        Unit.USD: nano_rounded_up(told.effective_cost_pico),
        Unit.TOKENS: tokens,
        Unit.CALLS: int(sent),
    }


def ask_with(said: Mapping[str, str]) -> Ask:
    """A call of which this is known, by dimension or ``tag:NAME``."""
    who: dict[str, Any] = {name: value for name, value in said.items() if not name.startswith(TAG)}
    tags = {name.removeprefix(TAG): value for name, value in said.items() if name.startswith(TAG)}
    return Ask(**{"call_id": "", "model": "", "tags": tags, **who})
