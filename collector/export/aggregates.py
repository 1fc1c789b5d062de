"""The figures kept for one set of labels, and the families they are exposed as.

A histogram is a list of counts, one for each bucket and one for what lies above,
then the sum. Durations are in microseconds.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter, sub

from collector.domain.record import CallRecord
from collector.export.exposition import (
    HistogramLines,
    counter_lines,
    header,
    label_text,
    money_figures,
    money_lines,
)

_CALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_OVERHEAD_BUCKETS_S = (
    0.00005,
    0.0001,
    0.0002,
    0.0004,
    0.0008,
    0.0016,
    0.0032,
    0.0064,
    0.0128,
    0.0512,
    0.2048,
)


def micros(bounds_s: Iterable[float]) -> tuple[int, ...]:
    """Bucket bounds in the unit that durations are kept in."""
    return tuple(round(bound * 1_000_000) for bound in bounds_s)


CALL_BUCKETS = micros(_CALL_BUCKETS_S)
OVERHEAD_BUCKETS = micros(_OVERHEAD_BUCKETS_S)

TOKEN_CLASSES = (
    *("input", "input_audio", "cache_read", "cache_write", "cache_write_1h"),
    *("output", "output_audio", "reasoning"),
)
"""Disjoint: their sum is every token of a call, each counted once, in the class that prices it."""
_INPUT, _INPUT_AUDIO, _CACHE_READ, _CACHE_WRITE, _CACHE_WRITE_1H, _OUTPUT, _OUTPUT_AUDIO, _REASONING = range(
    8
)

Key = tuple[str, ...]
Figures = int | list[int]


def empty_histogram(bounds: tuple[int, ...]) -> list[int]:
    """A histogram nothing was added to."""
    return [0] * (len(bounds) + 2)


def fill(figures: list[int], bounds: tuple[int, ...], values: Sequence[int]) -> None:
    """Add ``values`` to a histogram."""
    for bucket in map(bisect_left, repeat(bounds), values):
        figures[bucket] += 1
    figures[-1] += sum(values)


class Aggregate:
    """Figures of one label set."""

    __slots__ = ("key", "labels")
    NAMES: tuple[str, ...] = ()
    """The slots that hold figures, in the order that they travel in."""

    def __init__(self, key: Key, labels: str) -> None:
        self.key = key
        self.labels = labels.replace("%", "%%")
        """Rendered once, and ready to stand in a format string."""

    def figures(self) -> list[int]:
        """All figures, one after the other."""
        flat: list[int] = []
        for name in self.NAMES:
            value: Figures = getattr(self, name)
            flat.extend(value if isinstance(value, list) else [value])
        return flat

    def absorb(self, figures: list[int]) -> None:
        """Add the figures of another process.

        Raises:
            ValueError: they are not the figures of such an aggregate.
        """
        if len(figures) != len(self.figures()):
            raise ValueError(f"{len(figures)} figures do not make a {type(self).__name__}")
        rest = iter(figures)
        for name in self.NAMES:
            value: Figures = getattr(self, name)
            if isinstance(value, list):
                value[:] = [mine + next(rest) for mine in value]
            else:
                setattr(self, name, value + next(rest))


class Timings(Aggregate):
    """How long calls took: the whole call, its first chunk, and our own part."""

    __slots__ = ("duration", "first_chunk", "overhead")
    LABELS = ("upstream", "model", "api", "outcome")
    NAMES = ("duration", "first_chunk", "overhead")

    def __init__(self, key: Key) -> None:
        super().__init__(key, label_text(self.LABELS, key))
        self.duration = empty_histogram(CALL_BUCKETS)
        self.first_chunk = empty_histogram(CALL_BUCKETS)
        self.overhead = empty_histogram(OVERHEAD_BUCKETS)


class CallTotals(Aggregate):
    """What calls were, cost and consumed."""

    __slots__ = ("avoided_pico", "calls", "cost_pico", "timings", "tokens")
    LABELS = ("upstream", "model", "api", "outcome", "team", "agent")
    NAMES = ("calls", "cost_pico", "avoided_pico", "tokens")

    def __init__(self, key: Key, timings: Timings) -> None:
        super().__init__(key, label_text(self.LABELS, key))
        self.timings = timings
        self.calls = 0
        self.cost_pico = 0
        self.avoided_pico = 0
        self.tokens = [0] * len(TOKEN_CLASSES)

    def take(self, records: Sequence[CallRecord]) -> None:
        """Add calls that all have these names."""
        (
            durations, first_chunks, overheads, costs, avoided,
            inputs, reads, writes, hour_writes, heard, outputs, reasoning, spoken,
        ) = zip(*map(_figures_of, records), strict=True)  # fmt: skip
        self.calls += len(records)
        self.cost_pico += sum([cost for cost in costs if cost > 0])
        self.avoided_pico += sum([saved for saved in avoided if saved > 0])
        tokens = self.tokens
        read, written, for_an_hour, thought = sum(reads), sum(writes), sum(hour_writes), sum(reasoning)
        uncached, answer = sum(inputs) - read - written, sum(outputs) - thought
        if any(heard) or any(spoken):
            # Which part of the audio came from the cache is not recorded: what fits in the uncached part.
            audio_in = sum(map(min, heard, map(_uncached, inputs, reads, writes)))
            audio_out = sum(map(min, spoken, map(sub, outputs, reasoning)))
            tokens[_INPUT_AUDIO] += audio_in
            tokens[_OUTPUT_AUDIO] += audio_out
            uncached -= audio_in
            answer -= audio_out
        tokens[_INPUT] += uncached
        tokens[_CACHE_READ] += read
        tokens[_CACHE_WRITE] += written - for_an_hour
        tokens[_CACHE_WRITE_1H] += for_an_hour
        tokens[_OUTPUT] += answer
        tokens[_REASONING] += thought
        timings = self.timings
        fill(timings.duration, CALL_BUCKETS, durations)
        fill(timings.overhead, OVERHEAD_BUCKETS, overheads)
        fill(timings.first_chunk, CALL_BUCKETS, [one for one in first_chunks if one is not None])


_figures_of = itemgetter(
    *map(
        CallRecord._fields.index,
        (
            *("duration_us", "time_to_first_chunk_us", "overhead_us"),
            *("effective_cost_pico", "avoided_cost_pico"),
            *("input_tokens", "cache_read_input_tokens", "cache_write_input_tokens"),
            *("cache_write_1h_input_tokens", "audio_input_tokens"),
            *("output_tokens", "reasoning_output_tokens", "audio_output_tokens"),
        ),
    )
)


def _uncached(whole: int, read: int, written: int) -> int:
    return whole - read - written


# The families, in the order that they are exposed in.

_CALLS = counter_lines("bursar_calls_total")
_COST = money_lines("bursar_cost_usd_total")
_AVOIDED = money_lines("bursar_avoided_cost_usd_total")
_TOKENS = counter_lines("bursar_tokens_total", "class", TOKEN_CLASSES)


def call_families(totals: list[CallTotals]) -> Iterator[str]:
    """The text of the counters by call."""
    yield header("bursar_calls_total", "counter", "Calls that ended.")
    yield "".join([_CALLS.render(t.labels, (t.calls,)) for t in totals])
    yield header("bursar_cost_usd_total", "counter", "What calls really cost, in USD, exact.")
    yield "".join([_COST.render(t.labels, money_figures(t.cost_pico)) for t in totals])
    yield header(
        "bursar_avoided_cost_usd_total", "counter", "What reused answers and downgrades saved, in USD."
    )
    yield "".join([_AVOIDED.render(t.labels, money_figures(t.avoided_pico)) for t in totals])
    yield header("bursar_tokens_total", "counter", "Tokens by class; the classes are disjoint.")
    yield "".join([_TOKENS.render(t.labels, tuple(t.tokens)) for t in totals])


_DURATION = HistogramLines("bursar_call_duration_seconds", _CALL_BUCKETS_S, in_micros=True)
_FIRST_CHUNK = HistogramLines("bursar_time_to_first_chunk_seconds", _CALL_BUCKETS_S, in_micros=True)
_OVERHEAD = HistogramLines("bursar_overhead_seconds", _OVERHEAD_BUCKETS_S, in_micros=True)


def timing_families(timings: list[Timings]) -> Iterator[str]:
    """The text of the histograms by call."""
    yield header("bursar_call_duration_seconds", "histogram", "From a request read to its reply written.")
    yield "".join([_DURATION.histogram(t.labels, t.duration) for t in timings])
    yield header("bursar_time_to_first_chunk_seconds", "histogram", "From a request read to its first chunk.")
    yield "".join([_FIRST_CHUNK.histogram(t.labels, t.first_chunk) for t in timings if any(t.first_chunk)])
    yield header("bursar_overhead_seconds", "histogram", "What we added to a call.")
    yield "".join([_OVERHEAD.histogram(t.labels, t.overhead) for t in timings])
