"""What the functions cost that every call passes through, one at a time, beside their budgets.

Each is timed alone, in CPU time of this thread, best of several repeats: what it costs when nothing
is in the way. ``make bench`` measures the whole.
"""

import argparse
import sys
import tempfile
import time
import timeit
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from harness.phases import MODEL, request_body

from collector.domain.price import list_cost
from collector.domain.record import AttemptRecord, CallRecord, Intent
from collector.domain.usage import Usage
from collector.export.prometheus import CallMetrics
from collector.journal import JournalWriter, decode_record, encoded, parse_frames
from collector.pricing.book import PriceBook
from inference.pool.choice import by_prefix, least
from inference.pool.ring import Ring
from sidecar.call import NOBODY, Call
from sidecar.http import Request
from sidecar.providers.pool_settings import PrefixConfig
from sidecar.providers.rendered import PrefixKeys
from sidecar.routes import route_of
from sidecar.stitching import Stitching
from sidecar.wire import ReplyFacts, RequestFacts, meter_for, read_request

API = "openai.chat"
PATH = "/v1/chat/completions"
CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1750000000,"model":"gpt-4o-mini",'
    b'"service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" word"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
REPLY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1750000000,"model":"gpt-4o-mini","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + b"A sidecar stands beside a service. " * 12 + b'"},'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":64,"completion_tokens":72,'
    b'"total_tokens":136,"prompt_tokens_details":{"cached_tokens":32}},"system_fingerprint":"fp"}'
)
NOW_US = 1_790_000_000_000_000


class Server(typing.NamedTuple):
    """A replica, as far as the choice looks at it."""

    index: int
    inflight: int
    load: int
    prefixes: frozenset[int]
    latency_s: float = 0.1
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Measure:
    """One function, and what it may cost."""

    name: str
    act: Callable[[], object]
    budget_us: float | None = None
    most_at_once: int | None = None
    """Calls in a row that the thing stands; real ones come with pauses."""
    rested: Callable[[], bool] | None = None
    """Whether it can take as many again."""


def filled(schema: type[Any], **given: object) -> Any:
    """A named tuple with ``given`` fields; the others hold nothing of their type."""
    empty = {int: 0, str: "", bool: False, list: [], dict: {}, tuple: ()}
    values = {}
    for name, hint in typing.get_type_hints(schema).items():
        origin = typing.get_origin(hint) or hint
        values[name] = given[name] if name in given else empty.get(origin)
    return schema(**values)


def a_record(**given: object) -> CallRecord:
    """A call that was served, with one attempt."""
    known: dict[str, object] = {
        "call_id": "01936b1e-9d7a-7c3e-8b1f-0123456789ab",
        "started_at_us": NOW_US,
        "duration_us": 812_345,
        "time_to_first_chunk_us": 212_345,
        "team": "search",
        "agent": "researcher",
        "user_id": "u-17",
        "conversation_id": "c-0123456789",
        "conversation_source": "header",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
        "gen_ai_span_id": "00f067aa0ba902b8",
        "api": API,
        "stream": True,
        "request_model": MODEL,
        "response_model": MODEL,
        "provider_name": "openai",
        "upstream": "openai",
        "outcome": "served",
        "http_status": 200,
        "input_tokens": 6400,
        "output_tokens": 72,
        "cache_read_input_tokens": 3200,
        "usage_grade": "reported",
        "price_grade": "listed",
        "list_cost_pico": 763_200_000,
        "effective_cost_pico": 763_200_000,
        "overhead_us": 143,
        "response_id": "chatcmpl-1",
        "finish_reasons": ["stop"],
        "server_address": "127.0.0.1",
        "server_port": 443,
        "request_attributes": {"gen_ai.request.temperature": 0.7, "gen_ai.request.max_tokens": 100},
    }
    shared = {name: value for name, value in known.items() if name in AttemptRecord._fields}
    attempt = filled(AttemptRecord, **shared, attempt=1)
    return typing.cast(CallRecord, filled(CallRecord, **{**known, **given}, attempts=(attempt,)))


def placing() -> tuple[Callable[[], object], Callable[[], object]]:
    """A call that begins a conversation as others did, and one that goes on from our reply, to their ends."""
    random = Random(1)
    ids = cycle([f"01936b1e-9d7a-7c3e-8b1f-{number:012}" for number in range(10_000)])
    marks = cycle([random.getrandbits(63) for _ in range(100_003)])
    reply = ReplyFacts()

    def a_call() -> tuple[Stitching, Call]:
        call = Call(Request("POST", PATH, "", []), None, route_of(PATH, frozenset()))  # type: ignore[arg-type]
        call.facts, call.reply_facts = read_request(API, request_body()), reply
        return Stitching(), call

    stitching, first = a_call()
    talk, next_one = a_call()
    assert next_one.facts is not None
    said = next_one.facts.message_hashes

    def begins() -> None:
        first.caller, first.call_id, reply.last_message_hash = NOBODY, next(ids), next(marks)
        stitching.place(first)
        stitching.settle(first)

    def goes_on() -> None:
        next_one.caller, next_one.call_id, reply.last_message_hash = NOBODY, next(ids), next(marks)
        talk.place(next_one)
        talk.settle(next_one)
        said.append(reply.last_message_hash)
        said.append(next(marks))

    return begins, goes_on


def measures(folder: Path) -> list[Measure]:
    """Every function that is timed."""
    small, large = request_body(), request_body(content_bytes=32_000)
    facts = read_request(API, request_body(stream=True))
    plain_facts = read_request(API, small)
    event_stream = [(b"content-type", b"text/event-stream")]
    streaming = meter_for(API, path="", status=200, headers=event_stream, request=facts, withhold_usage=False)
    streaming.feed(CHUNK)

    def a_whole_reply() -> object:
        meter = meter_for(
            API,
            path="",
            status=200,
            headers=[(b"content-type", b"application/json")],
            request=plain_facts,
            withhold_usage=False,
        )
        meter.feed(REPLY)
        meter.finish()
        return meter.facts()

    book = PriceBook.load()
    quote = book.quote("openai", MODEL, NOW_US)
    usage = Usage(input_tokens=6400, output_tokens=72, cache_read_input_tokens=3200)
    record = a_record()
    intent = filled(Intent, call_id=record.call_id, started_at_us=NOW_US, api=API, request_model=MODEL)
    metrics, wide = CallMetrics(), CallMetrics()
    for number in range(200):
        wide.observe(a_record(agent=f"agent-{number % 50}", team=f"team-{number // 50}"))
    journal = JournalWriter(folder / "journal", "bench")

    def synced() -> bool:
        return journal.unsynced_since is None and not journal.backlog

    prefix, large_facts = PrefixConfig(), read_request(API, large)
    # Tools behind the messages: all of a body has to be read to find them.
    with_tools = large[:-1] + b', "tools": [{"type": "function", "function": {"name": "look"}}]}'
    tools_facts, known_keys = read_request(API, with_tools), PrefixKeys(prefix)

    def key_of(body: bytes, facts: RequestFacts) -> int | None:
        return PrefixKeys(prefix).of(body, facts, "tenant")

    key = key_of(large, large_facts)
    assert key is not None
    ring = Ring([f"10.0.0.{number}:8000" for number in range(8)])
    known = frozenset([*range(2000), key])
    servers = [Server(number, number, number * 100, known) for number in range(8)]
    frame = encoded([record])
    payload = parse_frames(frame)[0][0].payload
    begins, goes_on = placing()
    return [
        Measure("read_request, 0.3 kB", lambda: read_request(API, small), 6),
        Measure("read_request, 36 kB", lambda: read_request(API, large), 60),
        Measure("Meter.feed, a streamed chunk", lambda: streaming.feed(CHUNK), 1),
        Measure("Meter, a whole reply of 0.8 kB", a_whole_reply),
        Measure("PriceBook.quote, warm", lambda: book.quote("openai", MODEL, NOW_US), 1),
        Measure("pool: the least loaded of 8", lambda: least(servers, 3), 5),
        Measure(
            "pool: by prefix, of 8",
            lambda: by_prefix(servers, ring, key, 500, load_factor=1.25, floor=4000),
            5,
        ),
        Measure(
            "pool: a new prefix, of 8",
            lambda: by_prefix(servers, ring, key + 1, 500, load_factor=1.25, floor=4000),
            5,
        ),
        Measure("pool: the place of 0.3 kB", lambda: key_of(small, plain_facts), 5),
        Measure("pool: the place of 36 kB", lambda: key_of(large, large_facts), 5),
        Measure("pool: the place of 36 kB with tools", lambda: key_of(with_tools, tools_facts)),
        Measure("pool: the same, seen before", lambda: known_keys.of(with_tools, tools_facts, "tenant"), 5),
        Measure("list_cost", lambda: list_cost(usage, quote.price)),
        Measure("CallMetrics.observe", lambda: metrics.observe(record), 4),
        Measure("CallMetrics.render, 200 label sets", wide.render, 2000),
        Measure("place, a new conversation", begins, 1.5),
        Measure("place, going on", goes_on, 1.5),
        # A disk takes its time over a sync; nothing but a benchmark writes without a pause.
        Measure("JournalWriter.intent", lambda: journal.intent(intent), None, 1000, synced),
        Measure("JournalWriter.record", lambda: journal.record(record), None, 1000, synced),
        Measure("decode_record", lambda: decode_record(payload)),
    ]


def cost_us(measure: Measure, seconds: float) -> float:
    """CPU microseconds of one call: the best of several repeats."""
    timer = timeit.Timer(measure.act, timer=time.thread_time)
    number = measure.most_at_once
    if number is None:
        found, took = timer.autorange()
        number = max(1, int(found * seconds / 5 / took))
    costs = []
    for _ in range(5):
        costs.append(1e6 * timer.timeit(number) / number)
        while measure.rested is not None and not measure.rested():
            time.sleep(0.01)
    return min(costs)


def main(words: Sequence[str] | None = None) -> int:
    """Print one line a function; 0 whatever the figures are."""
    parser = argparse.ArgumentParser(description="Time the functions that every call passes through.")
    parser.add_argument("--seconds", type=float, default=1.0, help="time spent on each")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        for measure in measures(Path(folder)):
            us = cost_us(measure, arguments.seconds)
            budget = f"≤ {measure.budget_us:g}" if measure.budget_us is not None else ""
            mark = "" if measure.budget_us is None else "pass" if us <= measure.budget_us else "MISSED"
            print(f"{measure.name:<36} {us:>10.2f} µs  {budget:>7}  {mark}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
