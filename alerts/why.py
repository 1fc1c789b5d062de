"""Why spend is not what it was: the first cause, whose it is, how much an hour, since when.

A detector says *that* something moved and when; here the use before and after is split into
factors (:mod:`collector.domain.attribution`) and put into words. Pure: the rows come from whoever asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from alerts.detectors.finding import Finding, Kind
from collector.domain.attribution import Contributor, Factor, Part, Rates, Use, contributors, hourly, split
from collector.domain.money import usd


class Cause(StrEnum):
    """What happened, in the words of whoever has to act."""

    RUNAWAY_LOOP = "runaway_loop"
    TRAFFIC_SURGE = "traffic_surge"
    CALL_BURST = "call_burst"
    """Very many calls that cost little."""
    ERROR_BURST = "error_burst"
    CACHE_DROP = "cache_drop"
    LATENCY = "latency"
    PRICE_CHANGE = "price_change"
    MODEL_SWITCH = "model_switch"
    LONGER_INPUTS = "longer_inputs"
    LONGER_OUTPUTS = "longer_outputs"
    RETRIES = "retries"
    STOP = "stop"
    SLOW_LEAK = "slow_leak"
    SATURATION = "gpu_saturation"
    UNKNOWN = "unknown"


OF_KIND = {
    Kind.ERROR_RATE: Cause.ERROR_BURST,
    Kind.CACHE_HITS: Cause.CACHE_DROP,
    Kind.LATENCY: Cause.LATENCY,
    Kind.STOP: Cause.STOP,
    Kind.SLOW_LEAK: Cause.SLOW_LEAK,
    Kind.RETRIES: Cause.RETRIES,
    Kind.SATURATION: Cause.SATURATION,
    Kind.LEVEL: Cause.UNKNOWN,
}
"""Kinds that name their cause; those of spend are told apart by what moved."""

OF_FACTOR = {
    Factor.MIX: Cause.MODEL_SWITCH,
    Factor.PRICE: Cause.PRICE_CHANGE,
    Factor.CACHE: Cause.CACHE_DROP,
    Factor.INPUT: Cause.LONGER_INPUTS,
    Factor.OUTPUT: Cause.LONGER_OUTPUTS,
    Factor.RETRIES: Cause.RETRIES,
}

PER_CALL = (Kind.COST_PER_CALL, Kind.UNIT_PRICE, Kind.INPUT_PER_CALL, Kind.OUTPUT_PER_CALL)
"""Kinds that say what a call costs, not how many there are."""

LOOP_SHARE = 0.5
"""Part of the calls now that one conversation must make for a surge to be a loop."""

LEVERS = {
    Cause.RUNAWAY_LOOP: "pause the conversation, or cut the agent's key until it is understood",
    Cause.TRAFFIC_SURGE: "throttle the key, or raise its budget if the demand is real",
    Cause.CALL_BURST: "throttle the key; look for a retry loop in the caller",
    Cause.ERROR_BURST: "fall back to another upstream; do not let clients retry at once",
    Cause.CACHE_DROP: "find what changed at the start of the prompt; keep it the same between calls",
    Cause.LATENCY: "route to another upstream or replica",
    Cause.PRICE_CHANGE: "downgrade to the next model of the route, or correct the price",
    Cause.MODEL_SWITCH: "route back to the usual model, or downgrade",
    Cause.LONGER_INPUTS: "compact the context; cap the input of this route",
    Cause.LONGER_OUTPUTS: "set max output tokens on this route",
    Cause.RETRIES: "lengthen the pause between retries, or fall back to another upstream",
    Cause.STOP: "see whether the agent runs; nothing is spent meanwhile",
    Cause.SLOW_LEAK: "compare the agent's prompts and contexts with last week's",
    Cause.SATURATION: "add a replica, or send less to this pool",
    Cause.UNKNOWN: "look at the calls behind it",
}
"""What can safely be done first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The explanation that goes with a page."""

    cause: Cause
    finding: Finding
    parts: tuple[Part, ...]
    """The change of an hour's spend by factor; they add up to ``change_pico_per_hour``."""
    change_pico_per_hour: int
    contributors: tuple[Contributor, ...]
    lever: str

    @property
    def summary(self) -> str:
        """One line for a pager."""
        who = ", ".join(f"{name} {value}" for name, value in self.finding.subject)
        sign = "+" if self.change_pico_per_hour >= 0 else "-"
        change = usd(abs(self.change_pico_per_hour))
        moved = ", ".join(
            f"{part.factor.value.replace('_', ' ')} {usd(part.pico_per_hour):+.2f}"
            for part in self.parts[:3]
            if part.pico_per_hour
        )
        since = f"{self.finding.since_time:%H:%M} UTC"
        told = f"{self.cause.value.replace('_', ' ')}: {who}, {sign}{change:.2f} USD/h since {since}"
        return f"{told} ({moved})" if moved else told


def explain(
    finding: Finding,
    before: Sequence[Use],
    after: Sequence[Use],
    *,
    minutes_before: int,
    minutes_after: int,
    rates: Mapping[str, Rates] | None = None,
) -> Why:
    """The first cause of ``finding``, with the split and the contributors behind it.

    Args:
        finding: the incident.
        before: the subject's use in the hour or so before ``finding.since``.
        after: its use since then. Where the labels hold a ``conversation``, a surge of one
            conversation is told from one of many.
        minutes_before: length of the first period.
        minutes_after: length of the second.
        rates: what tokens cost in proportion, by model.
    """
    parts = split(before, after, minutes_before=minutes_before, minutes_after=minutes_after, rates=rates)
    whose = contributors(before, after, minutes_before=minutes_before, minutes_after=minutes_after)
    cause = OF_KIND.get(finding.kind) or _cause_of_spend(finding.kind, parts, before, after)
    change = hourly(sum(use.cost_pico for use in after), minutes_after) - hourly(
        sum(use.cost_pico for use in before), minutes_before
    )
    return Why(
        cause=cause,
        finding=finding,
        parts=tuple(parts),
        change_pico_per_hour=change,
        contributors=tuple(whose),
        lever=LEVERS[cause],
    )


def _cause_of_spend(kind: Kind, parts: Sequence[Part], before: Sequence[Use], after: Sequence[Use]) -> Cause:
    """Of a change in spend: the factor that added most. Per call, the volume has no say."""
    if kind is Kind.CALL_RATE:
        if _one_conversation(after):
            return Cause.RUNAWAY_LOOP
        return Cause.CALL_BURST if _mean_cost(after) < 0.6 * _mean_cost(before) else Cause.TRAFFIC_SURGE
    per_call = kind in PER_CALL
    adding = [part for part in parts if not (per_call and part.factor is Factor.VOLUME)]
    factor = max(adding, key=lambda part: part.pico_per_hour).factor
    if factor is not Factor.VOLUME:
        return OF_FACTOR[factor]
    return Cause.RUNAWAY_LOOP if _one_conversation(after) else Cause.TRAFFIC_SURGE


def _mean_cost(uses: Sequence[Use]) -> float:
    return sum(use.cost_pico for use in uses) / max(sum(use.calls for use in uses), 1)


def _one_conversation(after: Sequence[Use]) -> bool:
    """Whether one conversation makes most of the calls."""
    calls: dict[str, int] = {}
    for use in after:
        for name, value in use.labels:
            if name == "conversation" and value:
                calls[value] = calls.get(value, 0) + use.calls
    total = sum(use.calls for use in after)
    return bool(calls) and max(calls.values()) >= LOOP_SHARE * total
