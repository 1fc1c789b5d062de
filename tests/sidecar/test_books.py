"""Every call ends in one record that charges what may have been spent, also when we fail ourselves."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.domain.policy import Ask, Policy, State
from collector.export.prometheus import CallMetrics
from collector.journal import FrameKind, JournalWriter, decode_intent, decode_record, read_frames, segments
from collector.pricing.book import PriceBook
from sidecar.books import Books
from sidecar.budgets.asks import Asks
from sidecar.budgets.capabilities import Catalogue
from sidecar.call import Attempt, Call
from sidecar.config import UpstreamConfig
from sidecar.http import Deadlines, Request
from sidecar.providers.native import Upstream
from sidecar.routes import route_of
from sidecar.routing import Target
from sidecar.wire import meter_for, read_raw_request, read_request

BODY = b'{"model": "gpt-4o-mini", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}'
MESSAGE = (
    b'{"model": "claude-opus-4-6", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}'
)


def test_an_attempt_that_nobody_settled_is_charged_at_its_hold_and_recorded_once(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path, "s-1")
    books = Books(journal, CallMetrics(), PriceBook.load({}))
    request = Request("POST", "/v1/chat/completions", "", [])
    request.body, request.client_address, request.received_ns = BODY, "127.0.0.1", 1
    call = Call(request, None, route_of(request.path, frozenset()))  # type: ignore[arg-type]
    call.facts = read_request(call.api, BODY)
    quote = books.prices.quote("openai", "gpt-4o-mini", call.started_at_us)
    attempt = Attempt("openai", "h:1", "openai", "gpt-4o-mini", quote)
    call.attempts.append(attempt)
    books.open(call, attempt)
    attempt.note_sent()

    books.close(call, 500, 0)
    books.close(call, 500, 0)
    journal.close()

    frames, _ = read_frames(segments(tmp_path)[0].path)
    assert [frame.kind for frame in frames] == [FrameKind.INTENT, FrameKind.RECORD]
    record = decode_record(frames[1].payload)
    assert (record.usage_grade, record.output_tokens) == ("assumed", 100)
    assert record.effective_cost_pico >= 100 * 600_000  # 0.60 USD per million output tokens


def test_the_hold_of_a_crashed_call_knows_the_tier_that_was_asked_for(tmp_path: Path) -> None:
    """Priority costs more: what an intent says is what is charged where nothing else is known."""
    journal = JournalWriter(tmp_path, "s-1")
    books = Books(journal, CallMetrics(), PriceBook.load({}))

    def held(path: str, body: bytes) -> int:
        request = Request("POST", path, "", [])
        request.body, request.client_address, request.received_ns = body, "127.0.0.1", 1
        call = Call(request, None, route_of(request.path, frozenset({"openai"})))  # type: ignore[arg-type]
        call.facts = read_raw_request(path, body)
        quote = books.prices.quote("openai", "gpt-5", call.started_at_us)
        attempt = Attempt("openai", "h:1", "openai", "gpt-5", quote)
        call.attempts.append(attempt)
        books.open(call, attempt)
        journal.flush()
        frames, _ = read_frames(segments(tmp_path)[0].path)
        return decode_intent(frames[-1].payload).hold_cost_pico

    def asking(**more: Any) -> bytes:
        return json.dumps({"model": "gpt-5", "max_output_tokens": 1000, "input": "hello", **more}).encode()

    for path in ("/openai/v1/responses", "/openai/some/other/path"):
        usual = held(path, asking())
        # The other path counts the tier itself as text, too.
        for tier, times in (("priority", 2), ("flex", 0.5), ("auto", 1), ({}, 1)):
            assert held(path, asking(service_tier=tier)) == pytest.approx(times * usual, rel=1e-3)
    journal.close()


def test_a_call_that_names_two_models_goes_as_the_one_that_may_cost_more(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path, "s-1")
    books = Books(journal, CallMetrics(), PriceBook.load({}))
    place = Upstream("openai", UpstreamConfig(kind="openai"), Deadlines())
    for models in (("gpt-5-nano", "gpt-5-pro"), ("gpt-5-pro", "gpt-5-nano")):
        body = b'{"model":"%b","input":"hello","model":"%b"}' % tuple(name.encode() for name in models)
        request = Request("POST", "/openai/v1/responses", "", [])
        request.body, request.client_address, request.received_ns = body, "127.0.0.1", 1
        call = Call(request, None, route_of(request.path, frozenset({"openai"})))  # type: ignore[arg-type]
        call.facts = read_raw_request("/v1/responses", body)
        assert books.dearest(call, place) == "gpt-5-pro"
    journal.close()


def test_admission_and_hold_know_the_region_of_the_upstream_and_of_the_request(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path, "s-1")
    books = Books(journal, CallMetrics(), PriceBook.load({}))
    asks = Asks(books, State(Policy()), Catalogue())

    def held(region: str, asked: str = "") -> tuple[int, int]:
        place = Upstream("anthropic", UpstreamConfig(kind="anthropic", region=region), Deadlines())
        request = Request("POST", "/v1/messages", "", [])
        geo = b', "inference_geo": "' + asked.encode() + b'"' if asked else b""
        request.body = MESSAGE[:-1] + geo + b"}"
        request.client_address, request.received_ns = "127.0.0.1", 1
        call = Call(request, None, route_of(request.path, frozenset()))  # type: ignore[arg-type]
        call.facts = read_request(call.api, request.body)
        quote = books.quote(call, place, "claude-opus-4-6")
        attempt = Attempt("anthropic", "h:1", "anthropic", "claude-opus-4-6", quote)
        call.attempts.append(attempt)
        books.open(call, attempt)
        return asks.of(
            call, Target(place, "claude-opus-4-6"), "claude-opus-4-6"
        ).output_pico, attempt.quote.price.input

    usual = (25_000_000, 5_000_000)
    dearer = (27_500_000, 5_500_000)
    assert held("") == held("", "global") == held("us", "global") == usual
    assert held("us") == held("", "us") == held("us", "us") == held("eu") == dearer
    journal.close()


def test_an_inference_profile_that_answers_without_its_region_costs_what_the_profile_costs(
    tmp_path: Path,
) -> None:
    journal = JournalWriter(tmp_path, "s-1")
    books = Books(journal, CallMetrics(), PriceBook.load({}))
    usage = {"input_tokens": 1000, "output_tokens": 1000}

    def cost(profile: str, answered: str) -> int:
        path = f"/model/{profile}/invoke"
        request = Request("POST", f"/bedrock{path}", "", [])
        request.body, request.client_address, request.received_ns = MESSAGE, "127.0.0.1", 1
        call = Call(request, None, route_of(request.path, frozenset({"bedrock"})))  # type: ignore[arg-type]
        call.facts = read_raw_request(path, MESSAGE, "application/json")
        quote = books.prices.quote("aws.bedrock", profile, call.started_at_us)
        attempt = Attempt("bedrock", "h:1", "aws.bedrock", profile, quote)
        call.attempts.append(attempt)
        books.open(call, attempt)
        attempt.status = 200
        headers = {b"content-type": b"application/json"}
        call.meter = meter_for(
            "raw", path=path, status=200, headers=headers, request=call.facts, withhold_usage=False
        )
        call.meter.feed(
            json.dumps({"type": "message", "role": "assistant", "model": answered, "usage": usage}).encode()
        )
        call.meter.finish()
        books.settle(call, attempt, sent=True)
        assert attempt.price_grade == "listed"
        return attempt.cost_pico

    everywhere = cost("global.anthropic.claude-opus-4-8", "claude-opus-4-8")
    assert everywhere == 1000 * (5 + 25) * 1_000_000
    assert cost("us.anthropic.claude-opus-4-8", "claude-opus-4-8") == everywhere * 11 // 10
    assert cost("us-gov.anthropic.claude-opus-4-8", "claude-opus-4-8") > everywhere * 11 // 10
    other = cost("global.anthropic.claude-opus-4-8", "claude-haiku-4-5-20251001")
    assert 0 < other < everywhere
    journal.close()


def asked_of(books: Books, kind: str, path: str, body: bytes) -> Ask:
    """What the policy is asked about a request of ``body`` to an upstream of that kind."""
    place = Upstream(kind, UpstreamConfig(kind=kind, base_url="http://h:1"), Deadlines())
    request = Request("POST", path, "", [])
    request.body, request.client_address, request.received_ns = body, "127.0.0.1", 1
    call = Call(request, None, route_of(request.path, frozenset()))  # type: ignore[arg-type]
    call.facts = read_request(call.api, body)
    model = call.facts.model
    return Asks(books, State(Policy()), Catalogue()).of(call, Target(place, model), model)


def test_a_budget_holds_fast_mode_at_its_own_price(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path, "s-1")
    books = Books(journal, CallMetrics(), PriceBook.load({}))
    body = MESSAGE.replace(b"claude-opus-4-6", b"claude-opus-5-5")
    fast = body[:-1] + b', "speed": "fast"}'

    usual = asked_of(books, "anthropic", "/v1/messages", body)
    dearer = asked_of(books, "anthropic", "/v1/messages", fast)

    assert dearer.output_pico == 2 * usual.output_pico
    assert dearer.input_pico == 2 * usual.input_pico
    journal.close()


CACHING = {"input": 2, "output": 8, "cache_write": "2.5", "cache_write_1h": 5}
"""USD per million tokens."""


@pytest.mark.parametrize(
    ("kind", "path", "model", "more", "usd_per_mtok"),
    [
        # OpenAI writes by itself, for a short time unless it is told otherwise.
        ("openai", "/v1/chat/completions", "gpt-x", {}, "2.5"),
        ("openai", "/v1/chat/completions", "gpt-x", {"prompt_cache_options": {"ttl": "12h"}}, "5"),
        # Claude's prompts are cached where a mark says so, also where others serve it.
        ("anthropic", "/v1/messages", "claude-x", {}, "2"),
        ("anthropic", "/v1/messages", "claude-x", {"cache_control": {"type": "ephemeral"}}, "5"),
        ("anthropic", "/v1/messages", "m-x", {}, "2"),
        ("openai", "/v1/chat/completions", "claude-x", {}, "2"),
        ("openai", "/v1/chat/completions", "claude-x", {"cache_control": {"type": "ephemeral"}}, "5"),
        # Writing costs no more than reading.
        ("openai", "/v1/chat/completions", "plain-x", {"prompt_cache_options": {}}, "2"),
    ],
)
def test_a_budget_holds_what_may_be_written_to_a_cache_at_what_that_costs(
    tmp_path: Path, kind: str, path: str, model: str, more: dict[str, Any], usd_per_mtok: str
) -> None:
    journal = JournalWriter(tmp_path, "s-1")
    plain = {"input": 2, "output": 8}
    prices = {"gpt-x": CACHING, "claude-x": CACHING, "m-x": CACHING, "plain-x": plain}
    books = Books(journal, CallMetrics(), PriceBook.load(prices))
    asked = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}], **more}

    ask = asked_of(books, kind, path, json.dumps(asked).encode())

    assert ask.input_pico == ask.input_tokens * Decimal(usd_per_mtok) * 1_000_000
    journal.close()
