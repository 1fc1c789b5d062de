"""Who gets a call, by each policy."""

import time
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.pool.affinity import affinity_key
from inference.pool.choice import by_prefix, fastest, in_turn, least, peak_ewma
from inference.pool.ring import Ring, bound, point_of


class Server(NamedTuple):
    index: int
    inflight: int = 0
    load: int = 0
    latency_s: float = 0.0
    weight: int = 1
    prefixes: frozenset[int] = frozenset()


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_in_one_round_each_is_chosen_as_often_as_its_weight_says(weights: list[int]) -> None:
    servers = [Server(index, weight=weight) for index, weight in enumerate(weights)]

    chosen = Counter(in_turn(servers, turn) for turn in range(sum(weights)))

    assert [chosen[index] for index in range(len(weights))] == weights


def test_equals_take_turns_and_the_idler_is_preferred() -> None:
    equal = [Server(0), Server(1), Server(2)]
    assert {least(equal, turn) for turn in range(3)} == {0, 1, 2}
    assert least([Server(0, inflight=3), Server(1, inflight=1)], 0) == 1
    # 4 calls on a server of weight 4 are fewer than 2 on one of weight 1.
    assert least([Server(0, inflight=2), Server(1, inflight=4, weight=4)], 0) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=6), st.integers(0, 50))
def test_of_those_with_the_fewest_calls_it_is_the_one_whose_turn_comes_first(
    servers: list[tuple[int, int]], turn: int
) -> None:
    some = [Server(at, inflight=calls, weight=weight) for at, (calls, weight) in enumerate(servers)]
    in_order = [some[(turn + offset) % len(some)] for offset in range(len(some))]
    assert least(some, turn) == min(in_order, key=lambda one: one.inflight / one.weight).index


def test_the_fastest_is_the_one_where_latency_times_calls_is_least() -> None:
    assert fastest([Server(0, latency_s=0.3), Server(1, latency_s=0.1)], 0) == 1
    # 0.1 s x 5 calls is worse than 0.3 s x 1.
    assert fastest([Server(0, latency_s=0.3), Server(1, latency_s=0.1, inflight=4)], 0) == 0
    # One that has not answered yet is tried.
    assert fastest([Server(0, latency_s=0.1), Server(1)], 0) == 1


def test_a_slow_answer_counts_at_once_and_is_forgotten_slowly() -> None:
    assert peak_ewma(0.1, 2.0, 0.01) == 2.0
    after = peak_ewma(2.0, 0.1, 10.0)
    assert after == pytest.approx(0.1 + 1.9 / 2.718281828, rel=1e-6)


def test_a_key_stays_home_until_its_home_is_over_the_bound() -> None:
    ring = Ring(["a", "b"])
    key = point_of(b"some key")
    home = ring.first(key)
    other = 1 - home

    def chosen(load: int, floor: int) -> int:
        servers = sorted([Server(home, load=load), Server(other, load=0)])
        return by_prefix(servers, ring, key, 100, load_factor=1.25, floor=floor)

    # Mean of (1000 + 0 + 100) / 2 = 550, times 1.25 = 687: 1,100 at home would be more.
    assert chosen(1000, floor=0) == other
    assert chosen(1000, floor=1100) == home
    # Home is away: its keys go to the other.
    assert by_prefix([Server(other)], ring, key, 100, load_factor=1.25, floor=0) == other


def test_new_beginnings_are_shared_out_evenly_whatever_the_ring_says() -> None:
    """A ring alone gives 15 of 22 keys or more to one of two replicas in one case of seven."""
    for luck in range(40):
        ring = Ring([f"10.0.{luck}.1:8000", f"10.0.{luck}.2:8000"])
        kept: list[set[int]] = [set(), set()]
        for number in range(22):
            key = point_of(f"{luck} {number}".encode())
            servers = [Server(index, prefixes=frozenset(kept[index])) for index in (0, 1)]
            kept[by_prefix(servers, ring, key, 100, load_factor=1.25, floor=4000)].add(key)
        # 1.25 x 22 / 2 = 13.75: one that has 13 still takes another.
        assert max(len(keys) for keys in kept) <= 14


def test_a_beginning_stays_where_it_is_cached() -> None:
    ring = Ring(["a", "b"])
    key = point_of(b"some key")
    home = ring.first(key)
    others = frozenset(range(1000))

    def chosen(at_home: frozenset[int], elsewhere: frozenset[int]) -> int:
        servers = sorted([Server(home, prefixes=at_home), Server(1 - home, prefixes=elsewhere)])
        return by_prefix(servers, ring, key, 100, load_factor=1.25, floor=4000)

    assert chosen(others | {key}, frozenset()) == home  # it has more than its share, and this one for long
    assert chosen(others, frozenset()) == 1 - home  # it takes no new ones
    assert chosen(frozenset(), others | {key}) == 1 - home  # home was started anew
    assert chosen(frozenset({key}), frozenset({key})) == home


def by_the_whole_walk(
    servers: list[Server], ring: Ring, key: int, tokens: int, load_factor: float, floor: int
) -> int:
    """The rule of :func:`by_prefix` as it is told, without its short ways."""
    size = sum(one.weight for one in servers)
    most = bound(tokens + sum(one.load for one in servers), size, load_factor=load_factor, floor=floor)
    share = bound(1 + sum(len(one.prefixes) for one in servers), size, load_factor=load_factor, floor=1)
    known = {one.index: one for one in servers}
    met = [known[index] for index in ring.walk(key) if index in known]
    roomy = [one for one in met if not one.load or one.load + tokens <= most * one.weight]
    having = [one for one in roomy if key in one.prefixes]
    taking = [one for one in roomy if len(one.prefixes) < share * one.weight]
    return next(iter([*having, *taking, *roomy, *met])).index


loads = st.sampled_from([0, 0, 100, 900, 5000])
some_prefixes = st.frozensets(st.sampled_from([1, 2, 3, 1 << 63]))
weighed = st.tuples(loads, st.integers(1, 3), some_prefixes)


@given(
    st.lists(weighed, min_size=1, max_size=5),
    st.sampled_from([1, 2, 3, 1 << 63]),
    st.integers(0, 4),
    st.sampled_from([1.0, 1.25, 2.0]),
    st.sampled_from([0, 500, 4000]),
)
def test_the_short_ways_lead_where_the_whole_walk_leads(
    told: list[tuple[int, int, frozenset[int]]], key: int, away: int, load_factor: float, floor: int
) -> None:
    servers = [
        Server(index, load=load, weight=weight, prefixes=prefixes)
        for index, (load, weight, prefixes) in enumerate(told)
    ]
    ring = Ring([f"10.0.0.{one.index}" for one in servers], [one.weight for one in servers])
    able = [one for one in servers if one.index != away] or servers
    expected = by_the_whole_walk(able, ring, key, 300, load_factor, floor)
    assert by_prefix(able, ring, key, 300, load_factor=load_factor, floor=floor) == expected


def test_where_nobody_has_room_the_key_stays_home() -> None:
    ring = Ring(["a", "b"])
    key = point_of(b"some key")
    servers = [Server(0, load=1000), Server(1, load=1000)]
    assert by_prefix(servers, ring, key, 5000, load_factor=1.0, floor=0) == ring.first(key)


def test_calls_that_share_whole_blocks_share_a_key() -> None:
    def key(text: bytes, scope: bytes = b"t") -> int | None:
        return affinity_key(scope, text, blocks=2, block_bytes=64)

    system = b"s" * 128
    assert key(system + b"first question") == key(system + b"another one")
    assert key(system) != key(b"S" + system)
    assert key(system) != key(system, b"other tenant")
    assert key(b"x" * 63) is None  # not one whole block
    assert key(b"x" * 64 + b"abc") == key(b"x" * 64 + b"def")


def test_beginnings_that_hardly_differ_are_spread_over_the_ring() -> None:
    """As groups, tenants and days do: in a digit or two."""
    ring = Ring([f"10.0.0.{number}:8000" for number in range(8)])
    keys = [
        affinity_key(f"tenant {tenant}".encode(), b"Group %d. " % group + b"x" * 99, blocks=2, block_bytes=64)
        for tenant in range(10)
        for group in range(100)
    ]
    assert None not in keys
    assert len(set(keys)) == 1000
    homes = Counter(ring.first(key) for key in keys if key is not None)
    # Shares of the ring itself differ by some 8 % (one over the root of 160 points), and by chance as much.
    assert max(homes.values()) < 1.35 * 125
    assert min(homes.values()) > 0.65 * 125


@pytest.mark.bench
def test_a_choice_takes_less_than_five_microseconds() -> None:
    """By processor time, the best of several runs; ``pytest -m bench -s`` shows the figures."""
    ring = Ring([f"10.0.0.{index}:8000" for index in range(8)])
    key = point_of(b"some key")
    held = frozenset({*range(2000), key})
    servers = [Server(index, index, index * 100, 0.1, prefixes=held) for index in range(8)]
    ways = {
        "least": lambda turn: least(servers, turn),
        "round robin": lambda turn: in_turn(servers, turn),
        "ewma": lambda turn: fastest(servers, turn),
        "prefix": lambda turn: by_prefix(servers, ring, key, 500, load_factor=1.25, floor=4000),
    }
    for name, way in ways.items():
        best = min(_once(way) for _ in range(7))
        print(f"{name}: {best:.2f} us with 8 replicas")
        assert best < 5


def _once(way: object) -> float:
    began = time.process_time_ns()
    for turn in range(2000):
        way(turn)  # type: ignore[operator]
    return (time.process_time_ns() - began) / 2000 / 1000
