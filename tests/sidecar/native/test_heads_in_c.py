"""Heads, frames and ids are the same in C and in Python, or left to Python."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.alike import often

from collector.journal import FrameKind, frame_bytes
from sidecar.call import drawn_ids_in_python
from sidecar.http.fields import HeaderList, field_lines_in_python
from sidecar.http.head import HeadError, read_response_head_in_python
from sidecar.native import native

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

HEAD = (
    b"HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 812\r\nConnection: keep-alive\r\nx-request-id: req_1 \t\r\nx-empty:\r\n"
    b"set-cookie: a=\xe9"
)
HEADS = [
    HEAD,
    b"HTTP/1.1 200",
    b"HTTP/1.0 204 \r\ncontent-length: 0",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nX-A: 1\r\nX-A: 2",
]
ODD = [
    b"",
    b"HTTP/1.1 099 No",
    b"HTTP/2 200 OK",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\nx-b: 2",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5 ",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
    b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
    b"HTTP/1.1 200 OK\r\nconnection: x-a, close\r\nx-a: 1",
    b"HTTP/1.1 200 OK\r\nx a: 1",
    b"HTTP/1.1 200 OK\r\n folded: 1",
    b"HTTP/1.1 200 OK\r\nx-a: \x01",
    b"HTTP/1.1 200 OK\nx-a: 1",
    b"HTTP/1.1 200 OK\r\nx-a: 1\rx-b: 2",
    b"HTTP/1.1 200 OK\r\n" + b"x" * 65 + b": 1",
]


def in_python(read: Callable[..., Any], *given: object) -> Any:
    """What Python says; its error where it refuses."""
    try:
        return read(*given)
    except (HeadError, ValueError) as error:
        return type(error)


def same_or_handed_on(head: bytes, most: int = 100) -> bool:
    read = native.read_response_head(head, most)
    if read is None:
        return False
    assert read == in_python(read_response_head_in_python, head, most)
    return True


@pytest.mark.parametrize("head", HEADS)
def test_an_ordinary_head_of_a_reply_is_read_in_c(head: bytes) -> None:
    assert same_or_handed_on(head)
    assert not same_or_handed_on(HEAD, 6)


@pytest.mark.parametrize("head", ODD)
def test_an_odd_head_is_left_to_python(head: bytes) -> None:
    assert native.read_response_head(head, 100) is None


@pytest.mark.parametrize("head", HEADS + ODD)
def test_a_head_with_any_byte_missing_or_another_is_read_alike_or_handed_on(head: bytes) -> None:
    chance = random.Random(7)
    for place in range(len(head)):
        other = bytes([chance.choice(b"\r\n: \t\x00\x7f\x80\xff,aZ0;")])
        same_or_handed_on(head[:place])
        same_or_handed_on(head[:place] + head[place + 1 :])
        same_or_handed_on(head[:place] + other + head[place + 1 :])
        same_or_handed_on(head[:place] + other + head[place:])


names = (
    st.sampled_from([b"x-a", b"X-B", b"Host", b"content-length", b"", b"a b", b"\xe9", b"x" * 70])
    | st.binary()
)
values = st.sampled_from([b"", b" 1 ", b"a\tb", b"\xe9", b"a\r\nb", b"\x7f"]) | st.binary()


@often
@given(st.lists(st.tuples(names, values), max_size=4))
def test_fields_are_written_alike_or_left_to_python(fields: HeaderList) -> None:
    lines = native.field_lines(fields)
    if lines is not None:
        assert lines == in_python(field_lines_in_python, fields)
    elif all(len(name) <= 64 for name, _ in fields):
        assert in_python(field_lines_in_python, fields) is ValueError


def test_what_is_no_list_of_fields_is_left_to_python() -> None:
    for odd in ((), [b"x-a"], [(b"x-a",)], [(b"x-a", "1")], [[b"x-a", b"1"]]):
        assert native.field_lines(odd) is None


@often
@given(st.integers(1, (1 << 64) - 1), st.sampled_from(FrameKind), st.binary(max_size=300))
def test_a_frame_of_the_journal(sequence: int, kind: FrameKind, payload: bytes) -> None:
    assert native.frame_bytes(sequence, kind, payload) == frame_bytes(sequence, kind, payload)


@often
@given(st.integers(0, (1 << 48) - 1), st.binary(min_size=48, max_size=48))
def test_ids_of_a_call(unix_ms: int, drawn: bytes) -> None:
    assert native.drawn_ids(unix_ms, drawn) == drawn_ids_in_python(unix_ms, drawn)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("read_response_head", ("x", 1)),
        ("read_response_head", (b"x",)),
        ("frame_bytes", (1, 1, "x")),
        ("drawn_ids", (1, b"short")),
    ],
)
def test_arguments_of_another_kind_are_refused(name: str, given: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        getattr(native, name)(*given)


def test_numbers_that_no_frame_can_hold_are_refused() -> None:
    for sequence, kind in ((-1, 1), (1 << 64, 1), (1, 256), (1, -1)):
        with pytest.raises((OverflowError, ValueError)):
            native.frame_bytes(sequence, kind, b"")
