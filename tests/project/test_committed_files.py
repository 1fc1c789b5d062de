"""What is committed belongs to the project, and to no machine."""

import re
from pathlib import Path

REGISTRY_HOSTS = (
    # Written in pieces, so that this file does not name them either.
    "pypi" + ".org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "yarn" + "pkg.com",
    "deb." + "debian.org",
    "security." + "debian.org",
    "crates" + ".io",
    "proxy." + "golang.org",
    "conda." + "anaconda.org",
)
HOME = re.compile(r"(?<![\w.$}])/(?:home|Users)/[a-z][\w.-]*/|(?<![\w.$}/])/ro{2}t/")
SECRET = re.compile(r"\b(?:sk-(?:ant|proj)-[A-Za-z0-9_-]{24,}|AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{36})\b")
LARGEST = 2 << 20
"""Bytes of one file."""
LONGEST = 600
"""Lines of one module; most have a third of that."""


def texts(committed: list[Path]) -> list[tuple[Path, str]]:
    found = []
    for path in committed:
        data = path.read_bytes()
        if b"\0" not in data[:8000]:
            found.append((path, data.decode("utf-8", errors="replace")))
    assert len(found) > 50
    return found


def test_no_file_names_a_package_registry(committed) -> None:
    naming = [f"{path}: {host}" for path, text in texts(committed) for host in REGISTRY_HOSTS if host in text]
    assert naming == []


def test_no_file_names_a_folder_of_somebodys_machine(committed, root) -> None:
    # Short ones, such as /src in a container, could stand in a file for a good reason.
    here = str(root) if len(root.parts) > 3 else None
    naming = [
        f"{path.relative_to(root)}: {found[0]!r}"
        for path, text in texts(committed)
        if (found := HOME.search(text) or (re.search(re.escape(here) + r"\b", text) if here else None))
    ]
    assert naming == []


def test_no_file_holds_what_looks_like_a_real_key(committed, root) -> None:
    # Tests of redaction need keys of the right shape, and make them up.
    searched = [(path.relative_to(root), text) for path, text in texts(committed)]
    holding = [str(path) for path, text in searched if path.parts[0] != "tests" and SECRET.search(text)]
    assert holding == []


def test_no_lock_file_that_names_an_index_is_committed(committed) -> None:
    assert [path for path in committed if path.name in ("uv.lock", "poetry.lock", "Pipfile.lock")] == []


def test_no_file_is_too_large_to_read(committed, root) -> None:
    large = [str(path.relative_to(root)) for path in committed if path.stat().st_size > LARGEST]
    assert large == []


def test_modules_stay_short_enough_to_read_in_one_go(sources) -> None:
    long = [f"{source.path}: {len(source.lines)} lines" for source in sources if len(source.lines) > LONGEST]
    assert long == []


def test_the_licence_is_apache_2(root) -> None:
    text = (root / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
