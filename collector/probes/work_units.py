"""How much engine time a token takes. Pure, and plain Python: there are two unknowns.

A prompt token is cheap (many are computed at once), an output token dear (each needs a step of the
whole model), and by how much differs 2 to 20 fold between machines, models and load. Counting
tokens, or latencies, gets the shares of requests wrong by 2 to 9 times; what the engine itself
counted each second, set against how long it was busy, gets them right within 0.05 (measured on
vLLM's CPU build against its step log).

Three ways, the best that can be had:

calibrated  non-negative least squares of busy time on the tokens of each second
mfu         the same, of the time a roofline gives for the engine's own FLOP and byte counters
prior       a configured ratio; the scale is open, so it only says shares
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

Method = Literal["calibrated", "mfu", "prior"]

PRIOR_OUTPUT_RATIO = 8
"""An output token's work in prompt tokens where nothing is known. API prices say 4 to 5; 2.5, as some
tools take it, was 1.6 to 3.7 times off. A vLLM CPU server showed 9 to 17 at a batch of 3 to 7; the log
of one on a 24 GB GPU (Llama 3.2 1B, liao4s/BurstGPT_test) 7 to 10 at five loads."""

_FEWEST = 20
"""Busy seconds before a calibration is believed."""
_FEWEST_ROOFLINE = 8
_LEAST_SPREAD = 0.02
"""Of 1 - cos^2 between the columns: with less, every second had the same mixture and any division of the
time among the two would do."""
_WORST_RESIDUAL = 0.6
"""Unexplained share of busy time (root mean square over root mean square) beyond which it is no fit."""
_PS = 10**12


class Observation(NamedTuple):
    """One look at the engine's counters, usually a second long."""

    busy_us: int
    """Time in which at least one request ran."""
    prompt_tokens: float
    """Computed, not cached."""
    output_tokens: float
    flops: float = 0.0
    moved_bytes: float = 0.0
    """Read and written, by the engine's own estimate for one GPU."""
    steps: float = 0.0
    """Steps of the engine; 0 where it does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Work of one token, in picoseconds of engine time; integers, so that shares are exact.

    With the method ``prior`` the unit is arbitrary: only the ratio means something.
    """

    prompt_ps: int
    """Of a prompt token that is computed. A cached one is no work."""
    output_ps: int
    method: Method
    residual: float | None = None
    """Root mean square of what is not explained, over that of what was to be explained; None for a prior."""
    observations: int = 0
    """Seconds it rests on."""

    def __post_init__(self) -> None:
        if self.prompt_ps < 0 or self.output_ps < 0 or self.prompt_ps + self.output_ps <= 0:
            raise ValueError(f"work of {self.prompt_ps} and {self.output_ps} ps a token splits nothing")

    def units(self, prompt_tokens: int, output_tokens: int) -> int:
        """Work of so many computed prompt tokens and output tokens."""
        return self.prompt_ps * prompt_tokens + self.output_ps * output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """What a GPU can do at most: for the roofline."""

    flops: float
    """A second, dense, in the format the weights are multiplied in."""
    bytes: float
    """A second, from device memory."""


PEAKS = {
    "B200": Peaks(flops=2.25e15, bytes=8.0e12),
    "H200": Peaks(flops=9.89e14, bytes=4.8e12),
    "H100 80GB HBM3": Peaks(flops=9.89e14, bytes=3.35e12),
    "H100 PCIe": Peaks(flops=7.56e14, bytes=2.0e12),
    "A100-SXM4-80GB": Peaks(flops=3.12e14, bytes=2.039e12),
    "A100": Peaks(flops=3.12e14, bytes=1.555e12),
    "L40S": Peaks(flops=3.62e14, bytes=8.64e11),
    "L4": Peaks(flops=1.21e14, bytes=3.0e11),
    "A10": Peaks(flops=1.25e14, bytes=6.0e11),
}
"""Dense BF16 and memory bandwidth as NVIDIA's data sheets print them, by a part of the driver's name."""


def peaks_of(name: str) -> Peaks | None:
    """What the GPU with this driver's name can do; None for one that is not listed."""
    return next((peaks for part, peaks in PEAKS.items() if part in name.replace("NVIDIA ", "")), None)


def prior(output_ratio: float = PRIOR_OUTPUT_RATIO) -> Coefficients:
    """A configured ratio of an output token's work to a prompt token's."""
    return Coefficients(prompt_ps=1000, output_ps=round(1000 * output_ratio), method="prior")


class Calibrator:
    """Remembers the last observations and knows the best coefficients they give.

    Args:
        seconds: how many observations are kept.
        peaks: for the roofline; None: that way is not taken.
        output_ratio: the configured prior.
    """

    def __init__(
        self,
        seconds: int = 900,
        peaks: Peaks | None = None,
        output_ratio: float = PRIOR_OUTPUT_RATIO,
    ) -> None:
        self._kept: deque[Observation] = deque(maxlen=seconds)
        self._peaks = peaks
        self._prior = prior(output_ratio)
        self._known: Coefficients | None = None
        self._good: Coefficients | None = None

    def use_peaks(self, peaks: Peaks) -> None:
        """What the GPU can do at most, once it is known."""
        self._peaks, self._known = peaks, None

    def forget(self) -> None:
        """Begin anew: another model is served."""
        self._kept.clear()
        self._known = self._good = None

    def observe(self, observation: Observation) -> None:
        """Take in a second. One of a restart, or without work, should not be given."""
        if observation.busy_us <= 0 or observation.prompt_tokens + observation.output_tokens <= 0:
            return
        self._kept.append(observation)
        self._known = None

    def coefficients(self) -> Coefficients:
        """The best that can be had at present.

        A calibration outlasts a time in which all traffic is alike and none could be made.
        """
        if self._known is None:
            self._good = calibrate(self._kept) or self._good
            self._known = self._good or self._by_roofline() or self._prior
        return self._known

    def _by_roofline(self) -> Coefficients | None:
        return None if self._peaks is None else calibrate_by_roofline(self._kept, self._peaks)


def calibrate(observations: Iterable[Observation]) -> Coefficients | None:
    """Coefficients from busy time; None while there is too little, or too much alike, to tell.

    A step takes some time whatever is in it. Where the engine counts its steps that part is found
    apart and laid on the output tokens, each of which needed a step: against a simulated engine's
    step log the shares of classes were then at most 0.02 off, and 0.06 without.
    """
    kept = [one for one in observations if one.busy_us > 0]
    outputs = sum(one.output_tokens for one in kept)
    if outputs > 0 and all(one.steps > 0 for one in kept):
        rows = [((one.prompt_tokens, one.output_tokens, one.steps), one.busy_us / 1e6) for one in kept]
        steps_per_output = sum(one.steps for one in kept) / outputs
        found = _fitted(rows, "calibrated", _FEWEST, steps_per_output)
        if found is not None:
            return found
    return _fitted(
        [((one.prompt_tokens, one.output_tokens), one.busy_us / 1e6) for one in kept], "calibrated", _FEWEST
    )


def calibrate_by_roofline(observations: Iterable[Observation], peaks: Peaks) -> Coefficients | None:
    """Coefficients from what the engine says it computed and moved (``--enable-mfu-metrics``).

    The time that computing and moving would take at the GPU's peaks, in place of busy time. A second
    holds steps bound by either (prefill computes, decode moves weights), so the two are added rather
    than the slower taken. Few seconds suffice, as it is an estimate without noise.
    """
    rows = [
        (
            (one.prompt_tokens, one.output_tokens),
            one.flops / peaks.flops + one.moved_bytes / peaks.bytes,
        )
        for one in observations
        if one.flops > 0 or one.moved_bytes > 0
    ]
    return _fitted(rows, "mfu", _FEWEST_ROOFLINE)


_Row = tuple[tuple[float, ...], float]


def _fitted(
    rows: Sequence[_Row], method: Method, fewest: int, steps_per_output: float = 0.0
) -> Coefficients | None:
    if len(rows) < fewest or spread([row[:2] for row, _ in rows]) < _LEAST_SPREAD:
        return None
    (prompt, output, *step), residual = nonnegative_least_squares(rows)
    output += sum(step) * steps_per_output
    prompt_ps, output_ps = round(prompt * _PS), round(output * _PS)
    # One of them at zero means that noise, not work, was fitted: no token is free.
    if min(prompt_ps, output_ps) <= 0 or residual > _WORST_RESIDUAL:
        return None
    return Coefficients(
        prompt_ps=prompt_ps,
        output_ps=output_ps,
        method=method,
        residual=residual,
        observations=len(rows),
    )


def spread(columns: Sequence[tuple[float, ...]]) -> float:
    """How differently two columns go, from 0 (one is a multiple of the other) to 1: 1 - cos^2."""
    aa = sum(a * a for a, _ in columns)
    bb = sum(b * b for _, b in columns)
    ab = sum(a * b for a, b in columns)
    return max(0.0, 1 - ab * ab / (aa * bb)) if aa > 0 and bb > 0 else 0.0


def nonnegative_least_squares(rows: Sequence[_Row]) -> tuple[tuple[float, ...], float]:
    """Weights >= 0 whose sums come closest to the targets.

    Args:
        rows: (columns, target); the same number of columns in each, at most a handful.

    Returns:
        The weights, and the root mean square of what is left over that of the targets.

    The best solution with some weights zero and the others free is among the subsets of the
    columns, and it is the best of those without a negative weight (Karush, Kuhn, Tucker).
    """
    width = len(rows[0][0])
    gram = [[sum(row[i] * row[j] for row, _ in rows) for j in range(width)] for i in range(width)]
    moment = [sum(row[i] * target for row, target in rows) for i in range(width)]
    square = sum(target * target for _, target in rows)
    best, least = (0.0,) * width, square
    for size in range(1, width + 1):
        for chosen in combinations(range(width), size):
            solved = _solve([[gram[i][j] for j in chosen] for i in chosen], [moment[i] for i in chosen])
            if solved is None or min(solved) < 0:
                continue
            weights = [0.0] * width
            for place, value in zip(chosen, solved, strict=True):
                weights[place] = value
            left = sum(
                (target - sum(w * x for w, x in zip(weights, row, strict=True))) ** 2 for row, target in rows
            )
            if left < least:
                best, least = tuple(weights), left
    return best, (least / square) ** 0.5 if square > 0 else 0.0


def _solve(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """Gauss with pivots; None where the matrix has no inverse to speak of."""
    size = len(right)
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    scale = max(abs(rows[i][i]) for i in range(size))
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(rows[line][column]))
        if abs(rows[pivot][column]) <= 1e-12 * scale:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for line in range(size):
            if line != column and rows[line][column]:
                factor = rows[line][column] / rows[column][column]
                rows[line] = [a - factor * b for a, b in zip(rows[line], rows[column], strict=True)]
    return [rows[i][size] / rows[i][i] for i in range(size)]
