"""Tables for people: no figure is ever cut off, and nothing in a cell steers the terminal.

A terminal that is too narrow goes without the columns that matter least, and is told which; what goes to
a file or through a pipe is as wide as it has to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_WORDS = 18
"""Cells of a column of words: as many as another column is given up for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column, from its title to its last cell."""

    title: str
    cells: Sequence[str]
    footer: str = ""
    figures: bool = False
    """Stands at the right, and each cell on one line."""
    whole: bool = False
    """Words that somebody will copy, such as an id: each cell on one line."""
    one_line: bool = False
    """Words that are shortened where there is no room; others go on in the next line."""

    @property
    def least(self) -> int:
        """Cells it has to have."""
        from rich.cells import cell_len

        longest = max(map(cell_len, (*self.cells, self.footer)), default=0)
        word = max(map(cell_len, self.title.split()), default=0)
        return max(longest, word) if self.figures or self.whole else min(self.most, LEAST_WORDS)

    @property
    def most(self) -> int:
        """Cells in which it is all on one line."""
        from rich.cells import cell_len

        return max(map(cell_len, (*self.cells, self.footer, self.title)))


def print_columns(columns: Sequence[Column], less_wanted: Sequence[str] = ()) -> None:
    """Print a table; ``less_wanted`` titles are left out of a narrow terminal, the first one first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    columns = [_printable(column) for column in columns]
    room = console.width if console.is_terminal else _total([column.most for column in columns])
    kept = list(columns)
    for title in less_wanted:
        if _total([column.least for column in kept]) > room:
            kept = [column for column in kept if column.title != title]
    widths = _shared_out(kept, room)
    console.width = max(room, _total(widths))
    table = Table(show_footer=any(column.footer for column in kept))
    for column, width in zip(kept, widths, strict=True):
        table.add_column(
            Text(column.title),
            Text(column.footer),
            justify="right" if column.figures else "left",
            overflow="ellipsis" if column.one_line else "fold",
            no_wrap=column.one_line,
            width=width,
        )
    for cells in zip(*(column.cells for column in kept), strict=True):
        table.add_row(*map(Text, cells))
    console.print(table)
    if len(kept) < len(columns):
        left_out = ", ".join(column.title for column in columns if column not in kept)
        console.print(Text(f"Not shown in a terminal this narrow: {left_out}."))


def _printable(column: Column) -> Column:
    from dataclasses import replace

    from sidecar.commands.screen import printable

    return replace(column, cells=[printable(cell) for cell in column.cells])


def _total(widths: Sequence[int]) -> int:
    """Cells of a table with its borders."""
    return 1 + sum(width + 3 for width in widths)


def _shared_out(columns: Sequence[Column], room: int) -> list[int]:
    """A width for each column: what it has to have, and of the rest the narrowest gets most."""
    widths, wanted = [column.least for column in columns], [column.most for column in columns]
    for _ in range(room - _total(widths)):
        growing = [place for place, width in enumerate(widths) if width < wanted[place]]
        if not growing:
            break
        widths[min(growing, key=widths.__getitem__)] += 1
    return widths
