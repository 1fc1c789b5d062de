"""Fit the workload generator on public traces.

    python scripts/workload/fit.py PATH_OF_TRACES

PATH_OF_TRACES holds ``agentic_coding_sessions``, ``azure2023_code``, ``mooncake_conversation``,
``servegen_client_rates`` and ``servegen_client_tokens``, each a ``.parquet``. Written are
``inference/workload/fitted.json`` and ``inference/workload/FIT.md``: fitted numbers, no rows.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from statistics import fmean, pstdev
from typing import Any

import pyarrow.parquet

from inference.workload.calls import TracedCall
from inference.workload.conversations import COMPACTION_SIZES, Turn, conversation
from inference.workload.fitted import Fit, fit_from
from inference.workload.quantiles import PROBABILITIES, Quantiles, ks_distance
from inference.workload.traces import read_trace

OUTPUT = Path(__file__).resolve().parents[2] / "inference" / "workload"

SOURCES = {
    "agentic_coding_sessions": {
        "address": "https://github.com/callanjfox/kv-cache-tester (commit 94f6046dfd9c)",
        "licence": "Apache-2.0",
        "holds": "348 sessions of a coding agent, 23,073 model calls",
    },
    "azure2023_code": {
        "address": "https://github.com/Azure/AzurePublicDataset (commit b469a113cedc)",
        "licence": "CC-BY-4.0",
        "holds": "8,819 calls of a code-completion service in 57 minutes, 2023",
    },
    "mooncake_conversation": {
        "address": "https://github.com/kvcache-ai/Mooncake (commit 3b5a59413395)",
        "licence": "Apache-2.0",
        "holds": "12,031 calls of a chat service in one hour",
    },
    "servegen": {
        "address": "https://github.com/alibaba/ServeGen (commit f891d1189eb3)",
        "licence": "Apache-2.0",
        "holds": "request rates of 225 clients over up to 14 days, and quantiles of their token counts",
    },
}


def main(arguments: Sequence[str]) -> int:
    """Fit, write both files; 2 on misuse."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.stderr.write(f"{__doc__}\n")
        return 2
    folder = Path(arguments[0])
    samples: dict[str, list[float]] = {}
    shares: dict[str, float] = {}
    fit_coding(folder / "agentic_coding_sessions.parquet", samples, shares)
    fit_completion(folder / "azure2023_code.parquet", samples)
    fit_chat(folder / "mooncake_conversation.parquet", samples, shares)
    fit_clients(folder, samples)
    document = {
        "made_by": "scripts/workload/fit.py",
        "sources": SOURCES,
        "probabilities": PROBABILITIES,
        "distributions": {
            name: [significant(knot) for knot in Quantiles.fit(values).knots]
            for name, values in samples.items()
            if not name.startswith("_")
        },
        "shares": {name: significant(share) for name, share in shares.items()},
        "hour_of_day": hour_of_day(folder / "servegen_client_rates.parquet"),
    }
    (OUTPUT / "fitted.json").write_text(compact(document))
    (OUTPUT / "FIT.md").write_text(report(samples, document))
    return 0


def fit_coding(path: Path, samples: dict[str, list[float]], shares: dict[str, float]) -> None:
    """A coding agent: sessions, the growth of their prompts, replies, what the cache could give."""
    lanes: dict[tuple[str, str], list[TracedCall]] = defaultdict(list)
    calls = list(read_trace(path).calls())
    for call in calls:
        lanes[call.lane].append(call)
    main = [lane for (_, agent), lane in lanes.items() if agent == "main"]
    others = [lane for (_, agent), lane in lanes.items() if agent != "main"]
    pairs = [pair for lane in lanes.values() for pair in pairwise(lane)]
    growing = [(a, b) for a, b in pairs if b.usage.input_tokens >= a.usage.input_tokens]
    shrinking = [(a, b) for a, b in pairs if b.usage.input_tokens < a.usage.input_tokens]
    samples["coding.calls"] = [len(lane) for lane in main]
    samples["coding.first_prompt_tokens"] = [lane[0].usage.input_tokens for lane in main]
    samples["coding.growth_tokens"] = [b.usage.input_tokens - a.usage.input_tokens for a, b in growing]
    samples["coding.compacted_to_share"] = [b.usage.input_tokens / a.usage.input_tokens for a, b in shrinking]
    samples["coding.output_tokens"] = [call.usage.output_tokens for call in calls]
    samples["_coding.input_tokens"] = [call.usage.input_tokens for call in calls]
    samples["_coding.cached"] = [cached_share(calls)]
    samples["coding.known_share"] = [
        min(1.0, b.usage.cache_read_input_tokens / a.usage.input_tokens) for a, b in growing
    ]
    samples["coding.subagent_calls"] = [len(lane) for lane in others]
    samples["coding.subagent_first_prompt_tokens"] = [lane[0].usage.input_tokens for lane in others]
    for low, high in pairwise((*COMPACTION_SIZES, sys.maxsize)):
        here = [pair for pair in pairs if low <= pair[0].usage.input_tokens < high]
        shrunk = [pair for pair in shrinking if low <= pair[0].usage.input_tokens < high]
        shares[f"coding.compaction_from_{low}"] = len(shrunk) / len(here)
    # Sessions that go on for long are those that began small.
    shares["coding.rank_correlation_of_calls_and_first_prompt"] = rank_correlation(
        samples["coding.calls"], samples["coding.first_prompt_tokens"]
    )
    columns = pyarrow.parquet.read_table(path, columns=["output_types"]).to_pydict()
    shares["coding.tool_call"] = fmean("tool_use" in kinds for kinds in columns["output_types"])


def cached_share(calls: Sequence[TracedCall]) -> float:
    """Part of all input tokens that was read from the cache."""
    return sum(call.usage.cache_read_input_tokens for call in calls) / sum(
        call.usage.input_tokens for call in calls
    )


def fit_completion(path: Path, samples: dict[str, list[float]]) -> None:
    """A code-completion service: long prompts, short replies, bursts."""
    calls = list(read_trace(path).calls())
    samples["completion.input_tokens"] = [call.usage.input_tokens for call in calls]
    samples["completion.output_tokens"] = [call.usage.output_tokens for call in calls]
    gaps = [b.at_s - a.at_s for a, b in pairwise(calls)]
    # Only the shape matters: the generator sets the rate.
    samples["completion.gap_over_mean"] = [gap / fmean(gaps) for gap in gaps]


def fit_chat(path: Path, samples: dict[str, list[float]], shares: dict[str, float]) -> None:
    """A chat service; prefixes known from any earlier call."""
    calls = list(read_trace(path).calls())
    samples["chat.input_tokens"] = [call.usage.input_tokens for call in calls]
    samples["chat.output_tokens"] = [call.usage.output_tokens for call in calls]
    samples["_chat.input_tokens"] = samples["chat.input_tokens"]
    samples["_chat.cached"] = [cached_share(calls)]
    known = [call.usage.cache_read_input_tokens / call.usage.input_tokens for call in calls]
    # One block of 512 tokens is the service's own system text; more is a conversation going on.
    going_on = [call.usage.cache_read_input_tokens > 512 for call in calls]
    shares["chat.continued"] = fmean(going_on)
    samples["chat.known_share_continued"] = [
        share for share, continued in zip(known, going_on, strict=True) if continued
    ]


def fit_clients(folder: Path, samples: dict[str, list[float]]) -> None:
    """Single clients of a model platform: how bursty they are, and how much a model reasons."""
    rates = pyarrow.parquet.read_table(
        folder / "servegen_client_rates.parquet", columns=["iat_cv", "rate_rps"]
    ).to_pydict()
    samples["client.gap_variation"] = [
        cv for cv, rate in zip(rates["iat_cv"], rates["rate_rps"], strict=True) if rate > 0 and cv > 0
    ]
    tokens = pyarrow.parquet.read_table(folder / "servegen_client_tokens.parquet").to_pylist()
    reasoning = [row for row in tokens if row["reason_ratio_p50"] is not None]
    plain = [row for row in tokens if row["reason_ratio_p50"] is None]
    # The published quantiles of this ratio are all 0 (cut to whole numbers, it seems); the means are not.
    samples["reasoning.share"] = [row["reason_ratio_mean"] for row in reasoning]
    # Quantiles of windows, not of calls: each stands for the part of the calls around its level.
    weights = {"p10": 3, "p50": 4, "p90": 3}
    for name, rows in (("reasoning", reasoning), ("batch", plain)):
        for what in ("input", "output"):
            samples[f"{name}.{what}_tokens"] = [
                row[f"{what}_tokens_{level}"]
                for row in rows
                for level, weight in weights.items()
                for _ in range(weight)
            ]


def hour_of_day(path: Path) -> list[float]:
    """Mean rate in each hour of the day over the whole mean, of the clients recorded for 14 days."""
    rates = pyarrow.parquet.read_table(path, columns=["model", "t_s", "rate_rps"]).to_pydict()
    by_hour: dict[int, list[float]] = defaultdict(list)
    for model, t_s, rate in zip(rates["model"], rates["t_s"], rates["rate_rps"], strict=True):
        if model != "deepseek-r1":
            by_hour[int(t_s) // 3600 % 24].append(rate)
    whole = fmean(rate for hour in by_hour.values() for rate in hour)
    return [significant(fmean(by_hour[hour]) / whole) for hour in range(24)]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, from -1 to 1."""
    ranks = [_ranks(values) for values in (first, second)]
    means = [fmean(rank) for rank in ranks]
    together = fmean((a - means[0]) * (b - means[1]) for a, b in zip(*ranks, strict=True))
    return together / (pstdev(ranks[0]) * pstdev(ranks[1]))


def _ranks(values: Sequence[float]) -> list[float]:
    places: dict[float, list[int]] = defaultdict(list)
    for place, value in enumerate(sorted(values)):
        places[value].append(place)
    return [fmean(places[value]) for value in values]


def significant(value: float) -> float:
    """``value`` with four significant digits, more would claim too much; shares near 1 need six."""
    return float(f"{value:.6g}" if value <= 1 else f"{value:.4g}")


def compact(document: dict[str, Any]) -> str:
    """JSON with one line for each distribution."""
    lines = json.dumps(document, indent=1).splitlines()
    text = "\n".join(lines)
    for numbers in ("distributions", "shares", "probabilities", "hour_of_day"):
        text = text.replace(
            json.dumps(document[numbers], indent=1).replace("\n", "\n "), _lines(document[numbers])
        )
    return text + "\n"


def _lines(values: Any) -> str:
    if isinstance(values, dict):
        return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in values.items()) + "\n }"
    return json.dumps(values)


def log_normal_distance(values: Sequence[float]) -> float:
    """KS distance of the best log-normal law, for comparison."""
    logs = [log(value) for value in values if value > 0]
    mean, deviation, random = fmean(logs), pstdev(logs), Random(1)  # noqa: S311
    return ks_distance(values, [exp(random.gauss(mean, deviation)) for _ in range(20_000)])


def report(samples: dict[str, list[float]], document: dict[str, Any]) -> str:
    """FIT.md."""
    sources = "\n".join(
        f"| {name} | {told['holds']} | {told['address']} | {told['licence']} |"
        for name, told in SOURCES.items()
    )
    fit = fit_from(document)
    return REPORT.format(
        emergent="\n".join(_emergent_rows(fit, samples)),
        sources=sources,
        distributions="\n".join(_rows(samples, document)),
        shares="\n".join(f"| {name} | {share:g} |" for name, share in document["shares"].items()),
        hours=" ".join(f"{rate:.2f}" for rate in document["hour_of_day"]),
    )


def _rows(samples: dict[str, list[float]], document: dict[str, Any]) -> Iterable[str]:
    for name, values in samples.items():
        if name.startswith("_"):
            continue  # kept for the comparison below, not fitted
        fitted, random = Quantiles(tuple(document["distributions"][name])), Random(7)  # noqa: S311
        whole = all(value == int(value) for value in values)
        drawn = [
            float(round(value)) if whole else value for value in (fitted.draw(random) for _ in range(20_000))
        ]
        picks = " | ".join(f"{significant(Quantiles.fit(values).at(p)):g}" for p in (0.05, 0.5, 0.95, 0.99))
        error = 1.36 * sqrt(1 / len(values) + 1 / 20_000)
        yield (
            f"| {name} | {len(values):,} | {picks} | {ks_distance(values, drawn):.3f} | {error:.3f} "
            f"| {log_normal_distance(values):.3f} |"
        )


def _emergent_rows(fit: Fit, samples: dict[str, list[float]]) -> Iterable[str]:
    """What nobody fitted but should come out: sizes of prompts in mid-conversation, cached parts."""
    random = Random(11)  # noqa: S311
    for kind, name, known in (
        ("coding", "coding.input_tokens", "coding.cached"),
        ("chat", "chat.input_tokens", "chat.cached"),
    ):
        turns: list[Turn] = []
        while len(turns) < 40_000:
            turns += [turn for turn in conversation(kind, fit, random) if not turn.agent_suffix]
        drawn = [turn.usage.input_tokens for turn in turns]
        cached = sum(turn.usage.cache_read_input_tokens for turn in turns) / sum(drawn)
        for who, values, share in (
            ("trace", samples[f"_{name}"], samples[f"_{known}"][0]),
            ("generator", drawn, cached),
        ):
            picks = " | ".join(
                f"{significant(Quantiles.fit(values).at(p)):g}" for p in (0.05, 0.5, 0.95, 0.99)
            )
            yield f"| {name} | {who} | {picks} | {share:.1%} |"


REPORT = """\
# What the workload generator was fitted on

Written by `scripts/workload/fit.py`; the numbers are in `fitted.json`. No row of any trace is in this
project.

## Sources

| trace | holds | from | licence |
|---|---|---|---|
{sources}

The traces were used as published, without the parts that could not be obtained (very large files of the first
and the last source). The authors of these traces have nothing to do with this project.

## Method

Each distribution is its values at 26 fixed probabilities (0, 1, 2, 5, 10, 15 ... 95, 98, 99, 99.9, 100 %),
with straight lines between them on the scale log(1 + x). A log-normal law, the usual choice, was fitted
beside it: prompts have steps and several humps that it cannot follow (last column).

- `coding.*`: growth is the difference of two consecutive prompts of one agent in one session; a prompt that
  shrinks is a compaction. `known_share` is the part of the last prompt that the next one could read from the
  provider's cache, blocks compared as the trace's authors describe.
- `completion.gap_over_mean`: time between two calls over its mean; the generator chooses the rate.
- `chat.*`: a call continues a conversation when more than one block of 512 tokens is known from earlier ones.
- `reasoning.*`, `batch.*`: made from published quantiles of 6-hour windows of single clients (p10, p50, p90
  with weights 3, 4, 3), not from calls: tails beyond a window's p90 are cut. `reasoning.share` is the mean of
  each window: its quantiles are published as 0 throughout.
- `client.gap_variation`: coefficient of variation of the gaps of a client within 10 minutes.

## How well it fits

20,000 values drawn from each fit against the trace. The KS distance is the largest difference of the two
distribution functions; "noise" is the distance that two samples of one law stay below in 95 of 100 cases.
Counts that take few values (`coding.subagent_calls`) cannot do better than their steps.

| distribution | sample | p5 | p50 | p95 | p99 | KS distance | noise | KS of a log-normal |
|---|---|---|---|---|---|---|---|---|
{distributions}

| share | fitted |
|---|---|
{shares}

What nobody fitted but should come out, in mid-conversation; "cached" is the part of all input tokens that
the provider's cache could give:

| quantity | of | p5 | p50 | p95 | p99 | cached |
|---|---|---|---|---|---|---|
{emergent}

Prompts of the coding agent come out larger than in the trace where sessions differ in ways that were not
fitted (how fast each one grows, which context limit it ran into). Cached prefixes of chats are rounded down
to OpenAI's steps of 128 tokens, from 1,024 on.

Rate by hour of day over the mean, 14 days of 152 clients; hour 0 is the trace's start:
{hours}

## What was assumed, not fitted

No trace told these; they are choices, made in `generator.py`:

- which team runs which agent on which model, and each agent's part of the calls;
- that later turns of a chat are longer than earlier ones (lengths of a conversation's turns are drawn
  together and sorted), and how many turns a chat has (geometric, mean 1 / (1 - `chat.continued`));
- sizes of texts that are embedded (the shape of `chat.input_tokens` up to 8,191 tokens);
- which part of the calls stream (19 % of the coding calls did; here it is more, for streams are the harder
  case to meter), how often providers fail and clients leave, how often a sub-agent starts after a call;
- the length of think times: the generator keeps many conversations going at once and picks one for each
  call, so that the rate can be chosen freely.
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
