"""Refusals, in-stream errors and the ends of cut streams, as the official SDKs understand them."""

import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from collector.domain.usage import Usage
from sidecar.wire import ReplyFacts, RequestFacts, StreamPlace, error_body, error_event, terminal_events
from sidecar.wire.eventstream import Deframer
from tests.sidecar.wire.conftest import JSON, SSE, Case, chat_chunk, new_meter, reply_bytes, run
from tests.sidecar.wire.test_requests import CHAT_STREAM, MESSAGES_STREAM, RESPONSES_STREAM, sse


def served(body: bytes, status: int = 200, kind: str = "text/event-stream") -> httpx2.Client:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            status, headers={"content-type": kind, "x-should-retry": "false"}, content=body
        )

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def ask_openai(body: bytes, status: int = 200, kind: str = "text/event-stream") -> list[Any]:
    client = openai.OpenAI(api_key="k", base_url="http://test/v1", http_client=served(body, status, kind))
    with client:
        return list(
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}], stream=True
            )
        )


def ask_responses(body: bytes, status: int = 200, kind: str = "text/event-stream") -> list[Any]:
    client = openai.OpenAI(api_key="k", base_url="http://test/v1", http_client=served(body, status, kind))
    with client:
        return list(client.responses.create(model="m", input="x", stream=True))


def ask_anthropic(body: bytes, status: int = 200, kind: str = "text/event-stream") -> Any:
    client = anthropic.Anthropic(api_key="k", base_url="http://test", http_client=served(body, status, kind))
    with (
        client,
        client.messages.stream(
            model="m", max_tokens=5, messages=[{"role": "user", "content": "x"}]
        ) as stream,
    ):
        return stream.get_final_message()


def cut(events: list[Any], api: str, count: int, usage: Usage | None = None) -> bytes:
    """The first ``count`` events of a stream, and the end that we give it."""
    meter = new_meter(api)
    forwarded = meter.feed(sse(events[:count]))
    return forwarded + terminal_events(api, meter.facts(), "budget search-team is spent", usage=usage)


@pytest.mark.parametrize("count", range(len(CHAT_STREAM) + 1))
def test_a_chat_stream_cut_after_any_event_ends_with_length(count: int) -> None:
    chunks = ask_openai(cut(CHAT_STREAM, "openai.chat", count))
    had_ended = "finish_reason" in str(CHAT_STREAM[:count])
    assert chunks[-1].choices[0].finish_reason == ("tool_calls" if had_ended else "length")
    assert len(chunks) == count + (not had_ended)


def test_a_cut_chat_stream_carries_usage_where_the_agent_asked_for_it() -> None:
    chunks = ask_openai(cut(CHAT_STREAM, "openai.chat", 3, Usage(input_tokens=9, output_tokens=4)))
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (9, 4)


@pytest.mark.parametrize("count", range(len(MESSAGES_STREAM)))
def test_a_messages_stream_cut_after_any_event_is_a_valid_message(count: int) -> None:
    message = ask_anthropic(cut(MESSAGES_STREAM, "anthropic.messages", count))
    reason = "tool_use" if count == len(MESSAGES_STREAM) - 1 else "max_tokens"
    assert message.stop_reason in (reason, "max_tokens")
    assert message.usage.output_tokens >= 0


@pytest.mark.parametrize("count", range(len(RESPONSES_STREAM)))
def test_a_responses_stream_cut_after_any_event_is_incomplete(count: int) -> None:
    events = ask_responses(cut(RESPONSES_STREAM, "openai.responses", count))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))


def test_a_stream_that_had_ended_gets_no_second_end() -> None:
    for api, events in (("anthropic.messages", MESSAGES_STREAM), ("openai.responses", RESPONSES_STREAM)):
        _, facts = run(new_meter(api), [sse(events)])
        assert terminal_events(api, facts, "too late") == b""


def test_recorded_streams_can_be_cut_at_any_byte(cases: list[Case]) -> None:
    readers: dict[str, Callable[[bytes], Any]] = {
        "chat.completions": ask_openai,
        "messages": ask_anthropic,
        "responses": ask_responses,
    }
    apis = {
        "chat.completions": "openai.chat",
        "messages": "anthropic.messages",
        "responses": "openai.responses",
    }
    seen = 0
    for case in cases:
        ours = case["provider"] in ("openai", "anthropic") and case["expected"]["stream"]
        if not ours or case["endpoint"] not in apis:
            continue
        api, data = apis[case["endpoint"]], reply_bytes(case)
        for part in (7, 3, 2):
            meter = new_meter(api)
            sent = meter.feed(data[: len(data) // part])
            readers[case["endpoint"]](sent + terminal_events(api, meter.facts(), "cut"))
            seen += 1
    assert seen >= 60


def test_the_reason_of_a_cut_cannot_break_out_of_its_comment() -> None:
    end = terminal_events("openai.chat", ReplyFacts(), "spent\r\ndata: {}\n\nevent: x")
    assert end.startswith(b": spent data: {} event: x\n\ndata: {")


def test_bedrock_and_gemini_streams_end_in_their_own_way() -> None:
    frames = new_meter("raw", headers=[(b"content-type", b"application/vnd.amazon.eventstream")])
    frames.feed(b"")
    array = new_meter(
        "raw", path="/models/g:streamGenerateContent", headers=[(b"content-type", b"application/json")]
    )
    array.feed(b'[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}')
    assert (
        json.loads(b"[{}" + terminal_events("raw", array.facts(), "cut"))[-1]["candidates"][0]["finishReason"]
        == "MAX_TOKENS"
    )
    gemini = new_meter("raw")
    gemini.feed(b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n')
    assert b"MAX_TOKENS" in terminal_events("raw", gemini.facts(), "cut")
    framed = ReplyFacts()
    framed.place = type(framed.place)(framing="frames")
    end = terminal_events("raw", framed, "cut")
    assert [frame.headers[":event-type"] for frame in Deframer().feed(end)] == ["messageStop"]


@pytest.mark.parametrize(
    ("status", "openai_error", "anthropic_error"),
    [
        (400, openai.BadRequestError, anthropic.BadRequestError),
        (401, openai.AuthenticationError, anthropic.AuthenticationError),
        (402, openai.APIStatusError, anthropic.APIStatusError),
        (403, openai.PermissionDeniedError, anthropic.PermissionDeniedError),
        (404, openai.NotFoundError, anthropic.NotFoundError),
        (429, openai.RateLimitError, anthropic.RateLimitError),
        (502, openai.InternalServerError, anthropic.InternalServerError),
        (503, openai.InternalServerError, anthropic.InternalServerError),
    ],
)
def test_refusals_raise_what_agents_already_catch(
    status: int, openai_error: type[Exception], anthropic_error: type[Exception]
) -> None:
    told = {
        "kind": "insufficient_quota",
        "code": "budget_exceeded",
        "message": 'Budget "search" is spent.',
        "param": None,
    }
    with pytest.raises(openai_error) as refused:
        ask_openai(error_body("openai.chat", status, **told), status, "application/json")  # type: ignore[arg-type]
    assert refused.value.code == "budget_exceeded"  # type: ignore[attr-defined]
    assert refused.value.type == "insufficient_quota"  # type: ignore[attr-defined]
    with pytest.raises(anthropic_error) as refused:
        ask_anthropic(error_body("anthropic.messages", status, **told), status, "application/json")  # type: ignore[arg-type]
    assert refused.value.body["error"]["message"] == 'Budget "search" is spent.'  # type: ignore[attr-defined]


def test_a_spent_budget_is_a_billing_error_to_anthropics_users() -> None:
    body = json.loads(
        error_body("anthropic.messages", 402, kind="insufficient_quota", code="budget_exceeded", message="m")
    )
    assert body == {"type": "error", "error": {"type": "billing_error", "message": "m"}}


def test_errors_in_a_stream_are_raised_by_the_sdks() -> None:
    begun = ReplyFacts(place=StreamPlace(sequence_number=2))

    def event(api: str) -> bytes:
        return error_event(
            api, 402, kind="insufficient_quota", code="budget_exceeded", message="spent", facts=begun
        )

    with pytest.raises(openai.APIError, match="spent"):
        ask_openai(chat_chunk("a") + event("openai.chat"))
    with pytest.raises(openai.APIError, match="spent"):
        ask_responses(sse(RESPONSES_STREAM[:2]) + event("openai.responses"))
    with pytest.raises(anthropic.APIStatusError, match="spent"):
        ask_anthropic(sse(MESSAGES_STREAM[:3]) + event("anthropic.messages"))


def test_an_error_in_a_stream_on_pass_through_is_in_the_streams_own_words() -> None:
    def event(**place: Any) -> bytes:
        facts = ReplyFacts(place=StreamPlace(**place), chunks=1)
        told: Any = {"kind": "insufficient_quota", "code": "budget_exceeded", "message": "spent"}
        return error_event("raw", 402, **told, facts=facts)

    (frame,) = Deframer().feed(event(framing="frames"))
    assert frame.headers[":message-type"] == "exception"
    assert frame.headers[":exception-type"] == "throttlingException"
    assert json.loads(frame.payload) == {"message": "spent"}
    listed = json.loads(b"[{}" + event(framing="array", dialect="gemini"))
    assert listed[-1]["error"]["status"] == "RESOURCE_EXHAUSTED"
    data = event(framing="sse", dialect="gemini").removeprefix(b"data: ")
    assert json.loads(data)["error"]["code"] == 402
    with pytest.raises(anthropic.APIStatusError, match="spent"):
        ask_anthropic(sse(MESSAGES_STREAM[:3]) + event(framing="sse", dialect="messages"))
    with pytest.raises(openai.APIError, match="spent"):
        ask_openai(chat_chunk("a") + event(framing="sse", dialect="chat"))


def test_an_error_ends_an_event_that_was_begun() -> None:
    begun = ReplyFacts(place=StreamPlace(framing="sse", inside_event=True))
    told: Any = {"kind": "insufficient_quota", "code": "budget_exceeded", "message": "spent"}
    with pytest.raises(openai.APIError, match="spent"):
        ask_openai(chat_chunk("a") + b": half a comm" + error_event("openai.chat", 402, **told, facts=begun))


def test_a_whole_reply_is_known_as_one_from_its_first_byte_whatever_was_asked_for() -> None:
    body = b'{"id": "c", "choices": [{"index": 0, "message": {"content": "hi"}}]}'
    asked = RequestFacts("openai.chat", "asked", stream=True)
    for headers in (JSON, SSE, [], [(b"content-type", b"application/json; charset=latin1")]):
        for end in range(1, len(body)):
            meter = new_meter(headers=headers, request=asked)
            meter.feed(body[:end])
            assert not meter.facts().complete
            assert (meter.whole, meter.streaming) == (True, False)


@pytest.mark.parametrize("headers", [JSON, SSE, [(b"content-type", b"application/x-ndjson")]])
def test_a_stream_is_no_whole_reply_whatever_it_is_said_to_be(headers: list[tuple[bytes, bytes]]) -> None:
    lines = headers[0][1] == b"application/x-ndjson"
    data = b'{"response":"a"}\n{"response":"b"}\n' if lines else chat_chunk("a") + chat_chunk("b")
    asked = RequestFacts("openai.chat", "asked", stream=True)
    for end in range(1, len(data)):
        meter = new_meter("raw" if lines else "openai.chat", headers=headers, request=asked)
        meter.feed(data[:end])
        assert not meter.facts().complete
        assert not meter.whole
