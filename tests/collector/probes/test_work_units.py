import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.probes.gpu_cost import CapacityPrice, Window, Work, split
from collector.probes.work_units import (
    Calibrator,
    Coefficients,
    Observation,
    Peaks,
    calibrate,
    calibrate_by_roofline,
    nonnegative_least_squares,
    peaks_of,
    prior,
    spread,
)


def mixed(
    rng: random.Random, seconds: int, prompt_ps: float, output_ps: float, noise: float = 0.0
) -> list[Observation]:
    found = []
    for _ in range(seconds):
        prompt, output = rng.randrange(0, 4000), rng.randrange(0, 400)
        busy = (prompt * prompt_ps + output * output_ps) / 1e6
        found.append(Observation(round(busy * rng.uniform(1 - noise, 1 + noise)), prompt, output))
    return found


def test_work_is_found_from_seconds_with_different_mixtures() -> None:
    found = calibrate(mixed(random.Random(1), 60, 50e6, 1000e6))

    assert found is not None
    assert (found.method, found.observations) == ("calibrated", 60)
    assert found.prompt_ps == pytest.approx(50e6, rel=0.001)
    assert found.output_ps == pytest.approx(1000e6, rel=0.001)
    assert found.residual == pytest.approx(0, abs=1e-4)


def test_the_time_of_a_step_is_laid_on_its_output_tokens() -> None:
    rng = random.Random(8)
    rows = []
    for _ in range(60):
        prompt, output, steps = rng.randrange(4000), rng.randrange(100, 400), rng.randrange(20, 60)
        rows.append(Observation(prompt * 50 + output * 400 + steps * 8000, prompt, output, steps=steps))

    found = calibrate(rows)

    assert found is not None
    assert found.prompt_ps == pytest.approx(50e6, rel=0.01)
    per_output = sum(one.steps for one in rows) / sum(one.output_tokens for one in rows)
    assert found.output_ps == pytest.approx(400e6 + 8000e6 * per_output, rel=0.01)


def test_noise_shows_in_the_residual() -> None:
    found = calibrate(mixed(random.Random(2), 600, 50e6, 1000e6, noise=0.4))
    assert found is not None
    assert found.output_ps / found.prompt_ps == pytest.approx(20, rel=0.15)
    assert found.residual == pytest.approx(0.23, abs=0.04)  # uniform noise of 40 %: 0.4 / sqrt 3


def test_too_few_or_too_equal_seconds_calibrate_nothing() -> None:
    rows = mixed(random.Random(3), 19, 50e6, 1000e6)
    assert calibrate(rows) is None
    assert calibrate([Observation(1000, 100, 10)] * 500) is None
    assert calibrate([Observation(1000, 100, 0)] * 500) is None
    assert calibrate([]) is None


def test_a_fit_that_says_tokens_are_free_is_not_believed() -> None:
    rng = random.Random(4)
    rows = [Observation(round(output * 1000), rng.randrange(4000), output) for output in range(1, 300)]
    backwards = [one._replace(busy_us=max(1, one.busy_us - round(one.prompt_tokens) * 20)) for one in rows]
    assert calibrate(backwards) is None


def test_the_roofline_stands_in_until_there_is_enough_and_the_prior_before_that() -> None:
    peaks = Peaks(flops=1e12, bytes=1e11)
    rng = random.Random(5)
    calibrator = Calibrator(seconds=100, peaks=peaks, output_ratio=5)
    assert calibrator.coefficients() == prior(5)

    methods = []
    for one in mixed(rng, 60, 50e6, 1000e6):
        # 2e7 FLOP a prompt token: 20 us; 6e7 bytes an output token: 600 us.
        calibrator.observe(one._replace(flops=2e7 * one.prompt_tokens, moved_bytes=6e7 * one.output_tokens))
        methods.append(calibrator.coefficients().method)

    assert methods == ["prior"] * 7 + ["mfu"] * 12 + ["calibrated"] * 41


def test_the_roofline_adds_what_is_computed_and_what_is_moved() -> None:
    rows = [
        Observation(0, 1000, 0, flops=0.9e12, moved_bytes=1e10),  # 0.9 s of computing, 0.1 s of moving
        Observation(0, 0, 100, flops=1e11, moved_bytes=4e10),  # 0.1 s and 0.4 s
    ] * 10
    found = calibrate_by_roofline(rows, Peaks(flops=1e12, bytes=1e11))
    assert found is not None
    assert (found.prompt_ps, found.output_ps, found.method) == (10**9, 5 * 10**9, "mfu")


def test_a_calibrator_forgets_and_heeds_no_empty_second() -> None:
    calibrator = Calibrator(seconds=50)
    for one in mixed(random.Random(6), 50, 50e6, 1000e6):
        calibrator.observe(one)
    before = calibrator.coefficients()
    for empty in (Observation(0, 5, 5), Observation(10, 0, 0)):
        calibrator.observe(empty)
    assert calibrator.coefficients() == before

    for one in mixed(random.Random(7), 50, 100e6, 1000e6):
        calibrator.observe(one)
    assert calibrator.coefficients().prompt_ps == pytest.approx(100e6, rel=0.01)


def test_a_calibration_outlasts_monotonous_traffic_but_not_another_model() -> None:
    calibrator = Calibrator(seconds=50)
    for one in mixed(random.Random(9), 50, 50e6, 1000e6):
        calibrator.observe(one)
    good = calibrator.coefficients()
    for _ in range(50):
        calibrator.observe(Observation(10_000, 0, 10))
    assert calibrator.coefficients() == good

    calibrator.forget()
    assert calibrator.coefficients().method == "prior"


def test_gpus_are_known_by_the_drivers_name() -> None:
    assert peaks_of("NVIDIA H200") == Peaks(flops=9.89e14, bytes=4.8e12)
    assert peaks_of("NVIDIA A100-SXM4-80GB") == Peaks(flops=3.12e14, bytes=2.039e12)
    assert peaks_of("NVIDIA L40S") != peaks_of("NVIDIA L4")
    assert peaks_of("Some Other Thing") is None


def test_no_work_at_all_is_no_unit() -> None:
    with pytest.raises(ValueError, match="splits nothing"):
        Coefficients(prompt_ps=0, output_ps=0, method="prior")


figures = st.floats(0, 1e6, allow_nan=False).map(lambda value: round(value, 3))


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.tuples(figures, figures), figures), min_size=1, max_size=20),
    st.tuples(figures, figures),
)
def test_no_other_nonnegative_weights_come_closer(
    rows: list[tuple[tuple[float, ...], float]], other: tuple[float, float]
) -> None:
    def left(weights: tuple[float, ...]) -> float:
        return sum(
            (target - sum(w * x for w, x in zip(weights, row, strict=True))) ** 2 for row, target in rows
        )

    best, residual = nonnegative_least_squares(rows)

    assert min(best) >= 0
    square = sum(target * target for _, target in rows)
    least = left(best)
    slack = 1e-6 * square + 1e-9
    for step in (other, *((max(0.0, b + d * 1e-3 * (b + 1e-3)), c) for b, c in [best] for d in (-1, 1))):
        assert least <= left(step) + slack
    assert residual**2 * square == pytest.approx(least, rel=1e-6, abs=slack)
    assert 0 <= spread([row for row, _ in rows]) <= 1 + 1e-9


# ---- against an engine whose every step is known


@pytest.mark.parametrize(("prefillers", "decoders"), [(2, 6), (4, 3), (1, 10)])
def test_charges_by_class_are_within_a_twentieth_of_what_the_engines_steps_say(
    engine_steps: Any, prefillers: int, decoders: int
) -> None:
    clients = {"P": prefillers, "D": decoders}
    run = engine_steps.simulate(random.Random(prefillers * 100 + decoders), clients, 120.0)
    calibrator = Calibrator()
    works, busy_us = [], 0
    for second in range(120):
        inside = [step for step in run.steps if second <= step.at_s < second + 1]
        busy = min(1_000_000, round(sum(step.seconds for step in inside) * 1e6))
        busy_us += busy
        prompt = {kind: sum(step.prompt[kind] for step in inside) for kind in "PD"}
        output = {kind: sum(step.output[kind] for step in inside) for kind in "PD"}
        calibrator.observe(Observation(busy, sum(prompt.values()), sum(output.values()), steps=len(inside)))
        works += [Work(attempt=kind, prompt_tokens=prompt[kind], output_tokens=output[kind]) for kind in "PD"]

    by = calibrator.coefficients()
    assert by.method == "calibrated"
    window = Window(start_us=0, end_us=120_000_000, busy_us=busy_us)
    parts = split(window, CapacityPrice(hour_pico=36 * 10**11), works, by)

    charged = parts.charges["P"].money_pico / (parts.total.money_pico - parts.idle.money_pico)
    by_tokens = sum(w.prompt_tokens + w.output_tokens for w in works if w.attempt == "P") / sum(
        w.prompt_tokens + w.output_tokens for w in works
    )
    assert charged == pytest.approx(run.share("P"), abs=0.05)
    assert abs(by_tokens - run.share("P")) > 0.15


def test_a_real_gpu_servers_log_gives_the_same_work_of_a_token_at_every_load(shared_data: Path) -> None:
    """Llama 3.2 1B on a 24 GB GPU, throughputs each half second, at loads that differ five fold."""
    log = parquet.read_table(shared_data / "gpu_serving_logs" / "vllm_log.parquet").to_pylist()
    found = {}
    for load in (300, 500, 700, 900, 1500):
        rows = sorted(
            (row for row in log if row["load_scale"] == load), key=lambda row: float(row["timestamp"])
        )
        looks = []
        for before, after in pairwise(rows):
            seconds = after["timestamp"] - before["timestamp"]
            if 0 < seconds < 2 and after["num_running"]:
                prompt = after["prompt_throughput"] * seconds
                output = after["generation_throughput"] * seconds
                looks.append(Observation(round(seconds * 1e6), prompt, output))
        found[load] = calibrate(looks)

    works = [by for by in found.values() if by is not None]
    assert len(works) == 5
    outputs = [by.output_ps for by in works]
    assert max(outputs) / min(outputs) < 1.15
    assert all(6 < by.output_ps / by.prompt_ps < 11 for by in works)
    assert all(by.residual is not None and by.residual < 0.5 for by in works)
