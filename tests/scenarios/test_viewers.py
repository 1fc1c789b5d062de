"""People on the control plane: each sees the budgets of their tenants, and operates them where they may."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from support.agent import ASK, post
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream

from collector.domain.access import HEADER
from tests.scenarios.budget_scenes import PRICES, chat_reply

StackMaker = Callable[..., Stack]

ROLES = [
    {"users": ["ann"], "tenants": ["acme"], "operate": True},
    {"users": ["bob"], "tenants": ["acme"]},
    {"users": ["boss"]},
]
BUDGETS = [
    {"name": "acme", "limit": "1 USD", "window": "day", "match": {"tenant": "acme"}},
    {"name": "rival", "limit": "1 USD", "window": "day", "match": {"tenant": "rival"}},
    {"name": "each", "limit": "1 USD", "window": "day", "each": "tenant"},
    {"name": "agents", "limit": "1 USD", "window": "day", "each": "agent"},
]


def ask(stack: Stack, who: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(stack.control_url + path, data, {HEADER: who}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_people_see_and_operate_the_budgets_of_their_tenants_and_no_others(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    settings = {"budgets": BUDGETS, "prices": PRICES, "access": {"sign_in": "proxy", "roles": ROLES}}
    stack = stack_for(upstream, settings=settings)
    for tenant in ("acme", "rival"):
        assert post(stack, ASK, x_bursar_tenant=tenant, x_bursar_agent="a")[0] == 200

    def counters(who: str) -> set[tuple[str, str]]:
        said = ask(stack, who, "GET", "/bursar/v1/budgets")[1]
        return {(row["name"], row["subject"]) for row in said["budgets"]}

    assert counters("ann") == counters("bob") == {("acme", ""), ("each", "acme")}
    assert counters("boss") == {
        ("acme", ""),
        ("rival", ""),
        ("each", "acme"),
        ("each", "rival"),
        ("agents", "a"),
    }
    assert "rival" not in json.dumps(ask(stack, "ann", "GET", "/bursar/v1/budgets")[1])
    assert ask(stack, "eve", "GET", "/bursar/v1/budgets")[0] == 403

    more = {"amount": "1 USD", "for_s": 60, "source": "somebody else"}
    status, made = ask(stack, "ann", "POST", "/bursar/v1/raises", more | {"budget": "acme"})
    assert status == 200
    pause = {"action": "pause", "budget": "each", "subject": "acme"}
    assert ask(stack, "ann", "POST", "/bursar/v1/directives", pause)[0] == 200
    assert post(stack, ASK, x_bursar_tenant="acme")[0] == 402
    assert post(stack, ASK, x_bursar_tenant="rival")[0] == 200
    for who, path, said in (
        ("ann", "raises", more | {"budget": "rival"}),
        ("ann", "raises", more | {"budget": "each"}),  # of all tenants
        ("ann", "raises", more | {"budget": "agents", "subject": "a"}),
        ("ann", "raises", more | {"budget": "none"}),
        ("ann", "directives", {"action": "pause", "match": {"tenant": "rival"}}),
        ("ann", "directives", pause | {"match": {"tenant": "rival"}}),
        ("ann", "directives", {"action": "cut", "budget": "acme"}),
        ("ann", "simulate", {"model": "gpt-4o-mini"}),
        ("bob", "raises", more | {"budget": "acme"}),
        ("bob", "directives", pause),
    ):
        assert ask(stack, who, "POST", f"/bursar/v1/{path}", said)[0] == 403, (who, said)
    assert ask(stack, "bob", "DELETE", f"/bursar/v1/raises/{made['id']}")[0] == 403
    assert ask(stack, "ann", "GET", "/metrics")[0] == 403

    theirs = ask(stack, "boss", "POST", "/bursar/v1/raises", more | {"budget": "rival"})
    assert theirs[0] == 403  # boss sees everything, and may change nothing
    assert [one["budget"] for one in ask(stack, "bob", "GET", "/bursar/v1/raises")[1]["raises"]] == ["acme"]
    assert ask(stack, "ann", "DELETE", f"/bursar/v1/raises/{made['id']}")[0] == 200

    def history() -> list[tuple[str, str]]:
        question = f"{stack.collector_url}/v1/questions/budget_events?budget=acme"
        with urllib.request.urlopen(question, timeout=30) as reply:
            return [(row["action"], row["detail"]) for row in json.load(reply)["rows"]]

    wait_for("what ann did", lambda: len(history()) == 2)
    (back, how), (raised, why) = history()
    assert (back, raised) == ("withdrawn", "raise")
    assert how == f"{made['id']} by ann"
    assert "by ann (dashboard)" in why
    assert "somebody else" not in why
