import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collector.domain.record import CallRecord, Outcome
from collector.export.labels import OTHER, LabelLimits
from collector.export.prometheus import CallMetrics
from collector.export.states import State

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: CallMetrics) -> Samples:
    """What an independent parser reads from the exposition."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def total(metrics: CallMetrics, name: str, **labels: str) -> float:
    return sum(
        value
        for (sample, found), value in samples(metrics).items()
        if sample == name and labels.items() <= dict(found).items()
    )


def observed(*records: CallRecord, limits: LabelLimits | None = None) -> CallMetrics:
    metrics = CallMetrics(limits)
    for one in records:
        metrics.observe(one)
    return metrics


def test_a_call_is_counted_under_its_names(record: Any) -> None:
    labels = {"upstream": "openai", "model": "gpt-5-mini", "api": "openai.chat", "outcome": "served"}

    metrics = observed(record(), record())

    assert total(metrics, "bursar_calls_total", **labels, team="search", agent="researcher") == 2
    assert total(metrics, "bursar_call_duration_seconds_count", **labels) == 2
    assert total(metrics, "bursar_call_duration_seconds_sum", **labels) == pytest.approx(1.702)
    assert total(metrics, "bursar_overhead_seconds_sum") == pytest.approx(0.00017)
    assert total(metrics, "bursar_time_to_first_chunk_seconds_count") == 2
    assert total(metrics, "bursar_cache_requests_total", result="miss") == 2
    assert total(metrics, "bursar_cache_requests_total", result="hit") == 0


def test_each_token_is_in_one_class(record: Any) -> None:
    call = record(
        input_tokens=1000,
        cache_read_input_tokens=300,
        cache_write_input_tokens=200,
        cache_write_1h_input_tokens=50,
        audio_input_tokens=100,
        output_tokens=400,
        reasoning_output_tokens=150,
        audio_output_tokens=50,
    )

    metrics = observed(call)

    by_class = {
        dict(labels)["class"]: value
        for (name, labels), value in samples(metrics).items()
        if name == "bursar_tokens_total"
    }
    assert by_class == {
        "input": 400,  # 1000 - 300 read - 200 written - 100 heard
        "input_audio": 100,
        "cache_read": 300,
        "cache_write": 150,
        "cache_write_1h": 50,
        "output": 200,  # 400 - 150 - 50
        "output_audio": 50,
        "reasoning": 150,
    }


def test_money_is_written_to_the_last_pico_dollar(record: Any) -> None:
    metrics = observed(record(effective_cost_pico=1), record(effective_cost_pico=123_456_789_012_345_678))

    [line] = [
        line for line in metrics.render().decode().splitlines() if line.startswith("bursar_cost_usd_total{")
    ]
    assert line.rsplit(" ", 1)[1] == "123456.789012345679"


def test_a_duration_on_a_bound_belongs_to_the_bucket_that_it_closes(record: Any) -> None:
    metrics = observed(record(duration_us=100_000), record(duration_us=100_001))

    assert total(metrics, "bursar_call_duration_seconds_bucket", le="0.1") == 1
    assert total(metrics, "bursar_call_duration_seconds_bucket", le="0.25") == 2


def test_the_convention_s_metrics_describe_the_inference(record: Any) -> None:
    metrics = observed(record())
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "gpt-5-mini",
        "gen_ai_response_model": "gpt-5-mini-2025-08-07",
        "server_address": "api.openai.com",
        "server_port": "443",
    }
    usage = "gen_ai_client_inference_usage_"

    assert total(metrics, "gen_ai_client_inference_duration_seconds_sum", **labels) == pytest.approx(0.85)
    assert total(metrics, "gen_ai_client_inference_operation_input_tokens_sum", **labels) == 1200
    assert total(metrics, "gen_ai_client_inference_operation_output_tokens_bucket", **labels, le="256") == 0
    assert total(metrics, "gen_ai_client_inference_operation_output_tokens_bucket", **labels, le="1024") == 1
    assert total(metrics, "gen_ai_client_inference_time_to_first_chunk_seconds_sum") == pytest.approx(0.21)
    # 40 gaps between 41 chunks in the 0.64 s after the first: 16 ms each.
    assert total(metrics, "gen_ai_client_inference_time_per_output_chunk_seconds_count") == 40
    assert total(metrics, "gen_ai_client_inference_time_per_output_chunk_seconds_bucket", le="0.01") == 0
    assert total(metrics, "gen_ai_client_inference_time_per_output_chunk_seconds_bucket", le="0.02") == 40
    for name, tokens in {
        "input_tokens": 1200,
        "output_tokens": 340,
        "cache_read_input_tokens": 800,
        "cache_write_input_tokens": 0,
        "reasoning_output_tokens": 120,
    }.items():
        found = total(metrics, f"{usage}{name}_total", **labels, gen_ai_token_modality="unknown")
        assert found == tokens, name


def test_a_failed_call_without_usage_still_has_counters_at_zero(record: Any, attempt: Any) -> None:
    failed = attempt(http_status=503, input_tokens=0, output_tokens=0, cache_read_input_tokens=0,
                     reasoning_output_tokens=0, usage_grade="", time_to_first_chunk_us=None)  # fmt: skip
    metrics = observed(record(outcome="failed", response_model="", attempts=(failed,), usage_grade=""))

    found = samples(metrics)
    names = {name for name, _ in found}
    assert "gen_ai_client_inference_usage_input_tokens_total" in names
    assert total(metrics, "gen_ai_client_inference_usage_input_tokens_total") == 0
    assert total(metrics, "gen_ai_client_inference_duration_seconds_count", error_type="503") == 1
    assert "gen_ai_client_inference_operation_input_tokens_count" not in names


def test_audio_tokens_have_their_own_modality(record: Any) -> None:
    metrics = observed(record(audio_input_tokens=200, audio_output_tokens=40))

    usage = "gen_ai_client_inference_usage_"
    assert total(metrics, f"{usage}input_tokens_total", gen_ai_token_modality="audio") == 200
    assert total(metrics, f"{usage}input_tokens_total", gen_ai_token_modality="unknown") == 1000
    assert total(metrics, f"{usage}output_tokens_total", gen_ai_token_modality="audio") == 40


def test_a_fallback_is_two_inferences_and_one_call(record: Any, attempt: Any) -> None:
    first = attempt(http_status=500, usage_grade="", input_tokens=0, output_tokens=0)
    second = attempt(
        attempt=2, upstream="local", provider_name="vllm", request_model="qwen3-8b", replica="10.0.0.5:8000"
    )

    metrics = observed(record(attempts=(first, second)))

    assert total(metrics, "bursar_calls_total") == 1
    duration = "gen_ai_client_inference_duration_seconds_count"
    assert total(metrics, duration, gen_ai_provider_name="openai", error_type="500") == 1
    assert total(metrics, duration, gen_ai_provider_name="vllm", gen_ai_request_model="qwen3-8b") == 1


def test_embeddings_have_metrics_of_their_own(record: Any, attempt: Any) -> None:
    metrics = observed(
        record(
            api="openai.embeddings", stream=False, attempts=(attempt(request_model="text-embedding-3-small"),)
        )
    )

    names = {name for name, _ in samples(metrics)}
    assert "gen_ai_client_embeddings_duration_seconds_count" in names
    assert "gen_ai_client_embeddings_operation_input_tokens_sum" in names
    assert not [name for name in names if name.startswith("gen_ai_client_inference_")]


@pytest.mark.parametrize("outcome", ["refused", "reused"])
def test_a_call_that_asked_no_model_is_no_inference(record: Any, outcome: str) -> None:
    metrics = observed(record(outcome=outcome, cache="hit", gen_ai_span_id="", attempts=()))

    assert total(metrics, "bursar_calls_total", outcome=outcome) == 1
    assert b"gen_ai_" not in metrics.render()


def test_a_stand_in_price_shows_at_once(record: Any) -> None:
    metrics = observed(record(price_grade="prior", request_model="brand-new"))

    assert total(metrics, "bursar_unpriced_calls_total", upstream="openai", model="brand-new") == 1


def test_names_beyond_the_limit_are_counted_as_other(record: Any) -> None:
    limits = LabelLimits(models=frozenset({"known"}), unconfigured_models=2)

    metrics = observed(
        *[record(request_model=f"m{number}", attempts=(), gen_ai_span_id="") for number in range(5)],
        record(request_model="known"),
        limits=limits,
    )

    by_model = {
        dict(labels)["model"]: value
        for (name, labels), value in samples(metrics).items()
        if name == "bursar_calls_total"
    }
    assert by_model == {"m0": 1, "m1": 1, OTHER: 3, "known": 1}


def test_made_up_names_of_failing_calls_do_not_crowd_out_those_that_work(record: Any) -> None:
    limits = LabelLimits(unconfigured_models=4)
    made_up = [
        record(request_model=f"no-{n}", outcome=Outcome.FAILED, attempts=(), gen_ai_span_id="")
        for n in range(100)
    ]

    working = [record(request_model=f"works-{n}", attempts=(), gen_ai_span_id="") for n in (1, 2)]

    metrics = observed(*made_up, *working, limits=limits)

    assert total(metrics, "bursar_calls_total", model="works-1") == 1
    assert total(metrics, "bursar_calls_total", model="works-2") == 1
    assert total(metrics, "bursar_calls_total", model=OTHER, outcome="failed") == 98


def test_a_key_sent_as_a_model_name_never_becomes_a_label(record: Any, attempt: Any) -> None:
    key = "sk-proj-abcdefghijklmnop1234567890"

    text = observed(record(request_model=key, attempts=(attempt(request_model=key),))).render()

    assert key.encode() not in text


@pytest.mark.slow
def test_a_hundred_thousand_names_stay_bounded_and_are_scraped_at_once(record: Any, attempt: Any) -> None:
    """Case H03."""
    metrics = CallMetrics()
    for number in range(100_000):
        model = f"model-{number}"
        metrics.observe(
            record(
                request_model=model,
                response_model=model,
                user_id=f"user-{number}",
                agent=f"agent-{number}",
                user_agent=f"browser/{number}",
                attempts=(attempt(request_model=model, replica=f"10.{number >> 8}.0.1:{number % 65536}"),),
            )
        )

    began = time.process_time()
    text = metrics.render()
    took_s = time.process_time() - began

    assert took_s < 1
    assert (
        text.count(b"\n") < 70_000
    )  # series: 1,000 sets of 11, 500 of 49, 250 of about 90, at the very most
    assert total(metrics, "bursar_calls_total") == 100_000
    assert len(msgspec.msgpack.encode(metrics.state())) < 4 << 20


def test_when_combinations_run_out_the_outcomes_are_still_told_apart(record: Any) -> None:
    limits = LabelLimits(label_sets=8)
    calls = [
        record(agent=f"a{agent}", team=f"t{team}", outcome=outcome)
        for agent in range(10)
        for team in range(10)
        for outcome in ("served", "abandoned")
    ]

    metrics = observed(*calls, limits=limits)

    assert total(metrics, "bursar_calls_total", outcome="served") == 100
    assert total(metrics, "bursar_calls_total", outcome="abandoned") == 100


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(model=texts, team=texts, agent=texts, upstream=texts)
@settings(max_examples=60, deadline=None)
def test_any_name_survives_the_exposition(
    record: Any, model: str, team: str, agent: str, upstream: str
) -> None:
    """Case H06: quotes, newlines, backslashes, percent signs, braces."""
    limits = LabelLimits(
        models=frozenset({model}),
        teams=frozenset({team}),
        agents=frozenset({agent}),
        upstreams=frozenset({upstream}),
    )
    call = record(request_model=model, team=team, agent=agent, upstream=upstream)

    metrics = observed(call, limits=limits)

    assert total(metrics, "bursar_calls_total", model=model, team=team, agent=agent, upstream=upstream) == 1
    assert total(metrics, "bursar_call_duration_seconds_count", model=model, upstream=upstream) == 1


def calls_of(record: Any) -> st.SearchStrategy[list[CallRecord]]:
    return st.lists(
        st.builds(
            lambda model, agent, cost, duration, tokens, grade, outcome: record(
                request_model=model,
                agent=agent,
                effective_cost_pico=cost,
                duration_us=duration,
                input_tokens=800 + tokens,
                price_grade=grade,
                outcome=outcome,
            ),
            st.sampled_from(["a", "b"]),
            st.sampled_from(["x", "y"]),
            st.integers(0, 10**15),
            st.integers(0, 10**9),
            st.integers(0, 10**6),
            st.sampled_from(["listed", "prior"]),
            st.sampled_from(["served", "failed"]),
        ),
        max_size=12,
    )


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_workers_added_up_in_any_order_are_one_process_that_saw_every_call(record: Any, data: Any) -> None:
    parts = data.draw(st.lists(calls_of(record), min_size=1, max_size=4))
    order = data.draw(st.permutations(range(len(parts))))
    states = [travelled(observed(*part).state()) for part in parts]

    merged = CallMetrics()
    merged.merge([states[at] for at in order])

    assert samples(merged) == samples(observed(*[call for part in parts for call in part]))


def travelled(state: State) -> State:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)


def test_a_state_of_another_version_is_turned_away(record: Any) -> None:
    state = observed(record()).state()
    short = state._replace(calls=[(labels, figures[:-1]) for labels, figures in state.calls])

    with pytest.raises(ValueError, match="do not make a CallTotals"):
        CallMetrics().merge([short])


def test_values_that_others_set_are_exposed_and_added_up_over_workers() -> None:
    workers = []
    for lag, inflight in ((0.5, 3), (0.25, 4)):
        worker = CallMetrics()
        worker.set_gauge("bursar_event_loop_lag_seconds", {}, lag)
        worker.set_gauge("bursar_upstream_inflight", {"upstream": "openai", "replica": "h:443"}, inflight)
        worker.set_gauge("bursar_budget_limit_usd", {"budget": "team"}, Decimal("25.000000000001"))
        worker.add("bursar_dropped_total", {"stage": "journal", "reason": "full"})
        worker.add("bursar_dropped_total", {"stage": "journal", "reason": "full"}, 2)
        workers.append(travelled(worker.state()))

    merged = CallMetrics()
    merged.merge(workers)

    assert total(merged, "bursar_event_loop_lag_seconds") == 0.5
    assert total(merged, "bursar_upstream_inflight", replica="h:443") == 7
    assert total(merged, "bursar_dropped_total", stage="journal", reason="full") == 6
    assert b'bursar_budget_limit_usd{budget="team"} 25.000000000001\n' in merged.render()


def test_one_worker_with_an_invalid_configuration_shows() -> None:
    workers = []
    for valid in (1, 0, 1):
        workers.append(CallMetrics())
        workers[-1].set_gauge("bursar_config_valid", {}, valid)
        workers[-1].set_gauge("bursar_process_memory_ratio", {}, float("nan"))

    merged = CallMetrics()
    merged.merge([worker.state() for worker in workers])

    assert total(merged, "bursar_config_valid") == 0
    assert "bursar_process_memory_ratio" not in {name for name, _ in samples(merged)}


def test_a_counter_is_announced_before_it_first_counts() -> None:
    assert b"# TYPE bursar_dropped_total counter\n" in CallMetrics().render()
    assert b"bursar_gpu_" not in CallMetrics().render()


def test_a_gauge_that_is_cleared_is_gone() -> None:
    metrics = CallMetrics()
    metrics.set_gauge("bursar_upstream_inflight", {"upstream": "a", "replica": "gone:1"}, 1)

    metrics.clear_gauge("bursar_upstream_inflight")

    assert b"gone" not in metrics.render()


def test_values_of_one_family_are_bounded_and_the_rest_is_counted() -> None:
    metrics = CallMetrics()
    for number in range(2000):
        metrics.set_gauge("bursar_budget_spent_usd", {"budget": f"b{number}"}, number)

    assert metrics.render().count(b"bursar_budget_spent_usd{") == 500
    assert total(metrics, "bursar_dropped_total", stage="metrics", reason="series_limit") == 1500


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        (lambda m: m.add("bursar_nonsense_total", {}), "no counter bursar_nonsense_total"),
        (lambda m: m.add("bursar_journal_lag_seconds", {}), "no counter bursar_journal_lag_seconds"),
        (lambda m: m.set_gauge("bursar_budget_limit_usd", {"team": "x"}, 1), "has the labels"),
        (lambda m: m.add("bursar_dropped_total", {"stage": "a", "reason": "b"}, -1), "cannot go down"),
    ],
)
def test_a_metric_that_is_not_ours_is_refused(call: Callable[[CallMetrics], None], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        call(CallMetrics())


@pytest.fixture
def everything(record: Any, attempt: Any) -> CallMetrics:
    """Metrics with something in every family and awkward names."""
    metrics = observed(
        record(),
        record(team='a "quoted" team', agent="back\\slash\nand line"),
        record(audio_input_tokens=10, audio_output_tokens=10, price_grade="prior", avoided_cost_pico=5),
        record(api="openai.embeddings", stream=False, attempts=(attempt(),)),
        record(outcome="failed", attempts=(attempt(error_type="timeout_idle"),)),
        record(api="raw", provider_name="gcp.gemini", attempts=(attempt(provider_name="gcp.gemini"),)),
        limits=LabelLimits(
            teams=frozenset({'a "quoted" team'}), agents=frozenset({"back\\slash\nand line", "100 %s"})
        ),
    )
    metrics.set_gauge("bursar_budget_limit_usd", {"budget": 'b"1'}, Decimal("1.5"))
    metrics.set_gauge("bursar_process_memory_ratio", {}, 0.25)
    metrics.add("bursar_dropped_total", {"stage": "spans", "reason": "queue_full"}, 3)
    return metrics


def test_promtool_finds_nothing_to_mend(everything: CallMetrics) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH (Debian package prometheus)")

    done = subprocess.run(
        [promtool, "check", "metrics"], input=everything.render(), capture_output=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_conventions_checker_finds_nothing(
    everything: CallMetrics, tmp_path: Path, semconv: Callable[..., str]
) -> None:
    path = tmp_path / "metrics.txt"
    path.write_bytes(everything.render())

    assert semconv(path, "--prom", "--no-content") == ""


def test_families_are_not_interleaved(everything: CallMetrics) -> None:
    heads = [line for line in everything.render().decode().splitlines() if line.startswith("# TYPE ")]

    assert len(heads) == len(set(heads))
    assert everything.render().decode() == "".join(everything.chunks())


def test_importing_it_loads_nothing_but_the_standard_library() -> None:
    """The serving process starts in half a second and 60 MiB."""
    code = (
        "import sys; before = set(sys.modules); import collector.export.prometheus; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['collector']"
