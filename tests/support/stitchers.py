"""A stitcher in Python and one in C that are asked the same, and may differ in nothing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from collector.domain.stitching import Placement, Stitcher, StitchingLimits, Via
from sidecar.native import native
from sidecar.stitching import stitcher_of


class Placed(NamedTuple):
    """Where both put a call."""

    conversation_id: str
    branch: int
    via: Via
    state: int
    each: tuple[Placement, ...]


class Stitchers:
    """Both, where C is built; else Python's alone."""

    def __init__(self, limits: StitchingLimits | None = None) -> None:
        self.in_python = Stitcher(limits)
        self._all = [self.in_python] if native is None else [self.in_python, stitcher_of(limits)]

    def place(self, scope: tuple[str, ...], hashes: Sequence[int], fresh_id: str, **how: Any) -> Placed:
        """Place a call with each."""
        each = tuple([stitcher.place(scope, hashes, fresh_id, **how) for stitcher in self._all])
        found = [(one.conversation_id, one.branch, one.via, one.state) for one in each]
        assert found == found[:1] * len(found)
        self.check()
        return Placed(*found[0], each)

    def settle(self, placed: Placed, last_message_hash: int, response_id: str = "") -> None:
        """Tell each how a call has ended."""
        for stitcher, placement in zip(self._all, placed.each, strict=True):
            stitcher.settle(placement, last_message_hash, response_id)
        self.check()

    def check(self) -> None:
        """Neither knows anything that the other does not."""
        known = [(one.hashes, one.conversations, one.forgotten, one.scopes) for one in self._all]
        assert known == known[:1] * len(known)

    @property
    def hashes(self) -> int:
        """How many are remembered."""
        return self.in_python.hashes

    @property
    def conversations(self) -> int:
        """How many are remembered."""
        return self.in_python.conversations

    @property
    def forgotten(self) -> int:
        """Conversations that were dropped."""
        return self.in_python.forgotten

    @property
    def scopes(self) -> int:
        """How many conversations are remembered of."""
        return self.in_python.scopes
