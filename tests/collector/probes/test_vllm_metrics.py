from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collector.probes.vllm_export import COLUMNS, book, metrics_of, rows_of
from collector.probes.vllm_metrics import COUNTERS, GAUGES, LABELLED, Differences, EngineSample, parse

RECORDED = Path(__file__).with_name("vllm")
S = 1_000_000


@pytest.fixture(scope="module")
def idle() -> str:
    """A server with ``--enable-mfu-metrics`` after eighteen requests."""
    return (RECORDED / "metrics_idle.txt").read_text()


@pytest.fixture(scope="module")
def loaded() -> str:
    """Another one after 2578 requests."""
    return (RECORDED / "metrics_after_load.txt").read_text()


def page(*, started: float = 100.0, **totals: float) -> str:
    lines = [f"process_start_time_seconds {started}"]
    lines += [f'vllm:{name}{{engine="0",model_name="m"}} {value}' for name, value in totals.items()]
    return "\n".join(lines) + "\n"


def samples_of(*pages: str) -> list[EngineSample]:
    differences = Differences("local", "127.0.0.1:8000")
    return [differences.take(parse(text, place * S)) for place, text in enumerate(pages, 1)]


def test_a_recorded_scrape_is_read_in_full(idle: str) -> None:
    scrape = parse(idle, 5)

    assert (scrape.model, scrape.block_size, scrape.kv_cache_tokens) == ("tiny", 128, 1_048_576)
    assert (scrape.awake, scrape.started_s) == (True, 1_795_367_651.78)
    assert scrape.counters["prompt_tokens"] == 6451
    assert scrape.counters["cached_prompt_tokens"] == 4096
    assert scrape.counters["generation_tokens"] == 949
    assert (scrape.counters["steps"], scrape.counters["step_tokens"]) == (936, 3304)
    assert scrape.counters["flops"] == 15_826_468_864
    assert scrape.labelled["prompt_by_source"] == {
        "local_compute": 2355, "local_cache_hit": 4096, "external_kv_transfer": 0
    }  # fmt: skip
    assert scrape.labelled["finished"]["length"] == 17
    assert set(scrape.gauges) == set(GAUGES)


def test_every_name_that_a_present_server_has_is_the_first_that_we_look_for(idle: str, loaded: str) -> None:
    told = {
        sample.name for family in text_string_to_metric_families(idle + loaded) for sample in family.samples
    }
    lazy = {"draft_tokens", "accepted_draft_tokens"}  # only with speculative decoding
    first = {names[0] for word, names in {**COUNTERS, **GAUGES}.items() if word not in lazy}
    assert first | {name for name, _ in LABELLED.values()} <= told


def test_we_read_what_an_independent_parser_reads(loaded: str) -> None:
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(loaded):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    counters = parse(loaded, 1).counters
    assert counters == {word: sums[COUNTERS[word][0]] for word in counters}


def test_the_first_look_has_no_differences_and_the_second_has() -> None:
    first, second = samples_of(
        page(prompt_tokens_total=1000, prompt_tokens_cached_total=200, generation_tokens_total=50),
        page(
            prompt_tokens_total=1600, prompt_tokens_cached_total=300, generation_tokens_total=80,
            num_requests_running=3, num_requests_waiting=1, kv_cache_usage_perc=0.25,
        ),
    )  # fmt: skip

    assert (first.interval_us, first.counted, first.totals) == (0, {}, {})
    assert second.interval_us == S
    assert second.counted["prompt_tokens"] == 600
    assert (second.cached_prompt_tokens, second.generation_tokens) == (100, 30)
    assert second.computed_prompt_tokens == 500  # where the source is not told: all less cached
    assert (second.running, second.waiting, second.kv_cache_usage_ratio) == (3, 1, 0.25)


def test_old_names_are_tolerated_and_new_ones_win() -> None:
    _, old = samples_of(
        page(gpu_prefix_cache_hits_total=0, time_per_output_token_seconds_count=0, gpu_cache_usage_perc=0),
        page(
            gpu_prefix_cache_hits_total=128, time_per_output_token_seconds_count=7, gpu_cache_usage_perc=0.5
        ),
    )
    assert (old.cached_prompt_tokens, old.counted["token_gaps"], old.kv_cache_usage_ratio) == (128, 7, 0.5)

    both = parse(page(kv_cache_usage_perc=0.1, gpu_cache_usage_perc=0.9), 1)
    assert both.gauges["kv_cache_usage_ratio"] == 0.1


def test_a_restart_is_seen_by_the_start_time_or_by_a_counter_that_went_back() -> None:
    *_, by_time = samples_of(
        page(generation_tokens_total=10), page(started=200.0, generation_tokens_total=40)
    )
    assert (by_time.restarted, by_time.generation_tokens, by_time.restarts) == (True, 40, 1)

    silent = [page(generation_tokens_total=n).split("\n", 1)[1] for n in (10, 50, 4, 6)]
    samples = samples_of(*silent)
    assert [one.restarted for one in samples] == [False, False, True, False]
    assert [one.generation_tokens for one in samples] == [None, 40, 4, 2]
    assert samples[-1].totals["generation_tokens"] == 46


def test_a_look_that_failed_is_covered_by_the_next() -> None:
    differences = Differences("local", "r")
    differences.take(parse(page(generation_tokens_total=10), 1 * S))
    gone = differences.unreachable(2 * S)
    after = differences.take(parse(page(generation_tokens_total=70), 3 * S))

    assert (gone.state, gone.generation_tokens) == ("unreachable", None)
    assert (after.state, after.interval_us, after.generation_tokens) == ("ok", 2 * S, 60)


def test_engines_of_one_server_are_summed_and_the_fullest_cache_counts() -> None:
    text = "".join(
        f'vllm:generation_tokens_total{{engine="{n}"}} {value}\n'
        f'vllm:kv_cache_usage_perc{{engine="{n}"}} {usage}\n'
        for n, value, usage in ((0, 5, 0.2), (1, 6, 0.9), (2, 7, 0.3))
    )
    scrape = parse(text, 1)
    assert scrape.counters == {"generation_tokens": 18}
    assert scrape.gauges == {"kv_cache_usage_ratio": 0.9}


def test_lines_that_make_no_sense_are_passed_over() -> None:
    text = (
        'vllm:generation_tokens_total{model_name="a}b \\"c\\" 9"} 5\n'
        "vllm:generation_tokens_total\n"
        "vllm:generation_tokens_total{ 7\n"
        "vllm:generation_tokens_total{} NaN\n"
        "vllm:generation_tokens_total{} -3\n"
        "vllm:generation_tokens_total{} 1e999\n"
        "vllm:generation_tokens_total_created{} 1795367651\n"
    )
    scrape = parse(text, 1)
    assert scrape.counters == {"generation_tokens": 5}
    assert scrape.model == 'a}b \\"c\\" 9'


def test_a_flood_of_label_values_is_bounded() -> None:
    text = "".join(f'vllm:request_success_total{{finished_reason="{"x" * 500}{n}"}} 1\n' for n in range(5000))
    text += "".join(f'vllm:admission_rejections_total{{reason="r{n}"}} 1\n' for n in range(5000))
    scrape = parse(text, 1)
    assert [len(kinds) for kinds in scrape.labelled.values()] == [1, 16]


@given(st.text(alphabet='vlm:process_generation_tokens_total{}="\\,\n 0123456789.eE+-naif', max_size=200))
def test_any_text_is_read_without_complaint(text: str) -> None:
    scrape = parse("vllm:generation_tokens_total" + text, 1)
    assert all(value >= 0 for value in scrape.counters.values())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), min_size=1, max_size=30))
def test_totals_never_go_back_and_are_the_sum_of_the_differences(history: Sequence[tuple[bool, int]]) -> None:
    pages, total, started = [], 0, 100.0
    for restart, more in history:
        total, started = (more, started + 50) if restart else (total + more, started)
        pages.append(page(started=started, generation_tokens_total=total))
    samples = samples_of(*pages)

    known = [one.totals.get("generation_tokens", 0) for one in samples]
    assert all(before <= after for before, after in pairwise(known))
    assert known[-1] == sum(more for _, more in history[1:])
    assert samples[-1].restarts == sum(restart for restart, _ in history[1:])


def test_a_sample_is_a_row_and_prometheus_text(idle: str) -> None:
    more = idle.replace(
        'vllm:generation_tokens_total{engine="0",model_name="tiny"} 949.0',
        'vllm:generation_tokens_total{engine="0",model_name="tiny"} 1000.0',
    ).replace(
        'finished_reason="stop",model_name="tiny"} 1.0', 'finished_reason="stop",model_name="tiny"} 3.0'
    )
    _, sample = samples_of(idle, more)

    row = rows_of(sample)
    assert list(row) == list(COLUMNS)
    assert (row["sampled_at"], row["generation_tokens"]) == (datetime(1970, 1, 1, 0, 0, 2), 51)
    assert (row["model"], row["interval_ms"], row["steps"]) == ("tiny", 1000.0, 0)
    assert row["attributes"] == '{"finished":{"stop":2.0}}'
    told = {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(metrics_of([sample]))
        for one in family.samples
    }
    at = ("local", "127.0.0.1:8000")
    assert told[("bursar_engine_generation_tokens_total", *at)] == 51
    assert told[("bursar_engine_prompt_tokens_total", *at, "computed")] == 0
    assert told[("bursar_engine_up", *at)] == 1
    assert metrics_of([sample.silent()]).count("bursar_engine_up{") == 1
    assert "running" not in metrics_of([sample.silent()])


def test_rows_go_into_a_table_of_those_columns(database: Any, rows: Any, idle: str) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    database.connection.execute(f"CREATE TABLE IF NOT EXISTS engine_samples ({columns})")
    with database.turn, database.transaction() as connection:
        book(connection, samples_of(idle, idle.replace("949.0", "1000.0")))

    assert rows(
        "SELECT replica, generation_tokens, running, restarted FROM engine_samples ORDER BY sampled_at"
    ) == [("127.0.0.1:8000", None, 0, False), ("127.0.0.1:8000", 51, 0, False)]
