"""``make bench``: what the sidecar costs, beside no gateway at all, nginx, and the peers that are here.

Each gateway stands between the same load generator and the same upstream, on one CPU of its own (the
load and the upstream share the other), in turn, round after round, so that a drifting machine hits
all alike. CPU time is that of all of a gateway's processes, until everything it keeps is kept: ours
counts the collector, and a run in which the ledger has not exactly the calls that were sent is void.

Absolute figures belong to one machine; ratios within one run are what counts.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.gateways import ROOT, Gateway, all_gateways
from harness.phases import DEFAULT_PHASES, PHASES, Load
from harness.running import Bench, Running, Unusable, free_port, pinned
from harness.table import OURS, render, verdicts

from sidecar.interpreter import interpreter, optimised

HARNESS = Path(__file__).parent / "harness"
QUICK_TARGETS = ("direct", "nginx", "vllm-router", OURS)


def arguments_of(words: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure the sidecar against its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round of the nearest peers")
    parser.add_argument("--targets", default="", help="names, comma separated (default: all that are here)")
    parser.add_argument("--rounds", type=int, help="times over all targets (default 3; quick 1)")
    parser.add_argument("--seconds", type=float, help="length of a phase (default 3; quick 1.5)")
    parser.add_argument("--phases", default=",".join(DEFAULT_PHASES), help=f"of {', '.join(PHASES)}")
    parser.add_argument("--gateway-core", type=int, default=0, help="CPU for the gateway")
    parser.add_argument("--load-core", type=int, default=1, help="CPU for the load and the upstream")
    parser.add_argument(
        "--output", type=Path, help="where rows are added (default: bench-results/TIME.jsonl)"
    )
    parser.add_argument(
        "--table", type=Path, nargs="+", metavar="FILE", help="measure nothing; show these rows"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when a 'must' is missed")
    parser.add_argument("--keep", action="store_true", help="keep each gateway's folder, with its log")
    arguments = parser.parse_args(words)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.seconds = arguments.seconds or (1.5 if arguments.quick else 3.0)
    if unknown := set(arguments.phases.split(",")) - set(PHASES):
        parser.error(f"no such phase: {', '.join(sorted(unknown))}")
    return arguments


def chosen(gateways: Sequence[Gateway], arguments: argparse.Namespace) -> list[Gateway]:
    """The gateways asked for, in the order of ``gateways``."""
    names = arguments.targets.split(",") if arguments.targets else QUICK_TARGETS if arguments.quick else ()
    if missing := set(arguments.targets.split(",")) - {gateway.name for gateway in gateways} - {""}:
        sys.exit(f"not here: {', '.join(sorted(missing))} (make bench-peers installs peers)")
    return [gateway for gateway in gateways if (gateway.name in names if names else not gateway.on_request)]


def compiled(name: str, folder: Path) -> Path:
    """The C program ``name`` of the harness, compiled."""
    compiler = shutil.which("cc") or sys.exit("the benchmark needs a C compiler (Debian: gcc, libc6-dev)")
    program = folder / name
    subprocess.run([compiler, "-O2", "-o", str(program), str(HARNESS / f"{name}.c")], check=True)
    return program


def compile_ours() -> None:
    """As ``make env`` leaves it: an edited module is not to be compiled while a start is measured."""
    writing = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for name in ("ahead", "bytecode"):
        subprocess.run([sys.executable, str(ROOT / f"scripts/setup/{name}.py")], check=True, env=writing)


def measured(gateway: Gateway, bench: Bench, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One gateway through all phases; ``failed`` says why when it could not."""
    result: dict[str, Any] = {}
    try:
        with Running(gateway, bench, folder) as running:
            result["start_s"] = running.start()
            result["resident_idle"] = [process.resident for process in running.memory()]
            running.run(Load(connections=8, seconds=min(2.0, arguments.seconds)))  # warm
            for phase in arguments.phases.split(","):
                if phase not in gateway.skip:
                    result[phase] = running.run(PHASES[phase](arguments.seconds))
                    time.sleep(0.2)
            result["resident"] = [process.resident for process in running.memory()]
            if result["resident"]:
                result["resident_all"] = sum(result["resident"])
    except (Unusable, subprocess.SubprocessError, OSError) as error:
        result["failed"] = f"{type(error).__name__}: {error}"
    return result


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_optimised": optimised(),
        "commit": commit,
    }


def run_all(arguments: argparse.Namespace, output: Path) -> list[dict[str, Any]]:
    """Every round of every gateway; each result is printed and added to ``output`` as it comes."""
    gateways = chosen(all_gateways(), arguments)
    cores = os.sched_getaffinity(0)
    pin = {arguments.gateway_core, arguments.load_core} <= cores
    if not pin:
        print(f"CPUs {arguments.gateway_core} and {arguments.load_core} are not ours: nothing is pinned")
    root = Path(tempfile.mkdtemp(prefix="bursar-bench-"))
    root.chmod(0o755)
    compile_ours()
    output.parent.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        load_program=compiled("load", root),
        upstream_port=free_port(),
        gateway_core=arguments.gateway_core if pin else None,
        load_core=arguments.load_core if pin else None,
    )
    upstream = subprocess.Popen(
        [*pinned(bench.load_core), str(compiled("upstream", root)), str(bench.upstream_port)]
    )
    about = machine()
    print(
        f"{about['cpu']}, {about['cores']} CPUs, Linux {about['kernel']}, {interpreter()}",
        flush=True,
    )
    results, dead = [], set()
    try:
        time.sleep(0.2)
        for number in range(arguments.rounds):
            for gateway in gateways:
                if gateway.name in dead:
                    continue
                print(f"  round {number + 1} of {arguments.rounds}: {gateway.name}", flush=True)
                result = {
                    "target": gateway.name,
                    "round": number + 1,
                    "at": time.time(),
                    "load_average": os.getloadavg()[0],
                    "records": gateway.records,
                    **measured(gateway, bench, root / f"{gateway.name}-{number}", arguments),
                    "machine": about,
                }
                if "failed" in result:
                    dead.add(gateway.name)
                    print(f"    {result['failed']}", flush=True)
                results.append(result)
                with output.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    finally:
        upstream.kill()
        upstream.wait()
        if arguments.keep:
            print(f"logs: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    return results


def main(words: Sequence[str] | None = None) -> int:
    """Measure, show, judge; 1 when our own figures are void, or (strict) when a "must" is missed."""
    arguments = arguments_of(words)
    if arguments.table:
        lines = [line for path in arguments.table for line in path.read_text().splitlines()]
        results = [json.loads(line) for line in lines]
    else:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        output = arguments.output or ROOT / "bench-results" / f"{stamp}.jsonl"
        results = run_all(arguments, output)
        print(f"\nrows: {os.path.relpath(output)}")
    print(f"\n{render(results)}")
    ours = [result for result in results if result["target"] == OURS]
    found = verdicts(results)
    missed = [verdict for verdict in found if verdict.missed]
    for verdict in missed:
        print(f"MISSED  {verdict.row.label}: {verdict.missed}")
    if not missed and all(verdict.value is not None for verdict in found):
        print("Every 'must' is reached.")
    void = not ours or any("failed" in result for result in ours)
    return 1 if void or (arguments.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
