"""Usage as each dialect tells it, priced to the last pico-USD: a stream costs what the whole reply costs."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from collector.domain.price import ContextTier, TokenPrice, list_cost
from collector.pricing.book import PriceBook
from sidecar.accounting import cost_of
from tests.sidecar.wire.conftest import JSON, SSE, chat_chunk, read

# Pico-USD per token; no two alike, and none a sum of others at the counts below.
IN, READ, WRITE, HOUR, OUT = 3_000_001, 300_007, 3_750_013, 6_000_017, 15_000_019
THINK, AUDIO, HEARD, SPEECH = 17_000_023, 40_000_029, 2_500_031, 80_000_037
RATES = {
    "input": IN, "cache_read": READ, "cache_write": WRITE, "cache_write_1h": HOUR, "output": OUT,
    "reasoning": THINK, "audio_input": AUDIO, "cache_read_audio": HEARD, "audio_output": SPEECH,
}  # fmt: skip
LONG = TokenPrice(**{name: 2 * rate for name, rate in RATES.items()})
PRICE = TokenPrice(**RATES, context_tiers=(ContextTier(200_000, LONG),))


def chat(prompt: int, made: int, into: Any = None, out: Any = None) -> dict[str, Any]:
    details = {"prompt_tokens_details": into, "completion_tokens_details": out}
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made, **details}


def responses(prompt: int, made: int, into: Any = None, out: Any = None) -> dict[str, Any]:
    return {
        "input_tokens": prompt, "input_tokens_details": into or {"cached_tokens": 0},
        "output_tokens": made, "output_tokens_details": out or {"reasoning_tokens": 0},
        "total_tokens": prompt + made,
    }  # fmt: skip


def messages(fresh: int, made: int, read: int = 0, write: int = 0, hour: int | None = None) -> dict[str, Any]:
    usage = {"input_tokens": fresh, "cache_read_input_tokens": read, "cache_creation_input_tokens": write}
    kinds = {"ephemeral_5m_input_tokens": write - (hour or 0), "ephemeral_1h_input_tokens": hour or 0}
    return usage | ({} if hour is None else {"cache_creation": kinds}) | {"output_tokens": made}


def gemini(prompt: int, made: int, thought: int = 0, read: int = 0, audio: int = 0) -> dict[str, Any]:
    usage: dict[str, Any] = {"promptTokenCount": prompt, "candidatesTokenCount": made}
    usage |= {"totalTokenCount": prompt + made + thought}
    if thought:
        usage["thoughtsTokenCount"] = thought
    if read:
        usage["cachedContentTokenCount"] = read
    if audio:
        kinds = {"TEXT": prompt - audio, "AUDIO": audio}
        usage["promptTokensDetails"] = [
            {"modality": kind, "tokenCount": count} for kind, count in kinds.items()
        ]
    return usage


def cached(count: int, **more: Any) -> dict[str, Any]:
    return {"cached_tokens": count, **more}


def written(count: int, long: int) -> dict[str, Any]:
    kinds = {"ttl_12h_tokens": long, "ttl_30m_tokens": count - long}
    return {"cache_write_tokens": count, "cache_write_tokens_details": kinds}


GOLDEN: dict[str, list[tuple[dict[str, Any], int]]] = {
    "openai.chat": [
        (chat(1000, 100), 1000 * IN + 100 * OUT),
        (chat(1000, 0), 1000 * IN),
        (chat(1000, 100, cached(400)), 600 * IN + 400 * READ + 100 * OUT),
        (chat(1000, 100, cached(1000)), 1000 * READ + 100 * OUT),
        (chat(1000, 100, None, {"reasoning_tokens": 64}), 1000 * IN + 64 * THINK + 36 * OUT),
        (chat(1000, 100, None, {"reasoning_tokens": 100}), 1000 * IN + 100 * THINK),
        (chat(1000, 100, {"audio_tokens": 250}), 750 * IN + 250 * AUDIO + 100 * OUT),
        (chat(1000, 100, None, {"audio_tokens": 70}), 1000 * IN + 70 * SPEECH + 30 * OUT),
        (
            chat(1000, 100, cached(400, audio_tokens=250, cached_tokens_details={"audio_tokens": 50})),
            400 * IN + 200 * AUDIO + 350 * READ + 50 * HEARD + 100 * OUT,
        ),
        (chat(1000, 10, cached(300, cache_write_tokens=200)), 500 * IN + 300 * READ + 200 * WRITE + 10 * OUT),
        (chat(1000, 10, written(200, 97)), 800 * IN + 103 * WRITE + 97 * HOUR + 10 * OUT),
        (chat(200_000, 10), 200_000 * IN + 10 * OUT),
        (chat(200_001, 10, cached(200_000)), 2 * (IN + 200_000 * READ + 10 * OUT)),
    ],
    "openai.responses": [
        (responses(1000, 100), 1000 * IN + 100 * OUT),
        (responses(1000, 0), 1000 * IN),
        (responses(1000, 100, cached(999)), IN + 999 * READ + 100 * OUT),
        (responses(1000, 100, None, {"reasoning_tokens": 99}), 1000 * IN + 99 * THINK + OUT),
        (responses(1000, 100, cached(1000), {"reasoning_tokens": 100}), 1000 * READ + 100 * THINK),
        (responses(1000, 100, cached(0, audio_tokens=1)), 999 * IN + AUDIO + 100 * OUT),
        (responses(200_000, 1, cached(7)), 199_993 * IN + 7 * READ + OUT),
        (responses(1000, 10, written(700, 700)), 300 * IN + 700 * HOUR + 10 * OUT),
        (responses(1000, 10, written(700, 0)), 300 * IN + 700 * WRITE + 10 * OUT),
        (
            responses(1000, 10, cached(200, **written(700, 97))),
            100 * IN + 200 * READ + 603 * WRITE + 97 * HOUR + 10 * OUT,
        ),
        (responses(200_001, 1, cached(7)), 2 * (199_994 * IN + 7 * READ + OUT)),
    ],
    "anthropic.messages": [
        (messages(1000, 100), 1000 * IN + 100 * OUT),
        (messages(0, 100, read=1000), 1000 * READ + 100 * OUT),
        (messages(10, 100, read=990), 10 * IN + 990 * READ + 100 * OUT),
        (messages(10, 100, write=990), 10 * IN + 990 * WRITE + 100 * OUT),
        (messages(10, 100, write=990, hour=0), 10 * IN + 990 * WRITE + 100 * OUT),
        (messages(10, 100, write=990, hour=990), 10 * IN + 990 * HOUR + 100 * OUT),
        (messages(10, 100, write=990, hour=90), 10 * IN + 900 * WRITE + 90 * HOUR + 100 * OUT),
        (messages(3, 5, 700, 297, 97), 3 * IN + 700 * READ + 200 * WRITE + 97 * HOUR + 5 * OUT),
        (messages(1, 1, read=199_999), IN + 199_999 * READ + OUT),
        (messages(1, 1, read=200_000), 2 * (IN + 200_000 * READ + OUT)),
        (messages(1, 1, read=100_000, write=100_000), 2 * (IN + 100_000 * (READ + WRITE) + OUT)),
    ],
    "raw": [
        (gemini(1000, 100), 1000 * IN + 100 * OUT),
        (gemini(1000, 100, thought=400), 1000 * IN + 100 * OUT + 400 * THINK),
        (gemini(1000, 100, read=400), 600 * IN + 400 * READ + 100 * OUT),
        (gemini(1000, 100, read=1000), 1000 * READ + 100 * OUT),
        (gemini(1000, 100, audio=250), 750 * IN + 250 * AUDIO + 100 * OUT),
        (gemini(1000, 100, audio=1000), 1000 * AUDIO + 100 * OUT),
        (gemini(1000, 100, thought=7, read=500), 500 * IN + 500 * READ + 100 * OUT + 7 * THINK),
        (gemini(200_000, 1, thought=1), 200_000 * IN + OUT + THINK),
        (gemini(200_001, 1, thought=1), 2 * (200_001 * IN + OUT + THINK)),
    ],
}  # fmt: skip


def events(*told: dict[str, Any]) -> bytes:
    named = [f"event: {one['type']}\n" if "type" in one else "" for one in told]
    return "".join(
        f"{name}data: {json.dumps(one)}\n\n" for name, one in zip(named, told, strict=True)
    ).encode()


def both_ways(api: str, usage: dict[str, Any]) -> tuple[bytes, bytes]:
    """A whole reply with this usage, and a stream in which the provider tells the same."""
    match api:
        case "openai.chat":
            choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
            whole = {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}
            last = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": []}
            stream = chat_chunk("x", usage=None) + events(last | {"usage": usage}) + b"data: [DONE]\n\n"
        case "openai.responses":
            whole = {"id": "r", "object": "response", "model": "m", "status": "completed", "output": []}
            begun = {"type": "response.created", "response": whole | {"status": "in_progress", "usage": None}}
            stream = events(begun, {"type": "response.completed", "response": whole | {"usage": usage}})
        case "anthropic.messages":
            whole = {"id": "a", "type": "message", "role": "assistant", "model": "m", "content": []}
            start = {"type": "message_start", "message": whole | {"usage": usage | {"output_tokens": 1}}}
            made = usage["output_tokens"]
            # Each tells the total so far.
            deltas = [
                {"type": "message_delta", "delta": {}, "usage": {"output_tokens": so_far}}
                for so_far in (made // 2, made)
            ]
            stream = events(start, *deltas, {"type": "message_stop"})
        case _:
            part = {"content": {"role": "model", "parts": [{"text": "x"}]}, "index": 0}
            whole = {"candidates": [part | {"finishReason": "STOP"}], "modelVersion": "m"}
            first = {"promptTokenCount": usage["promptTokenCount"], "candidatesTokenCount": 1}
            stream = events({"candidates": [part], "usageMetadata": first}, whole | {"usageMetadata": usage})
    return json.dumps(whole | {"usageMetadata" if api == "raw" else "usage": usage}).encode(), stream


@pytest.mark.parametrize(
    ("api", "usage", "cost"),
    [
        pytest.param(api, usage, cost, id=f"{api}-{number}")
        for api, rows in GOLDEN.items()
        for number, (usage, cost) in enumerate(rows)
    ],
)
def test_a_stream_costs_exactly_what_the_whole_reply_costs(
    api: str, usage: dict[str, Any], cost: int
) -> None:
    path = "/v1beta/models/m:generateContent" if api == "raw" else "/v1/x"
    for data, headers in zip(both_ways(api, usage), (JSON, SSE), strict=True):
        facts = read(data, api=api, path=path, headers=headers)

        assert facts.usage is not None
        assert (list_cost(facts.usage, PRICE), facts.usage_flags) == (cost, ())


@pytest.mark.parametrize(
    ("tools", "searches"),
    [
        ({"web_search_calls": 4, "x_search_calls": 2, "code_interpreter_calls": 3}, 6),
        ({"x_search_calls": 2}, 2),
        ({"web_search_calls": 4, "x_search_calls": None}, 4),
        ({"web_search_calls": 0, "x_search_calls": 0}, 0),
        ({}, 0),
        (None, 0),
    ],
)
@pytest.mark.parametrize(("api", "block"), [("openai.chat", chat), ("openai.responses", responses)])
def test_what_xais_own_tools_searched_is_charged_whether_of_the_web_or_of_x(
    api: str, block: Callable[..., dict[str, Any]], tools: dict[str, Any] | None, searches: int
) -> None:
    usage = block(1000, 100) | {"num_server_side_tools_used": 9, "server_side_tool_usage_details": tools}
    for data, headers in zip(both_ways(api, usage), (JSON, SSE), strict=True):
        facts = read(data, api=api, headers=headers)

        assert facts.usage is not None
        assert list_cost(facts.usage, replace(PRICE, per_search=7)) == 1000 * IN + 100 * OUT + 7 * searches
        assert facts.usage_flags == ()


def test_what_openrouter_says_that_a_search_cost_is_not_added_to_ours() -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "cost": 0.0203}
    message = {"role": "assistant", "content": "Sunny.", "annotations": [{"type": "url_citation"}]}
    choice = {"index": 0, "message": message}
    body = {"id": "gen-1", "model": "openai/gpt-4o", "choices": [choice], "usage": counts}

    facts = read(json.dumps(body).encode(), headers=JSON)

    assert facts.provider_cost_pico == 20_300_000_000
    quote = PriceBook.load({}).quote("openrouter", "openai/gpt-4o", 0)
    assert facts.usage is not None
    tokens = 10 * 2_500_000 + 20 * 10_000_000  # 2.50 and 10 USD per million
    assert cost_of(facts.usage, quote, "").effective_pico == tokens + quote.price.per_search


def test_a_search_model_of_openais_is_charged_for_the_search_that_it_cites_from() -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
    message = {"role": "assistant", "content": "Sunny.", "annotations": [{"type": "url_citation"}]}
    choice = {"index": 0, "message": message}
    body = {"id": "c", "model": "gpt-4o-search-preview", "choices": [choice], "usage": counts}

    usage = read(json.dumps(body).encode(), headers=JSON).usage

    assert usage is not None
    quote = PriceBook.load({}).quote("openai", "gpt-4o-search-preview", 0)
    tokens = 10 * 2_500_000 + 20 * 10_000_000  # 2.50 and 10 USD per million
    assert cost_of(usage, quote, "").effective_pico == tokens + 25 * 10**9  # 25 USD for 1,000 searches
