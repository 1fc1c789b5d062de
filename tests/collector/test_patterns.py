"""Regular expressions that wait to be compiled do what compiled ones do."""

import re

import pytest

from collector.patterns import expression


def test_an_expression_finds_what_it_says_each_time() -> None:
    number = expression(r"(\d+) usd", re.I)

    for _ in range(2):
        found = number.search("it was 25 USD")
        assert found is not None
        assert found[1] == "25"
    assert number.sub("much", "25 usd") == "much"
    assert number.fullmatch("25 usd or so") is None


def test_a_mistake_shows_at_the_first_use() -> None:
    wrong = expression("(")

    with pytest.raises(re.error):
        wrong.search("anything")
