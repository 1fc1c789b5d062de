"""Write a software bill of materials (CycloneDX 1.6, JSON) of each set of pins.

    python scripts/supply/sbom.py [--out FOLDER] [SET ...]

A SET is a file of ``requirements/`` without its ending (``dashboard``, ``peers/litellm``); without any, the
sets that a user installs. What is in a bill comes from the pins alone: name, version, every hash that an
installed file may have, for which platforms, and who needs it. The same pins give the same bytes, whenever
and wherever it is made: it has no time in it, and its serial number is made of its content.
"""

import argparse
import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (
    "base",
    "dashboard",
    "encryption",
    "gpu",
    "litellm",
    "profiling",
    "semantic",
    "semantic-onnx",
    "vllm",
)
"""Sets that users install: Bursar itself, and with each of its extras."""
_SPACE = uuid.UUID("6f1d7d0a-5d43-5b8e-9a52-0d7c4b0f6a11")
_ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;]+)(?: ; (?P<marker>[^\\]+?))?(?= --hash| *$)"
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")


class Pin(NamedTuple):
    """One entry of a set."""

    name: str
    version: str
    marker: str
    """For which machines; empty for all."""
    hashes: tuple[str, ...]
    """SHA-256 of each file that may be installed."""
    needed_by: tuple[str, ...]
    """Names of those that ask for it; ours is :data:`OURS`."""

    @property
    def ref(self) -> str:
        """Its package URL, which names it in the bill."""
        return f"pkg:pypi/{normal(self.name)}@{self.version}"


OURS = "bursar"


def normal(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins_of(text: str) -> list[Pin]:
    """The entries of a set, by name.

    Raises:
        ValueError: a line is none of what we write there.
    """
    found: list[Pin] = []
    pending = ""
    needed: list[str] = []
    for line in [*text.splitlines(), ""]:
        words = line.strip()
        if words.startswith("#"):
            said = words.removeprefix("#").strip().removeprefix("via").strip()
            if said and not said.startswith("-"):
                needed.append(_asker(said))
            continue
        if line and line[0] not in " \t":
            found += _read(pending, needed)
            pending, needed = "", []
        pending = f"{pending} {words.removesuffix(chr(92)).strip()}".strip()
    return sorted(
        [*found, *_read(pending, needed)], key=lambda pin: (normal(pin.name), pin.version, pin.marker)
    )


def _asker(said: str) -> str:
    """Who asks, of a comment: ``httpx``, ``bursar (pyproject.toml)``, ``bursar (pyproject.toml:dev)``."""
    return normal(said.split(" ")[0].split("[")[0])


def _read(entry: str, needed: list[str]) -> list[Pin]:
    if not entry:
        return []
    shape = _ENTRY.match(entry)
    if shape is None:
        raise ValueError(f"not a pinned entry: {entry[:80]!r}")
    hashes = tuple(sorted(_HASH.findall(entry)))
    if not hashes:
        raise ValueError(f"{shape['name']}=={shape['version']} has no hash")
    return [
        Pin(
            shape["name"],
            shape["version"],
            (shape["marker"] or "").strip(),
            hashes,
            tuple(sorted(set(needed))),
        )
    ]


def bill(name: str, pins: list[Pin], version: str) -> dict[str, Any]:
    """The bill of one set."""
    ours = f"pkg:pypi/{OURS}@{version}"
    by_name: dict[str, list[str]] = {}
    for pin in pins:
        by_name.setdefault(normal(pin.name), []).append(pin.ref)
    needs: dict[str, set[str]] = {ref: set() for ref in (ours, *(pin.ref for pin in pins))}
    for pin in pins:
        askers = [ref for asker in pin.needed_by for ref in by_name.get(asker, ())]
        for ref in askers or [ours]:
            needs[ref].add(pin.ref)
        if OURS in pin.needed_by:
            needs[ours].add(pin.ref)
    components = [
        {
            "type": "library",
            "bom-ref": pin.ref,
            "name": pin.name,
            "version": pin.version,
            "purl": pin.ref,
            "hashes": [{"alg": "SHA-256", "content": digest} for digest in pin.hashes],
            **({"properties": [{"name": "python:marker", "value": pin.marker}]} if pin.marker else {}),
        }
        for pin in pins
    ]
    content = {
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": OURS,
                "version": version,
                "purl": ours,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
            "properties": [{"name": "bursar:requirements", "value": name}],
        },
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": sorted(needs[ref])} for ref in sorted(needs)],
    }
    serial = uuid.uuid5(_SPACE, json.dumps(content, sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **content,
    }


def bill_text(name: str) -> str:
    """The bill of the set ``name`` of this checkout, as its file has it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    pins = pins_of((ROOT / "requirements" / f"{name}.txt").read_text())
    return json.dumps(bill(name, pins, version), indent=1) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the bills that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="*", default=list(SHIPPED), metavar="SET")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "sbom", metavar="FOLDER")
    given = parser.parse_args(arguments)
    for name in given.sets:
        path = given.out / f"{name.replace('/', '-')}.cdx.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(bill_text(name), encoding="utf-8")
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
