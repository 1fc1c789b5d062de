# ruff: noqa: S608  (all of it is our own; values are bound)
"""Calls of the ledger as the rules take them, a conversation at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from collector.domain.price import TokenPrice
from collector.domain.turns import Rates, Turn
from collector.judging.noticing import Due, Key
from collector.store.duckdb import Connection

PriceOf = Callable[[str, str, int, str], TokenPrice]
"""Provider, model, instant and region to list prices."""

MOST_CALLS: Final = 2_000
"""Of one conversation, the newest."""

_PICO = "CAST({} * 1000000000000 AS HUGEINT)"
_COLUMNS: Final = f"""
    tenant, conversation_id, call_id, epoch_us(started_at), duration_ms, agent, request_model,
    response_model, provider_name, upstream, outcome, outcome_reason, error_type, downgraded_from,
    finish_reasons, {_PICO.format("effective_cost_usd")}, {_PICO.format("list_cost_usd")}, attempt_count,
    input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens,
    cache_write_1h_input_tokens, reasoning_output_tokens, message_hashes, last_message_hash,
    tool_call_hashes, input_role, input_hash, tool_errors, tools_hash, system_hash, region, tool_names"""
_CALLS: Final = f"""
    SELECT {_COLUMNS} FROM calls
    WHERE started_at >= make_timestamp($1)
        AND (conversation_id IN (SELECT unnest($2))
            OR (conversation_id = '' AND call_id IN (SELECT unnest($2))))
    QUALIFY row_number() OVER (PARTITION BY tenant, conversation_id ORDER BY started_at DESC) <= {MOST_CALLS}
        OR conversation_id = ''
    ORDER BY tenant, conversation_id, started_at, call_id"""
_FAILED: Final = f"""
    SELECT call_id, {_PICO.format("sum(effective_cost_usd)")} FROM attempts
    WHERE started_at >= make_timestamp($1) AND error_type <> '' AND call_id IN (SELECT unnest($2))
    GROUP BY call_id"""
_MARGIN_US: Final = 60_000_000


class Conversation:
    """The calls of one conversation, oldest first, and who they are for."""

    __slots__ = ("key", "tools", "turns")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.turns: list[Turn] = []
        self.tools: dict[str, list[str]] = {}
        """Names of the tools that calls asked for."""


def conversations(connection: Connection, due: Sequence[Due], price_of: PriceOf) -> Iterator[Conversation]:
    """Read the calls of conversations that are due."""
    wanted = {one.key for one in due}
    since = min(one.since_us for one in due) - _MARGIN_US
    rows = connection.execute(_CALLS, [since, [name for _, name in wanted]]).fetchall()
    retried = [row[2] for row in rows if (row[17] or 0) > 1]
    failed: dict[str, int] = {}
    if retried:
        failed = dict(connection.execute(_FAILED, [since, retried]).fetchall())
    current: Conversation | None = None
    for row in rows:
        key = (row[0] or "", row[1] or row[2])
        if key not in wanted:
            continue
        if current is None or key != current.key:
            if current is not None:
                yield current
            current = Conversation(key)
        current.turns.append(turn_of(row, int(failed.get(row[2], 0)), price_of))
        if row[-1]:
            current.tools[row[2]] = row[-1]
    if current is not None:
        yield current


def turn_of(row: Sequence[Any], failed_pico: int, price_of: PriceOf) -> Turn:
    """One call."""
    (
        _, _, call_id, started, duration, agent, model, answered, provider, upstream, outcome, reason, error,
        downgraded, finish, cost, listed, attempts, given, made, read, written, written_1h, thought, hashes,
        reply, calls, role, said, errors, tools, system, region, _,
    ) = row  # fmt: skip
    price = price_of(provider or "", answered or model or "", started, region or "") if cost else None
    rates = Rates()
    if price is not None:
        rates = Rates(price.input, price.output, price.cache_read, price.cache_write)
    return Turn(
        call_id=call_id,
        started_us=started,
        ended_us=started + int((duration or 0) * 1000),
        agent=agent or "",
        # What is asked of a provider: the ledger has the model that was asked of us beside it.
        model=model or "",
        upstream=upstream or "",
        outcome=outcome or "",
        reason=reason or "",
        error_type=error or "",
        downgraded_from=downgraded or "",
        finish=finish[0] if finish else "",
        cost_pico=int(cost or 0),
        list_pico=int(listed or 0),
        failed_pico=failed_pico if attempts and outcome == "served" else 0,
        input_tokens=given or 0,
        output_tokens=made or 0,
        cache_read_tokens=read or 0,
        cache_write_tokens=written or 0,
        cache_write_1h_tokens=written_1h or 0,
        reasoning_tokens=thought or 0,
        hashes=hashes or (),
        reply_hash=reply or 0,
        calls=calls or (),
        role=role or "",
        said=said or 0,
        errors=errors or 0,
        tools=tools or 0,
        system=system or 0,
        rates=rates,
    )
