"""``bursar profile``: where the time goes, for some seconds, in the sidecar or in a model server of ours."""

import argparse
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from collector.settings import Duration
from sidecar.commands.arguments import duration
from sidecar.commands.process import checked_config
from sidecar.config import BursarConfig
from sidecar.profiling import MOST_SECONDS, PATH


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, and for how long."""
    parser.add_argument("target", help="'sidecar', or the name of an upstream of kind vllm")
    parser.add_argument("--replica", default="", metavar="HOST:PORT", help="which server of the upstream")
    parser.add_argument(
        "--for",
        dest="for_s",
        type=duration,
        default=Duration(10),
        metavar="10s",
        help=f"how long; at most {MOST_SECONDS:.0f}s",
    )
    parser.add_argument("--out", type=Path, help="where the sidecar's profile goes (default: data directory)")


def run(arguments: argparse.Namespace) -> int:
    """Ask for the profile and wait for its end."""
    config = checked_config(arguments.config)
    if not 0 < arguments.for_s <= MOST_SECONDS:
        sys.stderr.write(f"--for: at most {MOST_SECONDS:.0f}s\n")
        return 2
    if arguments.target == "sidecar":
        return _sidecar(config, arguments)
    wanted = {"upstream": arguments.target, "replica": arguments.replica, "seconds": float(arguments.for_s)}
    status, said = _ask(config, "POST", wanted)
    if status != 202:
        sys.stderr.write(f"{said.get('error', said)}\n")
        return 1
    running = said["running"]
    sys.stdout.write(f"profiling {running['replica']} for {arguments.for_s:g} s\n")
    sys.stdout.flush()
    try:
        time.sleep(arguments.for_s)
    except KeyboardInterrupt:
        _ask(config, "DELETE")
    sys.stdout.write("vLLM writes its trace to inference/profiles in its data directory\n")
    return 0


def _sidecar(config: BursarConfig, arguments: argparse.Namespace) -> int:
    beside = Path(sys.executable).with_name("py-spy")
    spy = str(beside) if beside.exists() else shutil.which("py-spy")
    if spy is None:
        sys.stderr.write("py-spy is not installed (extra profiling)\n")
        return 2
    status, said = _ask(config, "GET")
    if status != 200:
        sys.stderr.write(f"the sidecar does not say who it is: {said.get('error', said)}\n")
        return 1
    out = arguments.out or config.data_dir / "profiles" / f"sidecar-{int(time.time())}.speedscope.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    # It looks from outside, a hundred times a second, and never stops the process (--nonblocking).
    command = [spy, "record", "--pid", str(said["pid"]), "--duration", str(max(1, round(arguments.for_s)))]
    command += ["--format", "speedscope", "--nonblocking", "--output", str(out)]
    ended = subprocess.run(command, timeout=arguments.for_s + 60, check=False)  # noqa: S603
    if ended.returncode == 0:
        sys.stdout.write(f"{out}\n")
    return 1 if ended.returncode else 0


def _ask(config: BursarConfig, method: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    headers = {"content-type": "application/json"}
    if config.control.key is not None:
        headers["authorization"] = f"Bearer {config.control.key.reveal()}"
    data = json.dumps(body).encode() if body is not None else None
    url = f"http://{config.control.listen}{PATH}"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            told = error.read().decode("utf-8", "replace")
        try:
            return error.code, dict(json.loads(told))
        except ValueError:
            return error.code, {"error": told.strip()}
    except OSError as error:
        return 0, {"error": f"no sidecar at {config.control.listen}: {error}"}
