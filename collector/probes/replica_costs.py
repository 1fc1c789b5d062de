"""The running books of one replica: samples and ended attempts in, settled charges out.

Time is cut into windows. A window is closed some time after its end, when the attempts in it have
mostly been recorded, and split (`gpu_cost`). An attempt is settled when the last window that it
touches is closed: what it had of each is added up. One that comes later still (a stream of ten
minutes is recorded at its end) claims its share of the closed windows from their unobserved lines.

No clock and no threads: whoever feeds it says what time it is. Memory is bounded; what is beyond it
becomes unobserved, and the books balance all the same.
"""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from collector.probes.energy import energy_between, idle_watts
from collector.probes.gpu_cost import (
    NOTHING,
    CapacityPrice,
    Charge,
    Split,
    Window,
    Work,
    apportion,
    claim,
    split,
)
from collector.probes.gpu_prices import cache_saving, present_price
from collector.probes.gpu_sample import GpuSample
from collector.probes.movements import NO_TOKENS, AttemptCharge, Movement, Tokens
from collector.probes.timelines import Timeline, busy_time, work_within
from collector.probes.vllm_metrics import EngineSample
from collector.probes.work_units import Calibrator, Method, Observation, Peaks


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaCostsConfig:
    """How a replica's money is divided."""

    window_us: int = 10_000_000
    """Length of a window; a second or more."""
    lag_us: int = 30_000_000
    """How long after its end a window is closed."""
    most_attempts: int = 50_000
    """Ended attempts that wait for their windows; more of them are not charged."""
    most_windows: int = 360
    """Closed windows that late attempts may still claim from."""
    most_samples: int = 3600
    """Samples kept of each GPU and of the engine."""
    least_coverage: float = 0.9
    """Share of a window that engine samples must cover for their counts to say what went past us."""


class Settlement(NamedTuple):
    """What an attempt really cost."""

    attempt: str
    charge: Charge
    """Money, GPU time and energy of its own work."""
    loaded_pico: int
    """The same with its part of idle time."""
    method: Method
    residual: float | None


@dataclass(slots=True)
class _Closed:
    """A window that was split, and what is left of it for late attempts."""

    split: Split
    unobserved_idle: int
    """Of idle money, the part that goes with the unobserved line."""


@dataclass(slots=True)
class _Open:
    """An attempt and what it was charged so far."""

    line: Timeline
    charge: Charge = NOTHING
    idle_pico: int = 0


@dataclass(slots=True)
class Lines:
    """Everything that was metered, by line; the three are the meter."""

    charged: Charge = NOTHING
    idle: Charge = NOTHING
    unobserved: Charge = NOTHING

    @property
    def total(self) -> Charge:
        """The meter."""
        return self.charged + self.idle + self.unobserved


@dataclass(slots=True)
class _Kept:
    gpus: dict[str, deque[GpuSample]] = field(default_factory=dict)
    engine: deque[EngineSample] = field(default_factory=deque)
    idle_mw: dict[str, int] = field(default_factory=dict)


class ReplicaCosts:
    """One replica's books.

    Args:
        price: what it costs.
        start_us: when its meter begins to run.
        gpus: UUIDs of its GPUs, for energy; none: energy is not known and not charged.
        calibrator: learns the work of a token.
        config: windows and bounds.
    """

    def __init__(
        self,
        price: CapacityPrice,
        start_us: int,
        *,
        gpus: Collection[str] = (),
        calibrator: Calibrator | None = None,
        config: ReplicaCostsConfig | None = None,
    ) -> None:
        self._price = price
        self._config = config or ReplicaCostsConfig()
        self._gpus = frozenset(gpus)
        self._calibrator = calibrator or Calibrator()
        self._closed_to = start_us
        self._open: dict[str, _Open] = {}
        self._kept = _Kept(engine=deque(maxlen=self._config.most_samples))
        self._calibrated_to = start_us
        self._closed: deque[_Closed] = deque(maxlen=self._config.most_windows)
        self._ahead_units = 0
        self._model = ""
        self._settled: list[Settlement] = []
        self._moved: list[Movement] = []
        self.lines = Lines()
        """Sums since the start."""
        self.refused = 0
        """Attempts beyond the bound."""

    @property
    def windows(self) -> list[Split]:
        """The last closed windows, oldest first."""
        return [closed.split for closed in self._closed]

    @property
    def model(self) -> str:
        """What it serves, as its engine says; empty while that is not known."""
        return self._model

    # -- what comes in

    def use_gpus(self, gpus: Collection[str]) -> None:
        """Its GPUs are these: what the driver shows may change."""
        self._gpus = frozenset(gpus)

    def use_peaks(self, peaks: Peaks) -> None:
        """What each of its GPUs can do at most, for the roofline."""
        self._calibrator.use_peaks(peaks)

    def see_engine(self, sample: EngineSample) -> None:
        """Take in a look at the engine; in the order of time. Another model is calibrated anew."""
        if sample.model and sample.model != self._model:
            if self._model:
                self._calibrator.forget()
            self._model = sample.model
        self._kept.engine.append(sample)

    def see_gpus(self, samples: Iterable[GpuSample]) -> None:
        """Take in samples; those of other replicas' GPUs are passed over."""
        for sample in samples:
            if sample.gpu in self._gpus:
                kept = self._kept.gpus.setdefault(sample.gpu, deque(maxlen=self._config.most_samples))
                kept.append(sample)

    def see_attempt(self, line: Timeline) -> None:
        """Take in an attempt that has ended, once."""
        if line.attempt in self._open:
            return
        if len(self._open) >= self._config.most_attempts:
            self.refused += 1
            return
        opened = _Open(line)
        if line.started_us < self._closed_to:
            self._claim(opened)
        if line.ended_us < self._closed_to:
            self._settle(opened)
        else:
            self._open[line.attempt] = opened

    # -- what goes out

    def advance(self, now_us: int) -> list[Settlement]:
        """Close every window whose time has come; attempts that are thereby, or were since, settled."""
        while self._closed_to + self._config.window_us + self._config.lag_us <= now_us:
            self._close(self._closed_to, self._closed_to + self._config.window_us)
        settled, self._settled = self._settled, []
        return settled

    def drain(self) -> list[Movement]:
        """What was moved between the lines since the last call, in order; each is given once."""
        moved, self._moved = self._moved, []
        return moved

    # -- closing

    def _close(self, start_us: int, end_us: int) -> None:
        spans = self._busy_spans()
        # Half the lag later most attempts of that time are recorded: later looks are worth having too.
        self._calibrate(end_us + self._config.lag_us // 2, spans)
        by = self._calibrator.coefficients()
        counted = self._engine_tokens(start_us, end_us)
        energy_mj, idle_mw = self._energy(start_us, end_us)
        window = Window(
            start_us=start_us,
            end_us=end_us,
            busy_us=busy_time(spans, start_us, end_us),
            energy_mj=energy_mj,
            idle_power_mw=idle_mw,
            engine_prompt_tokens=counted.prompt if counted else None,
            engine_output_tokens=counted.output if counted else None,
        )
        found = (work_within(one.line, start_us, end_us, by) for one in self._open.values())
        works = [work for work in found if work is not None]
        parts = split(window, self._price, works, by, ahead_units=self._ahead_units)
        self._ahead_units = parts.ahead_units
        self._closed_to = end_us
        self._book(parts, counted or _tokens_of(works))
        for name in [name for name, one in self._open.items() if one.line.ended_us < end_us]:
            self._settle(self._open.pop(name))

    def _book(self, parts: Split, tokens: Tokens) -> None:
        weights = [*(charge.money_pico for charge in parts.charges.values()), parts.unobserved.money_pico]
        idle = apportion(parts.idle.money_pico, weights) if any(weights) else [0] * len(weights)
        charged = NOTHING
        charges = []
        for (attempt, charge), more in zip(parts.charges.items(), idle, strict=False):
            one = self._open[attempt]
            one.charge += charge
            one.idle_pico += more
            charged += charge
            charges.append(AttemptCharge(attempt, charge, more))
        self.lines.charged += charged
        self.lines.idle += parts.idle
        self.lines.unobserved += parts.unobserved
        self._closed.append(_Closed(parts, idle[-1]))
        self._moved.append(
            Movement(
                start_us=parts.window.start_us,
                end_us=parts.window.end_us,
                total=parts.total,
                charged=charged,
                idle=parts.idle,
                unobserved=parts.unobserved,
                busy_us=parts.window.worked_us,
                tokens=tokens,
                method=parts.method,
                residual=parts.residual,
                charges=tuple(charges),
                cache_saved_pico=_cache_saving(parts, tokens.cached),
            )
        )

    def _claim(self, late: _Open) -> None:
        """What an attempt had of windows that are closed already."""
        for closed in self._closed:
            window, by = closed.split.window, closed.split.coefficients
            work = work_within(late.line, window.start_us, window.end_us, by)
            if work is None:
                continue
            before = closed.split.unobserved_units
            charge, closed.split = claim(closed.split, work)
            left = closed.split.unobserved_units
            if before > left:
                idle = apportion(closed.unobserved_idle, [before - left, left])[0]
                closed.unobserved_idle -= idle
                late.idle_pico += idle
            else:
                continue
            late.charge += charge
            self.lines.charged += charge
            self.lines.unobserved -= charge
            self._moved.append(
                Movement(
                    start_us=window.start_us,
                    end_us=window.end_us,
                    total=NOTHING,
                    charged=charge,
                    idle=NOTHING,
                    unobserved=NOTHING - charge,
                    busy_us=0,
                    tokens=NO_TOKENS,
                    method=by.method,
                    residual=by.residual,
                    charges=(AttemptCharge(late.line.attempt, charge, idle),),
                )
            )

    def _settle(self, one: _Open) -> None:
        by = self._calibrator.coefficients()
        loaded = one.charge.money_pico + one.idle_pico
        self._settled.append(Settlement(one.line.attempt, one.charge, loaded, by.method, by.residual))

    # -- what was measured

    def _busy_spans(self) -> list[tuple[int, int]]:
        """When something ran: our attempts, and times at both ends of which the engine says so."""
        spans = [(one.line.started_us, one.line.ended_us) for one in self._open.values()]
        before: EngineSample | None = None
        for sample in self._kept.engine:
            if sample.state != "ok":
                continue
            if before is not None and before.running and sample.running and not sample.restarted:
                spans.append((before.sampled_at_us, sample.sampled_at_us))
            before = sample
        return spans

    def _calibrate(self, end_us: int, spans: list[tuple[int, int]]) -> None:
        """Give the calibrator the looks up to an instant, each once."""
        for sample in self._kept.engine:
            at = sample.sampled_at_us
            if not self._calibrated_to < at <= end_us:
                continue
            self._calibrated_to = at
            prompt, output = sample.computed_prompt_tokens, sample.generation_tokens
            if sample.restarted or sample.interval_us <= 0 or prompt is None or output is None:
                continue
            counted = sample.counted
            self._calibrator.observe(
                Observation(
                    busy_time(spans, at - sample.interval_us, at),
                    prompt,
                    output,
                    counted.get("flops", 0.0),
                    counted.get("read_bytes", 0.0) + counted.get("write_bytes", 0.0),
                    counted.get("steps", 0.0),
                )
            )

    def _engine_tokens(self, start_us: int, end_us: int) -> Tokens | None:
        """What the engine itself counted; None where that is not known."""
        covered, prompt, cached, output = 0, 0.0, 0.0, 0.0
        for sample in self._kept.engine:
            at, length = sample.sampled_at_us, sample.interval_us
            inside = min(at, end_us) - max(at - length, start_us)
            if inside <= 0 or sample.computed_prompt_tokens is None or sample.generation_tokens is None:
                continue
            covered += inside
            prompt += sample.computed_prompt_tokens * inside / length
            cached += (sample.cached_prompt_tokens or 0) * inside / length
            output += sample.generation_tokens * inside / length
        if covered < self._config.least_coverage * (end_us - start_us):
            return None
        return Tokens(round(prompt), round(cached), round(output))

    def _energy(self, start_us: int, end_us: int) -> tuple[int, int | None]:
        """Millijoules of all its GPUs, and what they draw at rest."""
        energy, kept = 0, self._kept
        for gpu, samples in kept.gpus.items():
            known = list(samples)
            energy += energy_between(known, start_us, end_us).millijoules
            rest = idle_watts(known)
            if rest is not None:
                kept.idle_mw[gpu] = round(rest * 1000)
        known_rest = kept.gpus and len(kept.idle_mw) == len(kept.gpus)
        return energy, sum(kept.idle_mw.values()) if known_rest else None


def _cache_saving(parts: Split, cached_tokens: int) -> int:
    """At what a prompt token that was computed in the same window cost; nothing where none was worked on."""
    price = present_price([parts])
    return cache_saving(cached_tokens, price) if price is not None else 0


def _tokens_of(works: Iterable[Work]) -> Tokens:
    counts = [(work.prompt_tokens, work.cached_tokens, work.output_tokens) for work in works]
    return Tokens(*map(sum, zip(*counts, strict=True))) if counts else NO_TOKENS
