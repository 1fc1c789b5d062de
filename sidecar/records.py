"""The record of a call: everything the ledger will know of it, as one tuple."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from collector.domain.record import AttemptRecord, CallRecord, Charges
from collector.domain.usage import NOTHING, Usage
from collector.pricing.book import Quote
from sidecar.call import Attempt, Call
from sidecar.http import Request
from sidecar.native import native
from sidecar.routes import Route
from sidecar.wire import ReplyFacts, RequestFacts

_NO_FACTS: Final = RequestFacts("", "")
_NO_REPLY: Final = ReplyFacts()
_NO_CHARGES: Final[Charges] = {}
_tuple: Final = tuple.__new__


def record_of(call: Call, status: int, response_bytes: int, now_ns: int, capture_bytes: int) -> CallRecord:
    """Everything the ledger will know of ``call``."""
    record = _record(call, status, response_bytes, now_ns) if _record is not None else None
    return record or record_in_python(call, status, response_bytes, now_ns, capture_bytes)


def record_in_python(
    call: Call, status: int, response_bytes: int, now_ns: int, capture_bytes: int
) -> CallRecord:
    """As :func:`record_of`, for any call."""
    facts, reply, request = call.facts or _NO_FACTS, call.reply_facts or _NO_REPLY, call.request
    caller, route, reuse, tried = call.caller, call.route, call.reuse, call.attempts
    tenant, team, user, agent, conversation, source, task, tags, key_id, _, capture, _ = caller
    usage, grade, price_grade, price_version, region = NOTHING, "", "", "", ""
    charges = _NO_CHARGES
    provider, upstream, replica, model_span = "", route.upstream, "", ""
    first: int | None = None
    list_pico = cost_pico = avoided_pico = 0
    waited_ns = call.paused_ns
    if tried:
        last = tried[-1]
        provider, upstream, replica, model_span = (
            last.provider,
            last.upstream,
            last.replica,
            call.gen_ai_span_id,
        )
        if last.first_chunk_ns:
            first = (last.first_chunk_ns - call.started_ns) // 1000
        # Where the last attempt used nothing, an earlier one that did says what the call's costs are for.
        graded = last if last.grade else next((one for one in tried[::-1] if one.grade), last)
        usage, grade = graded.usage, graded.grade
        price_grade, price_version = graded.price_grade, graded.price_version
        region, charges = graded.quote.region, graded.charges
        if len(tried) > 1:
            charges = together([attempt.charges for attempt in tried])
    for attempt in tried:
        list_pico += attempt.list_pico
        cost_pico += attempt.cost_pico
        if attempt.sent_ns:
            waited_ns += attempt.ended_ns - attempt.sent_ns
    if reuse is not None:
        avoided_pico = reuse.avoided_pico
        waited_ns += reuse.waited_ns
    duration_ns = now_ns - call.started_ns
    server, port = address_of(replica)
    user_agent = request.header(b"user-agent")
    return _tuple(
        CallRecord,
        (
            call.call_id,
            call.started_at_us,
            duration_ns // 1000,
            first,
            tenant,
            team,
            user,
            agent,
            conversation,
            source,
            task,
            tags,
            key_id,
            call.trace_id,
            call.span_id,
            call.parent_span_id,
            model_span,
            call.api,
            facts.stream,
            facts.model,
            reply.response_model,
            provider,
            upstream,
            call.outcome,
            call.outcome_reason,
            status,
            call.error_type,
            call.cache,
            call.downgraded_from,
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_input_tokens,
            usage.cache_write_input_tokens,
            usage.cache_write_1h_input_tokens,
            usage.reasoning_output_tokens,
            usage.audio_input_tokens,
            usage.audio_output_tokens,
            grade,
            price_grade,
            price_version,
            list_pico,
            cost_pico,
            avoided_pico,
            reply.provider_cost_pico,
            max(0, duration_ns - waited_ns) // 1000,
            reply.response_id,
            reply.finish_reasons,
            reply.tool_names,
            len(request.body),
            response_bytes,
            reply.chunks if facts.stream else 0,
            route.template,
            server,
            port,
            request.client_address,
            user_agent[:200].decode("latin-1") if user_agent else "",
            facts.attributes,
            response_attributes(reply),
            facts.message_hashes,
            reply.last_message_hash,
            captured(call, capture_bytes) if capture else None,
            tuple([attempt_record(number, attempt) for number, attempt in enumerate(tried, 1)]),
            reply.tool_call_hashes,
            facts.input_role,
            facts.input_hash,
            facts.tool_errors,
            facts.tools_hash,
            facts.system_hash,
            usage.image_input_tokens,
            usage.image_output_tokens,
            region,
            charges,
        ),
    )


def together(charges: Sequence[Charges]) -> Charges:
    """The charges of several attempts as those of one call."""
    sums: Charges = {}
    for of_one in charges:
        for name, (quantity, listed, owed) in of_one.items():
            before = sums.get(name, (0, 0, 0))
            sums[name] = (before[0] + quantity, before[1] + listed, before[2] + owed)
    return sums


@lru_cache(maxsize=1024)
def address_of(replica: str) -> tuple[str, int]:
    """Host and port of ``host:port``; neither for no replica."""
    server, _, port = replica.rpartition(":")
    return server, int(port or 0)


def _in_c() -> Callable[[Call, int, int, int], CallRecord | None] | None:
    """The record of most calls in C, which is told of what it is made."""
    if native is None:
        return None
    native.records_of(
        (CallRecord, AttemptRecord, Call, Request, Route, RequestFacts, ReplyFacts, Attempt, Quote, Usage),
        address_of,
    )
    in_c: Callable[[Call, int, int, int], CallRecord | None] = native.record
    return in_c


_record: Final = _in_c()


def attempt_record(number: int, attempt: Attempt) -> AttemptRecord:
    """The record of one attempt."""
    usage, started_ns, first_ns = attempt.usage, attempt.started_ns, attempt.first_chunk_ns
    return _tuple(
        AttemptRecord,
        (
            number,
            attempt.upstream,
            attempt.replica,
            attempt.provider,
            attempt.model,
            attempt.span_id,
            attempt.started_at_us,
            (attempt.ended_ns - started_ns) // 1000,
            (first_ns - started_ns) // 1000 if first_ns else None,
            attempt.status,
            attempt.error_type,
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_input_tokens,
            usage.cache_write_input_tokens,
            usage.cache_write_1h_input_tokens,
            usage.reasoning_output_tokens,
            attempt.grade,
            attempt.price_grade,
            attempt.price_version,
            attempt.list_pico,
            attempt.cost_pico,
            None,
            None,
            attempt.quote.region,
            attempt.charges,
        ),
    )


def response_attributes(reply: ReplyFacts) -> dict[str, object]:
    """What the GenAI span says of the reply besides its usage."""
    tier, fingerprint = reply.service_tier, reply.system_fingerprint
    found: dict[str, object] = {}
    if tier:
        found["service_tier"] = tier
    if fingerprint:
        found["system_fingerprint"] = fingerprint
    return found


def captured(call: Call, limit: int) -> dict[str, str]:
    """Prompt and answer as they went over the wire, cut at ``limit`` bytes; for keys that opted in."""
    found = {"input": call.request.body[:limit].decode("utf-8", "replace")}
    if call.captured_output:
        found["output"] = bytes(call.captured_output[:limit]).decode("utf-8", "replace")
    return found
