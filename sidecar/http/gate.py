"""What the bytes of an upstream come through: most chunks of a stream need nobody to look at them.

Shut, all goes to the connection, which reads it. Open, chunks that a lane reads (they only add text) leave
for the client as they came, in one step of C; the first that it does not read shuts the gate again.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from sidecar.native import native

Take = Callable[[bytes], object]


class Lane(Protocol):
    """Reads chunks; see :class:`sidecar.wire.ordinary.Lane`."""

    def take(self, data: bytes) -> int:
        """The bytes of body in ``data``, less than 0 where somebody is to be told; 0: it read nothing."""


class Gate(Protocol):
    """Where bytes that come go."""

    open: bool
    """Whether the lane is asked."""
    stirred: bool
    """Whether bytes have come; for others to take back."""
    coded: int
    """Bytes that the lane took; for others to count down."""
    bodies: int
    """Bytes of body in them; likewise."""

    @property
    def passed(self) -> int:
        """Bytes of body that went to ``write``."""

    def take(self, data: bytes) -> None:
        """Bytes have come."""

    def lead(self, lane: Any, write: Take, told: Take) -> None:
        """Open: what ``lane`` reads goes to ``write``, or to ``told`` where somebody is to be told."""

    def shut(self) -> int:
        """All goes to the connection again; the bytes of body that went to ``write`` since the last time."""

    def leave(self) -> None:
        """Nothing goes anywhere any more."""


class PlainGate:
    """The gate in Python."""

    __slots__ = ("_lane", "_read", "_told", "_write", "bodies", "coded", "open", "passed", "stirred")

    def __init__(self, read: Take) -> None:
        self._read: Take | None = read
        self._lane: Lane | None = None
        self._write: Take | None = None
        self._told: Take | None = None
        self.open = self.stirred = False
        self.coded = self.bodies = self.passed = 0

    def take(self, data: bytes) -> None:
        """See :class:`Gate`."""
        self.stirred = True
        lane, write, told = self._lane, self._write, self._told
        if self.open and lane is not None and write is not None and told is not None:
            size = lane.take(data)
            if size:
                self.coded += len(data)
                self.bodies += abs(size)
                if size > 0:
                    self.passed += size
                    write(data)
                else:
                    told(data)
                return
            self.open = False
        if self._read is not None:
            self._read(data)

    def lead(self, lane: Lane, write: Take, told: Take) -> None:
        """See :class:`Gate`."""
        self._lane, self._write, self._told = lane, write, told
        self.open = True

    def shut(self) -> int:
        """See :class:`Gate`."""
        passed, self.passed = self.passed, 0
        self.open = False
        self._lane = self._write = self._told = None
        return passed

    def leave(self) -> None:
        """See :class:`Gate`."""
        self.open = False
        self._read = self._lane = self._write = self._told = None


gate: Final[Callable[[Take], Gate]] = PlainGate if native is None else native.Gate
"""Makes a gate: given what reads all that is not led on."""
