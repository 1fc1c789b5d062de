"""Metrics read back as they were written."""

from dashboards.exposition import Sample, samples

TEXT = r"""
# HELP a_total Some help.
# TYPE a_total counter
a_total{x="1",y="with \"quotes\", and\nlines"} 3
a_total{x="2"} 1e3 1700000000
b 0.5
ab_total 7
b NaNsense
"""


def test_the_samples_asked_for_come_with_their_labels() -> None:
    assert samples(TEXT, frozenset({"a_total", "b"})) == [
        Sample("a_total", {"x": "1", "y": 'with "quotes", and\nlines'}, 3.0),
        Sample("a_total", {"x": "2"}, 1000.0),
        Sample("b", {}, 0.5),
    ]


def test_what_is_no_exposition_has_no_samples() -> None:
    assert samples("<html>\nb {\nb{", frozenset({"b", "<html>"})) == []
