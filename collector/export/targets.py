"""The (provider, model) pairs that one call tried: each is one inference, whatever it took to get an answer.

Retries of the same target belong to one inference; a fallback or a downgrade to
another model begins the next (OTel GenAI: a span covers the logical call with its
automatic retries).
"""

from operator import itemgetter
from typing import NamedTuple

from collector.domain.record import AttemptRecord, CallRecord


class Target(NamedTuple):
    """One provider and model that was asked, with every attempt at it in order."""

    provider_name: str
    request_model: str
    upstream: str
    replica: str
    """``host:port`` of the server, empty when unknown."""
    address: str
    port: int
    """0 when unknown."""
    started_at_us: int
    duration_us: int
    time_to_first_chunk_us: int | None
    """Since ``started_at_us``, so earlier tries count."""
    http_status: int | None
    error_type: str
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    cache_write_1h_input_tokens: int
    reasoning_output_tokens: int
    list_cost_pico: int
    effective_cost_pico: int
    usage_grade: str
    price_grade: str
    attempts: tuple[AttemptRecord, ...]
    final: bool
    """The target that the call's own response fields describe."""


_SUMMED = itemgetter(
    *map(
        AttemptRecord._fields.index,
        (
            *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens"),
            *("cache_write_1h_input_tokens", "reasoning_output_tokens"),
            *("list_cost_pico", "effective_cost_pico"),
        ),
    )
)
"""In the order of :class:`Target`."""


def targets_of(record: CallRecord) -> list[Target]:
    """The targets of a call, first to last; none when no model was asked."""
    if not record.attempts:
        return [_from_call(record)] if record.gen_ai_span_id else []
    groups: list[list[AttemptRecord]] = []
    for attempt in record.attempts:
        if groups and _same_target(groups[-1][-1], attempt):
            groups[-1].append(attempt)
        else:
            groups.append([attempt])
    last = len(groups) - 1
    return [_from_attempts(record, tuple(group), final=at == last) for at, group in enumerate(groups)]


def host_and_port(text: str) -> tuple[str, int]:
    """``host:port`` taken apart, ``[v6]:port`` included; port 0 when it names none."""
    host, colon, port = text.rpartition(":")
    bare_v6 = ":" in host and "]" not in host
    if not colon or bare_v6 or not port.isascii() or not port.isdigit() or len(port) > 5:
        return text.strip("[]"), 0
    return host.strip("[]"), int(port)


def error_of(error_type: str, http_status: int | None) -> str:
    """``error.type`` of an exchange: what is known of its failure, else an HTTP error status."""
    if error_type:
        return error_type
    return str(http_status) if http_status is not None and http_status >= 400 else ""


def _same_target(one: AttemptRecord, other: AttemptRecord) -> bool:
    return (
        one.request_model == other.request_model
        and one.upstream == other.upstream
        and one.provider_name == other.provider_name
    )


def _from_attempts(record: CallRecord, attempts: tuple[AttemptRecord, ...], *, final: bool) -> Target:
    first, last = attempts[0], attempts[-1]
    address, port = host_and_port(last.replica)
    if final and (not address or not port):
        address, port = record.server_address, record.server_port
    started_us = first.started_at_us
    first_chunk_us = last.time_to_first_chunk_us
    if first_chunk_us is not None:
        first_chunk_us += last.started_at_us - started_us
    sums = _SUMMED(last) if first is last else tuple(map(sum, zip(*map(_SUMMED, attempts), strict=True)))
    grades = [(a.usage_grade, a.price_grade) for a in attempts if a.usage_grade]
    usage_grade, price_grade = grades[-1] if grades else ("", "")
    return Target._make(
        (
            last.provider_name,
            last.request_model,
            last.upstream,
            f"{address}:{port}" if port else address,
            address,
            port,
            started_us,
            max(last.started_at_us + last.duration_us - started_us, 0),
            first_chunk_us,
            last.http_status,
            error_of(last.error_type, last.http_status),
            *sums,
            usage_grade,
            price_grade,
            attempts,
            final,
        )
    )


def _from_call(record: CallRecord) -> Target:
    """The one target of a call whose attempts are not known: it was booked from its intent."""
    return Target(
        provider_name=record.provider_name,
        request_model=record.request_model,
        upstream=record.upstream,
        replica=f"{record.server_address}:{record.server_port}"
        if record.server_port
        else record.server_address,
        address=record.server_address,
        port=record.server_port,
        started_at_us=record.started_at_us,
        duration_us=record.duration_us,
        time_to_first_chunk_us=record.time_to_first_chunk_us,
        http_status=None,
        error_type=record.error_type,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cache_read_input_tokens=record.cache_read_input_tokens,
        cache_write_input_tokens=record.cache_write_input_tokens,
        cache_write_1h_input_tokens=record.cache_write_1h_input_tokens,
        reasoning_output_tokens=record.reasoning_output_tokens,
        usage_grade=record.usage_grade,
        price_grade=record.price_grade,
        list_cost_pico=record.list_cost_pico,
        effective_cost_pico=record.effective_cost_pico,
        attempts=(),
        final=True,
    )
