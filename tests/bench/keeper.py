"""What becomes of calls when the process that several workers count budgets with is killed.

    python tests/bench/keeper.py [--kills 3] [--victim work|watch|both] [--agents 6]

Two workers without a Redis, a hard budget with room for everything, and one for each conversation, of which
each agent begins a new one with every twentieth call: those have no slice, so they must ask the keeper. It is
killed (-9) now and then; told are the calls of the next five seconds that were refused though there was
room, and when the last of them was. A figure of the machine, too: with much else to do all takes longer.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support.agent import post
from support.stack import Stack
from support.upstream import Answer, ScriptedUpstream

from tests.scenarios.budget_scenes import chat_reply
from tests.scenarios.test_workers import CAPPED, both_there, processes, two_workers

AFTER_S = 5.0
PAUSE_S = 0.02
CALLS_OF_A_CONVERSATION = 20
VICTIMS = {"work": slice(1, 2), "watch": slice(0, 1), "both": slice(0, 2)}


class Seen(NamedTuple):
    """One call."""

    began: float
    ended: float
    status: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--victim", choices=VICTIMS, default="work")
    parser.add_argument("--agents", type=int, default=6)
    arguments = parser.parse_args()
    settings = two_workers("1000 USD")
    settings["budgets"].append({"name": "each", "each": "conversation", "limit": "5 USD", "window": "total"})
    with (
        ScriptedUpstream(lambda seen: Answer(pieces=[chat_reply()])) as upstream,
        tempfile.TemporaryDirectory() as folder,
        Stack(
            Path(folder) / "stack",
            {"openai": {"kind": "openai", "base_url": f"{upstream.url}/v1"}},
            settings,
            with_collector=False,
        ) as stack,
    ):
        both_there(stack)
        measure(stack, arguments.kills, VICTIMS[arguments.victim], arguments.agents)


def measure(stack: Stack, kills: int, which: slice, agents: int) -> None:
    """Print a line for each kill."""
    stop = threading.Event()
    seen: list[Seen] = []

    def agent(number: int) -> None:
        calls = 0
        while not stop.wait(PAUSE_S):
            conversation = f"c{number}-{calls // CALLS_OF_A_CONVERSATION}"
            calls += 1
            began = time.monotonic()
            status = post(stack, CAPPED, x_bursar_conversation=conversation)[0]
            seen.append(Seen(began, time.monotonic(), status))

    threads = [threading.Thread(target=agent, args=(number,)) for number in range(agents)]
    for thread in threads:
        thread.start()
    time.sleep(AFTER_S)
    for _ in range(kills):
        victims = processes(stack, "--keeper")[which]
        killed = time.monotonic()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        time.sleep(AFTER_S)
        mine = [call for call in seen if killed <= call.began < killed + AFTER_S]
        refused = [call for call in mine if call.status != 200]
        last_s = max([call.ended - killed for call in refused], default=0.0)
        longest_ms = 1000 * max(call.ended - call.began for call in mine)
        print(
            f"{len(mine)} calls, {len(refused)} refused, the last after {last_s:.2f} s; "
            f"longest wait {longest_ms:.0f} ms; load {os.getloadavg()[0]:.0f}",
            flush=True,
        )
    stop.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
