"""What is installed is what was pinned, byte for byte, and never a release known to be bad."""

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PINNED = sorted((ROOT / "requirements").rglob("*.txt"))

BANNED = {"litellm": {"1.82.7", "1.82.8"}}
"""Releases that carried malicious code."""
AT_LEAST = {"starlette": "1.1.0", "litellm": "1.83.10"}
"""Older ones have known holes."""


def entries(path: Path) -> list[tuple[str, str, list[str]]]:
    """Name, version and hashes of each entry."""
    found = []
    joined = re.sub(r"\\\n\s*", " ", path.read_text())
    for line in joined.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line)
        assert match, f"{path.name}: {line[:80]!r} is not a pinned entry"
        found.append((match[1], match[2], re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line)))
    return found


def test_there_is_a_set_of_pins_for_every_way_to_run() -> None:
    names = {path.stem for path in PINNED}
    assert {"base", "dashboard", "dev", "gpu", "litellm", "profiling", "vllm", "vllm-cpu"} <= names
    assert {"tools", "prices"} <= names


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.stem)
def test_every_entry_has_its_hashes(path: Path) -> None:
    found = entries(path)
    assert found
    assert [name for name, _, hashes in found if not hashes] == []


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.stem)
def test_no_release_known_to_be_bad_is_pinned(path: Path) -> None:
    bad = [
        f"{name}=={version}"
        for name, version, _ in entries(path)
        if version in BANNED.get(name, ())
        or (name in AT_LEAST and Version(version) < Version(AT_LEAST[name]))
    ]
    assert bad == []


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.stem)
def test_pins_name_no_index_and_no_path_of_the_machine_that_made_them(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"^\s*(-i|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.M)
    assert "://" not in text
    assert not re.search(r"(^|\s)/\w", text)


def test_the_project_itself_forbids_the_bad_releases() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = Requirement(project["optional-dependencies"]["litellm"][0])
    assert not any(extra.specifier.contains(version) for version in ("1.82.7", "1.82.8", "1.83.9"))
    starlette = next(Requirement(entry) for entry in project["dependencies"] if entry.startswith("starlette"))
    assert not starlette.specifier.contains("1.0.1")


def test_every_dependency_of_the_project_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    sets = {
        "base": project["project"]["dependencies"],
        "dashboard": project["project"]["optional-dependencies"]["dashboard"],
        "gpu": project["project"]["optional-dependencies"]["gpu"],
        "litellm": project["project"]["optional-dependencies"]["litellm"],
        "profiling": project["project"]["optional-dependencies"]["profiling"],
        "vllm": project["project"]["optional-dependencies"]["vllm"],
        "dev": project["dependency-groups"]["dev"],
    }
    for name, wanted in sets.items():
        pins = {entry: Version(version) for entry, version, _ in entries(ROOT / f"requirements/{name}.txt")}
        for requirement in map(Requirement, wanted):
            key = requirement.name.lower().replace("_", "-")
            assert key in pins, f"{requirement} is not in requirements/{name}.txt: run make requirements"
            assert requirement.specifier.contains(pins[key]), f"{requirement} is pinned at {pins[key]}"


def test_what_runs_is_pinned_alike_for_development() -> None:
    dev = {name: version for name, version, _ in entries(ROOT / "requirements/dev.txt")}
    for name in ("base", "dashboard"):
        for package, version, _ in entries(ROOT / f"requirements/{name}.txt"):
            # A package may be pinned once for each of several Python versions.
            versions = {v for p, v, _ in entries(ROOT / "requirements/dev.txt") if p == package}
            assert version in versions, f"{package}: {version} in {name}, {dev.get(package)} in dev"


def test_a_package_whose_bytes_were_changed_is_not_installed(tmp_path: Path) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed here (make env installs it)")
    wheel = tmp_path / "trustworthy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("trustworthy.py", "")
        about = "trustworthy-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: trustworthy\nVersion: 1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    honest = hashlib.sha256(wheel.read_bytes()).hexdigest()

    def install(digest: str, target: str) -> int:
        pins = tmp_path / "pins.txt"
        pins.write_text(f"trustworthy==1.0 --hash=sha256:{digest}\n")
        command = [uv, "pip", "install", "--no-config", "--offline", "--no-index", "--no-cache"]
        command += ["--find-links", str(tmp_path), "--require-hashes", "-r", str(pins)]
        command += ["--python", sys.executable, "--target", str(tmp_path / target)]
        return subprocess.run(command, capture_output=True).returncode

    assert install(honest, "honest") == 0
    assert install("0" * 64, "altered") != 0
    assert not (tmp_path / "altered" / "trustworthy.py").exists()


def test_no_package_is_ever_installed_without_its_hash(root: Path) -> None:
    for name in (
        "scripts/setup/environment.sh",
        "scripts/setup/vllm.sh",
        "tests/bench/peers/install.sh",
        "Dockerfile",
    ):
        text = re.sub(r"\\\n\s*", " ", (root / name).read_text())
        text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        installs = re.findall(r"pip install [^\n;&|]*", text)
        assert installs, name
        for command in installs:
            assert "--require-hashes" in command or "--no-deps" in command, f"{name}: {command}"
