"""What does the work of an agent cost: a conversation, a turn, a task, one that succeeds? What was waste?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Any

import streamlit as st

from dashboards import charts, data, display, exports, filters, ink, notices, tables
from dashboards.scope import Scope
from dashboards.views import call, conversation

MOST = 100
EVERY = 10_000
"""More agents than that are not told apart: the figures of all are the sums over their agents."""

TABLE = {
    "agent": "Agent",
    "spend": "Spend",
    "calls": "Calls",
    "conversations": "Conversations",
    "per_conversation": "A conversation",
    "per_turn": "A turn",
    "tasks": "Tasks",
    "per_task": "A task",
    "succeeded": "Succeeded",
    "per_success": "A success",
    "wasted": "Wasted",
}

RUNS = {
    "agent": "Agent",
    "spend": "Spend",
    "wasted": "Wasted",
    "turns": "Turns",
    "steps": "Steps",
    "tool_calls": "Tools",
    "tool_errors": "failed",
    "looped": "Looped",
    "ended": "Ended",
    "took": "Took",
    "started_at": "Started",
    "conversation_id": "Conversation",
}

TOOLS = {
    "tool": "Tool",
    "uses": "Uses",
    "repeats": "Repeats",
    "errors": "Errors",
    "spend": "Asking cost",
    "declared": "Itself cost",
}

USEFUL = "useful"

JUDGED = (
    *("tenant", "team", "user_id", "agent", "conversation_id", "task_id"),
    *("request_model", "upstream", "api", "key_id", "tag"),
)
"""The filters that what was found about conversations can be narrowed by."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The answers of one drawing of the page."""

    by_agent: data.Answer
    runs: data.Answer
    runs_by_agent: data.Answer
    quality_by_agent: data.Answer
    waste_by_agent: data.Answer
    tools: data.Answer

    @property
    def answers(self) -> list[data.Answer]:
        """All of them, for notices."""
        return [self.by_agent, self.runs, self.runs_by_agent, self.quality_by_agent, self.waste_by_agent,
                self.tools]  # fmt: skip

    @cached_property
    def bill(self) -> dict[str, Decimal]:
        """USD by class of waste; the classes sum to the ledger's sum."""
        bill: dict[str, Decimal] = {}
        for row in self.waste_by_agent.rows:
            name = str(row["waste"])
            bill[name] = bill.get(name, Decimal(0)) + data.money(row["effective_cost_usd"])
        return bill


def page() -> None:
    """Everything below the bar of filters."""
    scope = filters.scope()
    try:
        found = asked(scope)
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    above = st.container()
    notices.stale(found.answers)
    if not any(row["calls"] for row in found.by_agent.rows):
        notices.empty(scope)
        return
    if ignored := [name for name, _ in scope.filters if name not in JUDGED]:
        st.caption(
            display.escaped(
                f"What was found about conversations is not narrowed by {', '.join(ignored)}; "
                "calls and spend are."
            )
        )
    tiles(found)
    st.caption(display.escaped(f"As of {notices.drawn_at(found.answers)}."))
    by_agent(found)
    with st.grid(2, min_column_width=320):
        waste_bill(found.bill)
        tools(found.tools.rows)
    dearest(found.runs)
    with above:  # Drawn last: what it asks may take longer than all the figures.
        notices.simulated(scope)
        notices.ledger_age()
    if st.session_state.pop("conversation_chosen", False):
        st.rerun()  # One conversation is shown outside of this fragment, so that a live page leaves it alone.


def asked(scope: Scope) -> Work:
    """Everything that the page is about.

    Raises:
        CollectorError: there is no answer.
    """
    judged = replace(scope, filters=tuple(one for one in scope.filters if one[0] in JUDGED))
    # Conversations of a long stretch are counted one by one: nobody needs their number to the second.
    with_them: dict[str, Any] = {"with": "conversations", "without": "latency"}
    talked = data.about("spend_by", scope, by="agent", limit=MOST, **with_them)
    questions = {
        "by_agent": replace(talked, lasting=scope.window.bucket == "day"),
        "runs": data.about("runs", judged, limit=MOST),
        "runs_by_agent": data.about("runs_by", judged, by="agent", limit=EVERY),
        "quality_by_agent": data.about("quality", judged, by="agent", limit=EVERY),
        "waste_by_agent": data.about("waste", judged, by="agent"),
        "tools": data.about("tools", judged, limit=MOST),
    }
    answers = data.ask_all(list(questions.values()), notices.questions(scope))
    return Work(**dict(zip(questions, answers, strict=True)))


def _usd(rows: Sequence[data.Row]) -> Decimal:
    return sum((data.money(row.get("effective_cost_usd")) for row in rows), Decimal(0))


def per(amount: Decimal, number: int | Decimal | None) -> str:
    """What one of so many came to; a dash where there was none."""
    return display.usd(amount / number) if number else "–"


def tiles(found: Work) -> None:
    """What a piece of work comes to."""
    conversations = sum(int(row.get("conversations") or 0) for row in found.by_agent.rows)
    talking = [row for row in found.by_agent.rows if row.get("conversations")]
    talked = sum((data.money(row["effective_cost_usd"]) for row in talking), Decimal(0))
    runs, ended = found.runs_by_agent.rows, found.quality_by_agent.rows
    spent, turns = _usd(runs), sum(int(row["turns"] or 0) for row in runs)
    told, succeeded = (sum(int(row.get(name) or 0) for row in ended) for name in ("tasks", "successes"))
    on_tasks = _usd(ended)
    total = sum(found.bill.values(), Decimal(0))
    wasted = total - found.bill.get(USEFUL, Decimal(0))
    with st.grid(5, min_column_width=165):
        for title, value, meaning in (
            ("A conversation", per(talked, conversations),
             f"{display.usd_exact(talked)} USD of agents that converse, over "
             f"{display.counted(conversations, 'conversation')}"),
            ("A turn", per(spent, turns),
             f"From what a person said to the next: {turns:,} turns of conversations that went on"),
            ("A task", per(on_tasks, told),
             f"{told:,} tasks whose end was reported" if told else "Nobody reported how a task ended: "
             "`bursar outcomes`, or POST /bursar/v1/outcomes"),
            ("A task that succeeded", per(on_tasks, succeeded),
             f"{succeeded:,} of {told:,} succeeded; the cost of those that failed is shared out among them"),
            ("Wasted", display.share(wasted, total),
             f"{display.usd_exact(wasted)} of {display.usd_exact(total)} USD was of no use: see the bill"),
        ):  # fmt: skip
            st.metric(
                title, display.escaped(value), help=display.escaped(meaning), border=True, height="stretch"
            )


def by_agent(found: Work) -> None:
    """Every agent with what a piece of its work comes to."""
    work = {str(row["agent"]): row for row in found.runs_by_agent.rows}
    quality = {str(row["agent"]): row for row in found.quality_by_agent.rows}
    wasted: dict[str, Decimal] = {}
    for row in found.waste_by_agent.rows:
        if row["waste"] != USEFUL:
            agent = str(row["agent"])
            wasted[agent] = wasted.get(agent, Decimal(0)) + data.money(row["effective_cost_usd"])
    lines = [
        line(row, work.get(agent, {}), quality.get(agent, {}), wasted.get(agent, Decimal(0)))
        for row in found.by_agent.rows
        for agent in [str(row["agent"])]
    ]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**By agent**")
            exports.menu("agents", found.by_agent.table.column_names, lambda: found.by_agent.table)
        if len(lines) == MOST:
            st.caption(f"Only the {MOST} dearest are shown.")
        st.dataframe(
            lines,
            hide_index=True,
            placeholder="–",
            column_order=list(TABLE),
            column_config=tables.column_config(TABLE, filters.zone().key)
            | {
                "per_turn": st.column_config.TextColumn(
                    "A turn",
                    alignment="right",
                    help="Of the conversations that end with this agent, sub-agents included.",
                )
            },
            key="agents_table",
            alt="Spend, and what a conversation, a turn and a task came to, by agent",
        )


def line(row: data.Row, work: data.Row, quality: data.Row, wasted: Decimal) -> dict[str, object]:
    """One agent: its calls, the conversations that end with it, how its tasks ended, its part of the bill."""
    spent, conversations = data.money(row["effective_cost_usd"]), int(row.get("conversations") or 0)
    on_tasks, tasks = data.money(quality.get("effective_cost_usd")), int(quality.get("tasks") or 0)
    succeeded = "–"
    if tasks:
        low, high = (100 * float(quality[f"success_rate_{end}"]) for end in ("low", "high"))
        succeeded = f"{100 * float(quality['success_rate']):.0f} % ({low:.0f} to {high:.0f})"
    return {
        "agent": display.plain(row["agent"]),
        "spend": display.usd(spent),
        "calls": row["calls"],
        "conversations": conversations,
        "per_conversation": per(spent, conversations),
        "per_turn": per(data.money(work.get("effective_cost_usd")), int(work.get("turns") or 0)),
        "tasks": tasks,
        "per_task": per(on_tasks, tasks),
        "succeeded": succeeded,
        "per_success": per(on_tasks, int(quality.get("successes") or 0)),
        "wasted": display.usd(wasted),
    }


def waste_bill(bill: Mapping[str, Decimal]) -> None:
    """Every dollar in one class; useful is what is left."""
    bars = [
        charts.Bar(name, amount, is_remainder=name == USEFUL)
        for name, amount in sorted(bill.items(), key=lambda one: -one[1])
        if amount
    ]
    with st.container(border=True, height="stretch"):
        st.markdown("**The waste bill**, USD")
        if not bars:
            st.caption("Nothing was spent.")
            return
        ink.chart(
            charts.ranking(bars),
            height=26 * max(3, len(bars)) + 16,
            key="waste_bill",
            alt="Spend by whether it was useful, or what kind of waste",
        )
        total = sum(bill.values(), Decimal(0))
        st.caption(
            display.escaped(f"Adds up to {display.usd_exact(total)} USD, the ledger's sum of these calls.")
        )


def tools(rows: Sequence[data.Row]) -> None:
    """What tools agents' models asked for."""
    with st.container(border=True, height="stretch"):
        st.markdown("**Tools**")
        if not rows:
            st.caption("No tool was asked for in this time range.")
            return
        st.dataframe(
            [
                {name: row[name] for name in ("uses", "repeats", "errors")}
                | {
                    "tool": display.plain(row["tool"]),
                    "spend": display.usd(data.money(row["effective_cost_usd"])),
                    "declared": display.usd(price)
                    if (price := data.money(row["declared_cost_usd"]))
                    else "–",
                }
                for row in rows
            ],
            hide_index=True,
            placeholder="–",
            column_order=list(TOOLS),
            column_config=tables.column_config(TOOLS),
            height=270,
            key="tools_table",
            alt="Tools, what asking for them cost, and what they cost themselves",
        )


def dearest(found: data.Answer) -> None:
    """The dearest conversations, each of which can be opened to show its course."""
    rows = found.rows
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**The dearest conversations**")
            if rows:
                exports.menu("conversations", found.table.column_names, lambda: found.table)
        if not rows:
            st.caption("No conversation of more than a question and its answer in this time range.")
            return
        st.caption(
            "Open one to see its course. "
            + (f"Only the {MOST} dearest are shown." if len(rows) == MOST else "")
        )
        identities = [str(row["conversation_id"]) for row in rows]
        tables.openable(
            [run(row) for row in rows],
            RUNS,
            lambda place: _choose(identities[place]),
            zone_name=filters.zone().key,
            height=36 * min(len(rows), 8) + 40,
            key="runs_table",
            alt="Conversations, the dearest on top",
        )


def run(row: data.Row) -> dict[str, object]:
    """One conversation in the table."""
    took = (row["ended_at"] - row["started_at"]).total_seconds() * 1000 if row["ended_at"] else None
    return {
        name: row[name] for name in ("turns", "steps", "tool_calls", "tool_errors", "looped", "started_at")
    } | {
        "agent": display.plain(row["agent"]),
        "conversation_id": display.plain(row["conversation_id"]),
        "spend": display.usd(data.money(row["effective_cost_usd"])),
        "wasted": display.usd(data.money(row["wasted_usd"])),
        "took": display.duration(took),
        "ended": ended(row),
    }


def ended(row: data.Row) -> str:
    """How it ended as somebody said, else what the signs are; never one passed off as the other."""
    if row.get("success") is not None:
        return "success" if row["success"] else "failure"
    guessed = row.get("inferred") or []
    return f"perhaps: {', '.join(map(str, guessed))}" if guessed else "–"


def _choose(identity: str) -> None:
    st.query_params[conversation.PARAMETER] = identity
    st.session_state["conversation_chosen"] = True


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()
    conversation.show_chosen()
    call.show_chosen()
