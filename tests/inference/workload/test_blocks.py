import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.workload.blocks import SeenBlocks, count_blocks, parse_ranges

ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))), max_size=6
)


def test_ranges_are_read_as_the_traces_write_them() -> None:
    assert parse_ranges("1-40,57") == [(1, 40), (57, 57)]
    assert parse_ranges("") == []
    assert count_blocks(parse_ranges("1-40,57")) == 41


@pytest.mark.parametrize("text", ["5-1", "x", "1-2-3", "1-"])
def test_other_writings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"backwards|invalid literal"):
        parse_ranges(text)


def test_the_first_unseen_block_ends_the_known_prefix() -> None:
    seen = SeenBlocks()
    seen.add([(1, 10), (20, 30)])
    assert seen.leading([(1, 10), (11, 12)]) == 10
    assert seen.leading([(1, 5), (22, 40)]) == 5 + 9
    assert seen.leading([(11, 12), (1, 10)]) == 0


@given(earlier=st.lists(ranges, max_size=6), prompt=ranges)
def test_ranges_answer_as_plain_sets_of_ids_would(
    earlier: list[list[tuple[int, int]]], prompt: list[tuple[int, int]]
) -> None:
    seen, plain = SeenBlocks(), set[int]()
    for blocks in earlier:
        seen.add(blocks)
        plain |= {block for first, last in blocks for block in range(first, last + 1)}
    expected = 0
    for block in (block for first, last in prompt for block in range(first, last + 1)):
        if block not in plain:
            break
        expected += 1
    assert seen.leading(prompt) == expected
