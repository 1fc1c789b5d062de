"""How long the dashboard's pages take on the server's side on a large ledger, and what the collector holds.

    python tests/bench/pages.py FOLDER

FOLDER is a ledger that ``tests/bench/questions.py FOLDER`` made. A real collector answers; each page is drawn
twice for ninety days with every cache empty, and the better is printed. Fails where a page takes longer than
a second, or the collector more than 400 MiB.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import streamlit
import yaml
from streamlit.testing.v1 import AppTest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("spend", "budgets", "agents", "calls", "models", "cache", "gpu", "incidents", "health")
WITHIN_MS = 1000
MOST_MIB = 400
_TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")


def cpu_ms(pid: int) -> int:
    """CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_MS


def peak_mib(pid: int) -> int:
    """The most memory that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))


def drawn(page: str, pid: int) -> tuple[float, float, int]:
    """Milliseconds by the clock, of the page's CPU and of the collector's, of the better of two."""
    app = AppTest.from_file(str(ROOT / "dashboards" / "app.py"), default_timeout=120)
    app.query_params["range"] = "90d"
    app.run()
    took = []
    for _ in range(2):
        streamlit.cache_data.clear()
        streamlit.cache_resource.clear()
        wall, cpu, theirs = time.perf_counter(), time.process_time(), cpu_ms(pid)
        if page == "spend":
            app.run()
        else:
            app.switch_page(f"views/{page}.py").run()
        assert not app.exception, app.exception[0].message
        took.append(
            (
                (time.perf_counter() - wall) * 1000,
                (time.process_time() - cpu) * 1000,
                cpu_ms(pid) - theirs,
            )
        )
    return min(took)


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    listen, otlp_http, otlp_grpc = (f"127.0.0.1:{port}" for port in free_ports(3))
    config = folder / "bench.yaml"
    collector = {"listen": listen, "otlp_http": otlp_http, "otlp_grpc": otlp_grpc, "snapshot_every": "24h"}
    config.write_text(yaml.safe_dump({"data_dir": str(folder), "collector": collector}))
    os.environ["BURSAR_COLLECTOR_URL"] = f"http://{listen}"
    with (folder / "bench.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar.cli", "collector", "--config", str(config)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + 120
        ready = False
        while not ready:
            assert time.monotonic() < until and process.poll() is None, "the collector does not answer"
            with suppress(OSError), urllib.request.urlopen(f"http://{listen}/readyz", timeout=2) as reply:
                ready = reply.status == 200
            time.sleep(0.1)
        return report(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def report(pid: int) -> int:
    """Draw every page; 1 where one takes too long, or the collector too much."""
    slow = 0
    print(f"{'page':<10} {'ms':>6} {'page CPU':>9} {'collector CPU':>14}")
    for page in PAGES:
        wall, own, theirs = drawn(page, pid)
        slow += own + theirs > WITHIN_MS
        print(f"{page:<10} {wall:6.0f} {own:9.0f} {theirs:14}", flush=True)
    peak = peak_mib(pid)
    print(f"{slow} of {len(PAGES)} pages over {WITHIN_MS} ms of CPU; the collector held {peak} MiB at most")
    return int(slow > 0 or peak > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main())
