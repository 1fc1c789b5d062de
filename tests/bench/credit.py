"""What four budgets add to a call in CPU: from what is asked of the policy to what is settled and learned.

    python tests/bench/credit.py [--rounds 300] [--whole]

A call's way through credit control with the embedded store, without sockets, journal and stages. Streams
hold little and extend; ``--whole`` measures calls that are answered at once. The least of many rounds counts.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from harness.phases import MODEL, request_body

from collector.domain.credit import Unit
from collector.domain.policy import Action, Budget, Ladder, Match, Policy, State, Threshold, Window
from collector.domain.usage import Usage
from collector.export.prometheus import CallMetrics
from collector.journal import JournalWriter
from collector.pricing.book import PriceBook
from sidecar.books import Books
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.memory import MemoryStore
from sidecar.call import Attempt, Call, Caller
from sidecar.http import Request
from sidecar.routes import route_of
from sidecar.routing import Routing
from sidecar.wire import read_request

API = "openai.chat"
USD = 10**9
CALLS = 200
MARKS = (Threshold(5_000, Action.NOTIFY), Threshold(8_000, Action.DOWNGRADE), Threshold(10_000, Action.CUT))


def four_budgets() -> Policy:
    """Of several scopes, windows and units."""
    return Policy(
        budgets=[
            Budget(name="all", limit=10**6 * USD, window=Window.parse("day", "Europe/Berlin")),
            Budget(
                name="team",
                limit=10**6 * USD,
                window=Window.parse("month"),
                match=Match.of({"team": "search"}),
                each="agent",
                at=MARKS,
            ),
            Budget(name="talk", limit=10**6 * USD, window=Window.parse("conversation")),
            Budget(name="tokens", limit=10**12, unit=Unit.TOKENS, window=Window.parse("total"), each="user"),
        ],
        ladders=[Ladder(source=Match.of({"model": MODEL}), to=("gpt-4.1-nano",))],
    )


class Way:
    """Credit control, and calls to send through it."""

    def __init__(self, folder: Path, *, stream: bool) -> None:
        journal = JournalWriter(folder, "bench")
        self.books = Books(journal, CallMetrics(), PriceBook.load())
        self.control = CreditControl(
            State(four_budgets()), MemoryStore("bench"), self.books, longest_call_s=60
        )
        self.upstream = SimpleNamespace(
            name="openai", provider="openai", kind="openai", region="", replicas=(1,)
        )
        self.routing = Routing(cast(Any, {"openai": self.upstream}), {})
        self.route = route_of("/v1/chat/completions", frozenset())
        self.body = request_body(stream=stream)
        self.facts = read_request(API, self.body)
        self.callers = [
            Caller(
                team="search", agent=f"agent{n % 3}", user=f"user{n % 5}", conversation=f"talk{n % 20}",
                conversation_source="header",
            )
            for n in range(60)
        ]  # fmt: skip
        self.sequence = 0
        for _ in range(100):
            self.books._input_ratios.learn(MODEL, 4000, 1000)
            self.books._output_ratios.learn(MODEL, 4000, 1000)

    def call(self, number: int) -> Call:
        request = Request("POST", self.route.path, "", [])
        request.body = self.body
        call = Call(request, cast(Any, None), self.route)
        call.facts, call.caller = self.facts, self.callers[number % 60]
        return call

    def calls(self) -> list[Call]:
        return [self.call(number) for number in range(CALLS)]

    def attempt(self, call: Call) -> Attempt:
        quote = self.books.quote(call, self.upstream, MODEL)
        attempt = Attempt("openai", "a:1", "openai", MODEL, quote)
        attempt.sent_ns = 1
        attempt.grade = "reported"
        attempt.usage = Usage(input_tokens=64, output_tokens=72)
        attempt.cost_pico = 100_000_000
        call.attempts.append(attempt)
        call.outcome = cast(Any, "served")
        return attempt

    async def through(self, calls: list[Call]) -> float:
        """CPU microseconds of each, to its admission and from its end."""
        for call in calls:
            self.attempt(call)
        begun = time.process_time_ns()
        for call in calls:
            await self.control.admit(call, self.routing)
        for call in calls:
            self.sequence += 1
            self.control.settle(call, self.sequence)
        return (time.process_time_ns() - begun) / len(calls) / 1000


def least(work: Callable[[], float], rounds: int) -> float:
    return min(work() for _ in range(rounds))


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--whole", action="store_true", help="calls that are not streamed")
    parser.add_argument("--profile", action="store_true", help="where the time goes, by function")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        way = Way(Path(folder), stream=not arguments.whole)
        loop = asyncio.new_event_loop()

        def one() -> float:
            return loop.run_until_complete(way.through(way.calls()))

        if arguments.profile:
            import cProfile

            least(one, 20)
            profile = cProfile.Profile()
            profile.runcall(least, one, arguments.rounds)
            profile.print_stats("tottime")
        else:
            print(f"a call with four budgets: {least(one, arguments.rounds):.1f} µs of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
