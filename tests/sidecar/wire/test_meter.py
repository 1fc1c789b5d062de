"""Streams and bodies as they come: split anywhere, oversized, compressed, lying, broken."""

import gzip
import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.domain.usage import Usage
from sidecar.wire import RequestFacts, meter_for
from sidecar.wire.eventstream import frame_bytes
from tests.sidecar.wire.conftest import JSON, SSE, bytewise, chat_chunk, new_meter, read, run

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
USAGE_CHUNK = (
    b"data: "
    + json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 7,
            "model": "m",
            "choices": [],
            "usage": USAGE,
        }
    ).encode()
    + b"\n\n"
)
DONE = b"data: [DONE]\n\n"


def stream_of(*texts: str) -> bytes:
    return b"".join([chat_chunk(text) for text in texts])


def test_an_ordinary_chunk_is_forwarded_as_the_same_object() -> None:
    meter = new_meter()
    meter.feed(chat_chunk("a"))
    meter.feed(chat_chunk("b"))
    chunk = chat_chunk("c")
    assert meter.feed(chunk) is chunk
    assert meter.facts().output_text_bytes == 3


@pytest.mark.parametrize(
    "text", ["plain", 'quote " inside', "back\\slash", "line\nbreak", "päivää 漢字 🙂", "", "\u2028"]
)
def test_the_text_of_a_chunk_is_counted_in_bytes_whatever_is_in_it(text: str) -> None:
    data = stream_of("a", "b", text, text, "z")
    facts = read(data)
    assert facts.output_text_bytes == 3 + 2 * len(text.encode())
    assert facts.chunks == 5


def test_a_chunk_that_resembles_the_last_one_but_says_more_is_read_in_full() -> None:
    first = chat_chunk("a")
    cunning = first.replace(
        b'"content": "a"',
        b'"content": "b", "tool_calls": [{"index": 0, "id": "c1", '
        b'"function": {"name": "f", "arguments": "x"}}], "refusal": "a"',
    )
    facts = read(first + first + cunning)
    assert facts.tool_names == ["f"]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_split_of_a_stream_gives_the_same_bytes_and_facts(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text(max_size=8), max_size=6))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    events = [b": keep-alive\n\n", *[chat_chunk(text) for text in texts], USAGE_CHUNK, DONE]
    whole = b"\xef\xbb\xbf" * data.draw(st.booleans()) + b"".join(events).replace(b"\n", end.encode())
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    withhold = data.draw(st.booleans())
    forwarded, facts = run(new_meter(withhold=withhold), pieces)

    kept = whole.replace(USAGE_CHUNK.replace(b"\n", end.encode()), b"") if withhold else whole
    assert forwarded == kept
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (11, 7)
    assert facts.output_text_bytes == sum(len(text.encode()) for text in texts)
    assert facts.complete
    assert facts.chunks == len(texts) + (1 if withhold else 2)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_cut_inside_a_line_end_costs_no_byte_beside_the_withheld_chunk(end: bytes) -> None:
    events = [event.replace(b"\n", end) for event in (stream_of("a", "b"), USAGE_CHUNK, DONE)]
    whole = b"".join(events)
    for cut in range(len(whole)):
        forwarded, _ = run(new_meter(withhold=True), [whole[:cut], whole[cut:]])
        assert forwarded == events[0] + events[2], cut


def test_the_usage_chunk_that_we_asked_for_is_withheld_and_nothing_else() -> None:
    data = stream_of("a", "b") + USAGE_CHUNK + DONE
    for pieces in ([data], bytewise(data), [data[:-40], data[-40:]]):
        forwarded, facts = run(new_meter(withhold=True), pieces)
        assert forwarded == stream_of("a", "b") + DONE
        assert facts.usage is not None


def test_usage_in_a_chunk_with_content_stays_where_it_is() -> None:
    data = stream_of("a") + chat_chunk("b", usage=USAGE) + DONE
    forwarded, facts = run(new_meter(withhold=True), [data])
    assert forwarded == data
    assert facts.usage is not None
    assert facts.usage.output_tokens == 7


def test_azures_prelude_without_choices_is_not_mistaken_for_usage() -> None:
    prelude = b'data: {"choices":[],"created":0,"id":"","model":"","prompt_filter_results":[]}\n\n'
    forwarded, facts = run(new_meter(withhold=True), [prelude + stream_of("a") + DONE])
    assert forwarded.startswith(prelude)
    assert facts.response_id == "chatcmpl-1"


def test_running_totals_are_never_summed() -> None:
    totals = [{"prompt_tokens": 5, "completion_tokens": made, "total_tokens": 5 + made} for made in (1, 2, 3)]
    data = b"".join([chat_chunk("x", usage=total) for total in totals])
    facts = read(data)
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (5, 3)


@pytest.mark.parametrize(
    "order", [[USAGE, None, None], [None, USAGE, None], [None, None, USAGE], [USAGE, None, USAGE]], ids=str
)
def test_usage_is_found_wherever_in_the_stream_it_stands(order: list[Any]) -> None:
    facts = read(b"".join([chat_chunk("x", usage=usage) for usage in order]) + DONE)
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (11, 7)


@pytest.mark.parametrize(
    "text",
    [
        "\n\ndata: [DONE]\n\n",
        '\n\nevent: error\ndata: {"error": {"message": "no"}}\n\n',
        '","usage":{"prompt_tokens":9}',
    ],
)
def test_events_written_by_the_model_stay_text(text: str) -> None:
    data = stream_of("a", "b", text) + chat_chunk(text)
    for pieces in ([data], bytewise(data)):
        forwarded, facts = run(new_meter(), pieces)
        assert forwarded == data
        assert (facts.error, facts.usage, facts.complete) == (None, None, False)
        assert facts.chunks == 4


def test_multi_line_data_is_joined_as_the_specification_says() -> None:
    data = (
        b'data: {"id": "r1", "model": "m",\ndata: "choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
    )
    facts = read(data)
    assert (facts.response_id, facts.output_text_bytes) == ("r1", 2)


def test_a_last_event_without_its_blank_line_still_counts() -> None:
    data = stream_of("a") + USAGE_CHUNK[:-1]
    forwarded, facts = run(new_meter(), [data])
    assert forwarded == data
    assert facts.usage is not None


def test_an_event_too_large_to_read_is_passed_and_flagged_and_those_after_it_are_read() -> None:
    huge = b"data: " + b"x" * (5 << 20) + b"\n\n"
    data = stream_of("a") + huge + USAGE_CHUNK + DONE
    pieces = [data[start : start + 65536] for start in range(0, len(data), 65536)]
    forwarded, facts = run(new_meter(), pieces)
    assert forwarded == data
    assert facts.usage_flags == ("event_too_large",)
    assert facts.usage is not None


def test_an_event_of_many_tiny_lines_is_bounded() -> None:
    data = b"data: 1\n" * 1_000_000 + b"\n" + USAGE_CHUNK
    forwarded, facts = run(new_meter(), [data[start : start + 65536] for start in range(0, len(data), 65536)])
    assert forwarded == data
    assert "event_too_large" in facts.usage_flags
    assert facts.usage is not None


def test_half_an_event_waits_but_a_comment_does_not() -> None:
    meter = new_meter()
    assert meter.feed(b": ping\n") == b": ping\n"
    chunk = chat_chunk("a")
    assert meter.feed(chunk[:40]) == b""
    assert meter.feed(chunk[40:]) == chunk


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate", "gzip, gzip"])
def test_a_compressed_reply_is_read_from_a_copy(encoding: str) -> None:
    data = stream_of("hello") + USAGE_CHUNK + DONE
    if encoding == "raw deflate":
        engine = zlib.compressobj(wbits=-15)
        packed = engine.compress(data) + engine.flush()
    elif encoding == "deflate":
        packed = zlib.compress(data)
    else:
        packed = gzip.compress(data)
        packed = gzip.compress(packed) if "," in encoding else packed
    headers = [*SSE, (b"content-encoding", encoding.removeprefix("raw ").encode())]
    for pieces in ([packed], bytewise(packed)):
        forwarded, facts = run(new_meter(headers=headers, withhold=True), pieces)
        assert forwarded == packed
        assert facts.usage is not None
        assert facts.output_text_bytes == 5


def test_a_bomb_is_given_up_at_sixteen_mebibytes() -> None:
    packed = gzip.compress(b'{"choices": [], "x": "' + b"a" * (64 << 20))
    meter = new_meter(headers=[*JSON, (b"content-encoding", b"gzip")])
    forwarded, facts = run(meter, [packed])
    assert forwarded == packed
    assert (facts.usage, facts.usage_flags) == (None, ("decoded_too_large",))


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, br", b"gzip, gzip, gzip"])
def test_what_cannot_be_unpacked_is_passed_and_flagged(encoding: bytes) -> None:
    data = b"\x0b\x02\x80not really compressed"
    forwarded, facts = run(new_meter(headers=[*JSON, (b"content-encoding", encoding)]), [data])
    assert forwarded == data
    assert (facts.usage, facts.usage_flags) == (None, ("content_encoding",))


def test_a_truncated_gzip_is_read_as_far_as_it_goes() -> None:
    text = "".join(random.Random(1).choices("abcdefghij", k=4000))
    packed = gzip.compress(stream_of(*[text[i : i + 20] for i in range(0, 4000, 20)]) + USAGE_CHUNK)
    _, facts = run(new_meter(headers=[*SSE, (b"content-encoding", b"gzip")]), [packed[: len(packed) // 2]])
    assert facts.usage is None
    assert 1000 < facts.output_text_bytes < 3500


@pytest.mark.parametrize(
    ("number", "flag"),
    [
        (-5, "negative"),
        (10**18, "implausible"),
        ("12", "not_a_number"),
        (True, "not_a_number"),
        ([1], "not_a_number"),
        (10**400, "implausible"),
    ],
)
def test_a_count_that_cannot_be_true_spoils_the_report(number: Any, flag: str) -> None:
    body = json.dumps(
        {"id": "x", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": number}}
    ).encode()
    facts = read(body, headers=JSON)
    assert facts.usage is None
    assert flag in facts.usage_flags


def test_a_part_that_cannot_be_true_is_dropped_alone() -> None:
    usage = {"prompt_tokens": 50, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": -1}}
    facts = read(json.dumps({"choices": [], "usage": usage}).encode(), headers=JSON)
    assert facts.usage is not None
    assert facts.usage.cache_read_input_tokens == 0
    assert facts.usage_flags == ("negative",)


def test_a_count_with_a_fraction_is_rounded_up_and_flagged_and_a_whole_float_is_a_count() -> None:
    facts = read(b'{"choices": [], "usage": {"prompt_tokens": 5.0, "completion_tokens": 2.5}}', headers=JSON)
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (5, 3)
    assert facts.usage_flags == ("not_an_integer",)


def test_a_stream_cut_after_anthropics_first_counts_is_not_final() -> None:
    start = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1","model":"c","usage":'
        b'{"input_tokens":10,"cache_read_input_tokens":90,"output_tokens":1}}}\n\n'
    )
    facts = read(start, api="anthropic.messages")
    assert facts.usage is not None
    assert facts.usage.input_tokens == 100
    assert not facts.complete


def test_anthropics_totals_so_far_are_not_summed() -> None:
    start = {"id": "m", "model": "c", "usage": {"input_tokens": 10, "output_tokens": 2}}
    events = [
        {"type": "message_start", "message": start},
        *({"type": "message_delta", "delta": {}, "usage": {"output_tokens": made}} for made in (5, 9, 12)),
        {"type": "message_stop"},
    ]
    data = b"".join([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events])
    facts = read(data, api="anthropic.messages")
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens, facts.complete) == (10, 12, True)


def test_anthropics_last_counts_win_where_they_repeat() -> None:
    events = [
        {
            "type": "message_start",
            "message": {"id": "m", "model": "c", "usage": {"input_tokens": 493, "output_tokens": 0}},
        },
        {
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens"},
            "usage": {"input_tokens": 109, "cache_read_input_tokens": 384, "output_tokens": 6},
        },
        {"type": "message_stop"},
    ]
    data = b"".join([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events])
    usage = read(data, api="anthropic.messages").usage
    assert usage is not None
    # 493 is the whole prompt: 109 new, 384 from the cache.
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (493, 384, 6)


@pytest.mark.parametrize(
    ("speed", "tier", "expected"),
    [("fast", "standard", "fast"), ("standard", "standard", "standard"), ("fast", "priority", "fast"),
     ("standard", "priority", "priority"), (None, "standard", "standard"), (7, "standard", "standard")],
)  # fmt: skip
def test_fast_mode_is_the_tier_that_a_message_is_charged_at(speed: object, tier: str, expected: str) -> None:
    counts = {"input_tokens": 10, "output_tokens": 12, "service_tier": tier, "speed": speed}
    message = {"type": "message", "id": "m", "model": "claude-opus-5-5", "content": [], "usage": counts}
    assert read(json.dumps(message).encode(), api="anthropic.messages", headers=JSON).service_tier == expected

    spoken = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 12}}
    told_last = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 12, "speed": speed}}
    plain = {**message, "usage": {"input_tokens": 10, "output_tokens": 1, "service_tier": tier}}
    for events in (
        [{"type": "message_start", "message": message}, spoken, {"type": "message_stop"}],
        [{"type": "message_start", "message": plain}, told_last, {"type": "message_stop"}],
    ):
        data = b"".join(
            [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        )
        assert read(data, api="anthropic.messages").service_tier == expected


def test_what_a_compaction_used_comes_on_top_of_what_a_message_says() -> None:
    turn = {"input_tokens": 23_000, "output_tokens": 1000, "cache_read_input_tokens": 500}
    compaction = {
        "type": "compaction", "input_tokens": 180_000, "output_tokens": 3500, "cache_read_input_tokens": 70,
        "cache_creation_input_tokens": 30, "cache_creation": {"ephemeral_1h_input_tokens": 20},
    }  # fmt: skip
    used = {
        **turn,
        "iterations": [compaction, {"type": "message", **turn}, {"type": "advisor_message", **turn}],
    }
    message = {"type": "message", "id": "m", "model": "claude-opus-5-5", "content": [], "usage": used}
    begun = {**message, "usage": {**turn, "output_tokens": 1}}
    events = [
        {"type": "message_start", "message": begun},
        {"type": "message_delta", "delta": {}, "usage": used},
        {"type": "message_stop"},
    ]
    streamed = b"".join(
        [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    )
    expected = Usage(
        input_tokens=203_600,
        output_tokens=4500,
        cache_read_input_tokens=570,
        cache_write_input_tokens=30,
        cache_write_1h_input_tokens=20,
    )
    assert read(json.dumps(message).encode(), api="anthropic.messages", headers=JSON).usage == expected
    assert read(streamed, api="anthropic.messages").usage == expected


CITED = [{"type": "url_citation", "url_citation": {"url": "https://h", "title": "t", "end_index": 3}}]


@pytest.mark.parametrize(
    ("annotations", "usage", "searches"),
    [
        (CITED, {}, 1),
        (CITED * 3, {}, 1),
        ([], {}, 0),
        ([{"type": "file_citation"}, None, "x"], {}, 0),
        ([{"type": "file_citation"}, *CITED], {}, 1),
        (CITED, {"server_tool_use": {"web_search_requests": 4}}, 4),
    ],
)
def test_a_chat_that_cites_pages_has_searched_once_unless_its_usage_counts(
    annotations: list[Any], usage: dict[str, Any], searches: int
) -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, **usage}
    message = {"role": "assistant", "content": "Sunny.", "annotations": annotations}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-search-preview"}
    whole = body | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": counts}
    facts = read(json.dumps(whole).encode(), headers=JSON)
    assert facts.usage is not None
    assert (facts.usage.web_searches, facts.usage.input_tokens) == (searches, 10)

    for last in ({"annotations": annotations}, {"content": "", "annotations": annotations}):
        choice = {"index": 0, "delta": last, "finish_reason": None}
        cited, end = chat_chunk("", choices=[choice]), chat_chunk("", choices=[], usage=counts)
        facts = read(chat_chunk("Sunny.") + cited + end + b"data: [DONE]\n\n")
        assert facts.usage is not None
        assert (facts.usage.web_searches, facts.output_text_bytes) == (searches, 6)


def test_thinking_that_googles_openai_endpoint_hides_is_found_in_the_total() -> None:
    body = {
        "model": "gemini-3-flash",
        "choices": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 47},
    }
    usage = read(json.dumps(body).encode(), headers=JSON, path="/v1beta/openai/chat/completions").usage
    assert usage is not None
    assert (usage.output_tokens, usage.reasoning_output_tokens) == (42, 40)


def test_xai_reasoning_beside_the_completion_is_added() -> None:
    usage_block = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 115,
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    usage = read(
        json.dumps({"model": "grok-4", "choices": [], "usage": usage_block}).encode(), headers=JSON
    ).usage
    assert usage is not None
    assert (usage.output_tokens, usage.reasoning_output_tokens) == (105, 100)


def test_bedrock_counts_in_headers_stand_in_for_a_silent_body() -> None:
    headers = [
        *JSON,
        (b"x-amzn-bedrock-input-token-count", b"6"),
        (b"x-amzn-bedrock-output-token-count", b"10"),
        (b"x-amzn-bedrock-cache-read-input-token-count", b"4"),
    ]
    facts = read(b'{"outputs": [{"text": "hi", "stop_reason": "length"}]}', api="raw", headers=headers)
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (10, 10)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (
            [
                {
                    "outputText": "hi",
                    "totalOutputTextTokenCount": 3,
                    "inputTextTokenCount": 9,
                    "completionReason": "FINISH",
                }
            ],
            (9, 3),
        ),
        (
            [
                {"generation": "h", "prompt_token_count": 9},
                {"generation": "i", "generation_token_count": 3, "stop_reason": "stop"},
            ],
            (9, 3),
        ),
        (
            [
                {
                    "outputs": [{"text": "hi", "stop_reason": "stop"}],
                    "amazon-bedrock-invocationMetrics": {"inputTokenCount": 9, "outputTokenCount": 3},
                }
            ],
            (9, 3),
        ),
        (
            [
                {"contentBlockDelta": {"delta": {"text": "hi"}}},
                {"messageStop": {"stopReason": "end_turn"}},
                {"metadata": {"usage": {"inputTokens": 5, "outputTokens": 3, "cacheReadInputTokenCount": 4}}},
            ],
            (9, 3),
        ),
        (
            [
                {"is_finished": False, "event_type": "text-generation", "text": "hi"},
                {
                    "is_finished": True,
                    "event_type": "stream-end",
                    "finish_reason": "COMPLETE",
                    "amazon-bedrock-invocationMetrics": {"inputTokenCount": 9, "outputTokenCount": 3},
                },
            ],
            (9, 3),
        ),
    ],
    ids=["titan", "llama", "mistral", "nova", "cohere"],
)
def test_the_streams_of_other_models_inside_bedrock_are_counted(
    chunks: list[Any], expected: tuple[int, int]
) -> None:
    import base64

    data = b""
    for chunk in chunks:
        payload = json.dumps(
            {"bytes": base64.b64encode(json.dumps(chunk).encode()).decode(), "p": "abc"}
        ).encode()
        data += frame_bytes(
            {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}, payload
        )
    headers = [(b"content-type", b"application/vnd.amazon.eventstream")]
    for pieces in ([data], bytewise(data)):
        _, facts = run(new_meter("raw", headers=headers, path="/model/x/invoke-with-response-stream"), pieces)
        assert facts.usage is not None
        assert (facts.usage.input_tokens, facts.usage.output_tokens) == expected
        assert facts.output_text_bytes == 2


def test_an_exception_inside_an_event_stream_is_an_error() -> None:
    frame = frame_bytes(
        {":message-type": "exception", ":exception-type": "throttlingException"},
        b'{"message":"Too many requests"}',
    )
    facts = read(frame, api="raw", headers=[(b"content-type", b"application/vnd.amazon.eventstream")])
    assert facts.error is not None
    assert (facts.error.error_class, facts.error.message) == ("rate_limit", "Too many requests")


def test_a_broken_frame_ends_the_accounting_but_not_the_stream() -> None:
    frame = frame_bytes({":event-type": "metadata"}, b'{"usage":{"inputTokens":1,"outputTokens":1}}')
    broken = frame[:-1] + bytes([frame[-1] ^ 1])
    forwarded, facts = run(
        new_meter("raw", headers=[(b"content-type", b"application/vnd.amazon.eventstream")]), [broken + frame]
    )
    assert forwarded == broken + frame
    assert (facts.usage, facts.usage_flags) == (None, ("broken_frame",))


def test_errors_of_a_vllm_server_inside_a_stream_are_seen(shared_samples: Any) -> None:
    folder = shared_samples / "vllm"
    for name, api in (
        ("chat", "openai.chat"),
        ("completions", "openai.completions"),
        ("messages", "anthropic.messages"),
    ):
        facts = read((folder / f"{name}_stream_rejected_inband.sse").read_bytes(), api=api)
        assert facts.error is not None, name
        assert facts.usage is None
    assert read((folder / "chat_stream_rejected_inband.sse").read_bytes()).error.error_class == "overloaded"  # type: ignore[union-attr]


def test_a_vllm_server_is_counted_the_same_with_running_totals(shared_samples: Any) -> None:
    folder = shared_samples / "vllm"
    facts = read((folder / "chat_stream_continuous_usage.sse").read_bytes())
    last = [
        line
        for line in (folder / "chat_stream_continuous_usage.sse").read_text().splitlines()
        if '"usage":{' in line
    ][-1]
    told = json.loads(last.removeprefix("data: "))["usage"]
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (
        told["prompt_tokens"],
        told["completion_tokens"],
    )
    assert read((folder / "chat_stream_nousage.sse").read_bytes()).usage is None


def test_an_html_error_page_is_an_error_without_a_message_of_ours() -> None:
    facts = read(b"<html><h1>Bad gateway</h1></html>", status=502, headers=[(b"content-type", b"text/html")])
    assert facts.error is not None
    assert (facts.error.error_class, facts.error.message) == ("server_error", "HTTP 502")


def test_an_empty_reply_has_no_facts() -> None:
    forwarded, facts = run(new_meter(headers=[]), [])
    assert forwarded == b""
    assert (facts.usage, facts.error, facts.chunks) == (None, None, 0)


def test_speech_and_other_bytes_pass_unread() -> None:
    data = b"ID3\x04" + bytes(range(256)) * 100
    meter = new_meter("raw", headers=[(b"content-type", b"audio/mpeg")])
    assert run(meter, [data])[0] == data


@pytest.mark.parametrize(
    "junk",
    [
        b"data: {not json}\n\n",
        b"data: [1,2]\n\n",
        b'data: "x"\n\n',
        b"data: \xff\xfe\n\n",
        b"data: " + b"[" * 5000 + b"\n\n",
    ],
)
def test_events_that_are_no_json_objects_do_no_harm(junk: bytes) -> None:
    data = stream_of("a") + junk + USAGE_CHUNK
    forwarded, facts = run(new_meter(), [data])
    assert forwarded == data
    assert facts.usage is not None


@given(
    st.binary(max_size=400), st.sampled_from(["openai.chat", "anthropic.messages", "openai.responses", "raw"])
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_a_meter_and_all_pass(data: bytes, api: str) -> None:
    for headers in (SSE, JSON, [(b"content-type", b"application/vnd.amazon.eventstream")]):
        meter = meter_for(
            api, path="/x", status=200, headers=headers, request=RequestFacts(api, "m"), withhold_usage=False
        )
        assert run(meter, [data[:50], data[50:]])[0] == data


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "content",
                    "tool_calls",
                    "function",
                    "usage",
                    "usageMetadata",
                    "error",
                    "id",
                    "index",
                    "candidates",
                    "parts",
                    "type",
                    "response",
                    "output",
                    "prompt_tokens",
                    "completion_tokens",
                    "meta",
                    "input_tokens",
                    "cache_creation",
                    "tokens",
                    "delta",
                    "item",
                    "text",
                    "stopReason",
                    "results",
                    "x_groq",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    JSON_VALUE,
    st.sampled_from(["openai.chat", "anthropic.messages", "openai.responses", "raw"]),
    st.sampled_from([200, 429]),
)
@settings(max_examples=400, deadline=None)
def test_no_json_of_a_strange_shape_breaks_a_meter(value: Any, api: str, status: int) -> None:
    data = json.dumps(value).encode()
    for body, headers in ((data, JSON), (b"event: message_delta\ndata: " + data + b"\n\n", SSE)):
        forwarded, facts = run(new_meter(api, status=status, headers=headers), [body])
        assert forwarded == body
        assert facts.usage is None or facts.usage.uncached_input_tokens >= 0
