"""A consistent hash ring with bounded loads.

Keys go to the first node clockwise whose load is within a bound; a node that joins or leaves moves only
its own share of the keys. Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads
(https://arxiv.org/abs/1608.01350).
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import blake2b

POINTS = 160
"""Points on the ring for each unit of weight: shares then differ by some 8 % (one over their root)."""


class Ring:
    """Where on the ring each node is.

    Args:
        names: of the nodes; their places follow from these alone, whatever the order.
        weights: how large a share each gets, 1 for an ordinary one.
    """

    __slots__ = ("_hashes", "_nodes", "_size")

    def __init__(self, names: Sequence[str], weights: Sequence[int] | None = None) -> None:
        points = sorted(
            (point_of(f"{name}\x1f{number}".encode()), index)
            for index, name in enumerate(names)
            for number in range(POINTS * (weights[index] if weights else 1))
        )
        self._hashes = [point for point, _ in points]
        self._nodes = [index for _, index in points]
        self._size = len(names)

    def first(self, key: int) -> int:
        """The node that ``key`` belongs to.

        Args:
            key: 64 bits, as :func:`point_of` makes them.
        """
        place = bisect_left(self._hashes, key)
        return self._nodes[place if place < len(self._nodes) else 0]

    def walk(self, key: int) -> Iterator[int]:
        """Every node once, from the one that ``key`` belongs to, clockwise."""
        nodes = self._nodes
        place = bisect_left(self._hashes, key)
        met: set[int] = set()
        for step in range(len(nodes)):
            node = nodes[(place + step) % len(nodes)]
            if node not in met:
                met.add(node)
                yield node
                if len(met) == self._size:
                    return


def point_of(data: bytes) -> int:
    """A place on the ring: 64 bits, the same in every process."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def bound(total: int, size: int, *, load_factor: float, floor: int) -> float:
    """The load up to which a node of weight 1 takes keys of others.

    With few calls in flight the mean is so small that any factor sends a third of them away from where
    their prefix is cached; a floor at what a replica does without trouble keeps them there (measured
    on two vLLM replicas: prefix hits 0.66 without one, 0.83 with).

    Args:
        total: load of all nodes, the new call included.
        size: sum of the nodes' weights.
        load_factor: times the mean.
        floor: never less than this.
    """
    return max(load_factor * total / size, floor)
