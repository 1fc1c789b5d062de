"""The figures of one process, on their way to the one that renders those of several."""

from typing import NamedTuple

from collector.export.values import ValueRows

Rows = list[tuple[list[str], list[int]]]


class State(NamedTuple):
    """The figures of one process, as plain data.

    Not in a module that is compiled ahead: there a named tuple forgets what its lists hold, and what was
    decoded as one would have lists where it says tuples.
    """

    calls: Rows
    timings: Rows
    inferences: Rows
    results: Rows
    cache: list[tuple[list[str], int]]
    unpriced: list[tuple[list[str], int]]
    values: ValueRows
