# ruff: noqa: S608  (all of it is our own; values are bound)
"""Calls of the ledger as the rules take them, a conversation at a time."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import pyarrow as pa

from collector.domain.price import TokenPrice
from collector.domain.turns import Rates, Turn
from collector.judging.alone import Finding, Kind, finding, may_be_partly_wasted
from collector.judging.noticing import Due, Key
from collector.store.duckdb import Connection

PriceOf = Callable[[str, str, int, str], TokenPrice]
"""Provider, model, instant and region to list prices."""

WHO: Final = (
    "tenant, team, user_id, agent, conversation_id, task_id, request_model, upstream, api, key_id, tags"
)
"""Whose a call is, in the words of each table of what is found."""
MOST_CALLS: Final = 2_000
"""Of one conversation, the newest."""
_MARGIN_US: Final = 60_000_000
_AT_ONCE: Final = 4096
"""Calls that are objects at a time."""
_MINUTE_US: Final = 60_000_000
"""No price changes within a minute."""
_NO_RATES: Final = Rates()


def since_of(due: Sequence[Due]) -> int:
    """When the first call that is read of ``due`` can have started."""
    return min(one.since_us for one in due) - _MARGIN_US


# ---- conversations of one call ------------------------------------------------------------


class Alone(NamedTuple):
    """Calls that stand alone, with what is to be said of them."""

    rows: pa.Table
    """Where the ``steps`` of one are null, nothing is said of it: it has to be looked at by itself."""
    judged: list[Due]
    rest: list[Due]
    """What has to be looked at otherwise."""
    said_before: list[str]
    """Calls of which something may have been said before."""


_ENDED: Final = "epoch_us(started_at) + CAST(trunc(coalesce(duration_ms, 0) * 1000) AS BIGINT)"
_WRITTEN: Final = (
    "started_at", "call_id", *WHO.split(", "), "trace_id", "ended_at", "cost_usd",
    "input_tokens", "output_tokens", "cache_read_input_tokens",
)  # fmt: skip
_ALONE: Final = f"""
    SELECT started_at, call_id, {WHO}, trace_id, make_timestamp({_ENDED}) AS ended_at,
        coalesce(effective_cost_usd, CAST(0 AS DECIMAL(18,12))) AS cost_usd,
        coalesce(input_tokens, 0) AS input_tokens, coalesce(output_tokens, 0) AS output_tokens,
        coalesce(cache_read_input_tokens, 0) AS cache_read_input_tokens,
        outcome, outcome_reason AS reason, error_type, input_role AS role, input_hash <> 0 AS said,
        message_hashes[-1] <> 0 AS known, effective_cost_usd > 0 AS costs, attempt_count AS attempts,
        reasoning_output_tokens AS reasoning, len(tool_call_hashes) + len(tool_names) + tool_errors AS tools
    FROM calls WHERE started_at >= make_timestamp($1) AND """
_OF_CONVERSATIONS: Final = "conversation_id IN (SELECT name FROM staged_due)"
_WITHOUT_ONE: Final = "call_id IN (SELECT name FROM staged_due) AND conversation_id = ''"
_LOOKED_AT: Final = (
    "call_id", "attempts", "reasoning", "input_tokens", "tools", "tenant", "conversation_id",
)  # fmt: skip
_OF_KIND: Final = Kind._fields[:-2]


def alone(connection: Connection, due: Sequence[Due], failed: Collection[str]) -> Alone:
    """Of what is due, what is one call that its kind is enough to judge by.

    Args:
        connection: of a reader.
        due: conversations of which one call was heard of.
        failed: calls whose task is known to have failed.
    """
    since = since_of(due)
    tables = []
    for nameless, where in ((False, _OF_CONVERSATIONS), (True, _WITHOUT_ONE)):
        names = [key[2] or key[1] for key, *_ in due if bool(key[2]) is nameless]
        if names:
            connection.register("staged_due", pa.table({"name": names}))
            tables.append(connection.execute(_ALONE + where, [since]).to_arrow_table())
            connection.unregister("staged_due")
    return _found(pa.concat_tables(tables), due, failed)


def _found(read: pa.Table, due: Sequence[Due], failed: Collection[str]) -> Alone:
    """What is to be said of calls that were read; see `alone`."""
    call_ids, attempts, reasoning, given, tools, tenants, conversations, *of_kind = (
        read.column(name).to_pylist() for name in (*_LOOKED_AT, *_OF_KIND)
    )
    keys: list[Key] = [
        (tenant or "", conversation or "", "" if conversation else call_id)
        for tenant, conversation, call_id in zip(tenants, conversations, call_ids, strict=True)
    ]
    several = _twice(keys)
    waiting = {one.key: one for one in due}
    kinds = _Kinds()
    chosen: list[int | None] = []
    because: list[list[str]] = []
    judged: list[Due] = []
    for key, call_id, kind, tried, thought, said, asked in zip(
        keys, call_ids, zip(*of_kind, strict=True), attempts, reasoning, given, tools, strict=True
    ):
        one = waiting.get(key)
        place, evidence = None, _NO_TEXTS
        if one is not None and call_id == one.call_id and asked == 0 and key not in several:
            repeats = one.repeats
            place = kinds.place((*kind, call_id in repeats, call_id in failed))
            if place is not None:
                told = kinds.findings[place]
                if told.has_evidence:
                    evidence = [repeats[repeats.index(call_id) + 1]]
                elif told.may_be_in_part and may_be_partly_wasted(tried or 0, thought or 0, said):
                    place = None
            if place is not None:
                judged.append(one)
        chosen.append(place)
        because.append(evidence)
    numbers = pa.array(chosen, pa.int32())
    said_of_kinds = [
        pa.DictionaryArray.from_arrays(
            numbers, pa.array([getattr(told, name) for told in kinds.findings], of_type)
        )
        for name, of_type in _SAID.items()
    ]
    columns = [*read.select(_WRITTEN).columns, pa.array(because, _TEXTS), *said_of_kinds]
    done = {one.key for one in judged} if len(judged) < len(due) else waiting
    return Alone(
        rows=pa.Table.from_arrays(columns, schema=ALONE_LAYOUT),
        judged=judged,
        rest=[one for one in due if one.key not in done],
        said_before=[one.call_id for one in judged if not one.fresh],
    )


class _Kinds:
    """What was found of some kinds of calls."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._places: dict[tuple[Any, ...], int | None] = {}

    def place(self, kind: tuple[Any, ...]) -> int | None:
        """Where among the findings that of ``kind`` stands; None where there is none."""
        if kind in self._places:
            return self._places[kind]
        outcome, reason, error_type, role, *facts = kind
        told = finding(Kind(outcome or "", reason or "", error_type or "", role or "", *map(bool, facts)))
        place = None if told is None else len(self.findings)
        if told is not None:
            self.findings.append(told)
        self._places[kind] = place
        return place


def _twice(keys: Sequence[Key]) -> set[Key]:
    if len(set(keys)) == len(keys):
        return set()
    return {key for key, calls in Counter(keys).items() if calls > 1}


_SAID: Final = {
    "waste": pa.string(),
    "detail": pa.string(),
    "signal": pa.string(),
    "steps": pa.int64(),
    "turns": pa.int64(),
}
"""What a kind has said of it: few values for many calls."""
_TEXTS: Final = pa.list_(pa.string())
_NO_TEXTS: Final[list[str]] = []
_INSTANT: Final = pa.timestamp("us")
_TYPES: Final = {
    "started_at": _INSTANT,
    "ended_at": _INSTANT,
    "tags": pa.map_(pa.string(), pa.string()),
    "cost_usd": pa.decimal128(18, 12),
    **dict.fromkeys(("input_tokens", "output_tokens", "cache_read_input_tokens"), pa.int64()),
}
ALONE_LAYOUT: Final = pa.schema(
    [
        *(pa.field(name, _TYPES.get(name, pa.string())) for name in _WRITTEN),
        pa.field("because", _TEXTS),
        *(pa.field(name, pa.dictionary(pa.int32(), of_type)) for name, of_type in _SAID.items()),
    ]
)


# ---- conversations of any number ----------------------------------------------------------


class Conversation:
    """The calls of one conversation, oldest first, and who they are for."""

    __slots__ = ("key", "tools", "turns")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.turns: list[Turn] = []
        self.tools: dict[str, list[str]] = {}
        """Names of the tools that calls asked for."""


_PICO = "CAST({} * 1000000000000 AS BIGINT)"
_TURN: Final = {
    "call_id": "call_id",
    "started_us": "epoch_us(started_at)",
    "ended_us": _ENDED,
    "agent": "coalesce(agent, '')",
    # What is asked of a provider: the ledger has the model that was asked of us beside it.
    "model": "coalesce(request_model, '')",
    "upstream": "coalesce(upstream, '')",
    "outcome": "coalesce(outcome, '')",
    "reason": "coalesce(outcome_reason, '')",
    "error_type": "coalesce(error_type, '')",
    "downgraded_from": "coalesce(downgraded_from, '')",
    "finish": "coalesce(finish_reasons[1], '')",
    "cost_pico": f"coalesce({_PICO.format('effective_cost_usd')}, 0)",
    "list_pico": f"coalesce({_PICO.format('list_cost_usd')}, 0)",
    "failed_pico": "coalesce(attempt_count, 0)",
    "input_tokens": "coalesce(input_tokens, 0)",
    "output_tokens": "coalesce(output_tokens, 0)",
    "cache_read_tokens": "coalesce(cache_read_input_tokens, 0)",
    "cache_write_tokens": "coalesce(cache_write_input_tokens, 0)",
    "cache_write_1h_tokens": "coalesce(cache_write_1h_input_tokens, 0)",
    "reasoning_tokens": "coalesce(reasoning_output_tokens, 0)",
    "hashes": "coalesce(message_hashes, [])",
    "reply_hash": "coalesce(last_message_hash, 0)",
    "calls": "coalesce(tool_call_hashes, [])",
    "role": "coalesce(input_role, '')",
    "said": "coalesce(input_hash, 0)",
    "errors": "coalesce(tool_errors, 0)",
    "tools": "coalesce(tools_hash, 0)",
    "system": "coalesce(system_hash, 0)",
    "rates": "coalesce(nullif(response_model, ''), request_model, '')",
}
"""By field of a turn, from the columns of a call; of `failed_pico` and `rates`, what they are found by."""
_CALLS: Final = f"""
    WITH mine AS MATERIALIZED (
        SELECT rowid AS place FROM calls
        WHERE started_at >= make_timestamp($1) AND {_OF_CONVERSATIONS}
        QUALIFY row_number() OVER (PARTITION BY tenant, conversation_id ORDER BY started_at DESC)
            <= {MOST_CALLS}
        UNION ALL
        SELECT rowid FROM calls WHERE started_at >= make_timestamp($1)
            AND call_id IN (SELECT name FROM staged_nameless) AND conversation_id = ''
    )
    SELECT coalesce(tenant, ''), coalesce(conversation_id, ''), coalesce(provider_name, ''),
        coalesce(region, ''), tool_names, {", ".join(_TURN.values())}
    FROM calls WHERE started_at >= make_timestamp($1) AND rowid IN (SELECT place FROM mine)
    ORDER BY tenant, conversation_id, started_at, call_id"""
_FAILED: Final = f"""
    SELECT call_id, {_PICO.format("sum(effective_cost_usd)")} FROM attempts
    WHERE started_at >= make_timestamp($1) AND error_type <> '' AND call_id IN (
        SELECT call_id FROM calls WHERE started_at >= make_timestamp($1) AND attempt_count > 1 AND (
            {_OF_CONVERSATIONS} OR call_id IN (SELECT name FROM staged_nameless)))
    GROUP BY call_id"""
_OUTCOME, _COST, _TRIES, _MODEL = (
    list(_TURN).index(name) for name in ("outcome", "cost_pico", "failed_pico", "rates")
)
_turn_of: Final = partial(tuple.__new__, Turn)
"""A named tuple's own way takes three times as long."""


def conversations(connection: Connection, due: Sequence[Due], price_of: PriceOf) -> Iterator[Conversation]:
    """Read the calls of conversations that are due, a few thousand at a time."""
    wanted = {one.key for one in due}
    since = [since_of(due)]
    for view, names in (
        ("staged_due", [name for _, name, call_id in wanted if not call_id]),
        ("staged_nameless", [call_id for _, _, call_id in wanted if call_id]),
    ):
        connection.register(view, pa.table({"name": pa.array(names, pa.string())}))
    rates = _RatesOf(price_of)
    failed: dict[str, int] = dict(connection.execute(_FAILED, since).fetchall())
    current: Conversation | None = None
    read: Any = connection.execute(_CALLS, since).to_arrow_reader(_AT_ONCE)
    for part in read:
        tenants, names, providers, regions, tools, *fields = (column.to_pylist() for column in part.columns)
        fields[_MODEL] = list(map(rates.of, providers, fields[_MODEL], fields[1], regions, fields[_COST]))
        fields[_TRIES] = [
            failed.get(call_id, 0) if tries and outcome == "served" else 0
            for call_id, tries, outcome in zip(fields[0], fields[_TRIES], fields[_OUTCOME], strict=True)
        ]
        turns = map(_turn_of, zip(*fields, strict=True))
        for tenant, name, asked, turn in zip(tenants, names, tools, turns, strict=True):
            key = (tenant, name, "" if name else turn.call_id)
            if current is None or key != current.key:
                if current is not None and current.turns:
                    yield current
                current = Conversation(key)
            if key in wanted:
                current.turns.append(turn)
                if asked:
                    current.tools[turn.call_id] = asked
    if current is not None and current.turns:
        yield current


class _RatesOf:
    """List prices of calls, each asked for once."""

    def __init__(self, price_of: PriceOf) -> None:
        self._price_of = price_of
        self._known: dict[tuple[str, str, str, int], Rates] = {}

    def of(self, provider: str, model: str, at_us: int, region: str, cost_pico: int) -> Rates:
        """Of one call; none where it cost nothing."""
        if not cost_pico:
            return _NO_RATES
        asked = (provider, model, region, at_us // _MINUTE_US)
        rates = self._known.get(asked)
        if rates is None:
            price = self._price_of(provider, model, at_us, region)
            rates = Rates(price.input, price.output, price.cache_read, price.cache_write)
            self._known[asked] = rates
        return rates
