"""``bursar demo``: everything running, on simulated models, with nothing to set up.

The same processes as ``bursar up``; the upstreams are the built-in simulator, and the calls are
replayed through the real proxy: from a trace, or drawn from distributions fitted on public ones.
"""

import argparse
import asyncio
import contextlib
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from collector.settings import Address
from inference.workload.calls import TracedCall
from inference.workload.columns import TraceError
from inference.workload.generator import demonstration
from inference.workload.replay import Progress, ReplaySummary, replay
from inference.workload.traces import Trace, read_trace
from sidecar.commands.arguments import duration, positive
from sidecar.commands.inference import own_vllm
from sidecar.commands.process import no_folder, not_writable, started
from sidecar.commands.questions import NoAnswer, ask
from sidecar.commands.supervise import Part, Supervisor, bursar, stop_on_signals
from sidecar.commands.up import READY_WITHIN_S, answers_ok, is_free, parts_of, wait_until_ready
from sidecar.config import BursarConfig, load_config

DRAINED_WITHIN_S = 30.0
VLLM_READY_WITHIN_S = 600.0


BUDGETS = [
    {"name": "everything", "limit": "1500 USD", "window": "month", "mode": "soft", "at": {"80%": "notify"}},
    {"name": "teams", "limit": "40 USD", "window": "day", "each": "team", "mode": "soft",
     "at": {"50%": "notify", "90%": "notify"}},
    {"name": "agents", "limit": "25 USD", "window": "day", "each": "agent", "mode": "soft",
     "at": {"80%": "notify"}},
]  # fmt: skip
"""To look at: they tell, and refuse nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to replay, how fast, how long."""
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="replay a trace (CSV, JSONL or Parquet) instead"
    )
    parser.add_argument(
        "--speed",
        type=positive,
        metavar="X",
        help="replay a trace X times as fast as it was (default: at once)",
    )
    parser.add_argument(
        "--rate", type=positive, default=8.0, help="generated calls a second, after a first burst"
    )
    parser.add_argument(
        "--for", dest="for_s", type=duration, metavar="30s", help="end by itself after so long"
    )
    parser.add_argument(
        "--vllm",
        nargs="?",
        const="",
        metavar="COMMAND",
        help="serve the local model by a real vLLM (made-up weights) instead; see make vllm-env",
    )
    parser.add_argument(
        "--history",
        type=duration,
        metavar="30d",
        help="begin with a made-up past of so long in the ledger, so that there is something to compare with",
    )
    parser.add_argument("--no-dashboard", action="store_true", help="do not start the dashboard")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument(
        "--data-dir", type=Path, help="keep the ledger there (default: gone when the demo ends)"
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the demonstration takes place."""

    config: BursarConfig
    config_file: Path
    simulator: Address
    vllm: Address | None = None
    """Where a real vLLM takes the simulator's place for the local model."""


def run(arguments: argparse.Namespace) -> int:
    """Set the scene, replay, sum up."""
    trace = None
    if arguments.trace:
        try:
            trace = read_trace(arguments.trace)
        except TraceError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        report_skipped(trace)
    if arguments.vllm is not None:
        from inference.installed import NotInstalled, find

        try:
            find(own_vllm(arguments.vllm or BursarConfig().inference.vllm))
        except NotInstalled as error:
            sys.stderr.write(f"{error}\n")
            return 2
    if arguments.data_dir and (wrong := no_folder(arguments.data_dir) or not_writable(arguments.data_dir)):
        sys.stderr.write(f"--data-dir: {wrong}\n")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="bursar-demo-"))
    try:
        scene = set_scene(folder, arguments)
        started("demo", scene.config, supervised=False)
        if arguments.history:
            from sidecar.commands.past import write_past

            count = write_past(scene.config, days=arguments.history / 86_400, seed=arguments.seed)
            sys.stdout.write(f"{count:,} calls of a made-up past are in the ledger; no proxy saw them.\n")
        return asyncio.run(perform(scene, arguments, trace))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report_skipped(trace: Trace) -> None:
    """Say which rows of a trace could not be used."""
    if trace.skipped:
        sys.stderr.write(f"{trace.skipped:,} rows of the trace cannot be used, among them:\n")
        sys.stderr.writelines(f"  {complaint}\n" for complaint in trace.complaints)


def set_scene(folder: Path, arguments: argparse.Namespace) -> Scene:
    """Write a configuration whose upstreams are the simulator; the usual ports where they are free."""
    default = BursarConfig()
    taken: set[int] = set()

    def address(wanted: Address | None) -> str:
        port = wanted.port if wanted and wanted.port not in taken and is_free(wanted) else free_port(taken)
        taken.add(port)
        return f"127.0.0.1:{port}"

    simulator = Address("127.0.0.1", free_port(taken))
    vllm = None if arguments.vllm is None else Address("127.0.0.1", free_port(taken))
    settings: dict[str, Any] = {
        "listen": address(default.listen),
        "control": {"listen": address(default.control.listen)},
        "collector": {
            "listen": address(default.collector.listen),
            "otlp_http": address(default.collector.otlp_http),
            "otlp_grpc": address(default.collector.otlp_grpc),
            "commit_every": "500ms",
        },
        "dashboard": {"listen": address(default.dashboard.listen)},
        "data_dir": str((arguments.data_dir or folder / "data").resolve()),
        "upstreams": {
            "openai": {"kind": "openai", "base_url": f"http://{simulator}/v1"},
            "anthropic": {"kind": "anthropic", "base_url": f"http://{simulator}"},
            "local": {"kind": "vllm", "replicas": [f"http://{vllm or simulator}"]},
        },
        "models": {"qwen3-8b": {"upstream": "local", **({"model": "tiny"} if vllm else {})}},
        "prices": {"qwen3-8b": {"input": "0.05", "output": "0.20", "cache_read": "0.01"}},
        "tags": {"simulated": "true"},
        "budgets": BUDGETS,
    }
    path = folder / "bursar.yaml"
    path.write_text(yaml.safe_dump(settings))
    return Scene(load_config(path, {}), path, simulator, vllm)


def free_port(taken: set[int]) -> int:
    """A port that nobody has now, and none of us will."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            taken.add(port)
            return port


async def perform(scene: Scene, arguments: argparse.Namespace, trace: Trace | None) -> int:
    """Start everything, replay, and end it in order."""
    parts = parts_of(scene.config, scene.config_file, dashboard=not arguments.no_dashboard)
    at = scene.simulator
    argv = [sys.executable, "-m", "inference.simulator", "--host", at.host, "--port", str(at.port)]
    parts.append(Part("simulator", [*argv, "--seed", str(arguments.seed)]))
    if scene.vllm is not None:
        words = ["--tiny", "--listen", str(scene.vllm), "--config", str(scene.config_file)]
        words += ["--vllm", arguments.vllm] if arguments.vllm else []
        parts.append(Part("inference", bursar("inference", *words), stop_within_s=60))
    logs = scene.config.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for part in parts:
        part.log_file = logs / f"{part.name}.log"
    supervisor = Supervisor(parts)
    stop_on_signals(supervisor)
    await supervisor.start()
    try:
        # A vLLM that loads takes all the processors there are, for a minute and more.
        within_s = READY_WITHIN_S if scene.vllm is None else VLLM_READY_WITHIN_S
        if not await wait_until_ready(scene.config, supervisor, within_s):
            said = supervisor.failed or "the processes did not become ready"
            sys.stderr.write(f"{said}; what they wrote is in {logs}\n")
            return 1
        if scene.vllm is not None and not await vllm_is_ready(scene.vllm, supervisor):
            sys.stderr.write(f"vLLM did not become ready; what it wrote is in {logs} and beside it\n")
            return 1
        announce(scene, [part.name for part in parts])
        began = datetime.now(UTC)
        summary = await play(scene, arguments, trace, supervisor)
        whole = await sum_up(scene.config, summary, began)
        if arguments.for_s is None:
            sys.stdout.write("Everything goes on running; Ctrl-C ends it.\n")
            sys.stdout.flush()
            await supervisor.stopped()
        return 0 if whole else 1
    finally:
        await supervisor.stop()


async def vllm_is_ready(address: Address, supervisor: Supervisor) -> bool:
    """Wait for the real server; False when it cannot start or does not answer in time."""
    sys.stdout.write("Starting a real vLLM for the local model; that takes a minute.\n")
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    until = loop.time() + VLLM_READY_WITHIN_S
    while loop.time() < until and supervisor.failed is None:
        if await asyncio.to_thread(answers_ok, f"http://{address}/health"):
            return True
        await asyncio.sleep(0.5)
    return False


def announce(scene: Scene, parts: list[str]) -> None:
    """Where to look, and that the models are simulated."""
    out = sys.stdout.write
    out("Bursar's demonstration. The models are SIMULATED: tokens and texts are made up, nobody is billed;\n")
    if scene.vllm is not None:
        out("The local model is a real vLLM, with made-up weights: its texts are noise, its counts real;\n")
    out("prices are real list prices, and every call goes through the real proxy and ledger.\n\n")
    if "dashboard" in parts:
        out(f"  Dashboard: http://{scene.config.dashboard.listen}\n")
    out(f"  Metrics:   http://{scene.config.control.listen}/metrics\n")
    out(f"  Questions: http://{scene.config.collector.listen}/v1/questions\n")
    out(f"  Logs:      {scene.config.data_dir / 'logs'}\n")
    out(f"  To join in: export OPENAI_BASE_URL=http://{scene.config.listen}/v1\n\n")
    sys.stdout.flush()


async def play(
    scene: Scene, arguments: argparse.Namespace, trace: Trace | None, supervisor: Supervisor
) -> ReplaySummary:
    """Replay calls until the trace or the time is over, or somebody asks to stop."""
    calls: Iterator[TracedCall]
    compression: float | None = 1.0
    if trace is None:
        calls, total = demonstration(seed=arguments.seed, calls_per_s=arguments.rate), None
    else:
        compression, total = arguments.speed, len(trace)
        calls = (replace(call, instant=True) for call in trace.calls())
    with progress_bar(total, arguments.for_s) as tell:
        playing = asyncio.create_task(
            replay(
                calls,
                base_url=f"http://{scene.config.listen}",
                compression=compression,
                progress=tell,
                until_s=arguments.for_s,
            )
        )
        stopped = asyncio.create_task(supervisor.stopped())
        await asyncio.wait({playing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing
        stopped.cancel()
        return playing.result() if not playing.cancelled() else ReplaySummary()


@contextlib.contextmanager
def progress_bar(total: int | None, for_s: float | None) -> Iterator[Any]:
    """A bar over calls, else over time; yields what takes the replay's progress."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console()
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        TextColumn(
            "{task.fields[done]:,} calls, {task.fields[tokens]:,} tokens, {task.fields[wrong]} failed or left"
        ),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console, refresh_per_second=4, disable=not console.is_terminal) as bar:
        task = bar.add_task("replay", total=total or for_s, done=0, tokens=0, wrong=0)

        def tell(now: Progress) -> None:
            bar.update(
                task,
                completed=now.done if total else now.elapsed_s,
                done=now.done,
                tokens=now.input_tokens + now.output_tokens,
                wrong=now.failed + now.left + now.broken,
            )

        yield tell


async def sum_up(config: BursarConfig, summary: ReplaySummary, began: datetime) -> bool:
    """Wait for the ledger to have every call since ``began``, and print totals; False when some lack."""
    since = began.isoformat()
    loop = asyncio.get_running_loop()
    until = loop.time() + DRAINED_WITHIN_S
    total: dict[str, Any] = {"calls": 0}
    while loop.time() < until:
        try:
            total = (await asyncio.to_thread(ask, config, "totals", since=since))[0]
        except NoAnswer as error:
            sys.stderr.write(f"{error}\n")
            return False
        if total["calls"] >= summary.sent:
            break
        await asyncio.sleep(0.2)
    rows = await asyncio.to_thread(ask, config, "calls", since=since, limit=10_000)
    added = sorted(int(row["overhead_us"]) for row in rows)
    sys.stdout.writelines(f"  {line}\n" for line in ("", *summary_lines(total, summary, added), ""))
    sys.stdout.flush()
    if total["calls"] < summary.sent:
        sys.stderr.write(f"{summary.sent - total['calls']:,} calls are not in the ledger\n")
        return False
    return True


def summary_lines(total: dict[str, Any], summary: ReplaySummary, added_us: list[int]) -> list[str]:
    """The ledger's totals for people; ``added_us`` is what we added to each call, sorted."""
    lines = [
        f"calls      {total['calls']:>14,}   "
        f"({total['failed_calls']:,} failed; {summary.left:,} left by the agent)"
    ]
    if total["calls"]:
        read, written = int(total["input_tokens"]), int(total["output_tokens"])
        cached = int(total["cache_read_input_tokens"])
        median, rare = added_us[len(added_us) // 2] / 1000, added_us[len(added_us) * 99 // 100] / 1000
        lines += [
            f"tokens     {read + written:>14,}   ({read:,} in, {cached:,} of them cached; {written:,} out)",
            f"spent  USD {Decimal(total['effective_cost_usd']):>14,.6f}   (simulated)",
            f"overhead   {median:>11.2f} ms   in the median, {rare:.2f} ms at the 99th percentile",
        ]
    return lines
