"""Token classes contain each other as the conventions say, and no count is impossible."""

import pytest

from collector.domain.usage import Usage


def test_uncached_input_is_what_neither_came_from_nor_went_to_the_cache() -> None:
    usage = Usage(input_tokens=100, cache_read_input_tokens=60, cache_write_input_tokens=30)

    assert usage.uncached_input_tokens == 10


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": -1},
        {"output_tokens": -1},
        {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_write_input_tokens": 3},
        {"input_tokens": 5, "cache_write_input_tokens": 2, "cache_write_1h_input_tokens": 3},
        {"output_tokens": 5, "reasoning_output_tokens": 6},
        {"audio_input_tokens": -1},
    ],
)
def test_impossible_counts_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"exceed|negative"):
        Usage(**counts)
