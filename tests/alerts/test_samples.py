"""Samples: read as Prometheus reads them, bounded, and ended when they end."""

import math

from hypothesis import given
from hypothesis import strategies as st

from alerts.evaluation import extrapolated, quantile_of
from alerts.samples import Samples, parse_exposition
from collector.export.exposition import label_text

EVERY = {"job": "j", "instance": "i"}


def parsed(text: str) -> list[tuple[str, dict[str, str], float]]:
    found = parse_exposition(text, lambda name: True, EVERY)
    return [(name, {k: v for k, v in labels if k not in EVERY}, value) for name, labels, value in found]


def test_an_exposition_is_read_line_by_line_and_nonsense_is_passed_over() -> None:
    text = '# HELP a b\na 1\nb{x="1",y="2",} 2.5e3 1700000000\nnonsense {\nc{x="} 1\nd +Inf\ne words\n'
    assert parsed(text) == [("a", {}, 1.0), ("b", {"x": "1", "y": "2"}, 2500.0), ("d", {}, math.inf)]


@given(st.dictionaries(st.sampled_from(["a", "b_c", "d1"]), st.text(min_size=1), max_size=3))
def test_any_label_value_comes_back_as_it_was(labels: dict[str, str]) -> None:
    """H06 from the other side: quotes, newlines, backslashes and braces."""
    text = f"m{{{label_text(list(labels), list(labels.values()))}}} 1\n"
    assert parsed(text) == [("m", {name: value for name, value in labels.items() if value}, 1.0)]


def test_a_label_that_is_ours_by_name_is_kept_under_another() -> None:
    (found,) = parse_exposition('m{job="theirs"} 1', lambda name: True, EVERY)
    assert dict(found[1]) == {"exported_job": "theirs", "job": "j", "instance": "i"}


def test_a_series_that_is_not_there_any_more_has_no_value() -> None:
    samples = Samples({"m": 60.0})
    samples.take("t", 0, [("m", (("a", "1"),), 1.0), ("m", (("a", "2"),), 2.0)])
    samples.take("t", 15, [("m", (("a", "1"),), 1.0)])
    assert [series.at(16) for series in samples.select("m")] == [1.0, None]
    assert [series.at(400) for series in samples.select("m")] == [None, None]


def test_old_samples_and_dead_series_take_no_room() -> None:
    samples = Samples({"m": 60.0}, most_series=10)
    for now in range(0, 20_000, 15):
        samples.take("t", now, [("m", (("n", str(now // 3000)),), float(now))])
        samples.forget_before(now)
    assert len(samples) <= 2
    assert all(len(series.times) < 100 for series in samples.select("m"))
    assert samples.refused == 0


def test_more_series_than_there_is_room_for_are_counted_and_left_out() -> None:
    samples = Samples({"m": 60.0}, most_series=10)
    samples.take("t", 0, [("m", (("n", str(n)),), 1.0) for n in range(25)])
    assert (len(samples), samples.refused) == (10, 15)


def test_what_no_rule_reads_is_not_kept() -> None:
    samples = Samples({"m": 60.0})
    samples.take("t", 0, [("other", (), 1.0)])
    assert len(samples) == 0


def test_a_counter_that_was_set_back_rose_by_what_it_shows_since() -> None:
    # Full window, samples at both ends: 5 to 8, back to 0, up to 2.
    pairs = [(0.0, 5.0), (10.0, 8.0), (20.0, 0.0), (30.0, 2.0)]
    assert extrapolated(pairs, 30.0, 30.0, counter=True) == 5.0  # 3 + 0 + 2
    assert extrapolated(pairs[:1], 30.0, 30.0, counter=True) is None


def test_a_quantile_lies_within_its_bucket() -> None:
    # 100 calls: 90 within 1 s, 10 more within 5 s; the 95th is halfway through the upper bucket.
    assert quantile_of([(1.0, 90.0), (5.0, 100.0), (math.inf, 100.0)], 0.95) == 3.0
    assert quantile_of([(1.0, 0.0), (math.inf, 10.0)], 0.95) == 1.0
    assert math.isnan(quantile_of([(1.0, 0.0), (math.inf, 0.0)], 0.95))
