"""The agents page: what work costs, what was waste, and the course of one conversation."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from dashboards import waterfall

Visit = Callable[..., AppTest]

USD = pa.decimal128(38, 12)
AT = pa.timestamp("us", "UTC")
WHO = ("tenant", "team", "user_id", "agent", "conversation_id", "task_id", "request_model", "trace_id")


def schema(texts: tuple[str, ...] = (), counts: tuple[str, ...] = (), usd: tuple[str, ...] = (),
           times: tuple[str, ...] = (), **others: pa.DataType) -> pa.Schema:  # fmt: skip
    return pa.schema(
        [(name, pa.string()) for name in texts] + [(name, pa.int64()) for name in counts]
        + [(name, USD) for name in usd] + [(name, AT) for name in times] + list(others.items())
    )  # fmt: skip


COUNTS = ("steps", "turns", "retries", "looped", "tool_calls", "tool_errors")
RUNS = schema(
    ("call_id", *WHO, "outcome_source"), (*COUNTS, "input_tokens", "output_tokens"),
    ("effective_cost_usd", "wasted_usd", "value_usd"), ("started_at", "ended_at"),
    success=pa.bool_(), score=pa.float64(), inferred=pa.list_(pa.string()),
)  # fmt: skip
RUNS_BY = schema(("agent",), ("runs", "tasks", *COUNTS), ("effective_cost_usd", "wasted_usd"))
QUALITY = schema(
    ("agent",), ("tasks", "successes"), ("effective_cost_usd",),
    success_rate=pa.float64(), success_rate_low=pa.float64(), success_rate_high=pa.float64(),
)  # fmt: skip
WASTE = schema(("agent", "waste"), ("calls",), ("effective_cost_usd",))
TOOLS = schema(("tool",), ("uses", "repeats", "errors"), ("effective_cost_usd", "declared_cost_usd"))
RUN = schema(
    ("kind", "name", "id", "parent_id", "trace_id", "call_id", "status"),
    ("depth", "calls", "input_tokens", "output_tokens", "cache_read_input_tokens"),
    ("effective_cost_usd",), ("started_at",), duration_ms=pa.float64(),
)  # fmt: skip
TURNS = schema(
    ("tenant", "conversation_id"),
    ("turn", "steps", "tool_calls", "tool_errors",
     "input_tokens", "cache_read_input_tokens", "output_tokens"),
    ("effective_cost_usd",), ("started_at", "ended_at"),
)  # fmt: skip

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_found_yet(collector: Any) -> Iterator[None]:
    answers = {"runs": RUNS, "runs_by": RUNS_BY, "quality": QUALITY, "waste": WASTE, "tools": TOOLS,
               "run": RUN, "turns": TURNS}  # fmt: skip
    collector.tables |= {name: columns.empty_table() for name, columns in answers.items()}
    yield


def tile(app: AppTest, label: str) -> str:
    return str(next(one.value for one in app.metric if one.label == label)).replace("\\", "")


def frame(app: AppTest, column: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = next(
        one.value for one in app.dataframe if column in one.value.columns
    ).to_dict("records")
    return found


def some_work(collector: Any) -> None:
    """Two agents; planner talked twice, and one of its two tasks succeeded."""
    for number in range(4):
        collector.book(agent="planner", conversation_id=f"c-{number % 2}", cost="0.5")
    collector.book(agent="triage", conversation_id="t-1", cost="1")
    work = {"runs": 2, "tasks": 2, "steps": 8, "turns": 4} | dict.fromkeys(COUNTS[2:], 0)
    sums = {"effective_cost_usd": Decimal(2), "wasted_usd": Decimal("0.3")}
    collector.tables["runs_by"] = pa.Table.from_pylist([{"agent": "planner"} | work | sums], RUNS_BY)
    told = {"tasks": 2, "successes": 1, "success_rate": 0.5, "success_rate_low": 0.094531,
            "success_rate_high": 0.905469, "effective_cost_usd": Decimal(2)}  # fmt: skip
    collector.tables["quality"] = pa.Table.from_pylist([{"agent": "planner"} | told], QUALITY)
    bill = [("useful", "2.7"), ("looped", "0.2"), ("duplicate", "0.1")]
    collector.tables["waste"] = pa.Table.from_pylist(
        [
            {"agent": "planner", "waste": name, "calls": 1, "effective_cost_usd": Decimal(usd)}
            for name, usd in bill
        ],
        WASTE,
    )


def test_what_a_conversation_a_turn_a_task_and_a_success_cost_is_worked_out_from_the_ledger(
    collector: Any, visit: Visit
) -> None:
    some_work(collector)
    app = visit("agents")
    assert tile(app, "A conversation") == "$1.00"  # 3 USD over c-0, c-1 and t-1
    assert tile(app, "A turn") == "$0.500"  # 2 USD over 4 turns
    assert tile(app, "A task") == "$1.00"  # 2 USD over 2 tasks
    assert tile(app, "A task that succeeded") == "$2.00"  # 2 USD, one success
    assert tile(app, "Wasted") == "10.0 %"  # 0.3 of 3 USD
    assert [button.label for button in app.get("download_button")] == ["CSV", "Parquet"]
    planner, triage = frame(app, "per_success")
    assert (planner["per_conversation"], planner["per_turn"], planner["per_task"]) == (
        "$1.00", "$0.500", "$1.00",
    )  # fmt: skip
    assert (planner["succeeded"], planner["per_success"]) == ("50 % (9 to 91)", "$2.00")
    assert (planner["wasted"], triage["wasted"]) == ("$0.300", "$0.00")
    assert (triage["per_conversation"], triage["succeeded"], triage["per_task"]) == ("$1.00", "–", "–")


def test_where_nobody_reported_an_end_a_task_has_no_price_and_the_page_says_how_to_report(
    collector: Any, visit: Visit
) -> None:
    collector.book()
    app = visit("agents")
    assert tile(app, "A task") == "–"
    assert "outcomes" in next(one.help for one in app.metric if one.label == "A task")


def test_a_reported_end_and_a_guess_are_never_mixed_up(collector: Any, visit: Visit) -> None:
    collector.book()
    base = {"agent": "<i>a", "conversation_id": "c-1", "started_at": NOON, "turns": 1, "steps": 2,
            "ended_at": NOON + timedelta(seconds=90), "effective_cost_usd": Decimal("0.25"),
            "wasted_usd": Decimal(0), "tool_calls": 0, "tool_errors": 0, "looped": 0}  # fmt: skip
    ends: list[dict[str, Any]] = [
        {"success": False, "inferred": ["user retry"]},
        {"inferred": ["user retry"]},
        {},
    ]
    collector.tables["runs"] = pa.Table.from_pylist([base | end for end in ends], RUNS)
    rows = frame(visit("agents"), "looped")
    assert [row["ended"] for row in rows] == ["failure", "perhaps: user retry", "–"]
    assert (rows[0]["agent"], rows[0]["spend"], rows[0]["took"]) == ("<i>a", "$0.250", "1 min 30 s")


def bars() -> list[dict[str, Any]]:
    """An agent that uses a tool that asks a model twice."""
    nothing: dict[str, Any] = {
        "call_id": "", "trace_id": "t", "status": "OK", "parent_id": "", "calls": 2, "input_tokens": 3000,
        "output_tokens": 70, "cache_read_input_tokens": 900, "effective_cost_usd": Decimal("0.003"),
    }  # fmt: skip
    one = {"calls": 1, "input_tokens": 1500, "output_tokens": 35, "cache_read_input_tokens": 900}
    return [
        nothing | {"kind": "agent", "name": "planner", "depth": 0, "started_at": NOON, "duration_ms": 5000.0},
        nothing | {"kind": "tool", "name": "search", "depth": 1, "duration_ms": 4000.0,
                   "started_at": NOON + timedelta(seconds=1)},
        nothing | one | {"kind": "model", "name": "chat m", "depth": 2, "call_id": "k-1", "status": "served",
                         "duration_ms": 1500.0, "started_at": NOON + timedelta(seconds=1.5),
                         "effective_cost_usd": Decimal("0.001")},
        nothing | one | {"kind": "model", "name": "chat <m>", "depth": 2, "call_id": "k-2",
                         "status": "timeout", "duration_ms": 500.0, "started_at": NOON + timedelta(seconds=4),
                         "effective_cost_usd": Decimal("0.002")},
    ]  # fmt: skip


def test_the_address_opens_the_course_of_one_conversation(collector: Any, visit: Visit) -> None:
    collector.book(conversation_id="c-7", cost="0.003")
    collector.tables["run"] = pa.Table.from_pylist(
        [{"id": str(n)} | bar for n, bar in enumerate(bars())], RUN
    )
    turn = {"turn": 1, "steps": 2, "tool_calls": 1, "tool_errors": 0, "input_tokens": 3000,
            "cache_read_input_tokens": 900, "output_tokens": 70, "effective_cost_usd": Decimal("0.003"),
            "started_at": NOON, "ended_at": NOON + timedelta(seconds=5)}  # fmt: skip
    collector.tables["turns"] = pa.Table.from_pylist([turn], TURNS)
    app = visit("agents")
    app.query_params["run"] = "c-7"
    app.run()
    assert not app.exception
    table = frame(app, "what")
    table = [row for row in table if "kind" in row]
    assert [row["kind"] for row in table] == ["Agent", "Tool", "Model call", "Model call"]
    assert [row["spend"] for row in table] == ["$0.00300", "$0.00300", "$0.00100", "$0.00200"]
    line = next(one.value for one in app.caption if "Ledger" in one.value)
    assert "0.003000000000 USD · 1 call · 1 turn" in line.replace("\\", "")
    assert frame(app, "turn")[0]["took"] == "5.00 s"


def test_a_conversation_that_is_not_there_is_told(collector: Any, visit: Visit) -> None:
    collector.book()
    app = visit("agents")
    app.query_params["run"] = "nobody"
    app.run()
    assert "no call of this conversation" in app.info[0].value


def test_bars_stand_where_they_began_and_say_what_they_cost() -> None:
    chart = waterfall.option(bars())
    offsets, agent, tool, model = (
        next(one for one in chart["series"] if one["name"] == name)
        for name in ("", "Agent", "Tool", "Model call")
    )
    assert offsets["data"] == [0, 1, 1.5, 4]
    assert [bar["value"] for bar in agent["data"]] == [5, "-", "-", "-"]
    assert [bar["value"] for bar in tool["data"]] == ["-", 4, "-", "-"]
    assert [bar["value"] for bar in model["data"]] == ["-", "-", 1.5, 0.5]
    assert model["data"][2]["label"]["formatter"] == "$0.00100"
    assert model["data"][3]["name"] == (
        "chat <m> · $0.00200 · 500 ms · 1,500 tokens in (900 cached) · 35 out · timeout"
    )
    assert chart["tooltip"]["formatter"] == "{b}"  # a name is filled in as text
    assert chart["yAxis"]["data"][2].count(waterfall.INDENT) == 3


def test_a_very_long_conversation_is_drawn_as_far_as_it_can_be_told_apart() -> None:
    many = [bars()[2]] * 500
    chart = waterfall.option(many)
    assert len(chart["yAxis"]["data"]) == waterfall.MAX_BARS
    assert waterfall.height(many) == waterfall.height(many[: waterfall.MAX_BARS])
