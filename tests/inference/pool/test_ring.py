"""The ring: fair shares, and little moves when a node comes or goes."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.pool.ring import Ring, bound, point_of

KEYS = [point_of(f"key {number}".encode()) for number in range(4000)]

names = st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=8, unique=True)


@settings(max_examples=25, deadline=None)
@given(names)
def test_every_node_gets_about_its_share(nodes: list[str]) -> None:
    ring = Ring(nodes)

    counts = Counter(ring.first(key) for key in KEYS)

    mean = len(KEYS) / len(nodes)
    # 160 points: shares deviate by 1/sqrt(160) = 8 %; 2,000 samples add some. Five deviations.
    assert all(0.5 * mean < counts[node] < 1.6 * mean for node in range(len(nodes)))


@settings(max_examples=25, deadline=None)
@given(names)
def test_a_node_that_leaves_moves_only_its_own_keys(nodes: list[str]) -> None:
    before, after = Ring(nodes), Ring(nodes[:-1])

    for key in KEYS[:500]:
        if nodes[before.first(key)] != nodes[-1]:
            assert nodes[before.first(key)] == nodes[after.first(key)]
        else:
            # Its keys go where the walk goes on.
            walk = list(before.walk(key))
            assert nodes[after.first(key)] == nodes[walk[1]]


@settings(max_examples=25, deadline=None)
@given(names, st.randoms())
def test_the_order_in_which_nodes_are_named_does_not_matter(nodes: list[str], random: object) -> None:
    other = list(nodes)
    random.shuffle(other)  # type: ignore[attr-defined]
    one, two = Ring(nodes), Ring(other)

    assert all(nodes[one.first(key)] == other[two.first(key)] for key in KEYS[:300])


@given(st.integers(0, 2**64 - 1))
def test_a_walk_meets_every_node_once(key: int) -> None:
    ring = Ring(["a", "b", "c", "d"])

    walk = list(ring.walk(key))

    assert sorted(walk) == [0, 1, 2, 3]
    assert walk[0] == ring.first(key)


def test_a_heavy_node_gets_a_larger_share() -> None:
    ring = Ring(["light", "heavy"], [1, 3])

    counts = Counter(ring.first(key) for key in KEYS)

    assert 0.65 < counts[1] / len(KEYS) < 0.85  # 3 of 4


def test_the_bound_never_falls_below_its_floor() -> None:
    assert bound(100, 2, load_factor=1.25, floor=400) == 400
    assert bound(1000, 2, load_factor=1.25, floor=400) == 625  # 1.25 x 500
