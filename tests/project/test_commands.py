"""What the pages tell people to type can be typed."""

import re
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from sidecar import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CHANGELOG.md", "docker-compose.yml")


def written() -> list[str]:
    """Everything in code blocks and code spans of the pages, line by line."""
    found: list[str] = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        blocks = re.findall(r"```\w*\n(.*?)```", text, re.S) if page.endswith(".md") else [text]
        spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
        found += [
            line.strip().lstrip("$# ").strip() for block in blocks for line in block.splitlines()
        ] + spans
    return found


def bursar_lines() -> list[list[str]]:
    """The words after ``bursar`` wherever a page shows a command line."""
    found = []
    for line in written():
        command = re.match(r"(?:\.venv/bin/)?bursar ([a-z].*)", line)
        if command:
            text = re.split(r"\s+#|[|&;>]", command[1])[0]
            found.append(shlex.split(text))
    return found


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))


def test_every_bursar_command_that_is_shown_exists() -> None:
    shown = bursar_lines()
    assert {"demo", "up"} <= {words[0] for words in shown}
    assert {words[0] for words in shown} - set(cli.COMMANDS) == set()


def test_every_option_that_is_shown_is_understood() -> None:
    # In pages, capitals and angle brackets stand for something of the reader's own.
    unknown = []
    for words in bursar_lines():
        help_text = subcommand_help(words)
        unknown += [f"{words[0]} {word}" for word in words if word.startswith("--") and word not in help_text]
    assert unknown == []


whole_parser = cache(cli.parser)


def subcommand_help(words: list[str]) -> str:
    """The help of a command, and of its action where it has some."""
    top = whole_parser()
    commands = next(action.choices for action in top._actions if action.dest == "command")
    parser = commands[words[0]]
    text = parser.format_help()
    for action in parser._actions:
        if action.dest == "action" and action.choices and len(words) > 1 and words[1] in action.choices:
            text += action.choices[words[1]].format_help()
    return text


def test_every_make_target_that_is_shown_exists() -> None:
    shown = {m for line in written() for m in re.findall(r"(?:^|\s)make ([a-z][a-z-]*)", line)}
    assert {"demo", "test", "bench"} <= shown
    assert shown - make_targets() == set()


def test_make_says_what_it_can_do() -> None:
    done = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    told = set(re.findall(r"^  make ([a-z-]+)", done.stdout, re.M))
    wanted = {"demo", "test", "bench", "bench-peers", "test-slow", "lint", "fmt", "clean", "requirements"}
    assert wanted <= told
    assert told <= make_targets()


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"bursar {name}" in capsys.readouterr().out


def test_the_terminal_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if not re.search(rf"^\s+{name}\b", told, re.M)] == []


def test_an_unknown_command_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["nonsense"])
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_what_is_said_to_install_is_an_extra_of_the_clone_and_no_package_of_an_index() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sources = {path: path.read_text() for path in (ROOT / "README.md", *(ROOT / "sidecar").rglob("*.py"))}

    assert [path for path, text in sources.items() if "bursar[" in text] == []
    found = [some for text in sources.values() for some in re.findall(r"'\.\[([^]]+)\]'", text)]
    named = {name for some in found for name in some.split(",")}
    assert {"dashboard", "mcp", "litellm", "semantic", "encryption"} <= named <= set(extras)
