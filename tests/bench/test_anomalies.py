"""The detectors reach their figures on the labelled series, and the scorers are right."""

from pathlib import Path

import pytest
from anomalies import (
    NAB_THRESHOLD,
    NabSeries,
    client_tally,
    cloud_tally,
    nab_detections,
    nab_scores,
    nab_series,
    runs,
)

pytest.importorskip("numpy", reason="the extra 'alerts' is not installed")
pytest.importorskip("pyarrow")


def test_silence_scores_nothing_and_detecting_each_windows_first_row_scores_everything() -> None:
    series = {"one": NabSeries([0.0] * 1000, [(400, 499), (700, 799)])}

    silent = nab_scores(series, {"one": []})
    perfect = nab_scores(series, {"one": [400, 700]})

    assert silent == {"standard": 0.0, "reward_low_FP": 0.0, "reward_low_FN": 0.0}
    assert perfect == pytest.approx({"standard": 100.0, "reward_low_FP": 100.0, "reward_low_FN": 100.0})


def test_a_false_detection_costs_what_the_profile_says() -> None:
    series = {"one": NabSeries([0.0] * 1000, [(400, 499)])}

    scores = nab_scores(series, {"one": [300, 400]})

    # One window: null is -1, perfect 1, so 0.11 is 5.5 of 100; with fn = 2 it is 0.11 of 3.
    assert scores["standard"] == pytest.approx(100 - 5.5)
    assert scores["reward_low_FP"] == pytest.approx(100 - 11)
    assert scores["reward_low_FN"] == pytest.approx(100 - 11 / 3)


def test_a_detection_in_the_run_in_counts_nothing() -> None:
    series = {"one": NabSeries([0.0] * 1000, [(400, 499)])}
    assert nab_scores(series, {"one": [10, 149]})["standard"] == 0.0


def test_flagged_rows_a_few_rows_apart_are_one_alarm() -> None:
    flags = [place in (3, 5, 9, 20) for place in range(25)]
    assert runs(flags, gap=3) == [(3, 9), (20, 20)]


def test_a_tenth_of_the_numenta_series_reaches_the_figure_of_all(shared_data: Path) -> None:
    chosen = dict(list(nab_series(shared_data).items())[2::10])
    detections = {name: nab_detections(one.values, NAB_THRESHOLD) for name, one in chosen.items()}
    assert nab_scores(chosen, detections)["standard"] >= 68


def test_labelled_cloud_telemetry_is_found_with_few_false_alarms(shared_data: Path) -> None:
    tally = cloud_tally(shared_data)
    assert tally.f1 > 0.55
    assert tally.false_a_day <= 0.05
    assert tally.flagged < 0.1  # A detector that flags everything would find everything.


def test_faults_of_every_third_client_are_found_with_few_false_alarms(shared_data: Path) -> None:
    tally = client_tally(shared_data, keep=lambda number: number % 3 == 0)["all"]
    assert tally.recall >= 0.6
    assert tally.false_a_day <= 0.3


@pytest.mark.slow
def test_all_shared_series_reach_their_figures(shared_data: Path) -> None:
    series = nab_series(shared_data)
    detections = {name: nab_detections(one.values, NAB_THRESHOLD) for name, one in series.items()}
    clients = client_tally(shared_data)["all"]

    assert nab_scores(series, detections)["standard"] >= 68
    assert clients.recall >= 0.6
    assert clients.false_a_day <= 0.3
