"""A head that is read by comparing it with the last one is read as if it were the first."""

import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.http.exchange import Request
from sidecar.http.head import HeadError, LastHead, read_request_head

MOST = 12
FIRST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:4000\r\nContent-Type: application/json\r\n"
    b"Content-Length: 120\r\nAuthorization: Bearer vk_1234"
)

Read = tuple[object, ...] | tuple[str, int, str]


def told(request: Request) -> Read:
    """All that a head decides."""
    return (
        request.method, request.path, request.query, tuple(request.headers), request.fields, request.length,
        request.keep_alive, request.http_version, request.expects_continue, request.body,
        request.client_address, request.received_ns,
    )  # fmt: skip


def plainly(head: bytes) -> Read:
    try:
        return told(read_request_head(head, MOST))
    except HeadError as error:
        return ("refused", error.status, error.message)


def after(reader: LastHead, head: bytes) -> Read:
    try:
        return told(reader.read(head, MOST))
    except HeadError as error:
        return ("refused", error.status, error.message)


def check(*heads: bytes) -> None:
    reader = LastHead()
    for head in heads:
        assert after(reader, head) == plainly(head), head


# ---- heads at random ----------------------------------------------------------------------------

letters = st.text("abcdefgXYZ0123456789-_", min_size=1, max_size=8)
numbers = st.integers(0, 10**19).map(str)
targets = st.sampled_from(["/", "/v1/messages", "/v1/chat/completions?key=1", "*", "http://x/", "/a//b"])
fields = st.one_of(
    st.just("Host: x"),
    st.just("hOsT: x:80"),
    numbers.map("Content-Length: {}".format),
    numbers.map("content-length:{}".format),
    numbers.map("Content-Length: 00{}".format),
    numbers.map("Content-Length:\t {} ".format),
    numbers.map("X-Content-Length: {}".format),
    numbers.map("X-Said: content-length: {}".format),
    st.sampled_from(
        [
            "Transfer-Encoding: chunked", "Connection: close", "Connection: keep-alive",
            "Expect: 100-continue", "Content-Encoding: gzip", "Content-Encoding: identity",
            "Content-Length: -1",
            "Content-Length: ",
            "Accept: */*", "Cookie: a=b", "Cookie: c=d", " folded", "no colon",
        ]
    ),
    st.builds("{}: {}".format, letters, letters),
)  # fmt: skip
heads = st.builds(
    lambda method, target, version, lines: "\r\n".join(
        [f"{method} {target} HTTP/{version}", *lines]
    ).encode(),
    st.sampled_from(["POST", "POST", "POST", "GET", "TRACE", "post"]),
    targets,
    st.sampled_from(["1.1", "1.1", "1.1", "1.0", "2.0"]),
    st.one_of(
        st.lists(fields, max_size=6).map(lambda more: ["Host: x", *more]), st.lists(fields, max_size=14)
    ),
)


@settings(max_examples=400, deadline=None)
@given(heads, heads)
@example(FIRST, FIRST)
def test_any_head_after_any_other_is_read_as_it_would_be_alone(first: bytes, second: bytes) -> None:
    check(first, second, first, second, second)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.just(FIRST), heads), st.data())
def test_a_head_that_differs_in_any_byte_is_read_as_it_would_be_alone(
    first: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(first)))
    instead = data.draw(st.binary(max_size=3))
    left_out = data.draw(st.integers(0, 3))
    check(first, first[:at] + instead + first[at + left_out :], first)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text("0123456789", max_size=20), st.text(max_size=4), st.sampled_from(["1\r\nX: 2", "0x1"])),
    st.text("0123456789", min_size=1, max_size=19),
)
def test_only_another_length_is_taken_over_and_only_if_it_is_one(second: str, third: str) -> None:
    before, _, rest = FIRST.partition(b"120")
    check(FIRST, before + second.encode() + rest, before + third.encode() + rest, FIRST)


def test_every_single_byte_matters() -> None:
    for at in range(len(FIRST)):
        for other in (FIRST[at] ^ 1, FIRST[at] ^ 32, 0, ord(":"), 13, 10, ord("5")):
            check(FIRST, FIRST[:at] + bytes([other]) + FIRST[at + 1 :])


def test_what_overlaps_in_a_shorter_head_is_not_taken_for_the_same() -> None:
    """The old beginning and the old end could both be found in a head that lacks what is between them."""
    twice = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nA: 1\r\nA2: 1"
    for cut in range(1, 12):
        check(twice, twice[:-cut], twice[: 40 + cut])
    check(b"GET / HTTP/1.1\r\nHost: x", b"GET / HTTP/1.1\r\nHost: xx", b"GET / HTTP/1.1\r\nHost: ")


# ---- what may be shared -------------------------------------------------------------------------


def test_the_same_head_shares_what_was_worked_out_from_it() -> None:
    reader = LastHead()
    first = reader.read(FIRST, MOST)
    first.derived["who"] = "me"
    assert reader.read(FIRST.replace(b"120", b"9999"), MOST).derived == {"who": "me"}


@pytest.mark.parametrize("other", [b"vk_1235", b"vk_123", b"vk_12345", b"Vk_1234"])
def test_another_key_shares_nothing(other: bytes) -> None:
    reader = LastHead()
    reader.read(FIRST, MOST).derived["who"] = "me"
    assert reader.read(FIRST.replace(b"vk_1234", other), MOST).derived == {}


def test_a_body_and_its_arrival_are_never_those_of_the_last_request() -> None:
    reader = LastHead()
    first = reader.read(FIRST, MOST)
    first.body, first.received_ns, first.client_address = b"secret", 1, "10.0.0.1"
    first.keep_alive = False
    second = reader.read(FIRST, MOST)
    assert (second.body, second.received_ns, second.client_address) == (b"", 0, "")
    assert second.keep_alive


def test_the_body_of_a_connections_first_request_is_not_kept() -> None:
    reader = LastHead()
    first = reader.read(FIRST, MOST)
    body = b"a long conversation " * 2000
    only_ours = sys.getrefcount(body)
    first.body = body
    del first
    assert sys.getrefcount(body) == only_ours
    assert reader.read(FIRST, MOST).body == b""


def test_another_length_does_not_change_the_request_before() -> None:
    reader = LastHead()
    first = reader.read(FIRST, MOST)
    second = reader.read(FIRST.replace(b"120", b"7"), MOST)
    assert (first.length, second.length) == (120, 7)
    assert first.header(b"content-length") == b"120"
    assert dict(first.headers)[b"content-length"] == b"120"
    assert dict(second.headers)[b"content-length"] == second.header(b"content-length") == b"7"
