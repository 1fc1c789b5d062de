"""How long the dashboard's views take on a large ledger, what memory they need, and whether ingest notices.

    python tests/bench/dashboard.py FOLDER [--viewers 20] [--seconds 60] [--only PAGE ...] [--browser]

FOLDER is a ledger that ``tests/bench/questions.py FOLDER`` made; calls are added to it. The collector is
started over it as ever, the dashboard in front of it, and every view is opened by a client that speaks to
Streamlit as a browser does: three times with nothing remembered (each in another time zone), of which the
cheapest counts, then again. Wall time counts whatever else the machine does; CPU is that of both processes.
At last many look at once, each at another view and range every five seconds, while calls are booked: how far
the ledger falls behind is told with viewers and without. With ``--browser``, a real Chromium opens every
view, and tells when it first painted something and when the figures were there. Fails where a view takes more
than a second of CPU, or the dashboard more than 400 MiB.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import websockets
from playwright.async_api import async_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from support.browsing import CHROMIUM, FLAGS
from support.ports import free_ports

from collector.journal import JournalWriter
from dashboards import launch
from tests.dashboards.test_ledger import COLLECTOR, one_call

PAGES = ("spend", "budgets", "agents", "calls", "models", "cache", "gpu", "incidents", "health")
RANGES = ("7d", "30d", "90d")
TICKS = os.sysconf("SC_CLK_TCK")
CALLS_A_SECOND = 200
EVERY_S = 5.0
"""A viewer reads so long what a view shows."""
LOOK_EVERY_S = 0.25
"""At how far the ledger is behind."""
MOST_MIB = 400
MOST_MS = 1000
ZONES = ("Europe/Berlin", "Europe/Paris", "Europe/Madrid")


class Cost(NamedTuple):
    """What one opening of a view took, in milliseconds."""

    wall: float
    dashboard: float
    collector: float

    @property
    def cpu(self) -> float:
        """Of both."""
        return self.dashboard + self.collector


class Servers:
    """A collector over a ledger, and a dashboard in front of it."""

    def __init__(self, folder: Path) -> None:
        port, self.port = free_ports(2)
        self.collector_url = f"http://127.0.0.1:{port}"
        self.collector = subprocess.Popen([sys.executable, "-c", COLLECTOR, str(folder), str(port)])
        self._wait(f"{self.collector_url}/v1/questions/totals")
        self.dashboard = subprocess.Popen(
            launch.command("127.0.0.1", self.port, self.collector_url),
            env={**os.environ, **launch.environment(self.collector_url, control_url="http://127.0.0.1:9")},
        )
        self._wait(launch.health_url("127.0.0.1", self.port))

    def _wait(self, url: str) -> None:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(url, timeout=60):
                    return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"{url} does not answer")

    def close(self) -> None:
        """End both."""
        for process in (self.dashboard, self.collector):
            process.terminate()
            process.wait(60)


def cpu_ms(process: subprocess.Popen[bytes]) -> float:
    """CPU that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(process: subprocess.Popen[bytes], which: str = "VmRSS") -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:")) / 1024


class NoFigures(Exception):
    """A view said that the collector has no answer now."""


async def opened(servers: Servers, page: str, query: str) -> int:
    """Open a view as a browser does; how many parts were drawn. Fails where it shows an error."""
    url = f"ws://127.0.0.1:{servers.port}/_stcore/stream"
    origin = f"http://127.0.0.1:{servers.port}"
    drawn = 0
    async with websockets.connect(url, subprotocols=["streamlit"], origin=origin, max_size=None) as socket:  # type: ignore[list-item]
        asked = BackMsg()
        asked.rerun_script.query_string = query
        asked.rerun_script.page_name = "" if page == "spend" else page
        asked.rerun_script.context_info.timezone = "Europe/Berlin"
        await socket.send(asked.SerializeToString())
        async for message in socket:
            told = ForwardMsg.FromString(message)  # type: ignore[arg-type]
            if told.HasField("delta"):
                drawn += 1
                element = told.delta.new_element
                if element.HasField("exception"):
                    raise SystemExit(f"{page}: {element.exception.message}")
                if element.HasField("alert") and "No figures" in element.alert.body and page != "budgets":
                    raise NoFigures(f"{page}: {element.alert.body}")
            if told.HasField("script_finished"):
                return drawn
    raise SystemExit(f"{page}: the connection ended")


async def measured(servers: Servers, page: str, query: str) -> Cost:
    """What opening a view once takes."""
    before = cpu_ms(servers.dashboard), cpu_ms(servers.collector), time.perf_counter()
    await opened(servers, page, query)
    after = cpu_ms(servers.dashboard), cpu_ms(servers.collector), time.perf_counter()
    return Cost(1000 * (after[2] - before[2]), after[0] - before[0], after[1] - before[1])


async def look_on(
    servers: Servers, seconds: float, noise: random.Random, seen: list[float], refused: list[int]
) -> None:
    """One viewer, who opens one view after another."""
    until = time.monotonic() + seconds
    await asyncio.sleep(noise.uniform(0, EVERY_S))
    while time.monotonic() < until:
        next_at = time.monotonic() + noise.uniform(0.8, 1.2) * EVERY_S
        start = time.perf_counter()
        try:
            await opened(servers, noise.choice(PAGES), f"live=false&range={noise.choice(RANGES)}")
            seen.append(1000 * (time.perf_counter() - start))
        except NoFigures:
            refused.append(1)
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))


def lag_s(servers: Servers) -> float:
    """How far the ledger is behind the journal."""
    with urllib.request.urlopen(f"{servers.collector_url}/metrics", timeout=60) as reply:
        lines = reply.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("bursar_journal_lag_seconds ")).split()[1])


class Lag(NamedTuple):
    """How far the ledger was behind, seconds."""

    p50: float
    p99: float
    most: float

    def __str__(self) -> str:
        return f"p50 {self.p50:.2f} s, p99 {self.p99:.2f} s, at most {self.most:.2f} s"


async def book(folder: Path, servers: Servers, seconds: float, name: str) -> Lag:
    """Write so many calls a second; how far the ledger was behind meanwhile."""
    noise = random.Random(1)
    writer = JournalWriter(folder / "journal", f"{name}-{time.time_ns()}")
    lags: list[float] = []

    async def look() -> None:
        while True:
            lags.append(await asyncio.to_thread(lag_s, servers))
            await asyncio.sleep(LOOK_EVERY_S)

    looking = asyncio.create_task(look())
    start, written = time.monotonic(), 0
    try:
        while (now := time.monotonic()) < start + seconds:
            while written < (now - start) * CALLS_A_SECOND:
                writer.record(one_call(noise, time.time_ns() // 1000))
                written += 1
            await asyncio.sleep(0.02)
    finally:
        looking.cancel()
        writer.close()
    lags.sort()
    return Lag(lags[len(lags) // 2], lags[min(len(lags) - 1, len(lags) * 99 // 100)], lags[-1])


async def run(folder: Path, arguments: argparse.Namespace) -> int:
    """Everything, in order."""
    servers = Servers(folder)
    try:
        with urllib.request.urlopen(f"{servers.collector_url}/v1/questions/totals?since=90d") as reply:
            print(f"{int(json.load(reply)['rows'][0]['calls']):,} calls in 90 days")
        pages = arguments.only or PAGES
        quick = await one_after_another(servers, pages)
        if arguments.browser:
            await painted(servers, pages)
        if arguments.viewers:
            await many_at_once(folder, servers, arguments.viewers, arguments.seconds)
        most = memory_mib(servers.dashboard, "VmHWM")
        kept = memory_mib(servers.collector, "VmHWM")
        print(f"memory, at most: dashboard {most:.0f} MiB, collector {kept:.0f} MiB")
        return 0 if quick and most < MOST_MIB else 1
    finally:
        servers.close()


async def one_after_another(servers: Servers, pages: Sequence[str]) -> bool:
    """Every view over every range, with nothing remembered, then again; whether none took too long."""
    print(f"{'view':10} {'range':5} {'wall':>7} {'dashboard':>10} {'collector':>10} {'CPU':>7} {'again':>7}")
    await opened(servers, "health", "live=false")  # Modules are imported with the first page.
    dearest = 0.0
    for page in pages:
        for span in RANGES:
            # What GPUs did is the same in every time zone: the second look would be answered from memory.
            zones = ZONES[:1] if page == "gpu" else ZONES
            cost = min(
                [await measured(servers, page, f"live=false&range={span}&tz={zone}") for zone in zones],
                key=lambda one: one.cpu,
            )
            again = await measured(servers, page, f"live=false&range={span}&tz={zones[-1]}")
            dearest = max(dearest, cost.cpu)
            cells = f"{cost.wall:7.0f} {cost.dashboard:10.0f} {cost.collector:10.0f} {cost.cpu:7.0f}"
            print(f"{page:10} {span:5} {cells} {again.cpu:7.0f}{' *' * (cost.cpu > MOST_MS)}", flush=True)
    print(f"most CPU of one view: {dearest:.0f} ms; memory of the dashboard then: "
          f"{memory_mib(servers.dashboard):.0f} MiB")  # fmt: skip
    return dearest <= MOST_MS


async def painted(servers: Servers, pages: Sequence[str]) -> None:
    """When a real browser, which knows nobody, paints something, and when the view is complete."""
    print(f"{'view':10} {'painted':>8} {'complete':>9}  (milliseconds in Chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for page in pages:
            context = await browser.new_context(viewport={"width": 1440, "height": 900})
            tab = await context.new_page()
            start = time.perf_counter()
            url = f"http://127.0.0.1:{servers.port}/{'' if page == 'spend' else page}"
            await tab.goto(f"{url}?range=90d&live=false")
            await tab.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
            complete = 1000 * (time.perf_counter() - start)
            first = await tab.evaluate(
                "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1"
            )
            print(f"{page:10} {first:8.0f} {complete:9.0f}", flush=True)
            await context.close()
        await browser.close()


async def many_at_once(folder: Path, servers: Servers, number: int, seconds: float) -> None:
    """Viewers who open one view after another, while calls are booked."""
    alone = await book(folder, servers, seconds, "bench-alone")
    seen: list[float] = []
    refused: list[int] = []
    viewers = [look_on(servers, seconds, random.Random(n), seen, refused) for n in range(number)]
    beside, *_ = await asyncio.gather(book(folder, servers, seconds, "bench-beside"), *viewers)
    seen.sort()
    print(f"{CALLS_A_SECOND} calls a second are behind: alone {alone}; beside {number} viewers {beside}")
    if not seen:
        return  # all of them were still looking at their first
    print(f"who opened {len(seen)} views: p50 {seen[len(seen) // 2]:.0f} ms, at most {seen[-1]:.0f} ms; "
          f"{len(refused)} times there were no figures")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--browser", action="store_true", help="open every view in Chromium, too")
    parser.add_argument("--only", nargs="*", choices=PAGES)
    given = parser.parse_args()
    sys.exit(asyncio.run(run(given.folder, given)))
