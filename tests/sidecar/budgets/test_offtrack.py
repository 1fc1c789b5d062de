"""What is off track is found within a stated number of bytes; what is ordinary is left alone."""

import bisect
import gzip
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.budgets.offtrack import (
    BLOCK,
    FEWEST_CALLS,
    LONGEST_PERIOD,
    Kind,
    OffTrack,
    Watch,
    advances_evenly,
    found_within,
    has_words,
    longest_ordinary,
)
from tests.sidecar.budgets.ordinary import code, markup, prose, records, sample, table, vocabulary

LEAD = b"Here is what you asked for, as briefly as I can put it, and in the order in which it came. "


def watched(text: bytes, longest: int | None = None) -> OffTrack | None:
    return Watch(longest).feed(text)


def planted(lead: bytes, again: Callable[[int], bytes], size: int = 80_000) -> tuple[OffTrack, int]:
    """What is found in a loop after ``lead``, and how many bytes of the loop that took."""
    made = bytearray()
    number = 0
    while len(made) < size:
        made += again(number)
        number += 1
    found = watched(lead + made)
    assert found is not None, (lead[:40], again(0)[:60])
    return found, found.at_bytes - len(lead)


def passage(chance: Random, size: int) -> bytes:
    """``size`` bytes that a model might get stuck in."""
    while True:
        text = chance.choice((prose, code, records, table, markup))(chance, size)[:size]
        if len(text) == size and has_words(text):
            return text


def false_alarms(seeds: range) -> list[tuple[int, OffTrack]]:
    return [(seed, found) for seed in seeds if (found := watched(sample(seed))) is not None]


def test_ordinary_answers_are_left_alone() -> None:
    assert false_alarms(range(400)) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fewer_than_one_ordinary_answer_in_ten_thousand_raises_an_alarm() -> None:
    seeds = range(100_000, 124_000)

    alarms = false_alarms(seeds)

    assert len(alarms) * 10_000 < len(seeds), alarms


def test_real_prompts_and_questions_are_left_alone(shared_data: Path) -> None:
    lines = gzip.decompress((shared_data / "prompt_injection" / "samples.jsonl.gz").read_bytes()).split(b"\n")
    texts = [line for line in lines if line]

    assert len(texts) > 1_000
    assert [text[:80] for text in texts if watched(text) is not None] == []


@pytest.mark.parametrize("seed", range(60))
def test_a_loop_of_1_to_2400_bytes_is_found_within_the_stated_bytes(seed: int) -> None:
    chance = Random(seed)
    lead = sample(seed)[: chance.randrange(6_000)]
    again = passage(chance, max(2, int(2400 ** chance.random())))

    found, took = planted(lead, lambda number: again)

    assert found.kind is Kind.LOOP
    assert took <= found_within(Kind.LOOP, len(again))
    assert took <= 4_096 + 5 * len(again) + 2 * BLOCK


@pytest.mark.parametrize("period", [LONGEST_PERIOD, 1, 2, 3, 31, 32, 33, 511, 512, 1023, 1024, 1025])
def test_loops_of_awkward_periods_are_found(period: int) -> None:
    again = Random(period).randbytes(period).hex()[:period].encode()

    found, took = planted(LEAD, lambda number: again)

    assert found.kind is Kind.LOOP
    assert took <= found_within(Kind.LOOP, period, words=has_words(again))


@pytest.mark.parametrize("words", [1, 3, 20, 100, 400])
def test_a_loop_of_1_to_400_tokens_is_found_within_20_kilobytes(words: int) -> None:
    again = " ".join(Random(words).choices(vocabulary(), k=words)).encode() + b" "

    found, took = planted(LEAD, lambda number: again)

    assert found.kind is Kind.LOOP
    assert took <= 20_000


@pytest.mark.parametrize("seed", range(40))
def test_a_loop_with_a_counter_is_found_within_the_stated_bytes(seed: int) -> None:
    chance = Random(seed)
    again = passage(chance, int(20 * 120 ** chance.random()))
    place, start = chance.randrange(len(again)), chance.choice((0, 7, 95, 98_765))

    found, took = planted(
        sample(seed)[: chance.randrange(6_000)],
        lambda number: again[:place] + b" %d " % (start + number) + again[place:],
    )

    assert found.kind in (Kind.COUNTING, Kind.STALE)
    assert took <= max(found_within(Kind.COUNTING, len(again)), found_within(Kind.STALE)) <= 48 << 10


def test_rows_and_elements_that_differ_in_their_numbers_alone_and_never_end_are_found() -> None:
    for row in (
        b'{"id": %d, "name": "user%d", "ok": true},\n',
        b"| %d | pending | row %d |\n",
        b"Step %d of %d.\n",
    ):
        found, took = planted(LEAD, lambda number, row=row: row % (number, 3 * number))  # type: ignore[misc]
        assert found.kind is Kind.COUNTING
        assert took <= found_within(Kind.COUNTING, len(row))


@pytest.mark.parametrize("seed", range(20))
def test_a_long_passage_that_changes_in_one_word_is_found(seed: int) -> None:
    chance = Random(seed)
    again = passage(chance, chance.randint(1_000, 2_400))
    place = chance.randrange(len(again))

    found, took = planted(
        LEAD, lambda number: again[:place] + chance.choice(vocabulary()).encode() + again[place:]
    )

    assert found.kind is Kind.STALE
    assert took <= 40_000


@pytest.mark.parametrize("blank", [b" ", b"\n", b"\t", b"  \n", b"\r\n"])
def test_whitespace_without_end_is_found_after_a_kilobyte(blank: bytes) -> None:
    found, took = planted(b'{"answer": ', lambda number: blank, size=5_000)

    assert found.kind is Kind.BLANK
    assert took <= found_within(Kind.BLANK)


def test_a_loop_that_begins_late_in_a_long_answer_is_found() -> None:
    lead = b"".join(code(Random(seed), 20_000) for seed in range(10))

    found, took = planted(lead, lambda number: b"I will check the file again. ")

    assert found.kind is Kind.LOOP
    assert took <= found_within(Kind.LOOP, 29)
    assert (
        found.reason
        == f"off track: the same text again and again for {found.run_bytes} bytes, 29 bytes at a time"
    )


def test_repetition_that_ends_is_left_alone() -> None:
    chorus = b"Around the world, around the world\n" * 100  # 3.5 kB
    zeros = b"[" + b"0, " * 2_500 + b"0]"
    padding = b"QUJD" + b"A" * 7_000 + b"REVG"
    rule = b"=" * 4_000
    gap = b"x" + b" " * 900 + b"y"
    for text in (chorus, zeros, padding, rule, gap):
        assert watched(LEAD * 30 + text + prose(Random(1), 9_000)) is None


def test_a_list_of_numbers_may_be_as_long_as_somebody_wants() -> None:
    assert watched(", ".join(map(str, range(30_000))).encode()) is None
    assert watched("\n".join(f"{number * 7},{number % 10}" for number in range(20_000)).encode()) is None


@given(st.integers(0, 5), st.lists(st.integers(1, 3_000), min_size=1, max_size=30))
def test_no_way_to_cut_a_stream_changes_the_verdict(which: int, sizes: list[int]) -> None:
    lead = sample(which)[:3_000]
    text = (
        lead
        + (b"again and again, " * 700, b"row %d\n" * 900, b" " * 4_000, LEAD * 200, sample(3), b"a1" * 9_000)[
            which
        ]
    )
    watch = Watch(30_000)
    found: list[OffTrack] = []
    place = 0
    while place < len(text):
        size = sizes[place % len(sizes)]
        if (seen := watch.feed(text[place : place + size])) is not None:
            found.append(seen)
        place += size

    assert found == ([whole] if (whole := watched(text, 30_000)) else [])


def test_a_finding_is_told_once_and_kept() -> None:
    watch = Watch()

    told = [watch.feed(b"the same ") for _ in range(5_000)]

    (found,) = [one for one in told if one is not None]
    assert watch.found == found


def test_a_stream_far_beyond_its_like_is_a_runaway() -> None:
    longest = longest_ordinary(usual_tokens=2_000, calls=1_000)
    assert longest == 48_000  # 4 x 2,000 tokens x 6 bytes

    text = b"".join(code(Random(seed), 20_000) for seed in range(10))
    found = watched(text, longest)

    assert found is not None
    assert (found.kind, found.at_bytes) == (Kind.RUNAWAY, 48_128)  # the first multiple of 1,024 above 48,000
    assert watched(text[:48_000], longest) is None


def test_a_short_history_says_nothing_about_length() -> None:
    assert longest_ordinary(2_000, FEWEST_CALLS - 1) is None
    assert longest_ordinary(0, 10_000) is None
    assert longest_ordinary(10, FEWEST_CALLS) == 4_096 * 6  # agents that usually say a word may say a page


@pytest.mark.parametrize(
    ("trace", "question"),
    [
        ("agentic_coding_sessions", "SELECT model || kind, output_tokens FROM ? ORDER BY trace_id, t_s"),
        ("azure2023_code", "SELECT '', GeneratedTokens FROM ? ORDER BY timestamp"),
        ("mooncake_conversation", "SELECT '', output_length FROM ? ORDER BY timestamp"),
    ],
)
def test_no_call_of_real_traces_is_a_runaway_by_its_own_history(
    shared_data: Path, trace: str, question: str
) -> None:
    path = shared_data / "llm_traces" / f"{trace}.parquet"
    calls = duckdb.sql(question.replace("?", f"'{path}'")).fetchall()
    histories: dict[str, list[int]] = {}
    runaways = judged = 0
    for like, tokens in calls:
        history = histories.setdefault(like, [])
        usual = history[int(0.99 * (len(history) - 1))] if history else 0
        if (longest := longest_ordinary(usual, len(history))) is not None:
            judged += 1
            runaways += 4.5 * tokens > longest  # bytes of English and code a token
        bisect.insort(history, tokens)

    assert judged > 8_000
    assert runaways == 0


def test_numbers_advance_evenly_when_each_is_a_counter_of_its_own() -> None:
    rows = b"".join(b"%d of 100: %d ms\n" % (number, 250 * number) for number in range(60))
    chance = Random(1)
    measured = b"".join(b"%d of 100: %d ms\n" % (number, chance.randint(0, 999)) for number in range(60))

    assert advances_evenly(rows)
    assert not advances_evenly(measured)
    assert not advances_evenly(b"no numbers at all")


def test_a_watch_holds_a_few_kilobytes_whatever_passes() -> None:
    watch = Watch()
    for seed in range(30):
        watch.feed(sample(seed))
        for _ in range(200):
            watch.feed(b"word ")

    parts = [getattr(watch, name) for name in Watch.__slots__]

    assert watch.found is None
    assert sum(sys.getsizeof(part) for part in parts) < 9_000


def test_a_chunk_costs_a_few_microseconds_at_most() -> None:
    text = b"".join(markup(Random(seed), 30_000) for seed in range(3))
    chunks = [text[place : place + 4] for place in range(0, len(text), 4)]

    def cost_us() -> float:
        feed = Watch().feed
        started = time.thread_time()
        for chunk in chunks:
            feed(chunk)
        return (time.thread_time() - started) / len(chunks) * 1e6

    # 0.4 us on an idle core; the bound is for a busy one.
    assert min(cost_us() for _ in range(5)) < 5
