"""Recorded replies of real providers, through the running proxy: bytes unchanged, usage and money right."""

import base64
import gzip
import http.client
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

KINDS = {
    "anthropic": "anthropic",
    "azure": "azure",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "google": "google",
    "vertex": "google",
}
"""Kinds of the upstreams in these recordings; all others are OpenAI-compatible servers."""

MUST_BE_PERFECT = frozenset({"openai", "anthropic", "azure", "google", "vertex", "bedrock"})

COMPARED = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_write_input_tokens",
    "cache_write_1h_tokens": "cache_write_1h_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
}

OWN_PATHS = {
    ("openai", "chat.completions"): "/v1/chat/completions",
    ("openai", "completions"): "/v1/completions",
    ("openai", "responses"): "/v1/responses",
    ("openai", "embeddings"): "/v1/embeddings",
    ("anthropic", "messages"): "/v1/messages",
    ("anthropic", "messages.count_tokens"): "/v1/messages/count_tokens",
}


@dataclass(slots=True)
class Exchanged:
    """What came of one case."""

    case: dict[str, Any]
    sent: bytes
    got: bytes
    status: int
    call_id: str
    row: dict[str, Any] | None = None


def payload(case: dict[str, Any]) -> bytes:
    """The reply's body as the provider sent it."""
    if "sse" in case:
        return str(case["sse"]).encode()
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    body = case.get("body")
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def pieces(data: bytes, seed: str | None) -> list[bytes]:
    """``data`` whole, or cut at random points."""
    if seed is None or not data:
        return [data]
    chooser = random.Random(seed)
    cuts = sorted({chooser.randrange(len(data)) for _ in range(min(40, len(data)))} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(cuts)]


def load_cases(shared_data: Path) -> list[dict[str, Any]]:
    with gzip.open(shared_data / "provider_responses" / "cases.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module", params=["whole", "cut"])
def exchanged(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Exchanged]]:
    """All cases sent through one running stack, with the ledger's row of each."""
    cases = {case["id"]: case for case in load_cases(shared_data)}
    cut = request.param == "cut"

    def script(seen: Seen) -> Answer:
        case = cases[parse_qs(urlsplit(seen.target).query)["case"][0]]
        names = dict(case["headers"])
        names.setdefault("content-type", "text/event-stream" if "sse" in case else "application/json")
        return Answer(
            status=case["status"],
            headers=list(names.items()),
            pieces=pieces(payload(case), case["id"] if cut else None),
            chunked=cut or "sse" in case,
        )

    with ScriptedUpstream(script) as upstream:
        providers = sorted({case["provider"] for case in cases.values()})
        upstreams = {
            name: {
                "kind": KINDS.get(name, "openai"),
                "base_url": upstream.url + ("/v1" if name == "openai" else ""),
            }
            for name in providers
        }
        with Stack(tmp_path_factory.mktemp("stack"), upstreams) as stack:
            found = [exchange(stack, case) for case in cases.values()]
            metered = [
                item
                for item in found
                if item.case["endpoint"] not in ("countTokens", "messages.count_tokens")
            ]
            rows = wait_for_rows(stack, {item.call_id for item in metered})
            for item in found:
                item.row = rows.get(item.call_id)
            yield found


def wait_for_rows(stack: Stack, wanted: set[str]) -> dict[str, dict[str, Any]]:
    def rows() -> dict[str, dict[str, Any]] | None:
        found = {row["call_id"]: row for row in stack.ask("calls", limit=10_000)}
        return found if wanted <= set(found) else None

    return dict(wait_for("all calls in the ledger", rows, 60))


def exchange(stack: Stack, case: dict[str, Any]) -> Exchanged:
    """Send one recorded request through the sidecar."""
    url = urlsplit(case["url"])
    own = OWN_PATHS.get((case["provider"], case["endpoint"]))
    path = own or f"/{case['provider']}{url.path}"
    query = "&".join(part for part in (url.query, f"case={case['id']}") if part)
    body = case["request"]
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports[0], timeout=30)
    try:
        connection.request(
            case["method"].upper(), f"{path}?{query}", raw, {"content-type": "application/json"}
        )
        reply = connection.getresponse()
        got = reply.read()
        return Exchanged(case, payload(case), got, reply.status, reply.headers["x-bursar-call-id"] or "")
    finally:
        connection.close()


def possible(expected: dict[str, Any]) -> dict[str, Any]:
    """What can be booked of ``expected``: no more of a part than there is of the whole.

    One model on Azure reports more cached tokens than prompt tokens, one on OpenRouter more reasoning than
    output. Token classes do not overlap here, so the part is cut to its whole.
    """
    wholes = {"cache_read_tokens": "input_tokens", "reasoning_tokens": "output_tokens"}
    return expected | {
        part: min(expected[part], expected[whole])
        for part, whole in wholes.items()
        if part in expected and whole in expected
    }


def wrong_counts(item: Exchanged) -> dict[str, tuple[Any, Any]]:
    """Token counts that differ from what was recorded, as (expected, booked)."""
    expected = item.case["expected"]["usage"]
    if expected is None or item.row is None:
        return {}
    row = item.row
    expected = possible(expected)
    return {
        name: (expected[name], row[column])
        for name, column in COMPARED.items()
        if name in expected and int(row[column]) != expected[name]
    }


def test_the_agent_gets_the_providers_bytes(exchanged: list[Exchanged]) -> None:
    different = [
        item.case["id"] for item in exchanged if (item.got, item.status) != (item.sent, item.case["status"])
    ]

    assert different == []


def test_usage_is_what_the_provider_reported(exchanged: list[Exchanged]) -> None:
    wrong = {
        item.case["id"]: (item.case["provider"], found) for item in exchanged if (found := wrong_counts(item))
    }
    perfect = {name: value for name, value in wrong.items() if value[0] in MUST_BE_PERFECT}

    assert perfect == {}
    assert len(wrong) <= 0.02 * len(exchanged), wrong


def test_a_reply_without_usage_is_never_booked_as_reported(exchanged: list[Exchanged]) -> None:
    for item in exchanged:
        if item.case["expected"]["usage"] is None and item.row is not None:
            assert item.row["usage_grade"] != "reported", item.case["id"]
            free = item.case["endpoint"] in ("countTokens", "messages.count_tokens")
            if item.case["status"] == 200 and not free:
                assert int(item.row["input_tokens"]) > 0, item.case["id"]
                assert Decimal(item.row["effective_cost_usd"]) > 0, item.case["id"]


def test_errors_are_told_from_answers(exchanged: list[Exchanged]) -> None:
    for item in exchanged:
        if item.row is None:
            continue
        failed = item.case["expected"]["error"] is not None or item.case["status"] >= 400
        assert (item.row["outcome"] == "failed") == failed, item.case["id"]
        assert bool(item.row["error_type"]) == failed, item.case["id"]


def test_money_agrees_with_two_independent_price_lists(exchanged: list[Exchanged]) -> None:
    wrong = {}
    for item in exchanged:
        estimates = item.case["expected"].get("cost_estimates") or {}
        if not estimates.get("agree") or item.row is None:
            continue
        expected, booked = Decimal(str(estimates["genai_prices_usd"])), Decimal(item.row["list_cost_usd"])
        if abs(booked - expected) > expected * Decimal("0.005"):
            wrong[item.case["id"]] = (item.case["provider"], item.row["response_model"], expected, booked)

    assert wrong == {}


def test_every_metered_call_names_the_model_that_answered(exchanged: list[Exchanged]) -> None:
    wrong = {
        item.case["id"]: (item.case["expected"]["model"], item.row["response_model"])
        for item in exchanged
        if item.row is not None
        and item.case["expected"]["usage"] is not None
        and item.case["expected"].get("model")
        and item.row["response_model"] not in (item.case["expected"]["model"], "")
    }

    assert wrong == {}
