"""A beginning has the same place in C as in Python, however its body is written."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.alike import often

from sidecar.native import native
from sidecar.providers.rendered import prefix_key_in_python

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

BLOCK_BYTES = 64
NAMES = ["tools", "system", "instructions", "messages", "input", "prompt", "model", "tool", "a\nb", "é", ""]
texts = st.text('ab"\\/{}[],: \n\t\x7fé😀', max_size=40) | st.just("word " * 60) | st.just('\\"' * 40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(st.sampled_from(NAMES), values, max_size=8)
layouts = st.sampled_from(
    [
        {},
        {"ensure_ascii": False},
        {"separators": (",", ":")},
        {"indent": 1},
        {"separators": (" \t,\r\n", "  :\n")},
    ]
)
words = st.sampled_from(["", "t", "é", "a\udc80b"]) | st.text(st.characters())


def both(
    body: bytes, tenant: str = "t", model: str = "m", blocks: int = 16, alone: bool = False
) -> tuple[int | None, int | None]:
    """What C says, and what Python says; where C gives up, Python's word counts for both."""
    said = native.prefix_key(body, tenant, model, blocks, BLOCK_BYTES, alone)
    in_python = prefix_key_in_python(body, tenant, model, blocks, BLOCK_BYTES, alone)
    return in_python if said is None else said or None, in_python


@often
@given(bodies, layouts, words, words, st.integers(1, 20), st.booleans())
def test_a_body_has_one_place_in_both(
    fields: dict[str, Any], layout: dict[str, Any], tenant: str, model: str, blocks: int, alone: bool
) -> None:
    body = json.dumps(fields, **layout).encode()
    in_c, in_python = both(body, tenant, model, blocks, alone)
    assert in_c == in_python


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_ordinary_bodies_are_read_in_c(layout: dict[str, Any]) -> None:
    talk = [{"role": "system", "content": 'Say "no" to \\ and }, ]. ' * 30}, {"role": "user", "content": "é"}]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"enum": ["}", "]", 1.5e3, None]}}}
    for fields in (
        {"model": "m", "messages": talk, "tools": [tool] * 3, "stream": True},
        {"system": "x" * 300, "max_tokens": 5, "messages": talk, "metadata": {"messages": []}},
        {"instructions": None, "input": "y" * 300},
        {"prompt": ["z" * 100, "z" * 100], "model": "m", "temperature": -0.5},
    ):
        body = f" {json.dumps(fields, **layout)}\n".encode()
        said = native.prefix_key(body, "t", "m", 16, BLOCK_BYTES, False)
        assert said
        assert both(body) == (said, said)
    assert native.prefix_key(b"{}", "t", "m", 16, BLOCK_BYTES, False) == 0  # it was read, and has no block


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b'"x"', b"{", b'{"', b'{"prompt"', b'{"prompt":', b'{"prompt": "x',
        b'{"prompt": [1', b'{"prompt": {]', b'{"prompt": "\\"}', b"{prompt: 1}", b'{"prompt": 1 2}',
        b'{"prompt": 1,', b'{"prompt": 1, }',
        b'{"pr\\u006fmpt": "%s"}' % (b"x" * 99), b'{"prompt": "%s", "prompt": "%s"}' % (b"x" * 99, b"y" * 99),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_python(body: bytes) -> None:
    assert native.prefix_key(body, "t", "m", 16, BLOCK_BYTES, False) is None


def test_of_messages_alone_no_more_is_looked_at_than_counts() -> None:
    messages = json.dumps([{"role": "user", "content": "x" * 300}])
    for size in (1, 5, 16):
        whole = f'{{"model": "m", "tools": [], "messages": {messages}}}'.encode()
        broken = whole[: whole.index(b"[{") + size * BLOCK_BYTES + 1]
        said = native.prefix_key(whole, "t", "m", size, BLOCK_BYTES, True)
        assert said == prefix_key_in_python(whole, "t", "m", size, BLOCK_BYTES, True)
        if size < 5:
            assert native.prefix_key(broken, "t", "m", size, BLOCK_BYTES, True) == said


def test_no_piece_of_a_body_makes_it_read_beyond_the_end() -> None:
    """Bodies cut and spoilt anywhere: something is said, or nothing, and nothing breaks."""
    fields = {"system": 'a\\"b', "messages": [{"role": "user", "content": [1, -2.5, True, {}]}], "tools": []}
    whole = json.dumps(fields, indent=1).encode()
    draw = random.Random(7)
    for cut in range(len(whole)):
        assert native.prefix_key(whole[:cut], "t", "m", 16, BLOCK_BYTES, False) is None
        spoilt = bytearray(whole)
        spoilt[cut] = draw.choice(b'"\\{}[],: x\xff')
        said = native.prefix_key(bytes(spoilt), "t", "m", 16, BLOCK_BYTES, False)
        assert said is None or 0 <= said < 1 << 64


@pytest.mark.parametrize(
    "given",
    [
        (),
        (b"{}", "t", "m", 16, 64),
        ("{}", "t", "m", 16, 64, False),
        (b"{}", b"t", "m", 16, 64, False),
        (b"{}", "t", "m", "16", 64, False),
        (b"{}", "t", "m", 16, 64, 1),
    ],
)
def test_what_is_no_body_is_refused(given: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        native.prefix_key(*given)


def test_no_size_of_blocks_is_too_strange() -> None:
    body = b'{"prompt": "%s"}' % (b"x" * 200)
    assert native.prefix_key(body, "t", "m", 0, 64, False) is None
    assert native.prefix_key(body, "t", "m", 16, -1, False) is None
    assert native.prefix_key(body, "t", "m", 1 << 40, 64, False) == prefix_key_in_python(
        body, "t", "m", 1 << 40, 64, False
    )
    with pytest.raises(OverflowError):
        native.prefix_key(body, "t", "m", 1 << 80, 64, False)
