"""Make the price table from litellm's price file and genai-prices.

    python scripts/prices/build.py [--litellm FILE] [--genai FILE] [--out FILE] [--date DAY]

Without options it reads the installed distributions: litellm's file is found among the
files that its distribution lists (litellm itself is not imported: that takes seconds and
hundreds of megabytes), genai-prices' data is imported. Every option takes a plain or
gzipped JSON file instead.
"""

import argparse
import gzip
import importlib.metadata
import json
import re
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from collector.pricing.merge import merged
from collector.pricing.sources import read_genai, read_litellm
from collector.pricing.table import Source, Table, check_table, read_table, write_table

OUT = Path(__file__).resolve().parents[2] / "collector" / "pricing" / "table.json"
LITELLM_FILE = "model_prices_and_context_window_backup.json"


def build(litellm: Any, genai: Any, sources: dict[str, Source], today: date) -> Table:
    """The table from both parsed files."""
    return merged(read_genai(genai, today), read_litellm(litellm, today), sources, today)


def read_json(path: Path) -> Any:
    """A JSON file, gzipped or not."""
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)


def installed_litellm() -> tuple[Any, str]:
    """litellm's price file and version, found without importing it.

    Raises:
        SystemExit: litellm is not installed here.
    """
    try:
        distribution = importlib.metadata.distribution("litellm")
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit("litellm is not installed here; give its price file with --litellm FILE") from None
    for file in distribution.files or ():
        if file.name == LITELLM_FILE:
            return read_json(Path(str(distribution.locate_file(file)))), distribution.version
    raise SystemExit(f"litellm {distribution.version} carries no {LITELLM_FILE}; give it with --litellm FILE")


def installed_genai() -> tuple[Any, str]:
    """genai-prices' providers in the shape of its data.json, and its version.

    Raises:
        SystemExit: genai-prices is not installed here.
    """
    try:
        from genai_prices.data import providers
    except ImportError:
        raise SystemExit("genai-prices is not installed here; give its data.json with --genai FILE") from None
    return [plain(provider) for provider in providers], importlib.metadata.version("genai-prices")


def plain(value: Any) -> Any:
    """An object of genai-prices as its JSON says it."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if not hasattr(value, "__dict__"):
        return value
    kind = re.fullmatch(r"Clause(\w+)", type(value).__name__)
    if (
        kind
    ):  # ClauseStartsWith(starts_with=...) is {"starts_with": ...}; ClauseOr(or_=[...]) is {"or": [...]}
        return {key.rstrip("_"): plain(item) for key, item in vars(value).items()}
    return {
        key: plain(item)
        for key, item in vars(value).items()
        if item is not None and not key.startswith("_") and key != "extractors"
    }


def main(arguments: list[str] | None = None) -> int:
    """Build the table and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--litellm", type=Path, metavar="FILE", help="litellm's price file")
    parser.add_argument("--litellm-version", default="", help="the release that FILE came with")
    parser.add_argument("--genai", type=Path, metavar="FILE", help="genai-prices' data.json")
    parser.add_argument("--genai-version", default="", help="the release that FILE came with")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE")
    parser.add_argument("--date", type=date.fromisoformat, default=datetime.now(UTC).date(), metavar="DAY")
    options = parser.parse_args(arguments)
    litellm, litellm_version = (
        (read_json(options.litellm), options.litellm_version) if options.litellm else installed_litellm()
    )
    genai, genai_version = (
        (read_json(options.genai), options.genai_version) if options.genai else installed_genai()
    )
    day = options.date.isoformat()
    sources = {
        "g": Source("genai-prices", genai_version, day, "MIT", "https://github.com/pydantic/genai-prices"),
        "l": Source("litellm", litellm_version, day, "MIT", "https://github.com/BerriAI/litellm"),
    }
    write_table(build(litellm, genai, sources, options.date), options.out)
    table = read_table(options.out.read_bytes())
    check_table(table)
    models = sum(len(provider.models) for provider in table.providers.values())
    size = options.out.stat().st_size
    sys.stdout.write(
        f"{options.out}: {models} models, {len(table.providers)} providers, "
        f"{size / 1000:.0f} kB, version {table.version}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
