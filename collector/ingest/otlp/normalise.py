"""From a span as some library made it to a row of ours; see `vocabulary` for what is what."""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from collector.domain.names import OTHER_ERROR
from collector.ingest.otlp.vocabulary import (
    COLUMNS,
    DETAIL_SPAN,
    ENTITY,
    ENTITY_COLUMN,
    FIRST_CHUNK_EVENTS,
    FIRST_CHUNK_MS,
    KEPT,
    MCP_CALL,
    OPERATIONS,
    PROVIDERS,
    ROLES,
    SERVER_SPAN,
    Kind,
)

_MOST_CHARS: Final = 256
_MOST_COUNT: Final = 1 << 50
_MOST_WORDS: Final = 16

SPAN_KINDS: Final = ("INTERNAL", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUS: Final = ("UNSET", "OK", "ERROR")
_FAILED: Final = 2
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_DAY_US: Final = 86_400_000_000

IDENTITY: Final = (
    *("trace_id", "span_id", "parent_span_id", "name", "kind", "service", "started_at_us", "duration_us"),
    *("status", "error_type", "producer", "role"),
)
"""What every span has, before the columns of the vocabulary."""
ROW: Final = (*IDENTITY, *(column.name for column in COLUMNS), "attributes")
"""The fields of a row."""

_ROLE: Final = IDENTITY.index("role")
CONVERSATION: Final = ROW.index("conversation_id")
_BASE: Final = len(IDENTITY)
_AT: Final = {column.name: _BASE + number for number, column in enumerate(COLUMNS)}
_OPERATION, _PROVIDER, _FIRST = _AT["operation"], _AT["provider_name"], _AT["time_to_first_chunk_ms"]
_INPUT, _OUTPUT, _AGENT = _AT["input_tokens"], _AT["output_tokens"], _AT["agent"]
_TOOL: Final = _AT["tool"]
_READ, _WRITE = _AT["cache_read_input_tokens"], _AT["cache_write_input_tokens"]
_REASONING, _COST = _AT["reasoning_output_tokens"], _AT["foreign_cost_usd"]
_TOKENS: Final = (_INPUT, _OUTPUT, _READ, _WRITE, _REASONING, _COST)
_BLANK: Final[list[Any]] = [
    *("" for _ in IDENTITY),
    *("" if column.kind is Kind.TEXT else None for column in COLUMNS),
    "{}",
]
_UNRANKED: Final = [100] * len(_BLANK)
_ASIDE: Final = -1

_encode: Final = msgspec.json.Encoder().encode

Fact = tuple[int, Any, Any]
"""What an attribute says: the place in the row, how good a source it is, and the value; or
`_ASIDE`, the attribute's name, and the value. `NOTHING` where nobody wants it."""
NOTHING: Final[Fact] = (_ASIDE, "", None)


class Plan(NamedTuple):
    """What is done with an attribute."""

    place: int
    """In the row; `_ASIDE` for one that is kept beside the columns."""
    rank: Any
    """How good a source it is, 0 the best; its name where it is kept aside."""
    coerce: Callable[[Any], Any]
    repeats: bool
    """Its values come again and again, so that they are worth remembering."""


# -- coercions: the value as the column holds it, None when it cannot be


def _text(value: Any) -> str | None:
    if value.__class__ is str:
        return value[:_MOST_CHARS] or None
    if value is None or isinstance(value, list | dict):
        return None
    return str(value)[:_MOST_CHARS]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _count(value: Any) -> int | None:
    if value.__class__ is int:
        return value if 0 <= value <= _MOST_COUNT else None
    number = _number(value)
    return int(number) if number is not None and number <= _MOST_COUNT else None


def _milliseconds(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else number * 1000


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())


def _words(value: Any) -> list[str] | None:
    if isinstance(value, str):
        if not value.startswith("["):
            return [value[:_MOST_CHARS]] if value else None
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if not isinstance(value, list):
        return None
    return [str(word)[:_MOST_CHARS] for word in value[:_MOST_WORDS] if word is not None] or None


_COERCE: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.TEXT: _text,
    Kind.COUNT: _count,
    Kind.SECONDS: _milliseconds,
    Kind.MILLISECONDS: _number,
    Kind.USD: _number,
    Kind.FLAG: _flag,
    Kind.WORDS: _words,
}


def _scalar(value: Any) -> Any:
    """As it came, if it is short and simple."""
    if isinstance(value, str):
        return value[:_MOST_CHARS]
    return None if isinstance(value, list | dict) else value


_PLANS: Final = {
    source: Plan(
        _AT[column.name],
        rank,
        _COERCE[column.kind],
        column.kind in (Kind.TEXT, Kind.FLAG, Kind.WORDS) and not column.name.endswith("_id"),
    )
    for column in COLUMNS
    for rank, source in enumerate(column.sources)
}
_PLANS[FIRST_CHUNK_MS] = Plan(_FIRST, 99, _COERCE[Kind.MILLISECONDS], False)
for _key in (*KEPT, ENTITY, "service.name", "error.type", "exception.type"):
    _PLANS.setdefault(_key, Plan(_ASIDE, _key, _scalar, not _key.endswith(("id", "e2e"))))


def plan_of(key: str) -> Plan | None:
    """What is done with the attribute ``key``; None when nobody wants it."""
    return _PLANS.get(key)


def fact_of(plan: Plan, value: Any) -> Fact:
    """What an attribute with ``value`` says."""
    fitting = plan.coerce(value)
    return NOTHING if fitting is None else (plan.place, plan.rank, fitting)


class Spans:
    """Rows made of the spans of one request.

    Args:
        now_us: when it was received.
    """

    def __init__(self, now_us: int | None = None) -> None:
        self.rows: list[list[Any]] = []
        """Fields in the order of `ROW`."""
        self.rejected = 0
        """Spans without a trace id or a span id."""
        self.evaluations: list[tuple[list[Any], int, dict[str, Any]]] = []
        """Of each evaluation among the events of spans: the span's row, when (ns), and what it says."""
        self._now_us = time.time_ns() // 1000 if now_us is None else now_us
        self._latest_us = self._now_us + _DAY_US
        self._service = self._producer = ""

    def resource(self, facts: Iterable[Fact]) -> None:
        """Who the spans that follow come from."""
        self._service = next((str(value) for _, name, value in facts if name == "service.name"), "")

    def scope(self, name: str) -> None:
        """Which library made the spans that follow."""
        self._producer = name[:_MOST_CHARS]

    def add(
        self,
        trace_id: bytes,
        span_id: bytes,
        parent_id: bytes,
        name: str,
        kind: int,
        started_ns: int,
        ended_ns: int,
        status: int,
        facts: Iterable[Fact],
        events: Sequence[tuple[str, int, str]],
        evaluations: Sequence[tuple[int, dict[str, Any]]] = (),
    ) -> None:
        """One span; events as (name, time in ns, type of the exception), evaluations as (ns, said)."""
        if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
            self.rejected += 1
            return
        row = _BLANK.copy()
        ranks = _UNRANKED.copy()
        aside: dict[str, Any] = {}
        for place, rank, value in facts:
            if place < 0:
                aside[rank] = value
            elif rank < ranks[place]:
                row[place] = value
                ranks[place] = rank
        started = started_ns // 1000
        if not 0 < started < self._latest_us:
            started = self._now_us
        error = aside.pop("error.type", "")
        for event, at_ns, exception in events:
            error = error or exception
            if event in FIRST_CHUNK_EVENTS and row[_FIRST] is None and at_ns >= started_ns:
                row[_FIRST] = (at_ns - started_ns) / 1e6
        if status == _FAILED and not error:
            error = OTHER_ERROR
        row[:_ROLE] = (
            trace_id.hex(),
            span_id.hex(),
            parent_id.hex() if parent_id and parent_id != _NO_SPAN else "",
            name[:_MOST_CHARS],
            SPAN_KINDS[kind] if 0 <= kind < len(SPAN_KINDS) else "INTERNAL",
            self._service,
            started,
            max(0, ended_ns - started_ns) // 1000 if started_ns else 0,
            _STATUS[status] if 0 <= status <= _FAILED else "UNSET",
            str(error)[:_MOST_CHARS],
            self._producer,
        )
        _interpret(row, name, aside)
        self.rows.append(row)
        if evaluations:
            self.evaluations.extend((row, at_ns, said) for at_ns, said in evaluations)


def _interpret(row: list[Any], name: str, aside: dict[str, Any]) -> None:
    """Say what part the span plays, and settle what several attributes say together."""
    said = row[_OPERATION]
    if said:
        lowered = said.lower()
        row[_OPERATION] = operation = OPERATIONS.get(lowered, lowered)
    elif name == SERVER_SPAN and (row[_INPUT] is not None or "gen_ai.request.id" in aside):
        row[_OPERATION] = operation = "chat"
        row[_PROVIDER] = row[_PROVIDER] or "vllm"
    else:
        operation = ""
    role = ROLES.get(operation, "other" if operation else "")
    if aside:
        entity = aside.pop(ENTITY, "")
        if entity and operation in ENTITY_COLUMN:
            place = _AT[ENTITY_COLUMN[operation]]
            if not row[place] or role in ("tool", "step"):
                row[place] = str(entity)
    if name == DETAIL_SPAN:
        role = "detail"
    elif role == "agent" and not row[_AGENT] and name.startswith("invoke_agent "):
        row[_AGENT] = name[13:_MOST_CHARS]
    elif role == "tool" and not row[_TOOL] and MCP_CALL in name:
        row[_TOOL] = name.partition(MCP_CALL)[2][:_MOST_CHARS]
    if role == "model":
        _repair(row, aside)
    elif role:
        for place in _TOKENS:
            row[place] = None
    row[_ROLE] = role
    if provider := row[_PROVIDER]:
        lowered = provider.lower()
        row[_PROVIDER] = PROVIDERS.get(lowered, lowered)
    if role and aside:
        row[-1] = _encode(aside).decode()


def _repair(row: list[Any], aside: dict[str, Any]) -> None:
    """Input includes what was cached; a library that counts it beside the input is added up."""
    read, write, given = row[_READ], row[_WRITE], row[_INPUT]
    if (read or write) and given is not None and (cached := (read or 0) + (write or 0)) > given:
        row[_INPUT] = given + cached
        aside["bursar.repaired"] = "exclusive_counts"
    thought, made = row[_REASONING], row[_OUTPUT]
    if thought and made is not None and thought > made:
        row[_OUTPUT] = made + thought
        aside["bursar.repaired"] = "exclusive_counts"
