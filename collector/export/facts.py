"""A call told as spans, before they are put into any form: plain data from a plain record.

    SERVER  POST /v1/chat/completions      the call, as the agent saw it
      CLIENT  chat gpt-5-mini              one for each target tried; its retries stay inside
        CLIENT  POST                       one for each attempt

A call that no model was asked for (reused, refused) is its SERVER span alone. Sources:
OTel GenAI conventions v0.1.0, OTel HTTP conventions, and ``bursar.*`` for what neither
knows (cost, budgets, tenants).
"""

from collector.domain.names import OTHER_ERROR
from collector.domain.record import AttemptRecord, CallRecord, ConversationSource, Outcome
from collector.export.conventions import operation_of
from collector.export.inference_span import inference_span
from collector.export.span_data import (
    CLIENT,
    SERVER,
    Attributes,
    Cleaner,
    SpanFacts,
    derived_span_id,
    put_money,
    put_text,
)
from collector.export.targets import Target, error_of, host_and_port, targets_of

_MOST_TAGS = 16
_LONGEST_TAG_NAME = 64
_CLIENT_LEFT = 499
"""Our mark in the record, never a status on the wire."""


def span_facts(record: CallRecord, clean: Cleaner) -> list[SpanFacts]:
    """The spans of one call, parents first."""
    spans = [_server_span(record, clean)]
    for place, target in enumerate(targets_of(record)):
        provider, model = target.provider_name, target.request_model
        operation = operation_of(record.api, provider, model_known=bool(model))
        parent = record.span_id
        if operation:
            span = inference_span(record, target, operation, _inference_id(record, target, place), clean)
            spans.append(span)
            parent = span.span_id
        for resend, attempt in enumerate(target.attempts):
            spans.append(_attempt_span(record, attempt, resend, parent, clean))
    return spans


def _inference_id(record: CallRecord, target: Target, place: int) -> str:
    if target.final and record.gen_ai_span_id:
        return record.gen_ai_span_id
    return derived_span_id(record.call_id, "inference", place)


# The call


def _server_span(record: CallRecord, clean: Cleaner) -> SpanFacts:
    method = _method(record)
    path = clean[record.path]
    attributes: Attributes = {
        "http.request.method": method,
        "http.route": path,
        "url.scheme": "http",
        "bursar.call.id": record.call_id,
        "bursar.api": record.api,
        "bursar.outcome": str(record.outcome),
        "bursar.cache": str(record.cache),
        "bursar.overhead_s": record.overhead_us / 1e6,
    }
    if "{" not in path:
        attributes["url.path"] = path
    if record.http_status != _CLIENT_LEFT:
        attributes["http.response.status_code"] = record.http_status
    if record.client_address:
        attributes["client.address"] = record.client_address
    put_text(
        attributes,
        clean,
        {
            "user_agent.original": record.user_agent,
            "gen_ai.agent.name": record.agent,
            "bursar.tenant": record.tenant,
            "bursar.team": record.team,
            "bursar.user.id": record.user_id,
            "bursar.task.id": record.task_id,
            "bursar.key.id": record.key_id,
            "bursar.upstream": record.upstream,
            # A provider's own words may repeat the prompt; ours never do.
            "bursar.outcome_reason": "" if record.outcome == Outcome.FAILED else record.outcome_reason,
            "bursar.request.model": record.downgraded_from or record.request_model,
            "bursar.downgraded_from": record.downgraded_from,
        },
    )
    _put_conversation(attributes, record, clean)
    if record.upstream or record.effective_cost_pico or record.avoided_cost_pico:
        put_money(attributes, "effective", record.effective_cost_pico)
        if record.list_cost_pico != record.effective_cost_pico:
            put_money(attributes, "list", record.list_cost_pico)
    if record.avoided_cost_pico:
        put_money(attributes, "avoided", record.avoided_cost_pico)
    for name, value in list(record.tags.items())[:_MOST_TAGS]:
        attributes["bursar.tag." + clean[name][:_LONGEST_TAG_NAME]] = clean[value]
    error = _server_error(record)
    if error:
        attributes["error.type"] = error
    return SpanFacts(
        trace_id=record.trace_id,
        span_id=record.span_id,
        parent_span_id=record.parent_span_id,
        parent_is_remote=bool(record.parent_span_id),
        name=f"{method} {path}",
        kind=SERVER,
        start_ns=record.started_at_us * 1000,
        end_ns=(record.started_at_us + max(record.duration_us, 0)) * 1000,
        attributes=attributes,
        error_type=error,
    )


def _method(record: CallRecord) -> str:
    """Everything that asks a model is a POST; a pass-through call without a body reads something."""
    return "GET" if record.api == "raw" and not record.request_bytes else "POST"


def _server_error(record: CallRecord) -> str:
    """A server's span fails with a 5xx, or with a reply that broke after its status (HTTP conventions)."""
    if record.http_status >= 500:
        return record.error_type or str(record.http_status)
    if record.outcome == Outcome.FAILED and record.http_status < 400:
        return record.error_type or OTHER_ERROR
    return ""


def _put_conversation(attributes: Attributes, record: CallRecord, clean: Cleaner) -> None:
    """The conversation under the convention's name only if somebody told us of it."""
    if not record.conversation_id:
        return
    if record.conversation_source in (ConversationSource.STITCHED, ConversationSource.NONE):
        attributes["bursar.conversation.id"] = clean[record.conversation_id]
    else:
        attributes["gen_ai.conversation.id"] = clean[record.conversation_id]


# One attempt


def _attempt_span(
    record: CallRecord, attempt: AttemptRecord, resend: int, parent_span_id: str, clean: Cleaner
) -> SpanFacts:
    method = _method(record)
    address, port = host_and_port(attempt.replica)
    attributes: Attributes = {"http.request.method": method, "bursar.attempt": attempt.attempt}
    if address:
        attributes["server.address"] = clean[address]
    if port:
        attributes["server.port"] = port
    if attempt.http_status is not None:
        attributes["http.response.status_code"] = attempt.http_status
    if resend:
        attributes["http.request.resend_count"] = resend
    error = error_of(attempt.error_type, attempt.http_status)
    if error:
        attributes["error.type"] = error
    return SpanFacts(
        trace_id=record.trace_id,
        span_id=attempt.span_id or derived_span_id(record.call_id, "attempt", attempt.attempt),
        parent_span_id=parent_span_id,
        parent_is_remote=False,
        name=method,
        kind=CLIENT,
        start_ns=attempt.started_at_us * 1000,
        end_ns=(attempt.started_at_us + max(attempt.duration_us, 0)) * 1000,
        attributes=attributes,
        error_type=error,
    )
