"""How budgets stand now, and what may be done about them: the sidecar's control plane.

The counters live in the sidecar; the ledger, which everything else here comes from, tells what was spent.
Standings are shared by all readers for ``TTL_S`` seconds; what is done is done at once.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

import streamlit as st

from dashboards import viewer
from dashboards.budgeting import Budget, Counter, Order
from dashboards.data import KEY_VARIABLE
from dashboards.exposition import Sample, samples
from dashboards.transport import BadAnswer, Neighbour, exchange

URL_VARIABLE = "BURSAR_CONTROL_URL"
DEFAULT_URL = "http://127.0.0.1:4001"
TTL_S = 5

_ADVICE = "Start it with `bursar sidecar` (or `bursar up`), or say where it is in `BURSAR_CONTROL_URL`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """Every budget, every counter that was touched, and what is in force, at one moment."""

    budgets: list[Budget]
    counters: list[Counter]
    orders: list[Order]
    at: datetime
    may_operate: bool
    """Whether who looks may raise and pause them."""

    def of(self, name: str) -> Budget | None:
        """What is configured of a budget; ``None`` when the configuration no longer has it."""
        return next((budget for budget in self.budgets if budget.name == name), None)

    def orders_of(self, counter: Counter) -> list[Order]:
        """What is in force for one counter."""
        budget = self.of(counter.budget)
        return [order for order in self.orders if order.concerns(counter, budget)]


def standings() -> Standings:
    """How everything stands; at most ``TTL_S`` old.

    Raises:
        CollectorError: the control plane does not answer, or not as we know it.
    """
    said, at = _asked(*_where())
    try:
        return Standings(
            budgets=[_budget(one) for one in said["configured"]],
            counters=[_counter(one) for one in said["budgets"]],
            orders=[_raised(one) for one in said["raises"]] + [_directed(one) for one in said["directives"]],
            at=at,
            may_operate=bool(said.get("may_operate")),
        )
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise BadAnswer(
            "The sidecar's control plane answers otherwise than this dashboard expects."
        ) from error


def metrics(names: frozenset[str]) -> list[Sample]:
    """What the sidecar measures of itself; at most ``TTL_S`` old.

    Raises:
        CollectorError: the control plane does not answer.
    """
    return samples(_scraped(*_where()), names)


def give_more(budget: str, subject: str, amount: str, *, hours: float, reason: str) -> None:
    """Raise a limit for a while; ``amount`` is such as ``5 USD``, ``100k tokens`` or ``50 calls``.

    Raises:
        CollectorError: it was not done; the message says why.
    """
    said = {"budget": budget, "subject": subject, "amount": amount, "for_s": hours * 3600, "reason": reason}
    _do("POST", "/bursar/v1/raises", said | {"source": "dashboard"})


def pause(budget: str, subject: str, *, hours: float, reason: str) -> None:
    """Refuse new calls that a counter counts, for a while.

    Raises:
        CollectorError: it was not done; the message says why.
    """
    said = {"action": "pause", "budget": budget, "subject": subject, "expires_in_s": hours * 3600}
    _do("POST", "/bursar/v1/directives", said | {"reason": reason, "source": "dashboard"})


def take_back(order: Order) -> None:
    """End a raise or a directive before it expires.

    Raises:
        CollectorError: it was not done; the message says why.
    """
    kind = "raises" if order.kind == "raise" else "directives"
    _do("DELETE", f"/bursar/v1/{kind}/{quote(order.id, safe='')}")


def _do(method: str, path: str, said: dict[str, Any] | None = None) -> None:
    body = None if said is None else json.dumps(said).encode()
    exchange(_neighbour(*_where()), method, path, body=body)
    _asked.clear()


def _where() -> tuple[str, str, str]:
    url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    return url, os.environ.get(KEY_VARIABLE, ""), viewer.name()


def _neighbour(url: str, key: str, who: str) -> Neighbour:
    return Neighbour(
        url=url,
        variable=URL_VARIABLE,
        name="The sidecar's control plane",
        key=key,
        viewer=who,
        advice=_ADVICE,
    )


@st.cache_data(ttl=TTL_S, max_entries=64, show_spinner=False)
def _asked(url: str, key: str, who: str) -> tuple[dict[str, Any], datetime]:
    found: dict[str, Any] = {}
    for path in ("budgets", "raises", "directives"):
        body = exchange(_neighbour(url, key, who), "GET", f"/bursar/v1/{path}")
        try:
            found |= json.loads(body)
        except (ValueError, TypeError) as error:
            raise BadAnswer("The sidecar's control plane answers with something that is no JSON.") from error
    return found, datetime.now(UTC)


@st.cache_data(ttl=TTL_S, max_entries=16, show_spinner=False)
def _scraped(url: str, key: str, who: str) -> str:
    told = exchange(_neighbour(url, key, who), "GET", "/metrics", accept="text/plain")
    return told.decode("utf-8", "replace")


def _budget(said: dict[str, Any]) -> Budget:
    return Budget(
        name=str(said["name"]),
        limit=Decimal(said["limit"]),
        unit=str(said["unit"]),
        window=str(said["window"]),
        match={str(name): tuple(map(str, values)) for name, values in said["match"].items()},
        each=str(said["each"]),
        mode=str(said["mode"]),
        at=tuple((Decimal(str(one["share"])), str(one["action"])) for one in said["at"]),
    )


def _counter(said: dict[str, Any]) -> Counter:
    return Counter(
        budget=str(said["name"]),
        subject=str(said["subject"]),
        window=str(said["window"]),
        unit=str(said["unit"]),
        **{name: Decimal(said[name]) for name in ("limit", "spent", "held", "remaining")},
        starts_at=_instant(said["starts_at"]),
        resets_at=_instant(said["resets_at"]),
        exact=bool(said["exact"]),
    )


def _raised(said: dict[str, Any]) -> Order:
    return Order(
        id=str(said["id"]),
        kind="raise",
        budget=str(said["budget"]),
        subject=str(said["subject"]),
        amount=int(said["amount"]),
        until_at=_micros(said["until_us"]),
        by=str(said["source"]),
        reason=str(said["reason"]),
    )


def _directed(said: dict[str, Any]) -> Order:
    return Order(
        id=str(said["id"]),
        kind=str(said["kind"]),
        match={str(name): tuple(map(str, values)) for name, values in said["match"].items()},
        until_at=_micros(said["expires_us"]),
        by=str(said["source"]),
        reason=str(said["reason"]),
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _micros(instant_us: int) -> datetime:
    return datetime.fromtimestamp(instant_us / 1_000_000, UTC)
