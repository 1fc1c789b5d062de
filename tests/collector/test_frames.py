"""Frames are found in C as in Python: the same ones, and the same reason why they end."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.frames import PackedFrames, packed_frames
from collector.journal import MAX_FRAME_BYTES, FrameKind, ReadEnd, frame_bytes, parse_frames
from collector.native import native

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

KINDS = (FrameKind.INTENT, FrameKind.RECORD, FrameKind.EVENT, FrameKind.RECORD)
PAYLOADS = (b"a", b"b" * 300, b"", b"c")
FRAMES = b"".join(map(frame_bytes, range(2**40, 2**40 + 4), KINDS, PAYLOADS))


def both(data, offset=0):
    """What C and Python say of ``data``; C's frames as a list."""
    frames, used, end = packed_frames(data, offset)
    assert isinstance(frames, PackedFrames)
    return (list(frames), used, end), parse_frames(data, offset)


def test_frames_cut_off_anywhere_end_at_the_same_place():
    for cut in range(len(FRAMES) + 1):
        in_c, in_python = both(FRAMES[:cut], offset=77)
        assert in_c == in_python


def test_a_flipped_bit_anywhere_is_seen_as_it_is_in_python():
    for position in range(len(FRAMES)):
        damaged = bytearray(FRAMES)
        damaged[position] ^= 1 << (position % 8)
        in_c, in_python = both(bytes(damaged))
        assert in_c == in_python


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(FRAMES)), st.booleans())
def test_whatever_follows_the_last_frame_is_judged_the_same(tail, cut, zeros):
    in_c, in_python = both(FRAMES[:cut] + (bytes(len(tail)) if zeros else tail))
    assert in_c == in_python


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 16, 255, 4096, 70_001])
def test_payloads_of_any_length_have_the_check_sum_of_zlib(length):
    payload = random.Random(length).randbytes(length)
    in_c, in_python = both(frame_bytes(1, FrameKind.RECORD, payload))
    assert in_c == in_python
    assert in_c[0][0].payload == payload


def test_a_length_that_no_frame_has_is_damage():
    longer = (MAX_FRAME_BYTES + 1).to_bytes(4, "little") + bytes(60)
    assert both(longer)[0] == both(longer)[1] == ([], 0, ReadEnd.CORRUPT)


def test_a_part_of_the_frames_is_frames_again():
    frames, _, _ = packed_frames(FRAMES, 5)
    whole = parse_frames(FRAMES, 5)[0]

    assert len(frames) == 4
    assert frames[-1] == whole[-1]
    assert list(frames[1:3]) == whole[1:3]
    assert list(frames[3:99]) == whole[3:]
    assert list(frames[4:]) == list(frames[3:1]) == []
    with pytest.raises(IndexError):
        frames[4]
    with pytest.raises(ValueError, match="order"):
        frames[::2]


def test_frames_between_which_one_lacks_are_not_joined():
    joined, _, _ = packed_frames(FRAMES)
    torn, _, _ = packed_frames(frame_bytes(1, FrameKind.EVENT, b"x") + frame_bytes(3, FrameKind.EVENT, b"x"))
    assert joined.joined
    assert not torn.joined
