"""What the books say of budgets, for a store that lost its data, or is begun anew.

The collector's ledger has what journals have let go of; the journals of this machine have what the ledger
has not taken in yet. A source that is over is counted to its end here, so that its spending is never
missing; one that lives sends what follows its mark itself.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.domain.credit import Counter
from collector.domain.policy import Budget, Policy, WindowKind, counter_of, span_at
from collector.settings import Address
from sidecar.budgets.charges import ask_with, charges_by
from sidecar.budgets.corrections import claim_in
from sidecar.budgets.memory import MemoryStore
from sidecar.budgets.store import BUCKETS, ENDED, IDLE_S, Truth
from sidecar.clock import now_us

TIMEOUT_S = 9.0
FRESH_S = 1.0
"""So long an answer serves for all tenants: what came after it is counted from the journals."""
LEDGER = "bursar.duckdb"


class BooksClosed(Exception):
    """The collector cannot be asked now; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Where the books are kept."""

    address: Address
    key: str = ""

    def ask(self, body: list[dict[str, Any]]) -> dict[str, Any]:
        """The answer to ``POST /v1/spent``; blocking.

        Raises:
            BooksClosed: there is none.
        """
        import http.client  # A sidecar that loses nothing has nobody to ask, and memory to save.

        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=TIMEOUT_S)
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        try:
            connection.request("POST", "/v1/spent", json.dumps(body), headers)
            reply = connection.getresponse()
            said = reply.read()
            if reply.status != http.client.OK:
                raise BooksClosed(
                    f"the collector says {reply.status}: {said[:200].decode('utf-8', 'replace')}"
                )
            answer: dict[str, Any] = json.loads(said)
            return answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise BooksClosed(f"the collector on {self.address}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()


class BudgetBooks:
    """Answers what a store must hold (``TruthOf``).

    Args:
        policy_now: the rules in force.
        journal: the folder of the journals on this machine.
        collector: where the ledger is asked; None where nothing is in it that the journals have not.
    """

    def __init__(
        self, policy_now: Callable[[], Policy], journal: Path, collector: Callable[[], Collector | None]
    ) -> None:
        self._policy_now = policy_now
        self._journal = journal
        self._collector = collector
        self._turn = asyncio.Lock()
        self._told = Truth()
        self._told_at = float("-inf")

    async def ledger(self) -> Truth:
        """What the ledger says.

        Raises:
            BooksClosed: it cannot be asked.
        """
        collector = self._collector()
        if collector is None:
            return Truth()
        policy = self._policy_now()
        wanted = [wanted_of(budget, now_us()) for budget in policy.budgets]
        return truth_in(policy, wanted, await asyncio.to_thread(collector.ask, wanted))

    async def truth(self) -> Truth:
        """What the ledger says, and the journals of sources on this machine that are over.

        Raises:
            BooksClosed: the ledger cannot be asked.
        """
        async with self._turn:
            if time.monotonic() - self._told_at > FRESH_S:
                self._told = await asyncio.to_thread(self._counted, await self.ledger())
                self._told_at = time.monotonic()
            return self._told

    def _counted(self, told: Truth) -> Truth:
        store = MemoryStore(directory=self._journal, charges=charges_by(self._policy_now))
        store.rebuild(None, told)
        sums: dict[Counter, int] = {}
        for account in store.ledger.accounts.values():
            counter = account.counter
            if account.buckets is None:
                sums[counter] = account.spent
            for bucket, amount in (account.buckets or {}).items():
                sums[counter._replace(starts_us=(bucket - BUCKETS) * counter.bucket_us)] = amount
        return Truth(sums=sums, marks=dict(store.ledger.marks))


def wanted_of(budget: Budget, at_us: int) -> dict[str, Any]:
    """What to ask of the ledger for the windows of a budget that run at ``at_us``."""
    names = dict.fromkeys((*budget.match.names, *filter(None, [budget.each])))
    kind = budget.window.kind
    wanted: dict[str, Any] = {"unit": budget.unit.value, "since_us": 0}
    if kind in (WindowKind.CONVERSATION, WindowKind.TASK):
        names[kind.value] = None
        wanted["since_us"] = max(0, at_us - IDLE_S * 1_000_000)
    elif kind is not WindowKind.TOTAL:
        span = span_at(budget.window, at_us)
        wanted |= {"since_us": span.starts_us, "until_us": span.ends_us, "bucket_us": span.bucket_us}
    return {**wanted, "by": list(names)}


def truth_in(policy: Policy, wanted: list[dict[str, Any]], answer: Mapping[str, Any]) -> Truth:
    """The ledger's answer as counters."""
    sums: dict[Counter, int] = {}
    for budget, asked, found in zip(policy.budgets, wanted, answer["sums"], strict=True):
        for values, bucket, amount in found:
            ask = ask_with(dict(zip(asked["by"], values, strict=True)))
            at_us = bucket * asked["bucket_us"] if asked.get("bucket_us") else max(asked["since_us"], 1)
            counter = counter_of(budget, ask, at_us) if budget.match.accepts(ask) else None
            if counter is not None:
                sums[counter] = sums.get(counter, 0) + amount
    known = {counter[:4] for counter in sums}
    for counter, amount in map(claim_in, answer["corrections"]):
        # What was corrected is out of its window, or of a budget that is no more.
        if counter[:4] in known:
            sums[counter] = sums.get(counter, 0) + amount
    marks = {source: ENDED if ended else sequence for source, sequence, ended in answer["marks"]}
    return Truth(sums=sums, marks=marks)
