"""A vLLM server's ``/metrics``: read by exact names, turned into differences. Pure.

Names are those of vLLM 0.26 to 0.33; where an older version called the same thing otherwise, that
name is tolerated and stands after the new one. All label sets of a name (engines of a data-parallel
server, models) are summed. Beware of ``vllm:iteration_tokens_total``: in spite of its name it is a
histogram, whose count is the number of engine steps.

A server that restarts begins at zero: seen by the process's start time, or by a counter that went
back. What it counted since then belongs to the interval; what it counted between the last look and
its end is lost, so such an interval says `EngineSample.restarted` and calibrates nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_MOST_REASONS = 16
"""Different label values kept of one counter."""
_LONGEST_REASON = 64
_MOST_CONFIG = 200

_Names = tuple[str, ...]

COUNTERS: Mapping[str, _Names] = {
    "prompt_tokens": ("vllm:prompt_tokens_total",),
    "cached_prompt_tokens": (
        "vllm:prompt_tokens_cached_total",
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits_total",
    ),
    "generation_tokens": ("vllm:generation_tokens_total",),
    "prefix_cache_queried_tokens": (
        "vllm:prefix_cache_queries_total",
        "vllm:gpu_prefix_cache_queries_total",
    ),
    "prefix_cache_hit_tokens": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    "preemptions": ("vllm:num_preemptions_total",),
    "flops": ("vllm:estimated_flops_per_gpu_total",),
    "read_bytes": ("vllm:estimated_read_bytes_per_gpu_total",),
    "write_bytes": ("vllm:estimated_write_bytes_per_gpu_total",),
    "draft_tokens": ("vllm:spec_decode_num_draft_tokens_total",),
    "accepted_draft_tokens": ("vllm:spec_decode_num_accepted_tokens_total",),
    "steps": ("vllm:iteration_tokens_total_count",),
    "step_tokens": ("vllm:iteration_tokens_total_sum",),
    "first_tokens": ("vllm:time_to_first_token_seconds_count",),
    "first_token_seconds": ("vllm:time_to_first_token_seconds_sum",),
    "token_gaps": (
        "vllm:inter_token_latency_seconds_count",
        "vllm:time_per_output_token_seconds_count",
    ),
    "token_gap_seconds": (
        "vllm:inter_token_latency_seconds_sum",
        "vllm:time_per_output_token_seconds_sum",
    ),
    "queue_seconds": ("vllm:request_queue_time_seconds_sum",),
    "prefill_seconds": ("vllm:request_prefill_time_seconds_sum",),
    "decode_seconds": ("vllm:request_decode_time_seconds_sum",),
}
"""Our word for a total, and what vLLM calls it, the newest name first."""

LABELLED: Mapping[str, tuple[str, str]] = {
    "prompt_by_source": ("vllm:prompt_tokens_by_source_total", "source"),
    "finished": ("vllm:request_success_total", "finished_reason"),
    "rejected": ("vllm:admission_rejections_total", "reason"),
}
"""Totals kept for each value of a label."""

GAUGES: Mapping[str, _Names] = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "kv_cache_usage_ratio": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
}
"""Present values. In spite of vLLM's name for it, the cache's usage is a share from 0 to 1."""

_FULLEST = "kv_cache_usage_ratio"
"""Of several engines the fullest counts; everything else is summed."""
_STARTED = "process_start_time_seconds"
_CONFIG = "vllm:cache_config_info"
_SLEEP = "vllm:engine_sleep_state"

_PLAIN = frozenset(name for names in (*COUNTERS.values(), *GAUGES.values()) for name in names) | {_STARTED}
_BY_LABEL = {name: (word, label) for word, (name, label) in LABELLED.items()}
_WANTED = _PLAIN | frozenset(_BY_LABEL) | {_CONFIG, _SLEEP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """What a server told at one instant. A name that it does not have is not in the mappings."""

    at_us: int
    started_s: float | None
    """When its process began, seconds since the epoch."""
    model: str
    counters: Mapping[str, float]
    labelled: Mapping[str, Mapping[str, float]]
    gauges: Mapping[str, float]
    block_size: int | None = None
    """Tokens in a block of its KV cache."""
    kv_cache_tokens: int | None = None
    awake: bool | None = None


def parse(text: str, at_us: int) -> Scrape:
    """Read a scrape. Lines that are none of ours, or that cannot be, are passed over."""
    found: dict[str, float] = {}
    labelled: dict[str, dict[str, float]] = {}
    model, config, awake = "", {}, None
    for line in text.split("\n"):
        if not line.startswith(("vllm:", "process_start")):
            continue
        name, labels, value = _split(line)
        if name not in _WANTED or value is None:
            continue
        if not model and "model_name" in labels:
            model = dict(_LABEL.findall(labels)).get("model_name", "")[:200]
        if name == _CONFIG:
            config = dict(_LABEL.findall(labels)[:_MOST_CONFIG])
        elif name == _SLEEP:
            if 'sleep_state="awake"' in labels:
                awake = bool(value) and awake is not False
        elif name in _BY_LABEL:
            word, label = _BY_LABEL[name]
            kinds = labelled.setdefault(word, {})
            kind = dict(_LABEL.findall(labels)).get(label, "")[:_LONGEST_REASON]
            if kind in kinds or len(kinds) < _MOST_REASONS:
                kinds[kind] = kinds.get(kind, 0.0) + value
        elif name in GAUGES[_FULLEST]:
            found[name] = max(found.get(name, 0.0), value)
        else:
            found[name] = found.get(name, 0.0) + value
    return Scrape(
        at_us=at_us,
        started_s=found.get(_STARTED),
        model=model,
        counters=_chosen(COUNTERS, found),
        labelled=labelled,
        gauges=_chosen(GAUGES, found),
        block_size=_whole(config.get("block_size")),
        kv_cache_tokens=_whole(config.get("kv_cache_size_tokens")),
        awake=awake,
    )


def _split(line: str) -> tuple[str, str, float | None]:
    """Name, text of the labels, and value; None when there is no sensible one."""
    name, brace, rest = line.partition("{")
    if brace:
        # A label's value may hold a brace; the last one on the line ends the labels.
        labels, end, tail = rest.rpartition("}")
        if not end:
            return name, "", None
    else:
        name, _, tail = line.partition(" ")
        labels = ""
    if name not in _WANTED:
        return name, "", None
    try:
        value = float(tail.split()[0])
    except (ValueError, IndexError):
        return name, labels, None
    return name, labels, value if isfinite(value) and value >= 0 else None


def _chosen(table: Mapping[str, _Names], found: Mapping[str, float]) -> dict[str, float]:
    """The value under the first name that the server has."""
    return {
        word: next(found[name] for name in names if name in found)
        for word, names in table.items()
        if any(name in found for name in names)
    }


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


# -- differences


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSample:
    """What one replica did since the look before. None: it does not tell."""

    sampled_at_us: int
    upstream: str
    replica: str
    state: Literal["ok", "unreachable"] = "ok"
    model: str = ""
    interval_us: int = 0
    """Since the last look that succeeded; 0 for the first: then there are no differences yet."""
    restarted: bool = False
    """It is another process than at the last look: the interval is incomplete."""
    counted: Mapping[str, float] = field(default_factory=dict)
    """What was added to each of `COUNTERS` in the interval, and ``computed_prompt_tokens``."""
    by_label: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The same for `LABELLED`."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """Sums of ``counted`` since we look, over restarts: these never go back."""
    restarts: int = 0
    running: int | None = None
    waiting: int | None = None
    kv_cache_usage_ratio: float | None = None
    block_size: int | None = None
    kv_cache_tokens: int | None = None
    awake: bool | None = None

    def silent(self) -> "EngineSample":
        """The same replica, of which nothing is known at present."""
        return EngineSample(
            sampled_at_us=self.sampled_at_us,
            upstream=self.upstream,
            replica=self.replica,
            state="unreachable",
            totals=self.totals,
            restarts=self.restarts,
        )

    @property
    def computed_prompt_tokens(self) -> int | None:
        """Prompt tokens that were really computed: neither cached nor brought from elsewhere."""
        return _rounded(self.counted.get("computed_prompt_tokens"))

    @property
    def cached_prompt_tokens(self) -> int | None:
        """Prompt tokens that some cache supplied."""
        return _rounded(self.counted.get("cached_prompt_tokens"))

    @property
    def generation_tokens(self) -> int | None:
        """Tokens produced."""
        return _rounded(self.counted.get("generation_tokens"))


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


class Differences:
    """Turns one replica's scrapes into what happened between them."""

    def __init__(self, upstream: str, replica: str) -> None:
        self._upstream = upstream
        self._replica = replica
        self._before: Scrape | None = None
        self._totals: dict[str, float] = {}
        self._restarts = 0

    def unreachable(self, at_us: int) -> EngineSample:
        """It did not answer: nothing is known, and the next difference covers this time too."""
        return EngineSample(
            sampled_at_us=at_us,
            upstream=self._upstream,
            replica=self._replica,
            state="unreachable",
            totals=dict(self._totals),
            restarts=self._restarts,
        )

    def take(self, scrape: Scrape) -> EngineSample:
        """The sample that ``scrape`` makes after the one before."""
        before, self._before = self._before, scrape
        restarted = before is not None and is_another_process(before, scrape)
        self._restarts += restarted
        counted: dict[str, float] = {}
        by_label: dict[str, dict[str, float]] = {}
        if before is not None:
            counted = _added({} if restarted else before.counters, scrape.counters)
            by_label = {
                word: _added({} if restarted else before.labelled.get(word, {}), kinds)
                for word, kinds in scrape.labelled.items()
            }
            computed = _computed_prompt_tokens(counted, by_label)
            if computed is not None:
                counted["computed_prompt_tokens"] = computed
            for word, amount in counted.items():
                self._totals[word] = self._totals.get(word, 0.0) + amount
        gauges = scrape.gauges
        return EngineSample(
            sampled_at_us=scrape.at_us,
            upstream=self._upstream,
            replica=self._replica,
            model=scrape.model,
            interval_us=0 if before is None else max(0, scrape.at_us - before.at_us),
            restarted=restarted,
            counted=counted,
            by_label=by_label,
            totals=dict(self._totals),
            restarts=self._restarts,
            running=_rounded(gauges.get("running")),
            waiting=_rounded(gauges.get("waiting")),
            kv_cache_usage_ratio=gauges.get(_FULLEST),
            block_size=scrape.block_size,
            kv_cache_tokens=scrape.kv_cache_tokens,
            awake=scrape.awake,
        )


def is_another_process(before: Scrape, after: Scrape) -> bool:
    """Whether the server was started anew between two scrapes."""
    if (
        before.started_s is not None
        and after.started_s is not None
        and abs(after.started_s - before.started_s) > 0.5
    ):
        return True
    return any(after.counters[word] < was for word, was in before.counters.items() if word in after.counters)


def _added(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {word: max(0.0, now - before.get(word, 0.0)) for word, now in after.items()}


def _computed_prompt_tokens(
    counted: Mapping[str, float], by_label: Mapping[str, Mapping[str, float]]
) -> float | None:
    """From the engine's own division by source; older servers tell only all and cached ones."""
    sources = by_label.get("prompt_by_source")
    if sources is not None and "local_compute" in sources:
        return sources["local_compute"]
    if "prompt_tokens" not in counted:
        return None
    return max(0.0, counted["prompt_tokens"] - counted.get("cached_prompt_tokens", 0.0))
