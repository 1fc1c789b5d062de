"""Calls in regions, with images and searches: priced, recorded, shown and exported to the last digit."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from support.agent import post
from support.stack import IMPORTS, ROOT, Stack
from support.upstream import Answer, ScriptedUpstream, Seen

from dashboards import bill

StackMaker = Callable[..., Stack]

THOUSAND = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
MODELS = {
    model: {"upstream": upstream}
    for model, upstream in (("gpt-5.4", "europe"), ("gpt-4o", "mars"), ("gpt-5-mini", "openai"))
}
PICTURE = {
    "input_tokens": 50, "output_tokens": 1000, "total_tokens": 1050,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}  # fmt: skip


def answer(seen: Seen) -> Answer:
    """By what is asked: a chat, a picture, or a message that says where it was made."""
    asked = json.loads(seen.body)
    model = asked["model"]
    if seen.target.endswith("/images/generations"):
        return said({"created": 1, "data": [{"b64_json": "aGk="}], "usage": PICTURE})
    if seen.target.endswith("/messages"):
        usage = {"input_tokens": 1000, "output_tokens": 100, "inference_geo": asked["metadata"]["user_id"]}
        if model == "claude-sonnet-4-6":
            usage["server_tool_use"] = {"web_search_requests": 2}
        block = {"type": "text", "text": "hello"}
        return said(
            {"id": "m1", "type": "message", "role": "assistant", "model": model, "content": [block],
             "stop_reason": "end_turn", "usage": usage}
        )  # fmt: skip
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return said(
        {"id": "c", "object": "chat.completion", "model": model, "choices": [choice], "usage": THOUSAND}
    )


def said(body: Any) -> Answer:
    return Answer(pieces=[json.dumps(body).encode()])


def message(model: str, geo_told: str, **more: Any) -> dict[str, Any]:
    return {
        "model": model, "max_tokens": 200, "messages": [{"role": "user", "content": "hello"}],
        "metadata": {"user_id": geo_told}, **more,
    }  # fmt: skip


def chat(model: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": 200, "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.slow
def test_regions_images_and_searches_are_priced_recorded_shown_and_exported(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = answer
    at = f"{upstream.url}/v1"
    openai = {"kind": "openai", "provider": "openai", "base_url": at}
    stack = stack_for(
        upstream,
        upstreams={
            "anthropic": {"kind": "anthropic", "provider": "anthropic", "base_url": upstream.url},
            "openai": {**openai, "unmetered_paths": ["/v1/images/"]},
            "europe": {**openai, "region": "eu"},
            "mars": {**openai, "region": "mars"},
        },
        settings={"models": MODELS},
    )

    for path, body in (
        ("/v1/chat/completions", chat("gpt-5.4")),
        ("/v1/chat/completions", chat("gpt-4o")),
        ("/v1/chat/completions", chat("gpt-5-mini")),
        ("/v1/messages", message("claude-opus-4-6", "us")),
        ("/v1/messages", message("claude-opus-4-6", "global", inference_geo="us")),
        ("/v1/messages", message("claude-sonnet-4-6", "not_available")),
        ("/openai/v1/images/generations", {"model": "gpt-image-1.5", "prompt": "a cat"}),
    ):
        status, _, reply = post(stack, body, path)
        assert status == 200, reply
    calls = stack.calls(7)

    told = [(row["region"], row["price_grade"], Decimal(row["effective_cost_usd"])) for row in calls]
    assert told == [
        ("eu", "listed", Decimal("0.0044")),  # (1000 x 2.5 + 100 x 15) x 1.1, per million
        ("mars", "prior", Decimal("0.00385")),  # (1000 x 2.5 + 100 x 10) x 1.1: the dearest that is known
        ("", "listed", Decimal("0.00045")),  # 1000 x 0.25 + 100 x 2
        ("us", "listed", Decimal("0.00825")),  # (1000 x 5 + 100 x 25) x 1.1
        ("global", "listed", Decimal("0.0075")),  # asked for the US and not processed there
        ("", "listed", Decimal("0.0245")),  # 1000 x 3 + 100 x 15, and two searches of 0.01
        ("", "listed", Decimal("0.03237")),  # 10 x 5 + 40 x 8 + 1000 x 32
    ]
    assert (calls[-1]["image_input_tokens"], calls[-1]["image_output_tokens"]) == (40, 1000)

    for row in calls:
        found = bill_of(stack, row)
        assert found.tallies, (row["request_model"], found)
        assert found.is_owed, (row["request_model"], found)
    assert [line["part"] for line in bill_of(stack, calls[0]).lines()] == ["input", "output", "region eu"]

    lines = list(csv.DictReader(io.StringIO(report(stack, "--format", "focus"))))
    (total,) = stack.ask("totals")
    for column, name in (("EffectiveCost", "effective_cost_usd"), ("ListCost", "list_cost_usd")):
        assert sum(Decimal(line[column]) for line in lines) == Decimal(total[name])
    assert sum(int(line["ConsumedQuantity"]) for line in lines if line["ConsumedUnit"] == "Tokens") == 7650
    apart = {
        (line["SkuId"], line["SkuMeter"]): (
            line["RegionId"],
            line["ConsumedQuantity"],
            Decimal(line["EffectiveCost"]),
        )
        for line in lines
        if line["SkuMeter"] != "Text tokens"
    }
    assert apart == {
        ("gpt-5.4", "Regional surcharge"): ("eu", "1100", Decimal("0.0004")),
        ("gpt-4o", "Regional surcharge"): ("mars", "1100", Decimal("0.00035")),
        ("claude-opus-4-6", "Regional surcharge"): ("us", "1100", Decimal("0.00075")),
        ("claude-sonnet-4-6", "Searches"): ("", "2", Decimal("0.02")),
        ("gpt-image-1.5", "Image input tokens"): ("", "40", Decimal("0.00032")),
        ("gpt-image-1.5", "Image output tokens"): ("", "1000", Decimal("0.032")),
    }


def bill_of(stack: Stack, row: dict[str, Any]) -> bill.Bill:
    """As the page of the call shows it."""
    attempts = stack.ask("attempts", call_id=row["call_id"])
    question = bill.rows_question(attempts)
    assert question is not None
    params: dict[str, list[str]] = {}
    for name, value in question.params:
        params.setdefault(name, []).append(value)
    found = bill.bill_of(attempts[0], stack.ask("prices", **params))
    assert found is not None
    return found


def report(stack: Stack, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.cli", "report", "--config", str(stack.config_file), *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": IMPORTS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
