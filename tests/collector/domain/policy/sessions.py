"""Recorded coding sessions as calls with a price, run through the policy in turn or as they overlapped."""

import csv
import gzip
import heapq
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from collector.domain.policy import Allow, Ask, Budget, Lease, Policy, State, decide
from collector.domain.price import list_cost, price_in_force
from collector.domain.usage import Usage
from collector.pricing.book import PriceBook

NOW_US = 1_790_000_000_000_000
API = "anthropic.messages"


class SessionCall(NamedTuple):
    """One call of a recorded session."""

    session: str
    agent: str
    model: str
    stream: bool
    continues: bool
    starts_s: float
    takes_s: float
    input_tokens: int
    output_tokens: int
    most_input_pico: int
    """If nothing of it were cached and all of it were written to the cache."""
    input_pico: int
    output_pico: int
    """For one token."""
    output_cap: int

    @property
    def cost_pico(self) -> int:
        return self.input_pico + self.output_tokens * self.output_pico


def crossings(folder: Path, usd: int) -> dict[str, int | None]:
    """For each session the place of the call that brings it to so many USD; None where none does."""
    with gzip.open(folder / "agentic_expected_costs.csv.gz", "rt") as file:
        return {
            row["trace_id"]: int(float(found)) if (found := row[f"first_request_over_{usd}usd"]) else None
            for row in csv.DictReader(file)
        }


def sessions(folder: Path, chosen: list[str]) -> Iterator[list[SessionCall]]:
    """The calls of each session in the order of real time; an endless prompt cache, 5-minute writes."""
    import pyarrow.parquet as pq

    book = PriceBook.load()
    table = pq.read_table(folder / "agentic_coding_sessions.parquet", filters=[("trace_id", "in", chosen)])
    rows = defaultdict(list)
    for row in table.to_pylist():
        rows[row["trace_id"]].append(row)
    for trace in chosen:
        seen: set[int] = set()
        calls = []
        for row in sorted(rows[trace], key=starts):
            blocks: list[int] = []
            for part in filter(None, (row["block_ranges"] or "").split(",")):
                first, _, last = part.partition("-")
                blocks.extend(range(int(first), int(last or first) + 1))
            whole = min(len(blocks), row["input_tokens"] // row["block_size"])
            known = next((n for n in range(whole) if blocks[n] not in seen), whole)
            seen.update(blocks)
            quote = book.quote("anthropic", row["model"], book.made_us)
            # Some models cost more throughout, once the prompt is long.
            price = price_in_force(quote.price, row["input_tokens"])
            usage = Usage(
                input_tokens=row["input_tokens"],
                output_tokens=0,
                cache_read_input_tokens=known * row["block_size"],
                cache_write_input_tokens=(whole - known) * row["block_size"],
            )
            calls.append(
                SessionCall(
                    trace,
                    row["agent_id"],
                    row["model"],
                    row["kind"] == "s",
                    row["seq"] > 0,
                    starts(row),
                    row["api_time_s"] or 0.0,
                    row["input_tokens"],
                    row["output_tokens"],
                    row["input_tokens"] * max(price.input, price.cache_write),
                    list_cost(usage, quote.price),
                    price.output,
                    quote.max_output_tokens or 64_000,
                )
            )
        yield calls


def starts(row: dict[str, float]) -> float:
    return (row["subagent_t0_s"] or 0) + row["t_s"]


def asked(call: SessionCall, number: int) -> Ask:
    return Ask(
        call_id=f"{call.session}-{number}",
        model=call.model,
        api=API,
        agent="main" if call.agent == "main" else "sub",
        conversation=call.session,
        stream=call.stream,
        continues=call.continues,
        input_tokens=call.input_tokens,
        input_pico=call.most_input_pico,
        output_cap=call.output_cap,
        output_pico=call.output_pico,
    )


class Desk:
    """A process whose only store is its own memory."""

    def __init__(self, budget: Budget) -> None:
        self.policy = Policy(budgets=[budget])
        self.state = State(self.policy)

    def begin(self, call: SessionCall, number: int) -> tuple[Allow, Lease] | None:
        ask = asked(call, number)
        answer = decide(self.policy, self.state, ask, NOW_US)
        if not isinstance(answer, Allow):
            return None
        self.state.claimed(answer, NOW_US)
        return answer, Lease(ask, answer.claims, answer.growing, answer.output_tokens, answer.output_cap)

    def end(self, call: SessionCall, running: tuple[Allow, Lease]) -> None:
        allow, lease = running
        charges = lease.settlement(call.cost_pico, call.input_tokens + call.output_tokens)
        self.state.settled(allow, lease.amounts, charges, -(-call.cost_pico // 1000), NOW_US)
        permille = -(-1000 * call.input_pico // max(1, call.most_input_pico))
        agent = "main" if call.agent == "main" else "sub"
        self.state.experience.learn(call.model, agent, API, call.continues, call.output_tokens, permille)


class Outcome(NamedTuple):
    """What became of one session."""

    first_refused: int | None
    """The place of the first call that was not let in."""
    spent_pico: int
    dearest_pico: int
    """Of the calls that were let in."""
    refused: int
    falsely: int
    """Calls refused though what was spent, and what was under way, and they themselves would have fitted."""


def one_after_another(desk: Desk, calls: list[SessionCall], limit_pico: int) -> Outcome:
    in_turn = [call._replace(starts_s=float(place), takes_s=0.0) for place, call in enumerate(calls)]
    return overlapping(desk, in_turn, limit_pico)


def overlapping(desk: Desk, calls: list[SessionCall], limit_pico: int) -> Outcome:
    """Calls begin and end at their recorded times; what is refused is not tried again."""
    first, spent, dearest, refused, falsely = None, 0, 0, 0, 0
    under_way = 0
    ends: list[tuple[float, int]] = []
    running = {}
    for number, call in enumerate([*calls, None]):
        while ends and (call is None or ends[0][0] <= call.starts_s):
            _, ended = heapq.heappop(ends)
            desk.end(calls[ended], running.pop(ended))
            under_way -= calls[ended].cost_pico
            spent += calls[ended].cost_pico
        if call is None:
            break
        let_in = desk.begin(call, number)
        if let_in is None:
            first = number if first is None else first
            refused += 1
            falsely += spent + under_way + call.cost_pico <= limit_pico
            continue
        running[number] = let_in
        heapq.heappush(ends, (call.starts_s + call.takes_s, number))
        under_way += call.cost_pico
        dearest = max(dearest, call.cost_pico)
    return Outcome(first, spent, dearest, refused, falsely)
