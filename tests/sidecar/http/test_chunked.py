"""The chunked coding: any split gives the same body, and nothing malformed passes."""

from itertools import pairwise

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http.chunked import REPLY_FRAMING, REQUEST_FRAMING, ChunkedDecoder, ChunkError


def decode(pieces: list[bytes]) -> tuple[bytes, bytes] | None:
    """Body and what came after it; None when it is refused, or the end is missing."""
    decoder = ChunkedDecoder()
    body = b""
    for index, piece in enumerate(pieces):
        try:
            body += decoder.feed(piece)
        except ChunkError:
            return None
        if decoder.done:
            return body, decoder.rest + b"".join(pieces[index + 1 :])
    return None


def h11_decode(data: bytes) -> bytes | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + data)
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return body
        elif event is h11.NEED_DATA:
            return None


@st.composite
def encodings(draw: st.DrawFn) -> bytes:
    out = b""
    for chunk in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6)):
        extension = draw(st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"', b";a=b;c"]))
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(chunk)
        out += size + extension + b"\r\n" + chunk + b"\r\n"
    trailer = draw(st.sampled_from([b"", b"", b"X-Sum: 1\r\n", b"a: b\r\nc:\r\n"]))
    return out + b"0\r\n" + trailer + b"\r\n" + draw(st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\r\n"]))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks) if a < b]


@given(encodings(), st.lists(st.integers(0, 500), max_size=8))
@settings(deadline=None)
def test_any_split_of_a_valid_body_gives_the_same_bytes_as_h11(data: bytes, places: list[int]) -> None:
    whole = decode([data])
    assert whole is not None
    assert whole[0] == h11_decode(data)
    assert decode(cut(data, places)) == whole
    assert decode([bytes([byte]) for byte in data]) == whole


@given(encodings(), st.integers(0, 500), st.binary(min_size=0, max_size=3), st.integers(0, 3))
@settings(deadline=None, max_examples=300)
def test_what_is_accepted_after_a_mutation_is_what_h11_reads(
    data: bytes, place: int, put: bytes, drop: int
) -> None:
    place %= len(data)
    mutated = data[:place] + put + data[place + drop :]
    ours = decode([mutated])
    if ours is not None:
        assert ours[0] == h11_decode(mutated)
    assert decode([bytes([byte]) for byte in mutated]) == ours


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"-1\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"1_0\r\n" + b"a" * 16 + b"\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5\nhello\n",
        b"5\r\nhello\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"\r\n",
        b";a\r\n",
        b"5;\r\nhello\r\n",
        b"5;a=\r\nhello\r\n",
        b"5; a\r\nhello\r\n",
        b'5;a="b\r\nhello\r\n',
        b"5;a\0\r\nhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"fffffffffffffffff\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nContent-Length: 1\r\n\r\n",
        b"0\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"5;" + b"a" * 5000,
    ],
    ids=repr,
)
def test_malformed_framing_is_refused_whole_and_byte_by_byte(data: bytes) -> None:
    for pieces in ([data], [bytes([byte]) for byte in data]):
        decoder = ChunkedDecoder()
        with pytest.raises(ChunkError):
            for piece in pieces:
                decoder.feed(piece)


def test_a_flood_of_extensions_is_refused() -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(ChunkError, match="outweighs"):
        for _ in range(100):
            decoder.feed(b"1;" + b"a" * 1000 + b"\r\nx\r\n")


def test_thousands_of_chunks_of_one_byte_are_allowed_and_then_no_more() -> None:
    for pieces in ([b"1\r\nx\r\n"] * 20_000, [b"1\r\nx\r\n" * 20_000], [b"1", b"\r\nx\r\n"] * 20_000):
        decoder = ChunkedDecoder()
        body = b""
        with pytest.raises(ChunkError, match="outweighs") as caught:
            for piece in pieces:
                body += decoder.feed(piece)
        body += caught.value.before
        # 64 KiB of framing, weighed four times: 262144 // (4 * 5 - 1)
        assert body == b"x" * 13_797


def test_large_chunks_earn_no_flood_of_small_ones() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"%x\r\n%b\r\n" % (10_000_000, b"x" * 10_000_000))
    with pytest.raises(ChunkError, match="outweighs"):
        decoder.feed(b"1\r\nx\r\n" * 20_000)


@pytest.mark.parametrize(("weight", "size"), [(REQUEST_FRAMING, 24), (REPLY_FRAMING, 10)])
def test_chunks_as_small_as_people_write_them_may_go_on_for_ever(weight: int, size: int) -> None:
    decoder = ChunkedDecoder(weight)
    decoder.passed(10_000, 9_900)
    chunks = b"%x\r\n%b\r\n" % (size, b"x" * size) * 100_000
    assert len(decoder.feed(chunks)) == 100_000 * size


def test_what_came_before_the_broken_chunk_is_handed_over() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"5\r\nhe")
    with pytest.raises(ChunkError) as caught:
        decoder.feed(b"llo\r\n3\r\nyou\r\nzz\r\n")
    assert caught.value.before == b"lloyou"


def test_an_endless_trailer_is_refused() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"5000\r\n" + b"x" * 0x5000 + b"\r\n0\r\n")
    with pytest.raises(ChunkError, match="trailer"):
        for _ in range(20):
            decoder.feed(b"a: " + b"b" * 1000 + b"\r\n")
