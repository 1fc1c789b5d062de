import csv
import gzip
import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from inference.workload.columns import TraceError
from inference.workload.replay import TokenSums
from inference.workload.traces import read_trace


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_csv_of_ones_own_is_read_with_everything_it_says(tmp_path: Path) -> None:
    path = written(
        tmp_path / "mine.csv",
        "Timestamp,Model,Team,Agent,Conversation ID,Input Tokens,Output Tokens,Cached Tokens,Stream,Tools\n"
        "2026-11-22T10:00:05Z,claude-sonnet-5,search,finder,c1,1200,80,1024,true,look|read\n"
        "2026-11-22T10:00:00Z,gpt-5.4-mini,search,finder,c2,10,5,,false,\n",
    )
    later, first = reversed(list(read_trace(path).calls()))
    assert (first.at_s, first.model, first.api, first.stream) == (0, "gpt-5.4-mini", "openai.chat", False)
    assert (later.at_s, later.api, later.stream, later.tools) == (
        5,
        "anthropic.messages",
        True,
        ("look", "read"),
    )
    assert (later.team, later.agent, later.conversation) == ("search", "finder", "c1")
    assert (later.usage.input_tokens, later.usage.output_tokens) == (1200, 80)
    assert later.usage.cache_read_input_tokens == 1024


def test_json_lines_are_read_also_compressed(tmp_path: Path) -> None:
    rows = [
        {"t_s": 2.5, "prompt_tokens": 7, "completion_tokens": 3},
        {"t_s": 1, "prompt_tokens": 5, "completion_tokens": 2},
    ]
    path = tmp_path / "calls.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n\n" for row in rows)
    calls = list(read_trace(path, default_model="some-model").calls())
    assert [(call.at_s, call.usage.input_tokens, call.model) for call in calls] == [
        (0, 5, "some-model"),
        (1.5, 7, "some-model"),
    ]
    assert {call.team for call in calls} == {"calls"}


def test_parquet_times_may_have_nanoseconds(tmp_path: Path) -> None:
    moments = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)]
    table = pyarrow.table(
        {
            "TIMESTAMP": pyarrow.array(moments, pyarrow.timestamp("ns", "UTC")),
            "ContextTokens": [1, 2],
            "GeneratedTokens": [3, 4],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    assert [call.at_s for call in read_trace(tmp_path / "t.parquet").calls()] == [0, 2]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (("1700000000", "1700000001.5"), 1.5),  # seconds since 1970
        (("1700000000000", "1700000001500"), 1.5),  # milliseconds since 1970
        (("10", "12"), 2),  # seconds from the start
        (("2026-11-22 10:00:00", "2026-11-22 10:00:03.5"), 3.5),
    ],
)
def test_times_are_understood_in_their_usual_units(
    tmp_path: Path, times: tuple[str, str], expected: float
) -> None:
    rows = "".join(f"{time},1,1\n" for time in times)
    path = written(tmp_path / "t.csv", "time,input_tokens,output_tokens\n" + rows)
    assert list(read_trace(path).calls())[-1].at_s == pytest.approx(expected)


def test_a_mooncake_timestamp_is_in_milliseconds(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "timestamp,input_length,output_length\n0,1,1\n3000,1,1\n")
    assert list(read_trace(path).calls())[-1].at_s == 3


def test_bad_rows_are_skipped_counted_and_explained(tmp_path: Path) -> None:
    path = written(
        tmp_path / "some.csv",
        "time,input_tokens,output_tokens,cached_tokens,reasoning_tokens\n"
        "1,10,5,0,0\n"
        "2,ten,5,0,0\n"
        "3,10,-5,0,0\n"
        "4,10,2.5,0,0\n"
        "5,10,5,11,0\n"
        "6,10,5,0,6\n"
        "soon,10,5,0,0\n"
        "8,,5,0,0\n"
        ",10,5,0,0\n"
        "10,20,5,0,0\n",
    )
    trace = read_trace(path)
    assert [call.usage.input_tokens for call in trace.calls()] == [10, 20]
    assert trace.skipped == 8
    whole = "a whole number of tokens is needed"
    assert trace.complaints == [
        f"some.csv, row 2, column 'input_tokens': {whole}, but it is 'ten'",
        f"some.csv, row 3, column 'output_tokens': {whole}, but it is '-5'",
        f"some.csv, row 4, column 'output_tokens': {whole}, but it is '2.5'",
        "some.csv, row 5, column 'input_tokens': a count that includes the cached tokens is needed, "
        "but it is '10'",
        "some.csv, row 6, column 'output_tokens': a count that includes the reasoning tokens is needed, "
        "but it is '5'",
        "some.csv, row 7, column 'time': seconds, milliseconds or an ISO 8601 time is needed, "
        "but it is 'soon'",
        f"some.csv, row 8, column 'input_tokens': {whole}, but it is ''",
        "some.csv, row 9, column 'time': a time is needed, but it is ''",
    ]


def test_a_broken_line_of_json_is_one_bad_row(tmp_path: Path) -> None:
    good = '{"input_tokens": 1, "output_tokens": 1}\n'
    trace = read_trace(written(tmp_path / "t.jsonl", f"{good}{{oops\n[1]\n{good}"))
    assert (len(trace), trace.skipped) == (2, 2)
    assert "row 2" in trace.complaints[0]


def test_many_bad_rows_are_counted_but_only_ten_are_explained(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "input_tokens,output_tokens\n1,1\n" + "x,1\n" * 50)
    trace = read_trace(path)
    assert (trace.skipped, len(trace.complaints)) == (50, 10)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.csv", "time,words\n1,2\n", r"t\.csv: no column for input tokens .*Columns here: time, words"),
        ("t.csv", "input_tokens,output_tokens\nx,1\n", r"none of 1 rows can be used\. t\.csv, row 1, column"),
        ("t.csv", "", r"t\.csv: no rows"),
        ("t.csv", "input_tokens,output_tokens\n", r"t\.csv: no rows"),
        ("t.txt", "x", r"t\.txt: not a trace that can be read; known: \.csv"),
        ("t.jsonl", "[1, 2]\n", r"t\.jsonl, line 1: a JSON object is needed"),
        ("t.parquet", "not parquet at all", r"t\.parquet: "),
        ("t.csv.gz", "not gzip", r"t\.csv\.gz: "),
    ],
)
def test_an_unreadable_file_is_refused_with_its_name_and_the_reason(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    with pytest.raises(TraceError, match=told):
        read_trace(written(tmp_path / name, text))


def test_a_missing_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"gone\.csv"):
        read_trace(tmp_path / "gone.csv")


def test_a_file_beyond_the_limit_is_refused_before_memory_is_spent(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "input_tokens,output_tokens\n" + "1,1\n" * 20)
    with pytest.raises(TraceError, match="more than 10 rows"):
        read_trace(path, max_rows=10)


def test_cached_blocks_count_from_earlier_calls_of_the_same_conversation_only(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.csv",
        "t_s,session_id,model,input_tokens,output_tokens,block_size,block_ranges\n"
        "1,a,claude-x,200,1,64,1-3\n"
        '2,a,claude-x,330,1,64,"1-3,9-10"\n'
        "3,b,claude-x,200,1,64,1-3\n"
        "4,a,gpt-x,330,1,64,1-5\n",
    )
    figures = [
        (c.usage.cache_read_input_tokens, c.usage.cache_write_input_tokens) for c in read_trace(path).calls()
    ]
    # Blocks of 64: three new; three known, two new; three new in another session; three known, none billed.
    assert figures == [(0, 192), (192, 128), (0, 192), (192, 0)]


def test_a_dialect_that_cannot_be_replayed_is_a_bad_row(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.csv", "api,input_tokens,output_tokens\nsmoke.signals,1,1\nopenai.responses,1,1\n"
    )
    trace = read_trace(path)
    assert [call.api for call in trace.calls()] == ["openai.responses"]
    assert "one of openai.chat, " in trace.complaints[0]


def test_an_embedding_has_no_output_tokens(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "model,input_tokens,output_tokens\ntext-embedding-3-small,9,1536\n")
    (call,) = read_trace(path).calls()
    assert (call.api, call.usage.output_tokens) == ("openai.embeddings", 0)


def test_the_code_trace_is_exact_to_the_last_token(shared_data: Path) -> None:
    sums = TokenSums()
    for call in read_trace(shared_data / "llm_traces" / "azure2023_code.parquet").calls():
        sums.add(call.usage)
    assert (sums.calls, sums.input_tokens, sums.output_tokens) == (8819, 18_059_974, 245_896)


def test_the_chat_trace_gives_its_known_share_of_cached_tokens(shared_data: Path) -> None:
    sums = TokenSums()
    for call in read_trace(shared_data / "llm_traces" / "mooncake_conversation.parquet").calls():
        sums.add(call.usage)
    assert sums.calls == 12_031
    # 36.6 % of blocks by the trace's own count; last blocks are not full, so of tokens a little more.
    assert 0.36 < sums.cache_read_input_tokens / sums.input_tokens < 0.39


# USD per million tokens: input, output. Cached reads cost a tenth of the input, 5-minute writes 1.25 of it.
RATES = {
    "claude-opus-4-5-20251101": (5, 25),
    "claude-opus-4-6": (5, 25),
    "claude-opus-4-1-20250805": (15, 75),
    "claude-haiku-4-5-20251001": (1, 5),
    "claude-sonnet-4-5-20250929": (3, 15),
    "claude-sonnet-4-20250514": (3, 15),
}
LONG_RATES = {"claude-sonnet-4-5-20250929": (Decimal(6), Decimal("22.5"))}
"""Above 200,000 tokens of input."""


def test_each_coding_session_costs_what_its_authors_expected(shared_data: Path) -> None:
    folder = shared_data / "llm_traces"
    sums: dict[str, TokenSums] = defaultdict(TokenSums)
    costs: dict[str, Decimal] = defaultdict(Decimal)
    for call in read_trace(folder / "agentic_coding_sessions.parquet").calls():
        usage = call.usage
        sums[call.conversation].add(usage)
        long = call.model in LONG_RATES and usage.input_tokens > 200_000
        rate, output_rate = (LONG_RATES if long else RATES)[call.model]
        weighed = (
            Decimal(usage.uncached_input_tokens)
            + Decimal(usage.cache_read_input_tokens) / 10
            + Decimal(usage.cache_write_input_tokens) * 5 / 4
        )
        costs[call.conversation] += (weighed * rate + usage.output_tokens * output_rate) / 1_000_000

    with gzip.open(folder / "agentic_expected_costs.csv.gz", "rt") as file:
        expected = {row["trace_id"]: row for row in csv.DictReader(file)}
    assert sums.keys() == expected.keys()
    for session, row in expected.items():
        tokens = sums[session]
        assert (tokens.calls, tokens.input_tokens, tokens.output_tokens) == (
            int(row["requests"]), int(row["input_tokens"]), int(row["output_tokens"]),
        )  # fmt: skip
        assert tokens.cache_read_input_tokens == int(row["cache_read_tokens"])
        assert tokens.cache_write_input_tokens == int(row["cache_write_tokens"])
    worst = max(
        abs(costs[session] / Decimal(row["cost_cached_usd"]) - 1) for session, row in expected.items()
    )
    assert worst < Decimal("0.001")
