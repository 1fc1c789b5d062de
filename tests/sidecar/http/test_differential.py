"""Two other readers of HTTP, h11 and llhttp, are asked about what we accept.

Whatever we accept, both read to the same method, target, fields and body; whatever
they refuse, we refuse. We are stricter, on purpose, in what STRICTER lists.
"""

import h11
import httptools
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http.chunked import ChunkedDecoder, ChunkError
from sidecar.http.head import HeadError, read_request_head

STRICTER = {
    "target": "paths that a second server might normalise; targets not in origin-form; bad Host values",
    "method": "TRACE, CONNECT and methods nobody sends to a model",
    "version": "HTTP/1.0 and 1.1 only; no Transfer-Encoding in HTTP/1.0",
    "framing": "repeated Content-Length even when equal; both framings at once (h11 lets chunked win); "
    "white space behind the value of either",
    "fields": "control bytes in values, folded fields (h11 allows both), repeated Host or Expect",
    "chunks": "white space behind a chunk size or in its extensions, sizes over 15 digits, extensions "
    "that outweigh the data, trailers that would decide the framing",
    "services": "compressed bodies, expectations other than 100-continue",
}
"""Why we may refuse what h11 or llhttp accepts; the converse has no exceptions."""

Read = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]


def ours(data: bytes) -> Read | None:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    try:
        request = read_request_head(data[:end], 100)
    except HeadError:
        return None
    body = data[end + 4 :]
    if request.length is None:
        decoder = ChunkedDecoder()
        try:
            body = decoder.feed(body)
        except ChunkError:
            return None
        if not decoder.done:
            return None
    elif len(body) < request.length:
        return None
    else:
        body = body[: request.length]
    target = request.path + ("?" + request.query if request.query else "")
    return request.method.encode(), target.encode(), in_small_letters(request.headers), body


def in_small_letters(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """h11 writes this one value in small letters; so we compare it so."""
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in headers]


def by_h11(data: bytes) -> Read | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    request: h11.Request | None = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            return bytes(request.method), bytes(request.target), list(request.headers), body
        else:
            return None


class _Collected:
    def __init__(self) -> None:
        self.url, self.headers, self.body, self.complete = b"", [], b"", False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True
        raise StopIteration  # one message is enough


def by_llhttp(data: bytes) -> Read | None:
    collected = _Collected()
    parser = httptools.HttpRequestParser(collected)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        if not collected.complete:
            return None
    if not collected.complete:
        return None
    return parser.get_method(), collected.url, in_small_letters(collected.headers), collected.body


def without_trailers(read: Read | None, fields: int) -> Read | None:
    """llhttp reports trailer fields as header fields."""
    return read if read is None else (read[0], read[1], read[2][:fields], read[3])


TOKENS = st.sampled_from([b"A", b"x-api-key", b"Accept", b"X_y", b"a.b", b"~t"])
VALUES = st.sampled_from([b"", b"1", b" a b ", b"\ta", b'"q, x"', b"\xc3\xa9", b"a: b", b"x" * 300, b"\xff "])
TARGETS = st.sampled_from([b"/", b"/v1/chat/completions", b"/v1/x?a=b%20c&d", b"/a:b/c@d", b"/v1/x/"])
METHODS = st.sampled_from([b"POST", b"GET", b"PUT", b"DELETE", b"OPTIONS"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    fields = [(b"Host", draw(st.sampled_from([b"x", b"127.0.0.1:4000", b"[::1]"])))]
    fields += draw(st.lists(st.tuples(TOKENS, VALUES), max_size=5))
    body = draw(st.binary(max_size=60))
    framing = draw(st.sampled_from(["none", "length", "chunked", "chunked"]))
    if framing == "length":
        fields.append((draw(st.sampled_from([b"Content-Length", b"content-length"])), b"%d" % len(body)))
    elif framing == "chunked":
        fields.append((b"Transfer-Encoding", draw(st.sampled_from([b"chunked", b"Chunked"]))))
        half = len(body) // 2
        parts = [part for part in (body[:half], body[half:]) if part]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        body = b""
    order = draw(st.permutations(fields))
    lines = b"".join(b"%b:%b%b\r\n" % (n, draw(st.sampled_from([b"", b" ", b"\t "])), v) for n, v in order)
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (draw(METHODS), draw(TARGETS), lines, body)


POISON = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b"\x0b", b"0", b"1", b",", b";", b"\xff", b"\r\n ",
     b"\n\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"chunked",
     b"/../", b"%2e"]
)  # fmt: skip


@given(requests())
@settings(deadline=None)
def test_a_valid_request_is_read_as_h11_and_llhttp_read_it(data: bytes) -> None:
    read = ours(data)
    assert read is not None
    assert read == by_h11(data)
    assert read == by_llhttp(data)


@given(
    requests(), st.lists(st.tuples(st.integers(0, 600), POISON, st.integers(0, 3)), min_size=1, max_size=3)
)
@settings(deadline=None, max_examples=800)
def test_a_mutated_request_that_we_accept_is_read_the_same_by_h11_and_llhttp(
    data: bytes, mutations: list[tuple[int, bytes, int]]
) -> None:
    for place, poison, drop in mutations:
        place %= len(data)
        data = data[:place] + poison + data[place + drop :]
    read = ours(data)
    if read is not None:
        assert read == by_h11(data)
        assert read == without_trailers(by_llhttp(data), len(read[2]))


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_noise_is_accepted_by_us_only_if_by_all(data: bytes) -> None:
    data = b"POST /x HTTP/1.1\r\nHost: x\r\n" + data + b"\r\n\r\n"
    read = ours(data)
    if read is not None:
        assert read == by_h11(data)
        assert read == without_trailers(by_llhttp(data), len(read[2]))
