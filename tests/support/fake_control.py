"""A sidecar's control plane for pages: budgets as they stand, and a memory of what it was asked to do."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Row = dict[str, Any]


@dataclass
class FakeControl:
    """Answers on the paths of the real one."""

    budgets: list[Row] = field(default_factory=list)
    configured: list[Row] = field(default_factory=list)
    raises: list[Row] = field(default_factory=list)
    directives: list[Row] = field(default_factory=list)
    done: list[tuple[str, str, Any]] = field(default_factory=list)
    """Method, path and body of everything that changes something, in order."""
    metrics: str = ""
    """What Prometheus is told."""
    may_operate: bool = True
    viewers: set[str] = field(default_factory=set)
    """Who looked."""
    trouble: str = ""
    """``refusing`` or ``odd``; empty when it is well."""

    def forget(self) -> None:
        """As it was at first."""
        for kept in (self.budgets, self.configured, self.raises, self.directives, self.done):
            kept.clear()
        self.viewers.clear()
        self.trouble, self.metrics, self.may_operate = "", "", True

    def counts(self, name: str, subject: str = "", **values: Any) -> None:
        """One counter of a daily budget of 10 USD, of which 2.5 are spent, unless said otherwise."""
        unit = values.get("unit", "usd")
        known = {"limit": "10.000000000000", "spent": "2.500000000000", "held": "0.000000000000"}
        amounts: Row = known if unit == "usd" else {"limit": 100, "spent": 25, "held": 0}
        row = {
            "name": name, "subject": subject, "window": "day", "unit": unit, **amounts,
            "starts_at": None, "resets_at": None, "exact": True,
        } | values  # fmt: skip
        left = max(0, float(row["limit"]) - float(row["spent"]) - float(row["held"]))
        row["remaining"] = f"{left:.12f}" if unit == "usd" else int(left)
        self.budgets.append(row)

    def configures(self, name: str, **values: Any) -> None:
        """A hard daily budget of 10 USD over all calls, unless said otherwise."""
        self.configured.append(
            {"name": name, "limit": "10.000000000000", "unit": "usd", "window": "day", "match": {},
             "each": "", "mode": "hard", "at": []} | values
        )  # fmt: skip

    def routes(self) -> list[Route]:
        """What is answered."""
        return [
            Route("/bursar/v1/{kind}", self.asked, methods=["GET", "POST"]),
            Route("/bursar/v1/{kind}/{name:path}", self.removed, methods=["DELETE"]),
            Route("/metrics", self.scraped),
        ]

    async def asked(self, request: Request) -> Response:
        """Standings, or what is to be done."""
        kind = request.path_params["kind"]
        self.viewers.add(request.headers.get("x-bursar-viewer", ""))
        if self.trouble == "odd":
            return JSONResponse({"budgets": "many"})
        if request.method == "POST":
            said = json.loads(await request.body())
            self.done.append(("POST", kind, said))
            if self.trouble == "refusing":
                return JSONResponse({"error": "amount: must be more than nothing"}, 400)
            return JSONResponse({"id": "x-1", "until_us": time.time_ns() // 1000, "expires_us": 0})
        configured = {"configured": self.configured, "may_operate": self.may_operate}
        found = {kind: getattr(self, kind)} | (configured if kind == "budgets" else {})
        return JSONResponse(found)

    async def removed(self, request: Request) -> Response:
        """Something is taken back."""
        self.done.append(("DELETE", request.path_params["kind"], request.path_params["name"]))
        return JSONResponse({"removed": True})

    async def scraped(self, request: Request) -> Response:
        """For Prometheus."""
        return PlainTextResponse(self.metrics)
