"""Inferences added up by the GenAI conventions: `gen_ai.client.inference.*` and `gen_ai.client.embeddings.*`.

The names are the conventions' under the Prometheus translation. Token counters also
run for calls that failed, with 0 where no usage came; histograms of tokens only
where there was usage.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from collector.domain.record import AttemptRecord, CallRecord
from collector.export.aggregates import Aggregate, Key, empty_histogram, fill, micros
from collector.export.conventions import DURATION_BUCKETS_S, EMBEDDINGS, TOKEN_BUCKETS
from collector.export.exposition import HistogramLines, counter_lines, header, label_text
from collector.export.labels import OTHER
from collector.export.targets import Target, host_and_port

INFERENCE_BUCKETS = micros(DURATION_BUCKETS_S)


def _inference_labels(key: Key) -> str:
    """The convention's labels; those that are not known are left out."""
    operation, provider, request_model, response_model, server, *error = key
    address, port = host_and_port(server) if server != OTHER else ("", 0)
    known = {
        "gen_ai_operation_name": operation,
        "gen_ai_provider_name": provider,
        "gen_ai_request_model": request_model,
        "gen_ai_response_model": response_model,
        "server_address": address,
        "server_port": str(port) if port else "",
        "error_type": error[0] if error else "",
    }
    named = {name: value for name, value in known.items() if value}
    return label_text(tuple(named), tuple(named.values()))


class Inference(Aggregate):
    """What inferences with one provider and model consumed, and the pace of their streams.

    The whole of a count has modality ``unknown`` where the provider does not split
    it; the audio part is told where it does.
    """

    __slots__ = (
        *("audio_input", "audio_output", "cache_read", "cache_write", "first_chunk"),
        *("input", "output", "per_chunk", "reasoning"),
    )
    NAMES = (
        *("input", "audio_input", "output", "audio_output", "cache_read", "cache_write", "reasoning"),
        *("first_chunk", "per_chunk"),
    )

    def __init__(self, key: Key) -> None:
        super().__init__(key, _inference_labels(key))
        self.input = 0
        self.audio_input = 0
        self.output = 0
        self.audio_output = 0
        self.cache_read = 0
        self.cache_write = 0
        self.reasoning = 0
        self.first_chunk = empty_histogram(INFERENCE_BUCKETS)
        self.per_chunk = empty_histogram(INFERENCE_BUCKETS)

    def hear(self, record: CallRecord, target: AttemptRecord | Target) -> None:
        """Add the audio of a call that ended here: it is told of calls, not of attempts."""
        if heard := record.audio_input_tokens:
            self.audio_input += min(heard, target.input_tokens)
        if spoken := record.audio_output_tokens:
            self.audio_output += min(spoken, target.output_tokens)

    def pace(self, target: AttemptRecord | Target, chunks: int) -> None:
        """Add how soon a stream began, and how fast its ``chunks`` came; 0 where they are not known."""
        first_chunk_us = target.time_to_first_chunk_us
        if first_chunk_us is None:
            return
        fill(self.first_chunk, INFERENCE_BUCKETS, (first_chunk_us,))
        later, spent_us = chunks - 1, target.duration_us - first_chunk_us
        if later > 0 and spent_us >= 0:
            self.per_chunk[bisect_left(INFERENCE_BUCKETS, spent_us // later)] += later
            self.per_chunk[-1] += spent_us


class InferenceResult(Aggregate):
    """How long inferences that ended the same way took, and how large they were."""

    __slots__ = ("duration", "inference", "input_tokens", "output_tokens")
    NAMES = ("duration", "input_tokens", "output_tokens")

    def __init__(self, key: Key, inference: Inference) -> None:
        super().__init__(key, _inference_labels(key))
        self.inference = inference
        self.duration = empty_histogram(INFERENCE_BUCKETS)
        self.input_tokens = empty_histogram(TOKEN_BUCKETS)
        self.output_tokens = empty_histogram(TOKEN_BUCKETS)

    def take(self, targets: Sequence[AttemptRecord | Target], *, with_usage: bool) -> None:
        """Add inferences that all ended here; ``with_usage``: what they consumed is known."""
        durations, inputs, outputs, cached, written, reasoning = zip(*map(_figures, targets), strict=True)
        fill(self.duration, INFERENCE_BUCKETS, durations)
        if not with_usage:
            return
        fill(self.input_tokens, TOKEN_BUCKETS, inputs)
        if self.key[0] == EMBEDDINGS:
            return
        fill(self.output_tokens, TOKEN_BUCKETS, outputs)
        inference = self.inference
        inference.input += sum(inputs)
        inference.output += sum(outputs)
        inference.cache_read += sum(cached)
        inference.cache_write += sum(written)
        inference.reasoning += sum(reasoning)


_figures = attrgetter(
    *("duration_us", "input_tokens", "output_tokens"),
    *("cache_read_input_tokens", "cache_write_input_tokens", "reasoning_output_tokens"),
)


_MODALITY = "gen_ai_token_modality"


def _counter(
    name: str, text: str, total: str, audio: str = ""
) -> tuple[str, str, Callable[[Inference], str]]:
    """A usage counter's name and help, and what writes its lines for one label set."""
    full = f"gen_ai_client_inference_usage_{name}_total"
    unknown_lines = counter_lines(full, _MODALITY, ("unknown",))
    audio_lines = counter_lines(full, _MODALITY, ("audio",))

    def write(inference: Inference) -> str:
        count: int = getattr(inference, total)
        heard: int = getattr(inference, audio) if audio else 0
        lines = unknown_lines.render(inference.labels, (count - heard,))
        return lines + audio_lines.render(inference.labels, (heard,)) if heard else lines

    return full, text, write


_COUNTERS = (
    _counter("input_tokens", "Input tokens used, cached ones included.", "input", "audio_input"),
    _counter("output_tokens", "Output tokens used, reasoning included.", "output", "audio_output"),
    _counter("cache_read_input_tokens", "Input tokens read from the provider's cache.", "cache_read"),
    _counter("cache_write_input_tokens", "Input tokens written to the provider's cache.", "cache_write"),
    _counter("reasoning_output_tokens", "Output tokens used for reasoning.", "reasoning"),
)

_Histogram = tuple[str, str, str, bool]
_STREAM_HISTOGRAMS: tuple[_Histogram, ...] = (
    ("inference_time_to_first_chunk_seconds", "From request to first chunk.", "first_chunk", True),
    (
        "inference_time_per_output_chunk_seconds",
        "Between two chunks of a stream; the chunks of one stream count at their mean.",
        "per_chunk",
        True,
    ),
)
_RESULT_HISTOGRAMS: tuple[_Histogram, ...] = (
    ("inference_duration_seconds", "From request to the last byte, retries included.", "duration", True),
    ("inference_operation_input_tokens", "Input tokens of one inference.", "input_tokens", False),
    ("inference_operation_output_tokens", "Output tokens of one inference.", "output_tokens", False),
)
_EMBEDDINGS_HISTOGRAMS: tuple[_Histogram, ...] = (
    ("embeddings_duration_seconds", "From request to the last byte, retries included.", "duration", True),
    ("embeddings_operation_input_tokens", "Input tokens of one embeddings call.", "input_tokens", False),
)


def _histograms(
    families: tuple[_Histogram, ...],
) -> list[tuple[str, HistogramLines, Callable[[object], list[int]]]]:
    return [
        (
            header(f"gen_ai_client_{name}", "histogram", text),
            HistogramLines(
                f"gen_ai_client_{name}",
                DURATION_BUCKETS_S if in_micros else TOKEN_BUCKETS,
                in_micros=in_micros,
            ),
            attrgetter(slot),
        )
        for name, text, slot, in_micros in families
    ]


_STREAM_LINES = _histograms(_STREAM_HISTOGRAMS)
_RESULT_LINES = _histograms(_RESULT_HISTOGRAMS)
_EMBEDDINGS_LINES = _histograms(_EMBEDDINGS_HISTOGRAMS)


def inference_families(inferences: list[Inference], results: list[InferenceResult]) -> Iterator[str]:
    """The text of every family of the conventions that has something to say."""
    embeddings = [r for r in results if r.key[0] == EMBEDDINGS]
    if generations := [i for i in inferences if i.key[0] != EMBEDDINGS]:
        for name, text, write in _COUNTERS:
            yield header(name, "counter", text)
            yield "".join([write(inference) for inference in generations])
        for head, lines, figures in _STREAM_LINES:
            yield from _told(
                head, [lines.histogram(i.labels, f) for i in generations if any(f := figures(i))]
            )
        others = [r for r in results if r.key[0] != EMBEDDINGS]
        for head, lines, figures in _RESULT_LINES:
            yield from _told(head, [lines.histogram(r.labels, f) for r in others if any(f := figures(r))])
    for head, lines, figures in _EMBEDDINGS_LINES:
        yield from _told(head, [lines.histogram(r.labels, f) for r in embeddings if any(f := figures(r))])


def _told(head: str, sets: list[str]) -> Iterator[str]:
    if sets:
        yield head
        yield "".join(sets)
