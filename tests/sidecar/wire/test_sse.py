"""Events of one line of data are found without going through them line by line, and are the same ones."""

from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.wire.sse import Splitter, place_of_data

pieces = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"event: ",
        b"event:",
        b"id: 7",
        b": ping",
        b"\n",
        b"{}",
        b"x",
        b" ",
        b"\xff",
        b"n" * 130,
    ]
)
blocks = st.lists(pieces, max_size=7).map(b"".join).filter(lambda block: b"\n\n" not in block)


@example(b"data: {}")
@example(b"event: done\ndata: {}")
@example(b"event: \ndata: ")
@example(b"event: " + b"n" * 200 + b"\ndata: {}")
@given(block=blocks)
def test_an_event_of_one_line_is_what_the_splitter_finds(block: bytes) -> None:
    place = place_of_data(block)
    if not place:
        return
    splitter = Splitter()
    splitter.begin()
    (event,) = splitter.feed(block + b"\n\n")
    assert (event.start, event.end) == (0, len(block) + 2)
    assert event.data == block[place:]
    assert event.name == (block[7 : place - 7].decode("utf-8", "replace") if place > 6 else "")
    assert splitter.idle


def test_what_most_providers_send_is_such_an_event() -> None:
    assert place_of_data(b'data: {"choices":[]}') == 6
    assert place_of_data(b'event: ping\ndata: {"type":"ping"}') == 18
    for other in (b"data: 1\ndata: 2", b"id: 1\ndata: {}", b": ping", b"\ndata: {}", b"event: x", b""):
        assert place_of_data(other) == 0
