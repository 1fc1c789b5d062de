"""A stitcher in C puts every call where Python's does, whatever both were asked before, and forgets alike."""

import sys
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stitchers import Placed, Stitchers

from collector.domain.stitching import Known, StitchingLimits, Via, recall
from collector.domain.stitching_rules import BITS, CHAIN, PROBES, WORD
from sidecar.call import Caller
from sidecar.native import native
from sidecar.stitching import replaced_in_python, stitcher_of

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

SCOPES = [("", "", ""), ("acme", "vk_1", ""), ("acme", "vk_1", "ann")]
NAMES = ["talk", "c3", "c10", "c40"]
RUNS = ["run-1", "run-2"]
RESPONSES = [f"resp_{number}" for number in range(6)]

LENGTHS = [0, 3, 20, 39, 40, 63, 64, 127, 128, 192, 300]
DIGESTS = [crc * WORD + length & BITS for crc in (1, 0x9E3779B9, 0xFFFFFFFF) for length in LENGTHS]
"""Messages without text, too short to prove anything, and just long enough for each of the rules."""
LITANY = [digest for digest in DIGESTS if digest % WORD == 3] * 4
"""What many begin with, though not all say it to the end."""


def hashes_of(messages: list[int]) -> list[int]:
    """The rolling hash after each message."""
    rolling, found = 0, []
    for digest in messages:
        rolling = (rolling * CHAIN + digest) & BITS or 1
        found.append(rolling)
    return found


def message(noise: Random) -> int:
    """One that is often said, or one that never was before."""
    if noise.random() < 0.5:
        return noise.choice(DIGESTS)
    return noise.getrandbits(32) * WORD + noise.choice(LENGTHS) & BITS


class Scene:
    """Agents of few words: they begin alike, hear the same, go on, fork, retry and shorten their histories.

    Args:
        limits: of both stitchers.
    """

    def __init__(self, limits: StitchingLimits) -> None:
        self.stitchers = Stitchers(limits)
        self.histories: list[list[int]] = [[]]
        self.open: list[tuple[Placed, list[int]]] = []
        """Calls that have not ended."""
        self.vias: Counter[Via] = Counter()
        self.serial = 0

    def step(self, deed: str, noise: Random) -> None:
        """One thing that happens; ``noise`` says which."""
        if deed == "end":
            self.end(noise)
        elif deed == "recall":
            known = hashes_of(self.messages("go on", noise))
            last = noise.choice([0, noise.choice(DIGESTS)])
            call = Known(noise.choice(SCOPES), noise.choice(NAMES), known, last, noise.choice(["", "resp_1"]))
            recall(self.stitchers, [call])  # type: ignore[arg-type]
        else:
            self.call(self.messages(deed, noise), noise)

    def messages(self, deed: str, noise: Random) -> list[int]:
        """What the next request holds."""
        said = noise.choice(self.histories[-8:])
        more = [message(noise) for _ in range(noise.choice([1, 1, 1, 2, 3]))]
        if deed == "begin":
            said = noise.choices(DIGESTS[:6], k=noise.choice([0, 1, 2, 2, 2, 3, 5]))
        elif deed == "recite":
            said = LITANY[: noise.randint(1, len(LITANY))]
        elif deed == "begin at length":
            said = [*([DIGESTS[-1]] * noise.randint(30, 32)), noise.choice(DIGESTS)]
        elif deed == "gain much":
            said = said + [DIGESTS[1]] * noise.choice([7, 8, 9, PROBES - 2, PROBES - 1, PROBES, PROBES + 1])
        elif deed == "go on":
            said = said + more
        elif deed == "fork":
            said = said[: noise.randint(0, len(said))] + more
        elif deed == "shorten":
            more += [DIGESTS[0]] * noise.choice([0, 0, 0, 12, 13, 14])
            said = [noise.choice(DIGESTS), *said[noise.randint(0, 4) :], *more]
        return said

    def call(self, said: list[int], noise: Random) -> None:
        """A request; it ends later."""
        how: dict[str, Any] = {}
        if noise.random() < 0.1:
            how["explicit_id"] = noise.choice(NAMES)
        if noise.random() < 0.1:
            how["previous_response_id"] = noise.choice(RESPONSES)
        if noise.random() < 0.15:
            how["run"] = noise.choice(RUNS)
        if noise.random() < 0.2:
            how["instructions_apart"] = noise.choice([True, False])
        self.serial += 1
        hashes = hashes_of(said)
        scope = noise.choice(SCOPES) if noise.random() < 0.2 else SCOPES[0]
        fresh = f"c{self.serial}" if noise.random() < 0.95 else noise.choice(NAMES)
        placed = self.stitchers.place(scope, hashes if noise.random() < 0.9 else tuple(hashes), fresh, **how)
        self.vias[placed.via] += 1
        self.histories.append(said)
        self.open.append((placed, said))

    def end(self, noise: Random) -> None:
        """A call ends, maybe long after; a few end twice."""
        if not self.open:
            return
        place = noise.choice([-1, -1, -1, 0, noise.randrange(len(self.open))])
        placed, said = self.open[place] if noise.random() < 0.05 else self.open.pop(place)
        response = noise.choice(RESPONSES) if noise.random() < 0.3 else ""
        reply = [*said, message(noise)]
        failed = noise.random() < 0.2
        self.stitchers.settle(placed, 0 if failed else hashes_of(reply)[-1], response)
        if not failed:
            self.histories.append(reply)


DEEDS = [
    *["begin"] * 4,
    *["go on"] * 8,
    *["again", "recite", "fork", "recall"] * 2,
    *["shorten"] * 4,
    *["begin at length", "gain much"],
    *["end"] * 18,
]

limits = st.builds(
    StitchingLimits,
    conversations=st.integers(0, 6),
    hashes=st.integers(0, 40),
    hashes_per_conversation=st.integers(0, 8),
)


@settings(max_examples=25, deadline=None)
@given(
    limits=limits,
    steps=st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 2**32)), max_size=60),
)
def test_both_place_every_call_alike(limits: StitchingLimits, steps: list[tuple[str, int]]) -> None:
    scene = Scene(limits)
    for deed, seed in steps:
        scene.step(deed, Random(seed))


@pytest.mark.parametrize(("conversations", "hashes", "each"), [(6, 50, 8), (40, 400, 64)])
def test_both_do_so_for_long(conversations: int, hashes: int, each: int) -> None:
    noise = Random(99)
    scene = Scene(StitchingLimits(conversations=conversations, hashes=hashes, hashes_per_conversation=each))
    for _ in range(2_000):
        scene.step(noise.choice(DEEDS), noise)
    assert set(scene.vias) == set(Via)
    assert scene.stitchers.forgotten > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_both_do_so_for_very_long(seed: int) -> None:
    noise = Random(seed)
    scene = Scene(
        StitchingLimits(
            conversations=noise.choice([1, 2, 5, 20, 200]),
            hashes=noise.choice([1, 5, 40, 200, 3000]),
            hashes_per_conversation=noise.choice([1, 2, 8, 64]),
        )
    )
    for _ in range(20_000):
        scene.step(noise.choice(DEEDS), noise)


def test_a_scope_that_was_begun_anew_outlives_what_is_left_of_the_old_one() -> None:
    stitchers, here, there = Stitchers(StitchingLimits(conversations=2)), ("t",), ("u",)
    stitchers.settle(stitchers.place(here, [5, 6], "a"), 7)
    stitchers.place(here, [8, 9], "a")  # Takes the name of the first.
    assert stitchers.place(here, [5, 6, 7, 10], "x").conversation_id == "a"
    stitchers.place(there, [5, 6], "b")
    assert stitchers.scopes == 1  # The second is forgotten, and the first has no name here any more.
    stitchers.settle(stitchers.place(here, [20, 21], "c"), 22)
    assert (stitchers.scopes, stitchers.forgotten) == (2, 2)
    assert stitchers.place(here, [20, 21, 22, 23], "x").conversation_id == "c"


def test_all_that_a_stitcher_holds_is_let_go_with_it() -> None:
    name, run, scope = "-".join(["a", "talk"]), "-".join(["a", "run"]), ("-".join(["acme"]), "", "")
    held = [sys.getrefcount(one) for one in (name, run, scope)]
    stitcher = stitcher_of()
    first = stitcher.place(scope, [5, 6], name, run=run)
    stitcher.settle(first, 7, "resp_1")
    stitcher.place(scope, [5, 6, 7, 8], "b", explicit_id=name, run=run)
    stitcher.place(scope, [5, 6], "c")
    assert [sys.getrefcount(one) for one in (name, run, scope)] != held
    del stitcher
    assert first.conversation_id == name  # A placement outlives it.
    del first
    assert [sys.getrefcount(one) for one in (name, run, scope)] == held


def test_a_call_of_a_conversation_that_was_forgotten_ends_without_a_trace() -> None:
    stitcher = stitcher_of(StitchingLimits(conversations=1))
    late = stitcher.place(("t",), [5, 6], "a")
    stitcher.place(("t",), [8, 9], "b")
    stitcher.settle(late, 7, "resp_1")
    assert (stitcher.hashes, stitcher.conversations, stitcher.forgotten) == (1, 1, 1)
    assert (late.conversation_id, late.branch, late.via, late.state) == ("a", 0, Via.NEW, 6)


def test_a_placement_of_another_stitchers_changes_nothing() -> None:
    one, other = stitcher_of(), stitcher_of()
    placement = one.place(("t",), [5, 6], "a")
    other.settle(placement, 7)
    assert (one.hashes, other.hashes) == (1, 0)
    del one
    other.settle(placement, 7)
    assert other.hashes == 0


@pytest.mark.parametrize(
    ("given", "how"),
    [
        ((), {}),
        ((("t",), [1]), {}),
        ((["t"], [1], "a"), {}),
        (((1,), [1], "a"), {}),
        ((("t",), 1, "a"), {}),
        ((("t",), [1, "2"], "a"), {}),
        ((("t",), ["2", 1], "a"), {}),
        ((("t",), ["2", 1, 1, 1], "a"), {}),
        ((("t",), [1], 7), {}),
        ((("t",), [1], "a"), {"explicit_id": None}),
        ((("t",), [1], "a"), {"instructions_apart": 1}),
        ((("t",), [1], "a"), {"walk": "b"}),
        ((("t",), [1], "a", ""), {}),
    ],
)
def test_what_is_no_call_is_refused_and_not_remembered(given: Any, how: Any) -> None:
    stitcher: Any = stitcher_of()
    with pytest.raises(TypeError):
        stitcher.place(*given, **how)
    assert (stitcher.hashes, stitcher.conversations) == (0, 0)


@pytest.mark.parametrize(
    "given", [(), (1, 2), ("placement", "7"), ("placement", 7, b""), ("placement", 7, "", 1)]
)
def test_what_is_no_end_of_a_call_is_refused(given: Any) -> None:
    stitcher: Any = stitcher_of()
    placement = stitcher.place(("t",), [5], "a")
    with pytest.raises(TypeError):
        stitcher.settle(*[placement if one == "it" else one for one in given])


def test_a_stitcher_needs_all_reasons_there_are() -> None:
    assert native is not None
    with pytest.raises(ValueError, match="Via"):
        native.Stitcher(1, 1, 1, tuple(Via)[1:])
    with pytest.raises(TypeError):
        native.Stitcher(1, 1, 1, list(Via))


@pytest.mark.parametrize(("at", "values"), [(0, ("x",)), (4, ("talk", "stitched")), (11, (True,))])
def test_fields_of_a_named_tuple_are_replaced_alike(at: int, values: tuple[object, ...]) -> None:
    assert native is not None
    caller = Caller(tenant="acme", conversation="none", tags={"a": "b"})
    made = native.replaced(caller, at, *values)
    assert type(made) is Caller
    assert made == replaced_in_python(caller, at, *values)
    assert made[at : at + len(values)] == values


@pytest.mark.parametrize("given", [(), (Caller(), 0), (Caller(), -1, 1), (Caller(), 11, 1, 2), ([1], 0, 1)])
def test_fields_that_are_not_there_are_not_replaced(given: Any) -> None:
    assert native is not None
    with pytest.raises(TypeError):
        native.replaced(*given)
