"""Digests are the same in C and in Python, whatever is digested."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.alike import often

from sidecar.native import native
from sidecar.wire.hashing import fold_in_python, told_two_ways_in_python

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

texts = (
    st.binary(max_size=64)
    | st.binary(min_size=1000, max_size=2100)
    | st.text("0123456789 \n").map(str.encode)
)
words = st.sampled_from(["system", "user", "", "é", "a\udc80b"]) | st.text(st.characters())


@often
@given(texts)
def test_two_digests_of_a_text(text: bytes) -> None:
    assert native.told_two_ways(text) == told_two_ways_in_python(text)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 2047, 2048, 2049, 5000])
def test_two_digests_at_the_sizes_where_the_way_changes(size: int) -> None:
    text = bytes(place * 37 % 251 for place in range(size))
    assert native.told_two_ways(text) == told_two_ways_in_python(text)


@often
@given(st.integers(0, (1 << 63) - 1), words, texts, words)
def test_the_hash_after_one_more_message(previous: int, role: str, text: bytes, marks: str) -> None:
    assert native.fold(previous, role, text, marks) == fold_in_python(previous, role, text, marks)
    assert native.fold(previous, role, text) == fold_in_python(previous, role, text)


@pytest.mark.parametrize(
    "given", [(), (1,), (1, "user", "text"), (1, b"user", b"text"), ("1", "user", b"text")]
)
def test_what_is_no_message_is_refused(given: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        native.fold(*given)
