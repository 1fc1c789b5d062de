"""When each attempt had the engine work for it: from records to a window's work. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from collector.probes.gpu_cost import Work
from collector.probes.work_units import Coefficients


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """When an attempt had its prompt computed and its output produced, microseconds since the epoch."""

    attempt: str
    started_us: int
    first_token_us: int | None
    """None where nobody saw it: a reply that came in one piece."""
    ended_us: int
    prompt_tokens: int
    """Without cached ones."""
    output_tokens: int
    cached_tokens: int = 0


def work_within(line: Timeline, start_us: int, end_us: int, coefficients: Coefficients) -> Work | None:
    """The part of an attempt's work that falls into a window; None for none.

    Tokens flow evenly: the prompt from start to first token, the output from there to the end. Without
    a first token the turn is where the work of the prompt is to the whole work as its time is to the
    whole time. The parts of neighbouring windows add up to the attempt, each token once.
    """
    if line.ended_us < start_us or line.started_us >= end_us:
        return None
    turn = _turn(line, coefficients)
    prompt, output, cached = (
        _part(tokens, begins, ends, start_us, end_us)
        for tokens, begins, ends in (
            (line.prompt_tokens, line.started_us, turn),
            (line.output_tokens, turn, line.ended_us),
            (line.cached_tokens, line.started_us, turn),
        )
    )
    if not (prompt or output or cached):
        return None
    return Work(attempt=line.attempt, prompt_tokens=prompt, output_tokens=output, cached_tokens=cached)


def _turn(line: Timeline, coefficients: Coefficients) -> int:
    """When the prompt was done."""
    if line.first_token_us is not None:
        return min(max(line.first_token_us, line.started_us), line.ended_us)
    prompt = coefficients.units(line.prompt_tokens, 0)
    whole = coefficients.units(line.prompt_tokens, line.output_tokens)
    length = line.ended_us - line.started_us
    return line.started_us + (length * prompt // whole if whole else 0)


def _part(tokens: int, begins: int, ends: int, start_us: int, end_us: int) -> int:
    """Those of tokens flowing from ``begins`` to ``ends`` that come before a window's end, not its start.

    What flows in no time at all belongs to the window that begins at or before that instant and
    ends after it.
    """

    def before(instant: int) -> int:
        if instant <= begins:
            return 0
        return tokens if instant >= ends else tokens * (instant - begins) // (ends - begins)

    return before(end_us) - before(start_us)


def busy_time(spans: Iterable[tuple[int, int]], start_us: int, end_us: int) -> int:
    """Time of a window in which at least one of ``spans`` (start, end) ran."""
    busy, reached = 0, start_us
    for begins, ends in sorted(spans):
        begins, ends = max(begins, reached), min(ends, end_us)
        if ends > begins:
            busy += ends - begins
            reached = ends
    return busy
