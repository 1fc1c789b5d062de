from hypothesis import given
from hypothesis import strategies as st

from inference.simulator.tokens import OPENING, count_tokens, prose


def test_a_token_is_four_bytes_rounded_up() -> None:
    assert [count_tokens(text) for text in ("", "abcd", "abcde", "ü" * 3)] == [0, 1, 2, 2]


@given(tokens=st.integers(0, 5000), seed=st.integers(0, 2**64))
def test_prose_has_exactly_the_asked_tokens(tokens: int, seed: int) -> None:
    text = prose(tokens, seed)
    assert len(text) == 4 * tokens
    assert text.isascii()


def test_prose_longer_than_its_source_is_still_exact() -> None:
    assert len(prose(40_000, 5)) == 160_000


def test_prose_says_that_it_is_simulated_and_ends_with_a_full_stop() -> None:
    for seed in range(200):
        text = prose(25, seed)
        assert text.startswith(OPENING)
        assert text.endswith(".")


def test_the_same_seed_gives_the_same_text_and_others_do_not() -> None:
    assert prose(50, 1) == prose(50, 1)
    assert len({prose(50, seed * 997) for seed in range(50)}) > 40
