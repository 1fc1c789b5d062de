"""The time of day as this sidecar tells it: its machine's, put right where budgets are shared.

Windows begin and end for all sidecars at once, so where one Redis keeps their budgets, its clock is
everybody's. A machine that agrees with it to within ``TOLERATED_NS`` keeps its own time.

Clocks are handed in elsewhere. This one is a fact of the process, as the machine's own is: one store, one
offset, read twice by each call, where the name of a module costs least.
"""

import time

from collector.logs import get

log = get("bursar.budgets")

TOLERATED_NS = 2 * 10**9
_USELESS_NS = 10**9
"""An answer that took longer says too little of when it was given."""

ahead_ns = 0
"""How far this machine's clock is ahead of the one that counts; taken from every reading."""


def now_us() -> int:
    """Microseconds since the Unix epoch."""
    return (time.time_ns() - ahead_ns) // 1000


def compare(before_ns: int, there_us: int, after_ns: int) -> None:
    """Take up what the shared store's clock said.

    Args:
        before_ns: this machine's clock as the store was asked.
        there_us: the store's, microseconds since the Unix epoch.
        after_ns: this machine's as the answer was there.
    """
    global ahead_ns
    if not 0 <= after_ns - before_ns < _USELESS_NS:
        return
    found = (before_ns + after_ns) // 2 - there_us * 1000
    off = found if abs(found) > TOLERATED_NS else 0
    if bool(off) != bool(ahead_ns):
        said = f"ahead by {off / 1e9:.0f} s" if off else "right again"
        log.warning("this machine's clock, by the shared store's", reason=said)
    ahead_ns = off
