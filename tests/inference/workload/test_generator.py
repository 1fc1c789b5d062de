from collections import Counter, defaultdict
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest

from inference.workload.calls import Attribution, TracedCall
from inference.workload.conversations import conversation
from inference.workload.fitted import shipped_fit
from inference.workload.generator import COMPANY, demonstration, generate
from inference.workload.quantiles import ks_distance
from inference.workload.traces import read_trace


@pytest.fixture(scope="module")
def calls() -> list[TracedCall]:
    return list(islice(generate(seed=1, calls_per_s=10), 20_000))


def test_the_same_seed_gives_the_same_calls_and_another_seed_others() -> None:
    first, again, other = (list(islice(generate(seed=seed), 300)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_calls_come_in_order_of_time_at_about_the_asked_rate(calls: list[TracedCall]) -> None:
    assert all(a.at_s <= b.at_s for a, b in pairwise(calls))
    assert 7 < len(calls) / calls[-1].at_s < 13


def test_shares_of_the_company_sum_to_one() -> None:
    assert sum(profile.share for profile in COMPANY) == pytest.approx(1)


def test_every_agent_calls_about_as_often_as_its_share(calls: list[TracedCall]) -> None:
    counts = Counter(call.agent.partition("/")[0] for call in calls)
    for profile in COMPANY:
        assert counts[profile.agent] / len(calls) == pytest.approx(profile.share, rel=0.35)


def test_everything_that_a_meter_must_meet_occurs(calls: list[TracedCall]) -> None:
    assert len({call.team for call in calls}) >= 4
    assert {call.api for call in calls} == {
        "openai.chat",
        "openai.responses",
        "openai.embeddings",
        "anthropic.messages",
    }
    assert {call.stream for call in calls} == {True, False}
    assert {call.attribution for call in calls} == set(Attribution)
    faults = {call.fault.partition(" ")[0] for call in calls}
    assert faults >= {
        "rate_limit",
        "server_error",
        "overloaded",
        "stream_error",
        "missing_usage",
        "truncated",
    }
    assert any(call.leaves_after_events is not None for call in calls)
    assert any("/" in call.agent for call in calls), "no sub-agent"
    assert any(call.usage.reasoning_output_tokens for call in calls)
    assert any(call.tools for call in calls)
    assert any(call.trace_id for call in calls)


def test_only_streams_are_left_or_broken_in_the_middle(calls: list[TracedCall]) -> None:
    for call in calls:
        if call.leaves_after_events is not None or call.fault.startswith(("stream_error", "truncated")):
            assert call.stream


def test_a_failed_call_is_tried_again_with_the_same_turn(calls: list[TracedCall]) -> None:
    by_conversation: dict[str, list[TracedCall]] = defaultdict(list)
    for call in calls:
        by_conversation[call.conversation].append(call)
    retried = 0
    for talk in by_conversation.values():
        for before, after in pairwise(talk):
            if before.fault.startswith(("rate_limit", "server_error", "overloaded")):
                assert (after.usage, after.agent) == (before.usage, before.agent)
                retried += 1
    assert retried > 50


def test_prompts_of_a_coding_session_grow_and_are_mostly_read_from_the_cache(calls: list[TracedCall]) -> None:
    coding = [call.usage for call in calls if call.agent == "coding-agent"]
    cached = sum(usage.cache_read_input_tokens for usage in coding) / sum(
        usage.input_tokens for usage in coding
    )
    assert 0.9 < cached < 0.99  # 96.3 % in the trace


def test_the_demonstration_tells_its_past_at_once_and_then_goes_on_steadily() -> None:
    calls = list(islice(demonstration(seed=3, burst_calls=100, calls_per_s=10), 300))
    past, present = calls[:100], calls[100:]
    assert all(call.at_s == 0 for call in past)
    assert all(call.instant == (call.leaves_after_events is None) for call in past)
    assert not any(call.instant for call in present)
    assert 5 < len(present) / present[-1].at_s < 25


def test_an_unknown_kind_of_conversation_is_an_error() -> None:
    with pytest.raises(KeyError):
        conversation("dancing", shipped_fit(), Random(0))


def drawn(kind: str, count: int) -> list[TracedCall]:
    random = Random(5)
    fit = shipped_fit()
    calls: list[TracedCall] = []
    while len(calls) < count:
        for turn in conversation(kind, fit, random):
            if not turn.agent_suffix:
                calls.append(
                    TracedCall(at_s=0, api="openai.chat", model="m", usage=turn.usage, agent=str(len(calls)))
                )
    return calls


@pytest.mark.parametrize(
    ("kind", "trace", "input_distance", "output_distance"),
    [
        # What two samples of one law stay below in 95 of 100 cases is 0.017; the knots leave a little more.
        ("completion", "azure2023_code", 0.04, 0.045),
        ("chat", "mooncake_conversation", 0.04, 0.03),
        # Prompts in mid-session come from first prompt, growth and compaction: nobody fitted them directly.
        ("coding", "agentic_coding_sessions", 0.20, 0.03),
    ],
)
def test_generated_sizes_follow_the_traces(
    shared_data: Path, kind: str, trace: str, input_distance: float, output_distance: float
) -> None:
    real = list(read_trace(shared_data / "llm_traces" / f"{trace}.parquet").calls())
    made = drawn(kind, 20_000)
    inputs = ks_distance([c.usage.input_tokens for c in real], [c.usage.input_tokens for c in made])
    outputs = ks_distance([c.usage.output_tokens for c in real], [c.usage.output_tokens for c in made])
    assert inputs < input_distance
    assert outputs < output_distance


@pytest.mark.slow
def test_the_shipped_fit_is_what_the_script_makes_of_the_traces(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    script = Path(__file__).parents[3] / "scripts" / "workload" / "fit.py"
    spec = importlib.util.spec_from_file_location("fit_script", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shipped = module.OUTPUT
    monkeypatch.setattr(module, "OUTPUT", tmp_path)

    assert module.main([str(shared_data / "llm_traces")]) == 0

    for name in ("fitted.json", "FIT.md"):
        assert (tmp_path / name).read_text() == (shipped / name).read_text()
