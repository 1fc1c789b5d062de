"""The gate in C hands on what the one in Python does, and counts the same."""

import gc
import weakref
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.gate import Gate, PlainGate, Take
from sidecar.native import native

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

PIECES = {
    "text": b'1e\r\ndata: {"choices":[{"delta":{"content":"word"}}]}\n\n\r\n',
    "two": b'1a\r\ndata: {"choices":[{"text":"a"}]}\n\n\r\n',
    "other": b"e\r\ndata: [DONE]\n\n\r\n",
    "half": b'1e\r\ndata: {"cho',
    "nothing": b"",
}
for name in ("text", "two"):
    body = PIECES[name].split(b"\r\n", 1)[1][:-2]
    PIECES[name] = b"%x\r\n%b\r\n" % (len(body), body)

steps = st.lists(
    st.sampled_from([*PIECES, "lead", "shut", "close", "limit", "count", "leave"])
    | st.sampled_from(["text", "text", "lead"]),
    max_size=25,
)


def told_of(steps: list[str], make: Callable[[Take], Gate]) -> list[object]:
    """All that a gate says and does on the way through ``steps``."""
    said: list[object] = []

    def said_by(who: str, data: bytes) -> None:
        said.append((who, data))

    gate = make(partial(said_by, "read"))
    assert native is not None
    lane = native.Lane(0)
    lane.open, lane.limit = True, 1000
    for step in steps:
        if step == "lead":
            gate.lead(lane, partial(said_by, "write"), partial(said_by, "told"))
        elif step == "shut":
            said.append(gate.shut())
        elif step == "close":
            gate.open = False
        elif step == "limit":
            lane.limit = 6
        elif step == "count":
            gate.coded = gate.bodies = 0
            gate.stirred = False
        elif step == "leave":
            gate.leave()
        else:
            gate.take(PIECES[step])
        said.append((gate.open, gate.stirred, gate.coded, gate.bodies, gate.passed))
    return said


@given(steps=steps)
def test_a_gate_in_c_does_what_the_one_in_python_does(steps: list[str]) -> None:
    assert native is not None
    assert told_of(steps, native.Gate) == told_of(steps, PlainGate)


def test_what_the_lane_reads_is_written_and_the_rest_is_read() -> None:
    assert native is not None
    text, other = PIECES["text"], PIECES["other"]
    told = told_of(["text", "lead", "text", "other", "text"], native.Gate)
    said = [each for each in told if isinstance(each, tuple) and len(each) == 2]
    assert said == [("read", text), ("write", text), ("read", other), ("read", text)]


@pytest.mark.parametrize("make", [PlainGate, None])
def test_a_client_that_cannot_keep_up_shuts_the_gate_from_within(make: Callable[[Take], Gate] | None) -> None:
    assert native is not None
    gate = (make or native.Gate)(lambda data: None)
    lane, counted = native.Lane(0), list[int]()
    lane.open, lane.limit = True, 1000
    gate.lead(lane, lambda data: counted.append(gate.shut()), lambda data: None)
    gate.take(PIECES["text"])
    assert counted == [len(PIECES["text"]) - 6]  # without "32", and two line ends
    assert (gate.open, gate.passed) == (False, 0)


def test_an_error_of_whoever_writes_is_not_swallowed() -> None:
    def breaks(data: bytes) -> None:
        raise ConnectionResetError

    assert native is not None
    gate = native.Gate(lambda data: None)
    lane = native.Lane(0)
    lane.open, lane.limit = True, 1000
    gate.lead(lane, breaks, breaks)
    with pytest.raises(ConnectionResetError):
        gate.take(PIECES["text"])
    with pytest.raises(TypeError):
        gate.lead("no lane", breaks, breaks)
    with pytest.raises(TypeError):
        gate.take("no bytes")


def test_a_gate_that_leads_to_its_own_holder_is_collected() -> None:
    class Holder:
        def __init__(self) -> None:
            assert native is not None
            self.gate = native.Gate(self.read)
            self.gate.lead(native.Lane(0), self.read, self.read)

        def read(self, data: bytes) -> None: ...

    gone = weakref.ref(Holder())
    gc.collect()
    assert gone() is None
