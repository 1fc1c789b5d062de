"""Every question says what a plain sum over the calls says, with and without the rollups."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from collector.domain.money import usd
from collector.ingest.books import Books
from collector.ingest.pairing import Mark
from collector.journal import encoded, parse_frames
from collector.store.asking import BadParameter, parse
from collector.store.duckdb import DatabaseConfig
from collector.store.levels import ALL_LEVELS, DAY_US, HOUR_US, MINUTE_US
from collector.store.opening import open_ledger
from collector.store.questions import CATALOGUE
from collector.store.reader import Busy, LedgerReader, TooExpensive
from collector.store.statements import Statement

NOON_US = 1_790_000_000_000_000
NOW_US = NOON_US + 20 * DAY_US
ODD_TAG = 'a/b~c."d'


@pytest.fixture
def now_us():
    return NOW_US


@pytest.fixture(scope="module")
def ledger(make_call):
    """600 calls over twenty days."""
    calls = []
    for n in range(600):
        start = NOON_US + (n * 48 * MINUTE_US) + (n * 7919 % 61) * 1_000_003
        calls.append(
            make_call(
                started_at_us=start,
                cost=10**9 + n * 1_234_567,
                agent=f"agent{n % 7}",
                team=f"team{n % 3}",
                request_model=f"model{n % 4}",
                user_id=f"user{n % 11}",
                conversation_id="" if n % 13 == 0 else f"talk{n // 6}",
                task_id=f"task{n // 15}" if n % 2 else "",
                outcome="failed" if n % 17 == 0 else "served",
                price_grade="prior" if n % 19 == 0 else "listed",
                usage_grade="estimated" if n % 23 == 0 else "reported",
                duration_us=1000 + n * n * 37,
                region="eu" if n % 29 == 0 else "",
                charges={"image_output": (n + 1, 2 * n, 3 * n), "region": (7, 1, 1)} if n % 29 == 0 else {},
                tags={"env": "prod" if n % 2 else "dev"} | ({'a/b~c."d': f"x{n % 3}"} if n % 5 else {}),
            )
        )
    return calls


@pytest.fixture(scope="module", params=["single calls", "sums"])
def database(request, ledger, tmp_path_factory):
    """Those calls in a ledger, with and without sums; the last hundred came late."""
    database = open_ledger(tmp_path_factory.mktemp("ledger"), DatabaseConfig()).database
    books = Books(database, now_us=lambda: NOW_US)

    def enter(calls, sequence):
        entry = books.begin()
        books.take(entry, "s", parse_frames(encoded(calls, sequence + 1))[0], Mark(sequence=sequence))
        books.enter(entry)

    enter(ledger[:500], 0)
    if request.param == "sums":
        while books.advance_rollups():
            pass
    enter(ledger[500:], 500)
    yield database
    database.close()


@pytest.fixture
def ask(database):
    reader = LedgerReader(database)

    def ask(name, **given):
        values = {key: value if isinstance(value, list) else [value] for key, value in given.items()}
        return reader.answer(parse(CATALOGUE[name], values, NOW_US)).to_pylist()

    return ask


def cost(calls) -> Decimal:
    return usd(sum(record.effective_cost_pico for record in calls))


def test_totals_agree_to_the_last_digit(ask, ledger):
    (row,) = ask("totals", since="30d")

    assert row["calls"] == row["attempts"] == 600
    assert row["effective_cost_usd"] == row["list_cost_usd"] == cost(ledger)
    assert row["avoided_cost_usd"] == 0
    assert row["input_tokens"] == 600 * 1200
    assert row["failed_calls"] == sum(record.outcome == "failed" for record in ledger)
    assert row["unpriced_calls"] == sum(record.price_grade == "prior" for record in ledger)
    assert row["estimated_calls"] == sum(record.usage_grade == "estimated" for record in ledger)
    assert row["first_at"] == datetime.fromtimestamp(ledger[0].started_at_us / 1e6, UTC).replace(tzinfo=None)


def test_totals_of_any_period_agree_whatever_it_begins_and_ends_in(ask, ledger):
    for number in range(40):
        since = NOON_US + number * number * 7_777_777_777 % (20 * DAY_US)
        until = since + (number * 3 + 1) * 5_555_555_555
        inside = [record for record in ledger if since <= record.started_at_us < until]
        (row,) = ask("totals", since=f"{since / 1e6:.6f}", until=f"{until / 1e6:.6f}")
        assert (row["calls"], row["effective_cost_usd"]) == (len(inside), cost(inside))


def test_an_empty_period_costs_exactly_nothing(ask):
    (row,) = ask("totals", since="2020-01-01", until="2020-01-02")
    assert (row["calls"], row["effective_cost_usd"], row["first_at"]) == (0, Decimal(0), None)
    (row,) = ask("totals", since="2026-01-02", until="2026-01-01")
    assert row["calls"] == 0


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        ({"team": "team1"}, lambda r: r.team == "team1"),
        (
            {"team": ["team1", "team2"], "agent": "agent3"},
            lambda r: r.team != "team0" and r.agent == "agent3",
        ),
        ({"user_id": "user5"}, lambda r: r.user_id == "user5"),
        ({"tag": "env=prod"}, lambda r: r.tags["env"] == "prod"),
        ({"tag": ["env=prod", "env=dev"]}, lambda r: True),
        (
            {"tag": 'a/b~c."d=x1', "agent": "agent3"},
            lambda r: r.tags.get('a/b~c."d') == "x1" and r.agent == "agent3",
        ),
        ({"tag": "no such=tag"}, lambda r: False),
        ({"tag": "env=dev", "user_id": "user5"}, lambda r: r.tags["env"] == "dev" and r.user_id == "user5"),
        ({"user_id": "user5", "outcome": "failed"}, lambda r: r.user_id == "user5" and r.outcome == "failed"),
        (
            {"user_id": ["user5", "user6"], "team": "team1"},
            lambda r: r.user_id in ("user5", "user6") and r.team == "team1",
        ),
        ({"agent": "' OR 1=1 --"}, lambda r: False),
        ({"conversation_id": "talk17"}, lambda r: r.conversation_id == "talk17"),
        (
            {"conversation_id": ["talk3", "talk95"], "team": "team1"},
            lambda r: r.conversation_id in ("talk3", "talk95") and r.team == "team1",
        ),
        ({"task_id": "task4"}, lambda r: r.task_id == "task4"),
        (
            {"task_id": "task4", "user_id": "user5"},
            lambda r: r.task_id == "task4" and r.user_id == "user5",
        ),
        (
            {"conversation_id": "talk17", "tag": "env=dev"},
            lambda r: r.conversation_id == "talk17" and r.tags["env"] == "dev",
        ),
        ({"conversation_id": "nobody's"}, lambda r: False),
        (
            {"outcome": "failed", "request_model": "model2"},
            lambda r: r.outcome == "failed" and r.request_model == "model2",
        ),
    ],
)
def test_filters_keep_what_they_say(ask, ledger, filters, keep):
    kept = [record for record in ledger if keep(record)]
    (row,) = ask("totals", since="30d", **filters)
    assert (row["calls"], row["effective_cost_usd"]) == (len(kept), cost(kept))


@pytest.mark.parametrize("bucket", ["minute", "hour", "day"])
@pytest.mark.parametrize("by", ["", "agent", "team,user_id", "user_id"])
def test_spend_over_time_sums_to_the_total_in_buckets_that_hold_their_calls(ask, ledger, bucket, by):
    period = {"since": "10d", "until": "3d"} if bucket == "minute" else {"since": "30d"}
    rows = ask("spend_over_time", bucket=bucket, by=by, **period)
    (total,) = ask("totals", **period)

    assert sum(row["calls"] for row in rows) == total["calls"] > 0
    assert sum(row["effective_cost_usd"] for row in rows) == total["effective_cost_usd"]
    width = {"minute": MINUTE_US, "hour": HOUR_US, "day": DAY_US}[bucket]
    expected = Counter(
        (record.started_at_us // width * width, *(getattr(record, name) for name in by.split(",") if name))
        for record in ledger
    )
    for row in rows:
        start = int(row["bucket"].replace(tzinfo=UTC).timestamp() * 1_000_000)
        key = (start, *(row[name] for name in by.split(",") if name))
        assert expected[key] == row["calls"]


@pytest.mark.parametrize("by", ["", "team", "team,request_model"])
def test_what_was_charged_apart_from_text_sums_by_kind_and_region(ask, ledger, by):
    charged = [record for record in ledger if record.charges]
    rows = ask("charges", bucket="day", by=by, since="30d")

    assert {row["region"] for row in rows} == {"eu"}
    for name in ("image_output", "region"):
        of_kind = [row for row in rows if row["part"] == name]
        sums = [sum(record.charges[name][place] for record in charged) for place in range(3)]
        assert sum(row["quantity"] for row in of_kind) == sums[0]
        assert sum(Decimal(row["list_cost_usd"]) for row in of_kind) == usd(sums[1])
        assert sum(Decimal(row["effective_cost_usd"]) for row in of_kind) == usd(sums[2])
    for row in rows:
        dims = by.split(",") if by else []
        mine = [r for r in charged if all(getattr(r, dim) == row[dim] for dim in dims)]
        assert row["quantity"] <= sum(record.charges[row["part"]][0] for record in mine)


@pytest.mark.parametrize("by", ["", "agent", "team,user_id", "tag:env"])
def test_every_call_ends_in_one_minute_whatever_is_told_apart(ask, ledger, by):
    rows = ask("ended_over_time", since="30d", by=by)

    expected = Counter(
        (record.started_at_us + record.duration_us) // MINUTE_US * MINUTE_US for record in ledger
    )
    found: Counter[int] = Counter()
    for row in rows:
        found[int(row["bucket"].replace(tzinfo=UTC).timestamp() * 1_000_000)] += row["calls"]
        timed = sum(int(pair.partition(":")[2]) for pair in row["latency"].split())
        assert timed == row["calls"] - row["failed_calls"]
    assert found == expected
    assert sum(row["effective_cost_usd"] for row in rows) == cost(ledger)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def test_days_are_those_of_the_zone_asked_for(ask, ledger, zone):
    rows = ask("spend_over_time", bucket="day", since="30d", tz=zone)

    expected = defaultdict(list)
    for record in ledger:
        local = datetime.fromtimestamp(record.started_at_us / 1e6, UTC).astimezone(ZoneInfo(zone))
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        expected[midnight.astimezone(UTC).replace(tzinfo=None)].append(record)
    assert {row["bucket"]: row["effective_cost_usd"] for row in rows} == {
        start: cost(calls) for start, calls in expected.items()
    }


@pytest.mark.parametrize(
    "by",
    [
        *(
            "agent",
            "request_model",
            "team,agent",
            "user_id",
            "user_id,request_model",
            "tag:env",
            'tag:a/b~c."d',
        ),
        *("team,tag:env", "tag:env,user_id", "conversation_id", "task_id", "conversation_id,request_model"),
    ],
)
def test_spend_by_sums_each_value_and_counts_its_conversations(ask, ledger, by):
    rows = ask("spend_by", since="30d", by=by, limit="1000", **{"with": "conversations"})

    def key(record):
        return tuple(
            record.tags.get(name[4:], "") if name.startswith("tag:") else getattr(record, name)
            for name in by.split(",")
        )

    groups = defaultdict(list)
    for record in ledger:
        groups[key(record)].append(record)
    names = ["tag" if name.startswith("tag:") else name for name in by.split(",")]
    assert len(rows) == len(groups)
    assert [row["effective_cost_usd"] for row in rows] == sorted(
        (cost(calls) for calls in groups.values()), reverse=True
    )
    assert all(row["p50_ms"] <= row["p95_ms"] for row in rows)
    for row in rows:
        calls = groups[tuple(row[name] for name in names)]
        assert row["calls"] == len(calls)
        assert row["effective_cost_usd"] == cost(calls)
        assert row["failed_calls"] == sum(record.outcome == "failed" for record in calls)
        assert row["conversations"] == len({r.conversation_id for r in calls if r.conversation_id})


def test_the_median_and_the_slowest_are_right_within_a_bucket(ask, ledger):
    (row,) = ask("spend_by", since="30d", by="tenant")

    durations = sorted(record.duration_us / 1000 for record in ledger)
    for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95)):
        true = durations[int(share * len(durations))]
        assert true / 1.42 <= row[name] <= true * 1.42


@pytest.mark.parametrize("by", ["user_id", "conversation_id", "task_id"])
def test_of_many_values_the_dearest_are_found(ask, by):
    everything = ask("spend_by", since="30d", by=by, limit="1000")
    assert ask("spend_by", since="30d", by=by, limit="3") == everything[:3]


def test_the_calls_of_one_conversation_are_found_whatever_else_there_is(ask, ledger):
    mine = [r.call_id for r in ledger if r.conversation_id == "talk95"]
    listed = ask("calls", since="30d", conversation_id="talk95", order="dearest")
    assert {row["call_id"] for row in listed} == set(mine)
    turns = ask("turns", since="30d", conversation_id="talk95")
    assert sum(row["steps"] for row in turns) == len(mine)
    assert len(ask("turns", since="30d", limit="20")) == 20


@pytest.mark.parametrize("since", [NOON_US, NOON_US + 5 * DAY_US + 7, NOON_US + 19 * DAY_US])
def test_the_first_turns_of_a_period_have_all_their_calls_however_long_they_went_on(ask, ledger, since):
    talks = defaultdict(list)
    for record in ledger:
        if record.conversation_id and record.started_at_us >= since:
            talks[record.conversation_id].append(record)
    first = sorted(talks.values(), key=lambda calls: calls[0].started_at_us)[:5]

    rows = ask("turns", since=f"{since / 1e6:.6f}", limit="5")

    assert [(row["conversation_id"], row["steps"], row["effective_cost_usd"]) for row in rows] == [
        (calls[0].conversation_id, len(calls), cost(calls)) for calls in first
    ]
    assert ask("turns", since="2020-01-01", until="2020-01-02") == []


def test_spend_by_gives_no_more_than_the_limit_and_the_dearest_first(ask):
    rows = ask("spend_by", since="30d", by="agent", limit="2")
    everything = ask("spend_by", since="30d", by="agent")
    assert rows == everything[:2]


def test_calls_are_listed_newest_first_page_by_page_each_once(ask, ledger):
    listed, before = [], {}
    while page := ask("calls", since="30d", limit="77", **before):
        listed += [row["call_id"] for row in page]
        before = {"before": page[-1]["call_id"]}

    assert listed == [
        r.call_id for r in sorted(ledger, key=lambda r: (r.started_at_us, r.call_id), reverse=True)
    ]


@pytest.mark.parametrize(
    ("order", "field", "reverse"),
    [
        ("oldest", "started_at_us", False),
        ("dearest", "effective_cost_pico", True),
        ("slowest", "duration_us", True),
    ],
)
def test_calls_come_in_the_order_asked_for(ask, ledger, order, field, reverse):
    first = ask("calls", since="30d", order=order, limit="300")
    second = ask("calls", since="30d", order=order, limit="300", before=first[-1]["call_id"])

    expected = sorted(ledger, key=lambda record: (getattr(record, field), record.call_id), reverse=reverse)
    assert [row["call_id"] for row in first + second] == [record.call_id for record in expected]


@pytest.mark.parametrize("order", ["newest", "dearest"])
@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("GENT3", lambda record: record.agent == "agent3"),
        ("fail", lambda record: record.outcome == "failed"),
        ("talk12", lambda record: record.conversation_id == "talk12"),
        ("alk12", lambda record: False),  # ids are found by how they begin
        ("%", lambda record: False),
        ("'; DROP TABLE calls; --", lambda record: False),
    ],
)
def test_calls_are_found_by_a_text_among_their_names_or_the_beginning_of_an_id(ask, ledger, order, text, has):
    found = ask("calls", since="30d", limit="600", order=order, search=text)
    assert {row["call_id"] for row in found} == {record.call_id for record in ledger if has(record)}


def test_a_call_is_found_by_its_id_and_by_its_trace_s(ask, ledger):
    for text in (ledger[7].call_id, ledger[7].trace_id):
        assert [row["call_id"] for row in ask("calls", since="30d", search=text)] == [ledger[7].call_id]


def test_what_was_found_is_read_page_by_page(ask):
    everything = ask("calls", since="30d", limit="600", search="agent2")
    first = ask("calls", since="30d", limit="50", search="agent2")
    second = ask("calls", since="30d", limit="50", search="agent2", before=first[-1]["call_id"])
    assert first + second == everything[:100]


def test_a_page_after_a_call_that_is_not_there_is_refused(ask):
    with pytest.raises(BadParameter, match="no such call"):
        ask("calls", before="0190c5b6-0000-7000-8000-000000000000")


def test_one_call_and_its_attempts_are_found_by_id(ask, ledger):
    record = ledger[321]
    (row,) = ask("call", call_id=record.call_id)
    (attempt,) = ask("attempts", call_id=record.call_id)

    assert row["effective_cost_usd"] == attempt["effective_cost_usd"] == usd(record.effective_cost_pico)
    assert dict(row["tags"]) == record.tags
    assert ask("call", call_id="unknown") == []


@pytest.mark.parametrize(
    ("dimension", "value_of"),
    [
        ("agent", lambda r: r.agent),
        ("user_id", lambda r: r.user_id),
        ("conversation_id", lambda r: r.conversation_id),
        ("outcome", lambda r: r.outcome),
    ],
)
def test_the_values_of_a_dimension_are_counted(ask, ledger, dimension, value_of):
    rows = ask("values", dimension=dimension, since="30d", limit="1000")
    assert {row["value"]: row["calls"] for row in rows} == Counter(map(value_of, ledger))
    (first,) = ask("values", dimension=dimension, since="30d", limit="1")
    assert first["calls"] == rows[0]["calls"]


def test_the_values_of_a_tag_are_counted_with_their_keys(ask, ledger):
    rows = ask("values", dimension="tag", since="30d")
    expected = Counter(f"{key}={value}" for record in ledger for key, value in record.tags.items())
    assert {row["value"]: row["calls"] for row in rows} == expected


def test_the_values_of_a_dimension_are_counted_among_calls_with_a_tag(ask, ledger):
    key, value = next(item for record in ledger for item in record.tags.items())
    rows = ask("values", dimension="agent", since="30d", tag=f"{key}={value}")
    expected = Counter(record.agent for record in ledger if record.tags.get(key) == value)
    assert {row["value"]: row["calls"] for row in rows} == expected


def test_conversations_are_counted_only_for_those_who_ask(ask):
    assert "conversations" not in ask("spend_by", since="30d")[0]
    with pytest.raises(BadParameter, match="with"):
        ask("spend_by", **{"with": "everything"})


def test_how_long_calls_took_is_left_out_for_those_who_do_without(ask):
    whole = ask("spend_by", since="30d", by="agent")
    without = ask("spend_by", since="30d", by="agent", without="latency")
    assert "p50_ms" in whole[0] and "p95_ms" in whole[0]
    assert without == [
        {name: value for name, value in row.items() if name not in ("p50_ms", "p95_ms")} for row in whole
    ]


@pytest.mark.parametrize("given", [{}, {"by": "agent"}, {"by": "tag:env"}, {"by": "request_model"}])
def test_sums_that_are_only_begun_leave_the_rest_to_finer_ones(ask, ledger, database, given):
    name = "spend_by" if given else "totals"
    before = ask(name, since="30d", **given)
    short = {level.name for level in ALL_LEVELS if level.name.split("_")[0] in ("agents", "models", "sets")}
    for level in ALL_LEVELS:
        if level.name in short:
            database.connection.execute(
                f"DELETE FROM {level.table} WHERE bucket >= TIMESTAMP '2026-09-15 00:00:00'"
            )
            database.connection.execute(
                "UPDATE rollup_marks SET upto_at = TIMESTAMP '2026-09-15 00:00:00'"
                " WHERE level = $1 AND upto_at > TIMESTAMP '2026-09-15 00:00:00'",
                [level.name],
            )
    assert ask(name, since="30d", **given) == before


def test_what_is_asked_together_is_answered_of_one_state_of_the_books(database, ledger):
    reader = LedgerReader(database)
    totals, by_agent = parse(CATALOGUE["totals"], {}, NOW_US), parse(CATALOGUE["spend_by"], {}, NOW_US)
    gone = parse(CATALOGUE["calls"], {"before": ["no such call"]}, NOW_US)
    whole, refused, parts = reader.answers([totals, gone, by_agent])
    assert isinstance(refused, BadParameter)
    assert sum(row["calls"] for row in parts.to_pylist()) == whole.to_pylist()[0]["calls"]


def test_health_counts_what_is_there(ask):
    (row,) = ask("health")
    assert (row["calls"], row["attempts"], row["open_calls"], row["lost_frames"]) == (600, 600, 0, 0)


def test_money_is_an_exact_decimal_in_arrow(database, ledger, now_us):
    table = LedgerReader(database).answer(parse(CATALOGUE["totals"], {}, now_us))
    assert table.schema.field("effective_cost_usd").type == pa.decimal128(38, 12)
    assert table.schema.field("calls").type == pa.int64()


def test_a_question_that_takes_too_long_is_interrupted(database, monkeypatch):
    endless = Statement("SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b", {})
    monkeypatch.setattr("collector.store.reader.statement", lambda asked, marks: endless)
    reader = LedgerReader(database, seconds=0.2)
    with pytest.raises(TooExpensive, match="ran longer"):
        reader.answer(parse(CATALOGUE["totals"], {}, NOW_US))

    monkeypatch.undo()
    assert reader.answer(parse(CATALOGUE["totals"], {}, NOW_US)).num_rows == 1


def test_a_question_waits_for_its_turn_and_then_gives_up(database, ledger, now_us):
    reader = LedgerReader(database, at_once=1, wait_s=0.01)
    reader._places.acquire()
    with pytest.raises(Busy):
        reader.answer(parse(CATALOGUE["totals"], {}, now_us))


def test_of_very_many_that_cost_the_same_some_are_shown_and_memory_is_kept(make_call, tmp_path):
    database = open_ledger(tmp_path, DatabaseConfig()).database
    books = Books(database, now_us=lambda: NOW_US)
    entry = books.begin()
    entry.records.extend(
        make_call(started_at_us=NOON_US + n, cost=0, conversation_id=f"talk{n}") for n in range(3_000)
    )
    entry.records.append(make_call(started_at_us=NOON_US, cost=5, conversation_id="dear"))
    books.enter(entry)

    given = {"since": ["30d"], "by": ["conversation_id"], "limit": ["10"]}
    rows = LedgerReader(database).answer(parse(CATALOGUE["spend_by"], given, NOW_US)).to_pylist()
    database.close()

    assert rows[0]["conversation_id"] == "dear"
    assert [row["calls"] for row in rows] == [1] * 10


@pytest.mark.parametrize("going_on", [0, 1_300])
def test_the_first_of_very_many_conversations_are_found_however_many_go_on(make_call, tmp_path, going_on):
    """Their days are added up apart from the hours around these days, in which others may be dearer."""
    midnight = NOON_US // DAY_US * DAY_US
    database = open_ledger(tmp_path, DatabaseConfig()).database
    books = Books(database, now_us=lambda: midnight + 2 * DAY_US)

    def call(name, at_us, cost):
        return make_call(started_at_us=midnight + at_us, cost=cost, conversation_id=name)

    calls = [call(f"talk{n}", n * MINUTE_US // 2, 10**6 + n) for n in range(1_400)]
    calls += [call(f"talk{1_399 - n}", DAY_US + n * 10**6, 1) for n in range(going_on)]
    calls += [call("late", DAY_US + HOUR_US, 10**9), call("talk3", DAY_US + HOUR_US, 10**8)]
    entry = books.begin()
    entry.records.extend(calls)
    books.enter(entry)
    while books.advance_rollups():
        pass
    spent, asked = Counter(), Counter(record.conversation_id for record in calls)
    for record in calls:
        spent[record.conversation_id] += record.effective_cost_pico

    def ask(name, **given):
        period = {
            "since": [str(midnight // 10**6)],
            "until": [str((midnight + DAY_US + DAY_US // 2) // 10**6)],
        }
        asked = parse(CATALOGUE[name], period | {key: [value] for key, value in given.items()}, NOW_US)
        return LedgerReader(database).answer(asked).to_pylist()

    rows = ask("spend_by", by="conversation_id", limit="5")
    values = ask("values", dimension="conversation_id", limit="5")
    database.close()

    assert [(row["conversation_id"], row["effective_cost_usd"]) for row in rows] == [
        (name, usd(pico)) for name, pico in spent.most_common(5)
    ]
    assert [row["calls"] for row in values] == [count for _, count in asked.most_common(5)]
    assert all(asked[row["value"]] == row["calls"] for row in values)
