"""``bursar top``: what is spent right now, live in the terminal."""

import argparse
import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

from collector.settings import Duration
from sidecar.commands.arguments import duration
from sidecar.commands.budgets import operate
from sidecar.commands.questions import NoAnswer, ask
from sidecar.commands.screen import DIMENSIONS, Choices, Figures, page
from sidecar.config import BursarConfig, load_config

RECENT = timedelta(minutes=5)
MOST_ROWS = 500
MOST_INCIDENTS = 200
_LOOK_S = 0.2
"""How soon a resized window and new figures are drawn, at the latest."""

Rows = list[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How often, over how long, and whether to look once only."""
    parser.add_argument(
        "--every", type=duration, default=Duration(2.0), metavar="2s", help="time between two looks"
    )
    parser.add_argument(
        "--since", default="1h", metavar="1h", help="how far back the table counts: 15m, 1h, 24h, 7d"
    )
    parser.add_argument("--once", action="store_true", help="print it once and end, as without a terminal")
    parser.add_argument("--no-color", action="store_true", help="no colours and no bold (also: NO_COLOR)")


def run(arguments: argparse.Namespace) -> int:
    """Look until told to stop; 1 when there was nothing to see."""
    from rich.console import Console

    config = load_config(arguments.config)
    console = Console(no_color=True if arguments.no_color else None, highlight=False)
    if arguments.once or not (sys.stdin.isatty() and console.is_terminal):
        figures = gather(config, arguments.since, DIMENSIONS[0])
        console.print(page(figures, Choices(), 60, console.width))
        return 0 if figures.recent else 1
    with contextlib.suppress(KeyboardInterrupt):
        Watching(config, arguments.since, float(arguments.every)).show(console)
    return 0


class Watching:
    """Asks on a thread of its own, so that keys are heeded while an answer is awaited."""

    def __init__(self, config: BursarConfig, since: str, every_s: float) -> None:
        self._config = config
        self._since = since
        self._every_s = max(0.2, every_s)
        self._choices = Choices()
        self._figures: Figures | None = None
        self._due = threading.Event()
        self._ended = threading.Event()

    def show(self, console: Any) -> None:
        """Draw until ``q``, Ctrl-C or a signal to end."""
        from rich.live import Live
        from rich.text import Text

        threading.Thread(target=self._ask_again_and_again, name="top-asking", daemon=True).start()
        try:
            with keyboard() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    figures = self._figures
                    size = console.size
                    shown = (
                        page(figures, self._choices, size.height, size.width)
                        if figures
                        else Text("asking ...   q quit")
                    )
                    live.update(shown, refresh=True)
                    for key in pressed(_LOOK_S):
                        if key.lower() == "q":
                            return
                        if self._choices.press(key):
                            self._due.set()
        finally:
            self._ended.set()
            self._due.set()

    def _ask_again_and_again(self) -> None:
        while not self._ended.is_set():
            by, shown = DIMENSIONS[self._choices.by], self._figures
            if not self._choices.paused or shown is None or shown.by != by:
                self._figures = gather(self._config, self._since, by)
            self._due.wait(self._every_s)
            self._due.clear()


def gather(config: BursarConfig, since: str, by: str) -> Figures:
    """One look at everything; who does not answer is told by name."""
    now = datetime.now(UTC)
    recent, midnight = now - RECENT, now.replace(hour=0, minute=0, second=0, microsecond=0)

    def question(name: str, **parameters: object) -> Callable[[], Rows]:
        return lambda: ask(config, name, **parameters)

    asked: dict[str, Callable[[], Rows]] = {
        "recent": question("totals", since=recent.isoformat()),
        "before": question("totals", since=(recent - RECENT).isoformat(), until=recent.isoformat()),
        "today": question("totals", since=midnight.isoformat()),
        "caches": question("spend_by", by="cache", since=recent.isoformat()),
        "rows": question("spend_by", by=by, since=since, limit=MOST_ROWS),
        "gpus": question("gpus_over_time", since=(now - timedelta(minutes=2)).isoformat()),
        "incidents": question("incidents", since="24h", limit=MOST_INCIDENTS),
        "budgets": lambda: list(operate(config, "GET", "/bursar/v1/budgets")["budgets"]),
    }
    found: dict[str, Rows] = {}
    troubles: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        waiting = {name: pool.submit(one) for name, one in asked.items()}
        for name, answer in waiting.items():
            try:
                found[name] = answer.result()
            except NoAnswer as error:
                troubles.append(str(error).strip()[:200])
                found[name] = []

    def only(name: str) -> dict[str, Any]:
        return found[name][0] if found[name] else {}

    return Figures(
        at=now, window=since, by=by, recent=only("recent"), before=only("before"), today=only("today"),
        caches=found["caches"], rows=found["rows"], budgets=found["budgets"], gpus=found["gpus"],
        incidents=found["incidents"], troubles=list(dict.fromkeys(troubles)),
    )  # fmt: skip


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[float], Sequence[str]]]:
    """Keys as they are pressed; afterwards the terminal is as it was, whatever ended it.

    Yields a function that waits so many seconds for keys. Ctrl-C stays an interrupt, and a signal
    to end becomes one.
    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # Ctrl-C too: whoever started us in the background may have had us ignore it.
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    earlier = {number: signal.signal(number, interrupt) for number in ends}

    def pressed(seconds: float) -> Sequence[str]:
        ready, _, _ = select.select([terminal], [], [], seconds)
        if not ready:
            return ""
        keys = os.read(terminal, 64)
        return keys.decode("utf-8", "replace") if keys else "q"  # The terminal is gone.

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        for number, handler in earlier.items():
            signal.signal(number, handler)
