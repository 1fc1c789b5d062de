"""A table for people cuts no figure and no id, however narrow the terminal is."""

from collections.abc import Callable

import pytest

from sidecar.commands.tables import Column, print_columns

COLUMNS = [
    Column(title="id", cells=["vk_012345", "vk_abcdef"], whole=True),
    Column(title="name", cells=["the key of the agent that writes to customers", "[/oops]\x1b[2J"]),
    Column(title="team", cells=["search and recommendations", ""]),
    Column(title="cost USD", cells=["1,234.567890", "0.000001"], figures=True, footer="1,234.567891"),
]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_columns(COLUMNS, ("team", "name"))
    return capsys.readouterr().out.splitlines()


def test_a_pipe_has_every_cell_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = lines(capsys)
    (first,) = [line for line in text if "vk_012345" in line]
    for told in [column.cells[0] for column in COLUMNS]:
        assert told in first
    assert any("[/oops]\\x1b[2J" in line for line in text)  # neither markup nor an escape


@pytest.mark.parametrize(
    ("width", "without"), [(80, ""), (60, "Not shown in a terminal this narrow: team."), (20, "name, team.")]
)
def test_a_terminal_has_ids_and_figures_whole_and_says_what_it_leaves_out(
    capsys: pytest.CaptureFixture[str], a_terminal: Callable[[int], None], width: int, without: str
) -> None:
    a_terminal(width)
    text = lines(capsys)
    for told in ("vk_012345", "vk_abcdef", "1,234.567890", "0.000001", "1,234.567891"):
        assert any(told in line for line in text)
    assert text[-1].endswith(without)
    if width > 20:
        assert max(map(len, text)) <= width
        together = "".join(line.split("│")[2].strip() for line in text if line.count("│") > 3)
        assert together.replace(" ", "").startswith("thekeyoftheagentthatwritestocustomers")
