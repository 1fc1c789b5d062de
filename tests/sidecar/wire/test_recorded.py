"""Every recorded exchange of the providers, whole and cut at every byte."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from collector.domain.money import pico_from_usd
from collector.domain.usage import Usage
from sidecar.wire.errors import read_error
from sidecar.wire.facts import ReplyFacts
from sidecar.wire.usage import read_usage
from tests.sidecar.wire.conftest import APIS_BY_ENDPOINT, Case, bytewise, meter_of, reply_bytes, run

FIELDS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_write_input_tokens",
    "cache_write_1h_tokens": "cache_write_1h_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
    "audio_input_tokens": "audio_input_tokens",
    "audio_output_tokens": "audio_output_tokens",
}

IMPOSSIBLE = {
    "S-033": "Azure's Grok reports 314 cached of 208 prompt tokens",
    "S-035": "Azure's Grok reports 163 cached of 7 prompt tokens",
    "S-182": "MiniMax on OpenRouter reports 11 reasoning of 10 completion tokens",
}
"""Reports whose parts exceed their whole: the whole is kept, the part is cut to it and flagged."""


def expected_usage(case: Case) -> Usage | None:
    told = case["expected"]["usage"]
    if told is None:
        return None
    counts = {field: told.get(name, 0) for name, field in FIELDS.items()}
    if case["id"] in IMPOSSIBLE:
        counts["cache_read_input_tokens"] = min(counts["cache_read_input_tokens"], counts["input_tokens"])
        counts["reasoning_output_tokens"] = min(counts["reasoning_output_tokens"], counts["output_tokens"])
    return Usage(**counts)


def differences(case: Case, facts: ReplyFacts) -> list[Any]:
    """What ``facts`` says otherwise than the recording's own reading."""
    expected = case["expected"]
    found: list[Any] = []
    usage, told = facts.usage, expected_usage(case)
    if usage is None or told is None:
        if (usage is None) != (told is None):
            found.append((usage, told))
    else:
        found += [
            (field, getattr(usage, field), getattr(told, field))
            for field in FIELDS.values()
            if getattr(usage, field) != getattr(told, field)
        ]
    cost = (expected["usage"] or {}).get("provider_reported_cost_usd")
    told_pico = None if cost is None else pico_from_usd(Decimal(str(cost)))
    if facts.provider_cost_pico != told_pico:
        found.append(("cost", facts.provider_cost_pico, told_pico))
    # Where the recording's reader found no name, ours may: Claude says its own inside Bedrock's chunks.
    for name, ours in (("model", facts.response_model), ("response_id", facts.response_id)):
        if expected[name] and ours != expected[name]:
            found.append((name, ours, expected[name]))
    # One reason for each choice; of a stream the recordings' reader lists each reason once.
    reasons = list(dict.fromkeys(facts.finish_reasons)) if expected["stream"] else facts.finish_reasons
    if expected["finish_reasons"] and reasons != expected["finish_reasons"]:
        found.append(("finish_reasons", reasons, expected["finish_reasons"]))
    if len(facts.tool_names) != expected["tool_calls"]:
        found.append(("tool_calls", facts.tool_names, expected["tool_calls"]))
    if (expected["n_events"] or 0) != facts.chunks:
        found.append(("events", facts.chunks, expected["n_events"]))
    found += error_differences(expected["error"], facts)
    return found


def error_differences(told: dict[str, Any] | None, facts: ReplyFacts) -> list[Any]:
    if (told is None) != (facts.error is None):
        return [("error", facts.error, told)]
    if told is None or facts.error is None:
        return []
    message = str(told.get("message") or told.get("detail"))
    return [] if facts.error.message == message[:200] else [("error", facts.error, told)]


def apis_of(case: Case) -> set[str]:
    """On its own route where it has one, and on pass-through."""
    return {"raw", APIS_BY_ENDPOINT.get(case["endpoint"], "raw")}


def test_every_recorded_reply_is_read_as_it_was_meant(cases: list[Case]) -> None:
    wrong = {}
    for case in cases:
        data = reply_bytes(case)
        for api in apis_of(case):
            forwarded, facts = run(meter_of(case, api), [data])
            assert forwarded == data
            if found := differences(case, facts):
                wrong[case["id"], api] = found
    assert wrong == {}


def test_every_recorded_reply_is_read_alike_when_cut_at_every_byte(cases: list[Case]) -> None:
    for case in cases:
        data = reply_bytes(case)
        for api in apis_of(case):
            _, whole = run(meter_of(case, api), [data])
            forwarded, cut = run(meter_of(case, api), bytewise(data))
            assert forwarded == data, case["id"]
            assert cut == whole, case["id"]


def test_facts_can_be_asked_for_at_any_time(cases: list[Case]) -> None:
    for case in cases:
        if case["expected"]["stream"]:
            meter = meter_of(case, "raw")
            data = reply_bytes(case)
            for start in range(0, len(data), 97):
                meter.feed(data[start : start + 97])
                facts = meter.facts()
                assert facts.usage is None or facts.usage.input_tokens >= 0
            meter.finish()
            assert differences(case, meter.facts()) == []


def test_impossible_reports_are_flagged(cases: list[Case]) -> None:
    flagged = {
        case["id"]
        for case in cases
        if "parts_exceed_whole" in run(meter_of(case, "raw"), [reply_bytes(case)])[1].usage_flags
    }
    assert flagged == IMPOSSIBLE.keys()


def test_every_recorded_usage_block_is_counted_as_its_provider_bills_it(usage_blocks: list[Case]) -> None:
    names = {
        "input_tokens": "input_tokens",
        "output_tokens": "output_tokens",
        "cache_read_tokens": "cache_read_input_tokens",
        "cache_write_tokens": "cache_write_input_tokens",
        "output_reasoning_tokens": "reasoning_output_tokens",
        "input_audio_tokens": "audio_input_tokens",
        "input_image_tokens": "image_input_tokens",
        "output_image_tokens": "image_output_tokens",
        "web_searches": "web_searches",
    }
    for row in usage_blocks:
        body = row["body"]
        usage, flags = read_usage(body.get("usage") or body.get("usageMetadata") or body["meta"])
        assert usage is not None
        assert flags == ()
        read = {name: getattr(usage, field) for name, field in names.items()}
        assert read == {name: row["expected_usage"].get(name, 0) for name in names}, row["id"]


def test_reported_errors_are_sorted_into_their_classes(shared_data: Path) -> None:
    lines = (shared_data / "provider_responses" / "errors_reported.jsonl").read_text().splitlines()
    for line in lines:
        row = json.loads(line)
        error = read_error(row["body"]["error"], row["status"], {})
        assert error.error_class == row["expected"]["error_class"]
        assert error.retryable is row["expected"]["retryable"]
        assert error.retry_after_s == row["expected"]["retry_after_s"]


def test_recorded_errors_are_sorted_into_telling_classes(cases: list[Case]) -> None:
    classes = {
        "S-029": "invalid_request",
        "S-031": "not_found",
        "S-032": "content_filter",
        "S-039": "auth",
        "S-042": "auth",
        "S-053": "not_found",
        "S-057": "not_found",
        "S-064": "not_found",
        "S-075": "auth",
        "S-077": "not_found",
        "S-086": "invalid_request",
        "S-100": "auth",
        "S-108": "invalid_request",
        "S-111": "invalid_request",
        "S-119": "auth",
        "S-152": "invalid_request",
        "S-155": "invalid_request",
        "S-157": "not_found",
        "S-179": "context_length",
        "S-182": "invalid_request",
        "S-188": "auth",
        "S-190": "context_length",
        "S-198": "invalid_request",
        "S-203": "not_found",
    }
    found = {}
    for case in cases:
        facts = run(meter_of(case, "raw"), [reply_bytes(case)])[1]
        if facts.error is not None:
            found[case["id"]] = facts.error.error_class
    assert found == classes
