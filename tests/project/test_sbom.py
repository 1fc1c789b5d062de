"""The bill of materials is what the pins say, the same each time, and every file in it has its hash."""

import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "supply" / "sbom.py"
SETS = sorted(
    str(path.relative_to(ROOT / "requirements").with_suffix(""))
    for path in (ROOT / "requirements").rglob("*.txt")
)

_spec = spec_from_file_location("sbom", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
sbom = module_from_spec(_spec)
_spec.loader.exec_module(sbom)


def pinned(name: str) -> list[tuple[str, str, list[str]]]:
    """Name, version and hashes of each entry of a set, read another way than the script does."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return sorted(
        (head[1], head[2], sorted(re.findall(r"sha256:([0-9a-f]{64})", block)))
        for block in re.split(r"\n(?=[A-Za-z0-9])", "\n" + text)
        if (head := re.match(r"\n?([A-Za-z0-9._-]+)==([^\s;\\]+)", block))
    )


@pytest.mark.parametrize("name", SETS)
def test_a_bill_has_what_is_pinned_and_every_file_has_its_hash(name: str) -> None:
    bill = json.loads(sbom.bill_text(name))

    listed = sorted(
        (part["name"], part["version"], [entry["content"] for entry in part["hashes"]])
        for part in bill["components"]
    )
    assert listed == pinned(name)
    assert all(hashes for _, _, hashes in listed)
    assert all(entry["alg"] == "SHA-256" for part in bill["components"] for entry in part["hashes"])


def test_every_reference_in_a_bill_leads_somewhere_and_all_is_needed() -> None:
    for name in SETS:
        bill = json.loads(sbom.bill_text(name))
        ours = bill["metadata"]["component"]["bom-ref"]
        refs = {ours, *(part["bom-ref"] for part in bill["components"])}
        graph = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
        assert graph.keys() == refs
        reached, left = {ours}, [ours]
        while left:
            left = [ref for ref in {need for one in left for need in graph[one]} if ref not in reached]
            reached.update(left)
        assert reached == refs, name


def test_ours_needs_what_its_project_file_says() -> None:
    bill = json.loads(sbom.bill_text("base"))
    graph = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    first = {ref.split("/")[1].split("@")[0] for ref in graph[bill["metadata"]["component"]["bom-ref"]]}

    assert {"msgspec", "uvloop", "httptools", "duckdb"} <= first
    assert "anyio" not in first  # it comes with httpx


def test_two_bills_of_the_same_pins_are_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        done = subprocess.run(
            [sys.executable, str(SCRIPT), "--out", str(tmp_path / folder), "dashboard"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two = (tmp_path / folder / "dashboard.cdx.json" for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    bill = json.loads(one.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert "timestamp" not in one.read_text()


def test_other_pins_are_another_bill_and_a_pin_without_a_hash_is_none() -> None:
    text = f"a==1 \\\n    --hash=sha256:{'0' * 64}\n    # via bursar (pyproject.toml)\n"

    def serial(of: str) -> str:
        return str(sbom.bill("x", sbom.pins_of(of), "1")["serialNumber"])

    assert serial(text) == serial(text) != serial(text.replace("a==1", "a==2"))
    assert serial(text) != serial(text.replace("0" * 64, "1" * 64))
    with pytest.raises(ValueError, match="no hash"):
        sbom.pins_of("a==1\n    # via b\n")
    with pytest.raises(ValueError, match="not a pinned entry"):
        sbom.pins_of("a>=1\n")
