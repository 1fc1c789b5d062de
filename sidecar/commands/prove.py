"""``bursar prove``: does it hold? Measured on this machine, with the built-in simulator as upstream."""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sidecar.proving.stage import StageFailed
from sidecar.proving.trials import TRIALS, Measure, Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to prove."""
    parser.add_argument("--only", default="", metavar="A,B", help=f"of {', '.join(TRIALS)} (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and ledgers")


def run(arguments: argparse.Namespace) -> int:
    """Run the trials; 1 when a bound is not kept."""
    wanted = [name.strip() for name in arguments.only.split(",") if name.strip()] or list(TRIALS)
    if unknown := set(wanted) - TRIALS.keys():
        sys.stderr.write(f"no such trial: {', '.join(sorted(unknown))}; there are {', '.join(TRIALS)}\n")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="bursar-prove-"))
    try:
        return asyncio.run(prove(wanted, folder, arguments))
    finally:
        if arguments.keep:
            sys.stderr.write(f"kept: {folder}\n")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def prove(wanted: list[str], folder: Path, arguments: argparse.Namespace) -> int:
    """Run the trials one after the other, and print what came of each."""
    measures: list[Measure] = []
    missing: list[str] = []
    started = time.monotonic()
    for name in wanted:
        place = folder / name
        place.mkdir(parents=True)
        sys.stderr.write(f"  {name} ...\n")
        try:
            outcome: Outcome | None = await TRIALS[name](place, arguments.seed)
        except (StageFailed, TimeoutError, OSError) as error:
            measures.append(
                Measure(name, "could not be tried", str(error)[:300] or type(error).__name__, "", False)
            )
            continue
        if outcome is None:
            missing.append(name)
        else:
            measures += outcome.measures
    failed = [measure for measure in measures if not measure.passed]
    if arguments.format == "json":
        sys.stdout.write(json.dumps([measure._asdict() for measure in measures], indent=1) + "\n")
    else:
        print_measures(measures)
        kept, took = len(measures) - len(failed), time.monotonic() - started
        sys.stdout.write(
            f"\n{kept} of {len(measures)} bounds kept in {took:.0f} s; "
            "the models were simulated, everything else was real\n"
        )
    for name in missing:
        sys.stderr.write(f"not tried: {name}, because no redis-server is installed here\n")
    return 1 if failed else 0


def print_measures(measures: list[Measure]) -> None:
    """A table for people."""
    rows = [("trial", "measured", "value", "bound", "")]
    rows += [(m.trial, m.what, m.value, m.bound, "pass" if m.passed else "FAIL") for m in measures]
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
