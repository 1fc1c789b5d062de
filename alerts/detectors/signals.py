"""The signals of one subject, minute by minute, and which of them are strange now.

Spend and calls over windows of 5, 30 and 120 minutes; cost, tokens, attempts and time per call;
failed calls; input read from cache; silence; and a drift that no window sees.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from alerts.detectors.finding import Kind, Point, State
from alerts.detectors.rates import RateTests
from alerts.detectors.shifts import Proportion, Samples, Shift, Silence, surprise
from collector.domain.money import PICO_PER_USD

WINDOWS = (5, 30, 120)
"""Minutes."""
MINUTE_S = 60
_HOUR_S = 3600
_DRIFT_S = 600
_SEASON_SAMPLES = 14
"""Values kept for each hour of the day: two of each day's, for a week."""

UNITS = {
    Kind.SPEND_RATE: "USD/h",
    Kind.CALL_RATE: "calls/min",
    Kind.COST_PER_CALL: "USD/call",
    Kind.UNIT_PRICE: "USD per million weighted tokens",
    Kind.INPUT_PER_CALL: "tokens/call",
    Kind.OUTPUT_PER_CALL: "tokens/call",
    Kind.RETRIES: "attempts/call",
    Kind.ERROR_RATE: "share of calls",
    Kind.CACHE_HITS: "share of input tokens",
    Kind.LATENCY: "ms",
    Kind.STOP: "minutes of silence",
    Kind.SLOW_LEAK: "USD/h",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What is worth waking someone for; moved on the user's own history by tuning."""

    deviations: float = 3.5
    """Of a signal's own past, from which on it is strange."""
    min_usd_per_hour: float = 0.25
    """Excess spend below this is no incident of spend."""
    min_calls: int = 12
    """Calls that a window needs before a mean or a share of it says anything."""
    hold_minutes: int = 2
    """Minutes in a row that a signal must be strange for."""
    quiet_minutes: int = 10
    """Minutes without anything strange after which an incident is over."""
    accept_minutes: int = 720
    """An incident as old as this is the new rule: it ends, and the past is learnt anew."""


class Strange(NamedTuple):
    """One signal that is off."""

    deviations: float
    value: float
    """In the unit of :data:`UNITS`."""
    baseline: float
    window: int
    """Minutes that it was seen over."""


@dataclass(slots=True)
class Sums:
    """What a stretch of minutes adds up to."""

    calls: int = 0
    failed: int = 0
    attempts: int = 0
    cost: int = 0
    """Pico-USD."""
    input: int = 0
    output: int = 0
    cached: int = 0
    log_ms: float = 0.0
    """Sum of the calls' log durations."""
    timed: int = 0

    @classmethod
    def of(cls, point: Point) -> Self:
        """One minute; a latency bucket counts at its middle in log."""
        timed = sum(n for _, n in point.latency)
        log_ms = sum(n * (bucket + 0.5) for bucket, n in point.latency) * math.log(2) / 2
        return cls(
            point.calls, point.failed, point.attempts, point.cost_pico, point.input_tokens,
            point.output_tokens, point.cache_read_tokens, log_ms, timed,
        )  # fmt: skip

    def moved(self, other: "Sums", sign: int) -> None:
        """Add ``other``, or take it away."""
        self.calls += sign * other.calls
        self.failed += sign * other.failed
        self.attempts += sign * other.attempts
        self.cost += sign * other.cost
        self.input += sign * other.input
        self.output += sign * other.output
        self.cached += sign * other.cached
        self.log_ms += sign * other.log_ms
        self.timed += sign * other.timed

    def log_means(self) -> Iterator[tuple[Kind, float]]:
        """The log of each mean per call that is not zero."""
        answered = self.calls - self.failed
        if answered <= 0:
            return
        for kind, total in (
            (Kind.COST_PER_CALL, self.cost),
            (Kind.INPUT_PER_CALL, self.input),
            (Kind.OUTPUT_PER_CALL, self.output),
        ):
            if total > 0:
                yield kind, math.log(total / answered)
        # Tokens in the commonest proportion of prices, so that only prices and models are left to vary.
        weighted = (self.input - self.cached) + 0.1 * self.cached + 5 * self.output
        if self.cost > 0 and weighted > 0:
            yield Kind.UNIT_PRICE, math.log(self.cost / weighted)
        if self.attempts > 0:
            yield Kind.RETRIES, math.log(self.attempts / self.calls)
        if self.timed > 0:
            yield Kind.LATENCY, self.log_ms / self.timed


_FLOORS = {Kind.UNIT_PRICE: 0.04, Kind.RETRIES: 0.1, Kind.LATENCY: 0.12, Kind.CACHE_HITS: 0.06}
_LEAST_RATIO = {
    Kind.SPEND_RATE: 2.0,
    Kind.CALL_RATE: 3.0,
    Kind.COST_PER_CALL: 1.5,
    Kind.UNIT_PRICE: 1.25,
    Kind.INPUT_PER_CALL: 1.6,
    Kind.OUTPUT_PER_CALL: 1.6,
    Kind.RETRIES: 1.3,
    Kind.LATENCY: 1.6,
}
_SCALE = {Kind.COST_PER_CALL: PICO_PER_USD, Kind.UNIT_PRICE: PICO_PER_USD // 10**6}
_NOISE = {Kind.LATENCY: 1.0, Kind.COST_PER_CALL: 1.0, Kind.OUTPUT_PER_CALL: 1.0, Kind.UNIT_PRICE: 0.1}
"""Variance, in log, of one call's share in a mean."""
_SPENDING = (Kind.SPEND_RATE, Kind.COST_PER_CALL, Kind.UNIT_PRICE, Kind.INPUT_PER_CALL, Kind.OUTPUT_PER_CALL)
_SAMPLED = (*_LEAST_RATIO, Kind.CACHE_HITS)


class Signals:
    """Everything known of one subject's past, and the judgement on each minute."""

    VERSION = 1

    def __init__(self, sensitivity: Sensitivity) -> None:
        self._sensitivity = sensitivity
        self._minutes: deque[Sums] = deque(maxlen=WINDOWS[-1])
        self._windows = {minutes: Sums() for minutes in WINDOWS}
        self._samples = {
            (kind, minutes): Samples(floor=_FLOORS.get(kind, 0.2)) for kind in _SAMPLED for minutes in WINDOWS
        }
        self._seasons: dict[Kind, list[list[float]]] = {
            kind: [[] for _ in range(24)] for kind in (Kind.SPEND_RATE, Kind.CALL_RATE)
        }
        self._errors = Proportion()
        self._hitting = Proportion(hits=1.0, total=2.0)
        """Minutes with calls in which something was read from cache."""
        self._hitless = 0
        """Minutes with calls in a row in which nothing was."""
        self._silence = Silence()
        self._drift = RateTests(step_s=_DRIFT_S)
        self._drift_cost = 0
        self._drifting: Strange | None = None
        self.minutes = 0
        """Minutes seen."""
        self._learnt = 0

    def add(self, point: Point) -> dict[Kind, Strange]:
        """Take in one minute; what is strange after it."""
        now = Sums.of(point)
        for minutes, sums in self._windows.items():
            if len(self._minutes) >= minutes:
                sums.moved(self._minutes[-minutes], -1)
            sums.moved(now, 1)
        self._minutes.append(now)
        self.minutes += 1
        found: dict[Kind, Strange] = {}
        for minutes in WINDOWS:
            if self.minutes >= minutes:
                self._judge(found, minutes, point.at)
        self._judge_hitless(found, now)
        self._judge_errors(found)
        self._judge_silence(found, point)
        self._judge_drift(found, point)
        return found

    def pass_by(self, since: int, until: int) -> None:
        """Minutes from ``since`` to before ``until`` that nobody judged: the hour of the day goes on."""
        ends = until // _DRIFT_S - since // _DRIFT_S
        for _ in range(min(ends, 7 * 86_400 // _DRIFT_S)):
            self._drift.score(self._drift_cost * _HOUR_S / _DRIFT_S / PICO_PER_USD * 1000)
            self._drift_cost = 0

    def learn(self, point: Point) -> None:
        """Make the minute just added part of the past."""
        now = self._minutes[-1]
        self._learnt += 1
        self._errors.learn(now.failed, now.calls)
        if now.input:
            self._hitting.learn(1.0 if now.cached else 0.0, 1.0)
        for minutes, sums in self._windows.items():
            if self._learnt % minutes or self.minutes < minutes:
                continue
            for kind, log_rate in self._log_rates(sums, minutes):
                self._samples[kind, minutes].learn(log_rate)
                if minutes == WINDOWS[1]:
                    season = self._seasons[kind][point.at // _HOUR_S % 24]
                    season.append(log_rate)
                    del season[:-_SEASON_SAMPLES]
            if sums.calls - sums.failed >= self._sensitivity.min_calls // 2:
                for kind, log_mean in sums.log_means():
                    self._samples[kind, minutes].learn(log_mean)
                if sums.input:
                    self._samples[Kind.CACHE_HITS, minutes].learn(sums.cached / sums.input)

    def forget(self) -> None:
        """Start anew: what was strange has become the rule."""
        for samples in self._samples.values():
            samples.forget()
        self._errors = Proportion()
        self._hitting, self._hitless = Proportion(hits=1.0, total=2.0), 0
        self._silence = Silence()

    def excess(self, minutes: int) -> int:
        """Spend above the baseline over the last ``minutes``, pico-USD an hour; below 0: less is spent."""
        samples = self._samples[Kind.SPEND_RATE, minutes]
        if not samples.known:
            return 0
        usual = samples.shift(0.0).baseline * PICO_PER_USD
        return int(self._windows[minutes].cost * 60 // minutes - usual)

    # -- judging --------------------------------------------------------------------------------

    def _log_rates(self, sums: Sums, minutes: int) -> Iterator[tuple[Kind, float]]:
        """USD an hour and calls a minute, in log; a part of a call is added, so that none has one too."""
        typical = self._samples[Kind.COST_PER_CALL, WINDOWS[0]]
        call = typical.shift(0.0).baseline if typical.known else sums.cost / max(sums.calls, 1)
        yield Kind.SPEND_RATE, math.log((sums.cost + call + 1) * 60 / minutes / PICO_PER_USD)
        yield Kind.CALL_RATE, math.log((sums.calls + 1) / minutes)

    def _judge(self, found: dict[Kind, Strange], minutes: int, at: int) -> None:
        sums = self._windows[minutes]
        calls = self._samples[Kind.CALL_RATE, minutes]
        expected = calls.shift(0.0).baseline * minutes if calls.known else 0.0
        for kind, log_rate in self._log_rates(sums, minutes):
            if sums.calls >= self._sensitivity.min_calls and log_rate > self._usual_here(kind, at):
                self._compare(found, kind, minutes, log_rate, noise=1 / max(expected, 1.0))
        if sums.calls - sums.failed >= self._sensitivity.min_calls:
            for kind, log_mean in sums.log_means():
                self._compare(found, kind, minutes, log_mean, noise=_NOISE.get(kind, 0.5) / sums.calls)
            self._judge_hits(found, minutes)

    def _compare(
        self, found: dict[Kind, Strange], kind: Kind, minutes: int, log_value: float, noise: float
    ) -> None:
        samples = self._samples[kind, minutes]
        if kind in found or not samples.known:
            return
        shift = samples.shift(log_value, noise=noise)
        if shift.deviations < self._sensitivity.deviations:
            return
        if shift.value < shift.baseline * _LEAST_RATIO[kind] or log_value < samples.highest + 0.1:
            return
        if kind in _SPENDING and not self._material(minutes, kind, shift):
            return
        scale = _SCALE.get(kind, 1)
        found[kind] = Strange(shift.deviations, shift.value / scale, shift.baseline / scale, minutes)

    def _material(self, minutes: int, kind: Kind, shift: Shift) -> bool:
        """Whether the excess is worth fifteen usual calls and the least amount an hour."""
        sums = self._windows[minutes]
        cost = sums.cost * 60 / minutes
        usual = (
            shift.baseline * PICO_PER_USD if kind is Kind.SPEND_RATE else cost * shift.baseline / shift.value
        )
        typical = self._samples[Kind.COST_PER_CALL, minutes]
        call = typical.shift(0.0).baseline if typical.known else sums.cost / max(sums.calls, 1)
        floor = max(self._sensitivity.min_usd_per_hour * PICO_PER_USD, 15 * call)
        return cost - usual >= floor

    def _usual_here(self, kind: Kind, at: int) -> float:
        """The highest log rate known of this hour of the day and its neighbours; before two days, none."""
        hour, seasons = at // _HOUR_S % 24, self._seasons[kind]
        if len(seasons[hour]) < 4:
            return -math.inf
        around = [value for lag in (-1, 0, 1) for value in seasons[(hour + lag) % 24]]
        return sorted(around)[int(0.95 * (len(around) - 1))]

    def _judge_hits(self, found: dict[Kind, Strange], minutes: int) -> None:
        sums, samples = self._windows[minutes], self._samples[Kind.CACHE_HITS, minutes]
        if Kind.CACHE_HITS in found or not samples.known or not sums.input:
            return
        share = sums.cached / sums.input
        shift = samples.shift(share, noise=0.25 / sums.calls)
        usual = math.log(shift.baseline)
        if usual < 0.1 or share > 0.7 * usual or share > samples.lowest - 0.05:
            return
        if -shift.deviations >= self._sensitivity.deviations:
            found[Kind.CACHE_HITS] = Strange(-shift.deviations, share, usual, minutes)

    def _judge_hitless(self, found: dict[Kind, Strange], now: Sums) -> None:
        """A cache that gives nothing at all shows sooner than one that gives less."""
        if now.input:
            self._hitless = 0 if now.cached else self._hitless + 1
        usual = min(self._hitting.share, 0.99)
        nats = -self._hitless * math.log(1 - usual)
        if self._hitless >= 3 and nats >= 10 and self.minutes > WINDOWS[1] and Kind.CACHE_HITS not in found:
            hits = self._samples[Kind.CACHE_HITS, WINDOWS[0]]
            share = math.log(hits.shift(0.0).baseline) if hits.known else 0.0
            if share >= 0.1:
                found[Kind.CACHE_HITS] = Strange(math.sqrt(2 * nats), 0.0, share, self._hitless)

    def _judge_errors(self, found: dict[Kind, Strange]) -> None:
        if self.minutes < WINDOWS[1]:
            return
        usual = self._errors.share
        recent = Sums()
        for count, minute in enumerate(reversed(self._minutes), 1):
            recent.moved(minute, 1)
            if count < 2 or recent.calls < 8:
                continue
            if count > 20:
                break
            nats = surprise(recent.failed, recent.calls, max(usual, 0.005))
            share = recent.failed / recent.calls
            if recent.failed >= 5 and share >= max(0.1, 3 * usual) and nats >= 10:
                found[Kind.ERROR_RATE] = Strange(math.sqrt(2 * nats), share, usual, count)
                return

    def _judge_silence(self, found: dict[Kind, Strange], point: Point) -> None:
        allowed = self._silence.observe(point.at // _HOUR_S % 24, point.calls)
        if allowed >= 1:
            quiet = self._silence.quiet
            found[Kind.STOP] = Strange(4 + allowed, quiet, quiet / allowed, min(quiet, WINDOWS[-1]))

    def _judge_drift(self, found: dict[Kind, Strange], point: Point) -> None:
        self._drift_cost += point.cost_pico
        if (point.at // MINUTE_S + 1) % (_DRIFT_S // MINUTE_S) == 0:
            # Counts of about a hundred: the drift test adds three to both sides of its ratios.
            usd_per_hour = self._drift_cost * _HOUR_S / _DRIFT_S / PICO_PER_USD
            rate = self._drift.score(usd_per_hour * 1000)
            self._drift_cost = 0
            excess = usd_per_hour - rate.expected / 1000
            self._drifting = None
            if "drift" in rate.open and excess >= self._sensitivity.min_usd_per_hour:
                self._drifting = Strange(5 + 4 * rate.drift, usd_per_hour, rate.expected / 1000, 120)
        if self._drifting is not None:
            found[Kind.SLOW_LEAK] = self._drifting

    # -- memory ---------------------------------------------------------------------------------

    def to_dict(self) -> State:
        """The past as plain data."""
        return {
            "version": self.VERSION,
            "minutes": [
                [s.calls, s.failed, s.attempts, s.cost, s.input, s.output, s.cached, s.log_ms, s.timed]
                for s in self._minutes
            ],
            "samples": [samples.to_list() for samples in self._samples.values()],
            "seasons": {str(kind): hours for kind, hours in self._seasons.items()},
            "errors": [self._errors.hits, self._errors.total],
            "hitting": [self._hitting.hits, self._hitting.total, self._hitless],
            "silence": self._silence.to_list(),
            "drift": self._drift.to_dict(),
            "drift_cost": self._drift_cost,
            "drifting": list(self._drifting) if self._drifting else None,
            "seen": self.minutes,
            "learnt": self._learnt,
        }

    @classmethod
    def from_dict(cls, state: State, sensitivity: Sensitivity) -> Self:
        """The signals that wrote ``state``.

        Raises:
            ValueError: it was written by another version.
        """
        if state.get("version") != cls.VERSION:
            raise ValueError(f"not a state of this version: {state.get('version')!r}")
        signals = cls(sensitivity)
        for row in state["minutes"]:
            signals._minutes.append(Sums(*row))
        for minutes, sums in signals._windows.items():
            for minute in list(signals._minutes)[-minutes:]:
                sums.moved(minute, 1)
        for samples, values in zip(signals._samples.values(), state["samples"], strict=True):
            samples.restore(values)
        signals._seasons = {Kind(kind): hours for kind, hours in state["seasons"].items()}
        signals._errors = Proportion(*state["errors"])
        signals._hitting, signals._hitless = Proportion(*state["hitting"][:2]), state["hitting"][2]
        signals._silence = Silence.from_list(state["silence"])
        signals._drift = RateTests.from_dict(state["drift"])
        signals._drift_cost = state["drift_cost"]
        signals._drifting = Strange(*state["drifting"]) if state["drifting"] else None
        signals.minutes, signals._learnt = state["seen"], state["learnt"]
        return signals
