"""The record of a call that C makes is Python's to the last field, and what is odd is left to Python."""

from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collector.domain.record import CacheResult, Outcome, PriceGrade
from collector.domain.usage import NOTHING, Usage, UsageGrade
from collector.pricing.book import PriceBook, Quote
from sidecar.call import NOBODY, Attempt, Call, Reused
from sidecar.http import Request
from sidecar.native import native
from sidecar.records import record_in_python, record_of
from sidecar.routes import route_of
from sidecar.wire import ReplyFacts, RequestFacts

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

NOW_NS = 9_000_000_000_123
QUOTE = PriceBook.load().quote("openai", "gpt-4o-mini", 1_790_000_000_000_000, "eu")


def request_of(random: Random) -> Request:
    """A request, mostly with fields by name and with a user agent."""
    agent = b"agent/" + b"\xfc" * random.choice([0, 3, 300])
    headers = random.choice([[(b"host", b"x"), (b"user-agent", agent)], [(b"host", b"x")]])
    request = Request("POST", "/v1/chat/completions", "", headers)
    if random.random() < 0.9:
        request.fields = dict(headers)
    request.body = b"b" * random.randrange(5000)
    request.client_address = "127.0.0.1"
    request.received_ns = NOW_NS - random.choice([5_000_000, 7_654_321, -4])
    return request


def attempt_of(random: Random, quote: Quote) -> Attempt:
    """A try that came more or less far."""
    attempt = Attempt(
        "openai", random.choice(["127.0.0.1:80", "[::1]:8000", ""]), "openai", "gpt-4o-mini", quote
    )
    attempt.started_ns = NOW_NS - random.choice([4_900_000, 3_000_001])
    attempt.sent_ns = random.choice([0, attempt.started_ns + 5_000])
    attempt.first_chunk_ns = random.choice([0, attempt.started_ns + 900_000, attempt.started_ns - 10_000_000])
    attempt.ended_ns = attempt.started_ns + random.choice([2_000_000, 2_999_999, -5])
    attempt.status = random.choice([None, 200, 500])
    attempt.error_type = random.choice(["", "upstream_reset"])
    if random.random() < 0.8:
        attempt.usage = Usage(
            input_tokens=90, output_tokens=12, cache_read_input_tokens=64, image_input_tokens=3
        )
        attempt.grade, attempt.price_grade = UsageGrade.REPORTED, PriceGrade.LISTED
        attempt.price_version, attempt.list_pico, attempt.cost_pico = "2026-11", 1 << 65, 77
        attempt.charges = random.choice([{}, {"per_search": (1, 2, 3)}])
    return attempt


def call_of(random: Random) -> Call:
    """A call at its end; most are ordinary, each has one oddity now and then."""
    request = request_of(random)
    call = Call(request, cast(Any, SimpleNamespace()), route_of(request.path, frozenset({"openai"})))
    stream = random.random() < 0.5
    facts = RequestFacts(
        "openai.chat", "gpt-4o-mini", stream=stream, message_hashes=[1, 1 << 62], tool_errors=2
    )
    facts.attributes = {"temperature": 0.5}
    call.facts = facts if random.random() < 0.95 else None
    if random.random() < 0.95:
        call.reply_facts = ReplyFacts(
            usage=NOTHING, response_id="r1", response_model="gpt-4o-mini-2024", finish_reasons=["stop"],
            tool_names=["look"], tool_call_hashes=[5], chunks=9, provider_cost_pico=random.choice([None, 12]),
            service_tier=random.choice(["", "default"]), system_fingerprint=random.choice(["", "fp"]),
        )  # fmt: skip
    call.attempts = [attempt_of(random, QUOTE) for _ in range(random.choice([1, 1, 1, 1, 1, 0, 2]))]
    call.caller = NOBODY._replace(team="red", tags={"a": "b"}, capture=random.random() < 0.05)
    call.outcome, call.cache = random.choice(list(Outcome)), random.choice(list(CacheResult))
    call.outcome_reason = random.choice(["", "why"])
    call.paused_ns = random.choice([0, 1_000_000, 90_000_000])
    if random.random() < 0.05:
        call.reuse = Reused()
        call.reuse.avoided_pico = 5
    return call


def test_the_record_that_c_makes_is_pythons() -> None:
    random = Random(5)
    in_c = 0
    for _ in range(3000):
        call = call_of(random)
        given = (random.choice([200, 499]), random.randrange(4000), NOW_NS)
        expected = record_in_python(call, *given, 100)
        made = native.record(call, *given)
        in_c += made is not None
        assert made is None or (made == expected and type(made) is type(expected))
        assert made is None or [type(one) for one in made] == [type(one) for one in expected]
        assert made is None or type(made.attempts[0]) is type(expected.attempts[0])
        assert record_of(call, *given, 100) == expected
    assert in_c > 300


def test_what_is_no_call_is_refused() -> None:
    with pytest.raises(TypeError):
        native.record(object(), 200, 1, NOW_NS)
    with pytest.raises(TypeError):
        native.records_of((int,), len)
