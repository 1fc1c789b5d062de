"""Every metric that is set rather than added up from calls: name, kind, help, labels.

Names and labels are those of the design; base units, ``_total`` on counters.
With several workers each has its own values; ``merge`` says what they make together.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family whose samples some part of the program sets."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()
    merge: Literal["sum", "max", "min"] = "sum"
    announced: bool = True
    """Whether HELP and TYPE are told while there is no sample yet."""


def _replica(name: str, text: str, merge: Literal["sum", "max", "min"]) -> Family:
    return Family(name, "gauge", text, ("upstream", "replica"), merge=merge)


def _gpu(name: str, kind: Literal["counter", "gauge"], text: str, *labels: str) -> Family:
    """A fact of one device: every process that looks sees the same."""
    return Family(name, kind, text, ("gpu", *labels), "max", announced=False)


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "bursar_dropped_total",
            "counter",
            "Telemetry given up, by the stage that gave it up and why. No cost is ever among it.",
            ("stage", "reason"),
        ),
        Family(
            "bursar_cache_tampered_total",
            "counter",
            "Kept answers that somebody else had edited; none was used.",
        ),
        Family(
            "bursar_cache_route_requests_total",
            "counter",
            "Calls of a route of the cache by what it had to say.",
            ("route", "result"),
        ),
        Family(
            "bursar_cache_route_hit_target_ratio",
            "gauge",
            "Share of a route's calls that is meant to be answered from the cache.",
            ("route",),
            "max",
            announced=False,
        ),
        Family(
            "bursar_cache_embedding_tokens_total",
            "counter",
            "Tokens of questions that an embeddings endpoint has read to find similar answers.",
            ("model",),
            announced=False,
        ),
        Family(
            "bursar_cache_embedding_cost_usd_total",
            "counter",
            "What they cost at the price of its model; no call of an agent, so in no budget.",
            ("model",),
            announced=False,
        ),
        Family(
            "bursar_cache_comparisons_total",
            "counter",
            "Similar answers that were compared with what the model said.",
            ("result",),
        ),
        Family(
            "bursar_cache_similar_error_ratio",
            "gauge",
            "Share of similar answers that are wrong where they are served, and its interval at 95 %.",
            ("bound",),
            "max",
            announced=False,
        ),
        Family(
            "bursar_cache_similar_bins",
            "gauge",
            "Steps of distance, by scope, whose similar answers are served, or still compared.",
            ("state",),
            announced=False,
        ),
        Family(
            "bursar_cache_similar_ready",
            "gauge",
            "1 while what finds similar answers keeps up.",
            merge="min",
            announced=False,
        ),
        Family("bursar_budget_limit_usd", "gauge", "Limit of a budget in its window.", ("budget",), "max"),
        Family("bursar_budget_spent_usd", "gauge", "Settled in a budget's window.", ("budget",), "max"),
        Family("bursar_budget_held_usd", "gauge", "Held for calls under way.", ("budget",), "max"),
        Family(
            "bursar_budget_actions_total",
            "counter",
            "What budgets did to calls: notify, downgrade, throttle, refuse, cut.",
            ("budget", "action"),
        ),
        Family(
            "bursar_journal_lag_seconds",
            "gauge",
            "Age of the oldest journal record that is not durable yet.",
            merge="max",
        ),
        Family(
            "bursar_event_loop_lag_seconds",
            "gauge",
            "How late the serving loop ran its last timer.",
            merge="max",
        ),
        Family(
            "bursar_process_memory_ratio",
            "gauge",
            "Resident memory of a serving process over its configured limit.",
            merge="max",
        ),
        Family(
            "bursar_config_valid",
            "gauge",
            "1 while the configuration file is the one that runs, 0 after a change that is not valid.",
            merge="min",
        ),
        Family(
            "bursar_upstream_inflight",
            "gauge",
            "Requests under way at an upstream's replica.",
            ("upstream", "replica"),
        ),
        _replica(
            "bursar_upstream_up", "1 while a replica may be asked: well, not drained, not held back.", "min"
        ),
        _replica("bursar_upstream_healthy", "0 while a replica says that it is not well.", "min"),
        _replica("bursar_upstream_draining", "1 while an operator keeps calls from a replica.", "max"),
        _replica("bursar_upstream_breaker_open", "1 while a replica is left alone for its failures.", "max"),
        _replica("bursar_upstream_waiting", "Calls waiting for a connection to a replica.", "sum"),
        _replica("bursar_upstream_latency_seconds", "Time to the head of a reply, peaks decaying.", "max"),
        Family(
            "bursar_upstream_limit_remaining",
            "gauge",
            "What a provider said is left of a rate limit.",
            ("upstream", "replica", "limit"),
            merge="min",
        ),
        Family(
            "bursar_upstream_retries_total",
            "counter",
            "Attempts made again at the same upstream, by the reason.",
            ("upstream", "reason"),
        ),
        Family(
            "bursar_upstream_retries_refused_total",
            "counter",
            "Retries that the upstream's retry budget had no room for.",
            ("upstream",),
        ),
        Family(
            "bursar_upstream_fallbacks_total",
            "counter",
            "Calls that went to another upstream or model because the first did not answer.",
            ("upstream", "to"),
        ),
        Family(
            "bursar_upstream_hedges_total",
            "counter",
            "Calls that a second replica was asked for because the first was slow.",
            ("upstream",),
        ),
        _gpu("bursar_gpu_utilization_ratio", "gauge", "Share of time a kernel ran."),
        _gpu("bursar_gpu_memory_used_bytes", "gauge", "GPU memory in use."),
        _gpu("bursar_gpu_memory_size_bytes", "gauge", "GPU memory there is."),
        _gpu("bursar_gpu_power_watts", "gauge", "Power drawn."),
        _gpu("bursar_gpu_energy_joules_total", "counter", "Energy drawn."),
        _gpu("bursar_gpu_temperature_celsius", "gauge", "Temperature of the die."),
        _gpu("bursar_gpu_clock_hertz", "gauge", "Clock rate of a domain (sm, memory).", "clock"),
        _gpu("bursar_gpu_throttled", "gauge", "1 while clocks are held down for a reason.", "reason"),
        Family(
            "bursar_gpu_cost_usd_total",
            "counter",
            "Cost of own GPUs while they ran.",
            ("upstream",),
            announced=False,
        ),
    )
}
