"""What is done to budgets, and what must hold of them afterwards."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.proving.agents import PRICES, Manner, Seen, crowd
from sidecar.proving.stage import Stage

AGENTS = 200
"""At once."""
PICO = Decimal(10) ** 12


class Measure(NamedTuple):
    """One figure, and the bound that it has to keep."""

    trial: str
    what: str
    value: str
    bound: str
    passed: bool


@dataclass(slots=True)
class Outcome:
    """What a trial found."""

    trial: str
    measures: list[Measure] = field(default_factory=list)

    def at_most(self, what: str, value: Decimal | float, bound: Decimal | float, unit: str = "") -> None:
        """A figure that must not exceed ``bound``."""
        self._note(what, value, f"<= {bound:g} {unit}".strip(), value <= bound, unit)

    def at_least(self, what: str, value: Decimal | float, bound: Decimal | float, unit: str = "") -> None:
        """A figure that must not fall below ``bound``."""
        self._note(what, value, f">= {bound:g} {unit}".strip(), value >= bound, unit)

    def exactly(self, what: str, value: object, wanted: object) -> None:
        """A figure that must be ``wanted``."""
        self.measures.append(Measure(self.trial, what, _shown(value), f"= {_shown(wanted)}", value == wanted))

    def _note(self, what: str, value: Decimal | float, bound: str, passed: bool, unit: str) -> None:
        shown = f"{value:.4g}" if isinstance(value, float) else f"{value:f}"
        self.measures.append(Measure(self.trial, what, f"{shown} {unit}".strip(), bound, passed))


def _shown(value: object) -> str:
    """``value`` for people: an amount without the zeros behind it, and never 0E-12."""
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


Trial = Callable[[Path, int], Awaitable[Outcome | None]]
"""None: it cannot be tried here."""


def policy(limit_usd: str, **more: object) -> dict[str, Any]:
    """The settings of a sidecar with one hard budget."""
    budget = {"name": "proof", "limit": f"{limit_usd} USD", "window": "total", **more}
    return {"budgets": [budget], "prices": {"prover": PRICES}}


async def ledger_of(stage: Stage, name: str, calls: int) -> list[dict[str, Any]]:
    """All calls in a sidecar's ledger, once there are so many."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while len(rows) < calls:
                await asyncio.sleep(0.2)
                with contextlib.suppress(OSError):
                    rows = await stage.question(name, "calls", limit=10_000)
    return rows


def spent_in(rows: list[dict[str, Any]]) -> Decimal:
    """What the ledger says was spent, in USD."""
    return sum((Decimal(row["effective_cost_usd"]) for row in rows), Decimal(0))


async def settled(stage: Stage, name: str) -> Mapping[str, Any]:
    """The budget, once nothing is held any more."""
    found: dict[str, Any] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(15):
            while not found or Decimal(found["held"]) > 0:
                await asyncio.sleep(0.1)
                [found] = await stage.budgets(name)
    return found


def judge_money(
    outcome: Outcome, limit: Decimal, seen: Seen, rows: list[dict[str, Any]], standing: Mapping[str, Any]
) -> None:
    """What must hold after every burst."""
    spent = spent_in(rows)
    outcome.at_most("overshoot", max(Decimal(0), spent - limit), Decimal(0), "USD")
    outcome.at_least("usable share", 100 * float(spent / limit), 95.0, "%")
    told = sum(
        (Decimal(row["effective_cost_usd"]) for row in rows if row["usage_grade"] == "reported"), Decimal(0)
    )
    outcome.at_most("ledger error against replies", abs(told - seen.cost_pico / PICO), Decimal(0), "USD")
    counted = Decimal(standing["spent"])
    outcome.at_most("budget against ledger", abs(counted - spent), Decimal(len(rows)) / 10**9, "USD")
    outcome.exactly("records for each call", len(rows), seen.statuses.total())


async def burst_embedded(folder: Path, seed: int) -> Outcome:
    """Whole replies: 200 agents at one budget in memory."""
    outcome = Outcome("burst, embedded")
    async with Stage(folder) as stage:
        await stage.simulator(speed=40)
        await stage.sidecar("one", policy("3"))
        seen = await crowd([stage.urls["one"]], AGENTS, Manner(), seed)
        rows = await ledger_of(stage, "one", seen.statuses.total())
        judge_money(outcome, Decimal(3), seen, rows, await settled(stage, "one"))
        outcome.exactly("other answers", seen.statuses.total() - seen.statuses[200] - seen.statuses[402], 0)
        added = sorted(row["overhead_us"] for row in rows if row["outcome"] == "refused")
        if added:
            outcome.at_most("refusal, added at most by half", added[len(added) // 2] / 1000, 60.0, "ms")
    return outcome


async def streams_crossing(folder: Path, seed: int) -> Outcome:
    """Streams without a cap of their own run into the limit together."""
    outcome = Outcome("streams crossing")
    async with Stage(folder) as stage:
        await stage.simulator(speed=4)
        await stage.sidecar("one", policy("30"))
        manner = Manner(stream=True, calls=4, tokens=(300, 1500), cap=None)
        seen = await crowd([stage.urls["one"]], AGENTS, manner, seed)
        rows = await ledger_of(stage, "one", seen.statuses.total())
        spent = spent_in(rows)
        outcome.at_most("overshoot", max(Decimal(0), spent - 30), Decimal(0), "USD")
        outcome.at_least("usable share", 100 * float(spent / 30), 95.0, "%")
        outcome.exactly("streams that ended invalidly", seen.broken, 0)
        cut = sum(row["outcome"] == "cut" for row in rows)
        outcome.at_least("streams cut", float(cut), 1.0)
        outcome.exactly("cut streams that say so", seen.finishes["length"], cut)
    return outcome


async def unpriced(folder: Path, seed: int) -> Outcome:
    """A model without a known price is charged a stand-in, or refused."""
    outcome = Outcome("unpriced model")
    async with Stage(folder) as stage:
        await stage.simulator(speed=40)
        await stage.sidecar("one", policy("0.05"))
        await stage.sidecar("strict", policy("0.05", unpriced="refuse"))
        manner = Manner(model="nobody-knows-1", calls=20)
        seen = await crowd([stage.urls["one"]], 20, manner, seed)
        rows = await ledger_of(stage, "one", seen.statuses.total())
        spent = spent_in(rows)
        outcome.at_most("overshoot", max(Decimal(0), spent - Decimal("0.05")), Decimal(0), "USD")
        outcome.exactly(
            "served at no cost",
            sum(row["outcome"] == "served" and Decimal(row["effective_cost_usd"]) <= 0 for row in rows),
            0,
        )
        refused = await crowd([stage.urls["strict"]], 5, manner, seed)
        outcome.exactly("refused where the budget says so", refused.statuses[402], refused.statuses.total())
    return outcome


async def dying_clients(folder: Path, seed: int) -> Outcome:
    """One client in five hangs up between hold and settlement."""
    outcome = Outcome("dying clients")
    async with Stage(folder) as stage:
        await stage.simulator(speed=10)
        await stage.sidecar("one", policy("3"))
        seen = await crowd([stage.urls["one"]], 100, Manner(dies=0.2, stream=True), seed)
        rows = await ledger_of(stage, "one", seen.statuses.total() - seen.statuses[0])
        standing = await settled(stage, "one")
        rows = await stage.question("one", "calls", limit=10_000)
        spent = spent_in(rows)
        outcome.at_most("overshoot", max(Decimal(0), spent - 3), Decimal(0), "USD")
        outcome.exactly("still held", Decimal(standing["held"]), Decimal(0))
        outcome.at_most(
            "budget against ledger",
            abs(Decimal(standing["spent"]) - spent),
            Decimal(len(rows)) / 10**9,
            "USD",
        )
        outcome.exactly(
            "lost or doubled records",
            len(rows)
            - len({row["call_id"] for row in rows})
            + len(seen.ids - {row["call_id"] for row in rows}),
            0,
        )
        abandoned = sum(row["outcome"] == "abandoned" for row in rows)
        outcome.at_least("abandoned calls, recorded", float(abandoned), 1.0)
    return outcome


async def crashes(folder: Path, seed: int) -> Outcome:
    """The collector is killed in a burst, the sidecar after it; both come back."""
    outcome = Outcome("killed and restarted")
    async with Stage(folder) as stage:
        await stage.simulator(speed=40)
        await stage.sidecar("one", policy("3"))
        burst = asyncio.ensure_future(crowd([stage.urls["one"]], 100, Manner(calls=2), seed))
        await asyncio.sleep(0.5)
        await stage.stop("one/collector", signal.SIGKILL)
        first = await burst
        await stage.stop("one", signal.SIGKILL)
        await stage.start("one")
        await stage.start("one/collector")
        second = await crowd([stage.urls["one"]], AGENTS, Manner(), seed + 1)
        first.add(second)
        rows = await ledger_of(stage, "one", first.statuses.total())
        judge_money(outcome, Decimal(3), first, rows, await settled(stage, "one"))
    return outcome


async def shared_redis(folder: Path, seed: int) -> Outcome | None:
    """Two sidecars on one Redis, which is frozen in the burst and killed at its end."""
    outcome = Outcome("two sidecars, Redis")
    async with Stage(folder) as stage:
        url = await stage.redis()
        if url is None:
            return None
        await stage.simulator(speed=40)
        settings = {**policy("3"), "redis": url}
        await stage.sidecar("one", settings)
        await stage.sidecar("two", settings)
        urls = [stage.urls["one"], stage.urls["two"]]
        burst = asyncio.ensure_future(crowd(urls, AGENTS, Manner(calls=12, pause_s=0.4), seed))
        await asyncio.sleep(0.6)
        stage.send("redis", signal.SIGSTOP)
        slow: list[float] = []
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            probe = await crowd(urls, 1, Manner(calls=1), seed + len(slow))
            slow += probe.seconds
            await asyncio.sleep(0.02)
        stage.send("redis", signal.SIGCONT)
        seen = await burst
        # Those who were refused while nobody could be asked come again; how many, a busy machine decides.
        seen.add(await crowd(urls, AGENTS, Manner(), seed + 3))
        await asyncio.sleep(0.3)
        await stage.stop("redis", signal.SIGKILL)
        late = await crowd(urls, 20, Manner(calls=3), seed + 7)
        rows = []
        for name in ("one", "two"):
            await asyncio.sleep(1.0)
            rows += await stage.question(name, "calls", limit=10_000)
        spent = spent_in(rows)
        outcome.at_most("overshoot", max(Decimal(0), spent - 3), Decimal(0), "USD")
        outcome.at_least("usable share", 100 * float(spent / 3), 95.0, "%")
        outcome.at_most("slowest answer while frozen", 1000 * max(slow, default=0.0), 1000.0, "ms")
        outcome.exactly(
            "answered without a hold",
            late.statuses.total() - sum(late.statuses[code] for code in (200, 402, 429)),
            0,
        )
        outcome.exactly("lost or doubled records", len(rows) - len({row["call_id"] for row in rows}), 0)
        outcome.at_least("answered", float(seen.statuses[200]), 1.0)
    return outcome


TRIALS: Mapping[str, Trial] = {
    "burst": burst_embedded,
    "streams": streams_crossing,
    "unpriced": unpriced,
    "dying": dying_clients,
    "crashes": crashes,
    "redis": shared_redis,
}
