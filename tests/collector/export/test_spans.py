import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from collector.domain.record import CallRecord
from collector.export.conventions import SCHEMA_URL
from collector.export.facts import span_facts
from collector.export.protobuf import SpanEncoder
from collector.export.resource import SCOPE, version
from collector.export.span_data import Cleaner, usd_text
from collector.export.spans import spans_of, spans_rows

RESOURCE = Resource({"service.name": "bursar", "host.cpus": 2, "flag": True, "ratio": 0.5})


def encoded(*records: CallRecord) -> bytes:
    encoder = SpanEncoder(RESOURCE.attributes, scope=SCOPE, version=version(), schema_url=SCHEMA_URL)
    return encoder.request([encoder.spans(span_facts(call, Cleaner())) for call in records])


def by_name(call: CallRecord) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans_of(call, RESOURCE)}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_call_is_a_server_span_an_inference_and_a_request(record: Any) -> None:
    server, inference, request = spans_of(record(), RESOURCE)

    assert (server.name, server.kind) == ("POST /v1/chat/completions", SpanKind.SERVER)
    assert (inference.name, inference.kind) == ("chat gpt-5-mini", SpanKind.CLIENT)
    assert (request.name, request.kind) == ("POST", SpanKind.CLIENT)
    ids = [f"{span.context.span_id:016x}" for span in (server, inference, request)]
    assert ids == ["00000000000000b1", "00000000000000d1", "00000000000000a1"]
    parents = [f"{span.parent.span_id:016x}" for span in (server, inference, request) if span.parent]
    assert parents == ["00000000000000c1", "00000000000000b1", "00000000000000d1"]
    assert [span.parent.is_remote for span in (server, inference, request) if span.parent] == [
        True,
        False,
        False,
    ]
    assert {f"{span.context.trace_id:032x}" for span in (server, inference, request)} == {
        "0af7651916cd43dd8448eb211c80319c"
    }
    assert (server.start_time, server.end_time) == (1_790_000_000_000_000_000, 1_790_000_000_851_000_000)
    assert (inference.start_time, inference.end_time) == (
        1_790_000_000_000_100_000,
        1_790_000_000_850_100_000,
    )


def test_the_inference_says_what_was_asked_and_answered(record: Any) -> None:
    """Every attribute, worked out by hand from the record."""
    assert attributes(by_name(record())["chat gpt-5-mini"]) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.request.max_tokens": 512,
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "conv-1",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5-mini-2025-08-07",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.21,
        "gen_ai.usage.input_tokens": 1200,
        "gen_ai.usage.output_tokens": 340,
        "gen_ai.usage.cache_read.input_tokens": 800,
        "gen_ai.usage.reasoning.output_tokens": 120,
        "openai.api.type": "chat_completions",
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_1",
        "server.address": "api.openai.com",
        "server.port": 443,
        "bursar.upstream": "openai",
        "bursar.usage.grade": "reported",
        "bursar.price.grade": "listed",
        "bursar.cost.effective_pico_usd": 800_000_000,
        "bursar.cost.effective_usd": "0.000800000000",
    }


def test_the_server_span_says_who_it_was_for_and_what_it_cost(record: Any) -> None:
    assert attributes(by_name(record())["POST /v1/chat/completions"]) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "client.address": "127.0.0.1",
        "user_agent.original": "OpenAI/Python 3.54.0",
        "gen_ai.agent.name": "researcher",
        "gen_ai.conversation.id": "conv-1",
        "bursar.call.id": "019a0000-0000-7000-8000-000000000001",
        "bursar.api": "openai.chat",
        "bursar.outcome": "served",
        "bursar.cache": "miss",
        "bursar.overhead_s": 0.000085,
        "bursar.tenant": "acme",
        "bursar.team": "search",
        "bursar.user.id": "u-1",
        "bursar.task.id": "task-1",
        "bursar.key.id": "k1",
        "bursar.upstream": "openai",
        "bursar.request.model": "gpt-5-mini",
        "bursar.tag.env": "prod",
        "bursar.cost.effective_pico_usd": 800_000_000,
        "bursar.cost.effective_usd": "0.000800000000",
    }


def test_the_request_span_says_where_it_went(record: Any) -> None:
    assert attributes(by_name(record())["POST"]) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "api.openai.com",
        "server.port": 443,
        "bursar.attempt": 1,
    }


def test_retries_of_one_target_stay_inside_one_inference(record: Any, attempt: Any) -> None:
    failed = attempt(http_status=503, usage_grade="", input_tokens=0, time_to_first_chunk_us=None,
                     duration_us=50_000)  # fmt: skip
    worked = attempt(attempt=2, span_id="00000000000000a2", started_at_us=1_790_000_000_100_100)

    spans = spans_of(record(attempts=(failed, worked)), RESOURCE)

    assert [span.name for span in spans] == ["POST /v1/chat/completions", "chat gpt-5-mini", "POST", "POST"]
    inference, first, second = spans[1:]
    assert inference.status.status_code is StatusCode.UNSET
    # 0.1 s went by before the try that answered, after 0.21 s more.
    assert attributes(inference)["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.31)
    assert (first.status.status_code, attributes(first)["error.type"]) == (StatusCode.ERROR, "503")
    assert attributes(second)["http.request.resend_count"] == 1
    assert {f"{span.parent.span_id:016x}" for span in (first, second) if span.parent} == {"00000000000000d1"}


def test_a_fallback_to_another_model_is_a_second_inference(record: Any, attempt: Any) -> None:
    broken = attempt(http_status=None, error_type="timeout_first_byte", usage_grade="", price_grade="")
    other = attempt(attempt=2, upstream="local", provider_name="vllm", request_model="qwen3-8b",
                    replica="10.0.0.5:8000", span_id="00000000000000a2")  # fmt: skip

    spans = by_name(record(attempts=(broken, other), response_model="qwen3-8b", downgraded_from="gpt-5"))

    first, second = spans["chat gpt-5-mini"], spans["chat qwen3-8b"]
    assert attributes(first)["error.type"] == "timeout_first_byte"
    assert first.status.status_code is StatusCode.ERROR
    assert not [name for name in attributes(first) if name.startswith(("gen_ai.response.id", "gen_ai.usage"))]
    assert attributes(second)["gen_ai.provider.name"] == "vllm"
    assert (attributes(second)["server.address"], attributes(second)["server.port"]) == ("10.0.0.5", 8000)
    assert not [name for name in attributes(second) if name.startswith("openai.")]
    assert attributes(second)["bursar.response.service_tier"] == "default"
    server = attributes(spans["POST /v1/chat/completions"])
    assert (server["bursar.request.model"], server["bursar.downgraded_from"]) == ("gpt-5", "gpt-5")
    assert len({span.context.span_id for span in spans_of(record(attempts=(broken, other)), RESOURCE)}) == 5


@pytest.mark.parametrize(
    ("outcome", "cache"), [("reused", "hit"), ("reused", "semantic"), ("refused", "miss")]
)
def test_a_call_that_asked_no_model_is_its_server_span_alone(record: Any, outcome: str, cache: str) -> None:
    call = record(outcome=outcome, outcome_reason="budget", cache=cache, attempts=(), gen_ai_span_id="",
                  http_status=402 if outcome == "refused" else 200, avoided_cost_pico=7)  # fmt: skip

    [server] = spans_of(call, RESOURCE)

    assert server.status.status_code is StatusCode.UNSET
    assert "gen_ai.operation.name" not in attributes(server)
    assert attributes(server)["bursar.outcome_reason"] == "budget"
    assert attributes(server)["bursar.cost.avoided_usd"] == "0.000000000007"


def test_a_conversation_that_we_recognised_ourselves_is_not_passed_off_as_known(record: Any) -> None:
    for span in spans_of(record(conversation_source="stitched"), RESOURCE):
        assert "gen_ai.conversation.id" not in attributes(span)


def test_a_provider_s_words_about_a_failure_are_not_told(record: Any, attempt: Any) -> None:
    call = record(outcome="failed", outcome_reason="Invalid value: 'my secret prompt'", http_status=400,
                  error_type="invalid_request", attempts=(attempt(http_status=400),))  # fmt: skip

    assert b"my secret prompt" not in encoded(call)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"http_status": 502, "error_type": "connect", "outcome": "failed"}, "connect"),
        ({"http_status": 503, "error_type": "", "outcome": "failed"}, "503"),
        ({"http_status": 200, "error_type": "reset", "outcome": "failed"}, "reset"),
        ({"http_status": 429, "error_type": "rate_limit", "outcome": "failed"}, ""),
        ({"http_status": 499, "outcome": "abandoned"}, ""),
        ({"outcome": "cut"}, ""),
    ],
)
def test_a_server_span_fails_as_the_http_conventions_say(
    record: Any, changes: dict[str, Any], error: str
) -> None:
    server = spans_of(record(**changes), RESOURCE)[0]

    assert attributes(server).get("error.type", "") == error
    assert server.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert ("http.response.status_code" in attributes(server)) is (changes.get("http_status") != 499)


def test_embeddings_carry_only_what_embeddings_have(record: Any, attempt: Any) -> None:
    call = record(
        api="openai.embeddings",
        stream=False,
        finish_reasons=[],
        request_attributes={"dimension_count": 256, "encoding_formats": ["float"], "temperature": 1},
        attempts=(attempt(request_model="text-embedding-3-small"),),
    )

    span = by_name(call)["embeddings text-embedding-3-small"]

    assert {name: value for name, value in attributes(span).items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.request.encoding_formats": ["float"],
        "gen_ai.embeddings.dimension.count": 256,
        "gen_ai.response.model": "gpt-5-mini-2025-08-07",
        "gen_ai.usage.input_tokens": 1200,
    }


def test_counting_tokens_is_no_inference(record: Any) -> None:
    spans = spans_of(record(api="anthropic.count_tokens"), RESOURCE)

    assert [span.name for span in spans] == ["POST /v1/chat/completions", "POST"]
    assert spans[1].parent is not None
    assert spans[1].parent.span_id == spans[0].context.span_id


def test_a_call_booked_from_its_intent_alone_is_still_one_inference(record: Any) -> None:
    call = record(attempts=(), outcome="failed", error_type="crashed", usage_grade="assumed", stream=False)

    span = by_name(call)["chat gpt-5-mini"]

    assert attributes(span)["bursar.usage.grade"] == "assumed"
    assert attributes(span)["error.type"] == "crashed"


def test_request_parameters_of_the_wrong_type_are_left_out(record: Any) -> None:
    nonsense = {
        "max_tokens": "many", "temperature": float("nan"), "top_p": True, "top_k": 2**70, "seed": 1.5,
        "choice_count": 1, "stop_sequences": "END", "output_type": "hologram", "reasoning_level": 3,
        "unheard_of": 1,
    }  # fmt: skip

    span = by_name(record(request_attributes=nonsense))["chat gpt-5-mini"]

    assert {n for n in attributes(span) if n.startswith(("gen_ai.request.", "gen_ai.output"))} == {
        "gen_ai.request.model",
        "gen_ai.request.stream",
    }


def test_hostile_names_are_inert_text(record: Any) -> None:
    """Case H05."""
    tags = {
        "__proto__.x": "1",
        "constructor": "<script>",
        "a.b.c" * 2000: "'; DROP TABLE calls",
        "\ud800": "\ud800",
    }
    call = record(tags=tags, agent="x" * 10_000)

    server = attributes(spans_of(call, RESOURCE)[0])

    assert server["bursar.tag.__proto__.x"] == "1"
    assert server["bursar.tag.constructor"] == "<script>"
    assert max(len(name) for name in server) <= len("bursar.tag.") + 64
    assert len(server["gen_ai.agent.name"]) == 512
    assert len(encoded(call)) < 8192


def test_credentials_in_what_a_caller_says_are_masked(record: Any, attempt: Any) -> None:
    """Case H04."""
    key = "sk-proj-abcdefghijklmnop1234567890"
    call = record(
        user_agent=f"curl Bearer {key}",
        agent=key,
        user_id=f"https://user:{key}@host/",
        tags={"note": f"?api_key={key}"},
        conversation_id=key,
        request_model=key,
        response_id=key,
        content={"input": json.dumps({"messages": [{"role": "user", "content": f"my key is {key}"}]})},
        attempts=(attempt(request_model=key),),
    )

    assert key.encode() not in encoded(call)
    assert key not in str(spans_rows(call))


CHAT = json.dumps(
    {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"},
                                         {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                                         {"type": "image_url", "image_url": {"url": "data:image/png,AA"}}]},
            {"role": "assistant", "content": None,
             "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ],
    }
)  # fmt: skip


def test_captured_content_has_the_conventions_shape(record: Any) -> None:
    reply = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Sunny."}}]})

    span = by_name(record(content={"input": CHAT, "output": reply}))["chat gpt-5-mini"]

    assert attributes(span)["gen_ai.input.messages"] == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "Weather?"},
                {"type": "uri", "modality": "image", "uri": "https://x/y.png"},
                {"type": "omitted_image_url"},
            ],
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]},
    ]
    assert attributes(span)["gen_ai.output.messages"] == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Sunny."}]}
    ]


ANTHROPIC = '{"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]}'
STREAMS = {
    "openai": 'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
    'data: {"choices":[{"index":0,"delta":{"content":"lo"}}]}\n\ndata: {"choices":[{"ind',
    "anthropic": "event: content_block_delta\n"
    'data: {"type":"content_block_delta","delta":{"text":"Hello"}}\n\n',
    "responses": 'data: {"type":"response.output_text.delta","delta":"Hello"}\n\n',
    "finished": 'data: {"type":"response.completed","response":{"output":[{"type":"message",'
    '"content":[{"type":"output_text","text":"Hello"}]}]}}\n\n',
}


@pytest.mark.parametrize("dialect", STREAMS)
def test_a_captured_stream_is_put_together_as_far_as_it_was_kept(record: Any, dialect: str) -> None:
    call = record(content={"input": ANTHROPIC, "output": STREAMS[dialect]})

    span = attributes(by_name(call)["chat gpt-5-mini"])

    assert span["gen_ai.output.messages"] == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Hello"}]}
    ]
    assert span["gen_ai.system_instructions"] == [{"type": "text", "content": "Be brief."}]


def test_content_that_was_cut_in_the_middle_is_one_text(record: Any) -> None:
    span = attributes(by_name(record(content={"input": CHAT[:50]}))["chat gpt-5-mini"])

    assert span["gen_ai.input.messages"] == [
        {"role": "user", "parts": [{"type": "text", "content": CHAT[:50]}]}
    ]


@pytest.fixture
def variety(record: Any, attempt: Any) -> list[CallRecord]:
    """Calls of every dialect and end."""
    failed = attempt(http_status=529, error_type="overloaded", usage_grade="", price_grade="")
    local = attempt(upstream="local", provider_name="vllm", request_model="qwen3-8b", replica="[::1]:8000")
    return [
        record(),
        record(api="openai.responses", request_attributes={"previous_response_id": "r1",
               "service_tier": "default", "reasoning_level": "high", "output_type": "json",
               "choice_count": 2, "seed": 7, "top_p": 1,
               "stop_sequences": ["a", "b"], "frequency_penalty": 0.5, "presence_penalty": -1}),
        record(api="openai.completions", attempts=(local,)),
        record(api="openai.embeddings", stream=False, attempts=(attempt(request_model="e"),)),
        record(api="anthropic.messages", path="/v1/messages", request_attributes={"top_k": 40}, attempts=(
               attempt(provider_name="anthropic", request_model="claude-sonnet-5", replica="h.claude.com:443",
                       cache_write_input_tokens=300, cache_write_1h_input_tokens=100),)),
        record(api="anthropic.count_tokens"),
        record(api="raw", path="/gemini/{path}", attempts=(attempt(provider_name="gcp.gemini"),)),
        record(outcome="failed", http_status=529, error_type="overloaded", stream=False, attempts=(failed,)),
        record(outcome="failed", attempts=(failed, attempt(attempt=2, span_id="00000000000000a2"), local)),
        record(outcome="reused", cache="hit", attempts=(), gen_ai_span_id=""),
        record(outcome="abandoned", http_status=499, attempts=(attempt(http_status=None),)),
        record(outcome="failed", attempts=(), usage_grade="assumed", error_type="crashed"),
        record(audio_input_tokens=50, audio_output_tokens=20, conversation_source="stitched"),
        record(parent_span_id=""),
    ]  # fmt: skip


def test_the_conventions_checker_finds_nothing(
    variety: list[CallRecord], tmp_path: Path, semconv: Callable[..., str]
) -> None:
    path = tmp_path / "traces.pb"
    path.write_bytes(encoded(*variety))

    # vllm is a permitted custom value; the checker warns of every value that is not well known.
    assert (
        semconv(path, "--no-content", "--require-spans", "12", "--ignore", "attr.enum:gen_ai.provider.name=*")
        == ""
    )


def test_the_conventions_checker_accepts_captured_content(
    record: Any, tmp_path: Path, semconv: Callable[..., str]
) -> None:
    path = tmp_path / "traces.pb"
    calls = [record(content={"input": CHAT, "output": stream}) for stream in STREAMS.values()]
    path.write_bytes(encoded(*calls, record(content={"input": "not json", "output": "neither"})))

    assert semconv(path, "--require-spans", "5") == ""
    assert "content.captured" in semconv(path, "--no-content")


def test_our_bytes_are_the_sdk_s_bytes(variety: list[CallRecord], record: Any) -> None:
    variety.append(record(content={"input": CHAT, "output": STREAMS["openai"]}))
    for call in variety:
        assert encoded(call) == encode_spans(spans_of(call, RESOURCE)).SerializeToString()


names = st.text(st.characters(codec="utf-8"), max_size=300)


@given(
    agent=names,
    model=names,
    user=names,
    tokens=st.integers(0, 2**62),
    cost=st.integers(0, 2**80),
    duration=st.integers(0, 2**45),
    temperature=st.floats(allow_nan=False, allow_infinity=False),
    seed=st.integers(-(2**63) + 1, 2**63 - 1),
    stop=st.lists(names, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_our_bytes_are_the_sdk_s_bytes_for_any_values(record: Any, attempt: Any, **drawn: Any) -> None:
    call = record(
        agent=drawn["agent"],
        user_id=drawn["user"],
        duration_us=drawn["duration"],
        effective_cost_pico=drawn["cost"],
        request_attributes={
            "temperature": drawn["temperature"], "seed": drawn["seed"], "stop_sequences": drawn["stop"],
        },
        attempts=(attempt(request_model=drawn["model"], input_tokens=drawn["tokens"]),),
    )  # fmt: skip

    for _ in range(2):  # The second time from what was remembered of the first.
        assert encoded(call) == encode_spans(spans_of(call, RESOURCE)).SerializeToString()


def test_what_is_remembered_stays_bounded(record: Any) -> None:
    encoder = SpanEncoder({}, scope=SCOPE, version="1", schema_url=SCHEMA_URL)
    clean = Cleaner()
    for number in range(9_000):
        encoder.spans(span_facts(record(agent=f"agent-{number}", tags={f"t{number}": "x"}), clean)[:1])

    assert len(encoder._remembered) <= 8192
    assert len(encoder._heads) <= 8192


def test_rows_say_the_same_as_spans(record: Any) -> None:
    rows = spans_rows(record(outcome="failed", http_status=502))

    for row, span in zip(rows, spans_of(record(outcome="failed", http_status=502), RESOURCE), strict=True):
        assert row.span_id == f"{span.context.span_id:016x}"
        assert (row.name, row.kind, row.status) == (span.name, span.kind.name, span.status.status_code.name)
        assert (row.start_ns, row.end_ns) == (span.start_time, span.end_time)
        assert json.loads(row.attributes) == attributes(span)


@given(st.integers(-(10**30), 10**30))
def test_an_amount_in_words_is_exact(pico: int) -> None:
    whole, _, fraction = usd_text(pico).partition(".")

    assert len(fraction) == 12
    assert int(whole + fraction) == pico
