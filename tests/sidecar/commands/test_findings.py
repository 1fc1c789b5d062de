"""What `bursar report --runs` and the other views print for people."""

import pytest

from sidecar.commands.findings import VIEWS, print_findings

RUN = {
    "conversation_id": "conv_0123456789abcdef0123456789abcdef", "agent": "research-assistant", "steps": 12,
    "turns": 14, "retries": 0, "looped": 3, "tool_calls": 20, "tool_errors": 1, "success": None,
    "effective_cost_usd": "12345.678901", "wasted_usd": "1234.5", "inferred": "completed",
}  # fmt: skip
QUALITY = {
    "agent": "research-assistant", "tasks": 120, "successes": 100, "success_rate": 0.8333,
    "success_rate_low": 0.75, "success_rate_high": 0.9, "effective_cost_usd": "12345.678901",
    "usd_per_success": "123.456789", "value_per_usd": "0.67",
}  # fmt: skip
SEEN = [(RUN, VIEWS["runs"].columns), (QUALITY, ("agent", *VIEWS["quality"].columns))]


@pytest.mark.parametrize(("row", "columns"), SEEN)
def test_a_pipe_has_every_figure_and_name_whole(capsys, row, columns):
    print_findings([row], columns)

    text = capsys.readouterr().out
    for told in ("research-assistant", "12,345.678901", row.get("conversation_id", "123.456789")):
        assert told in text
    assert "…" not in text


@pytest.mark.parametrize(("row", "columns"), SEEN)
def test_a_narrow_terminal_cuts_no_figure_and_says_which_it_leaves_out(capsys, a_terminal, row, columns):
    a_terminal(80)
    print_findings([row], columns)

    text = capsys.readouterr().out
    for told in ("research-assistant", "12,345.678901", " 120 " if "tasks" in row else " 12 "):
        assert told in text
    assert "Not shown in a terminal this narrow: " in text
    assert max(map(len, text.splitlines())) <= 80
