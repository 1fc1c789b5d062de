"""Streams that we cut after any event, as the official SDKs read them over a real connection.

A server replays a stream up to an event and ends it as a cut does. Whatever was going on (text, a
tool's arguments, thoughts, several choices), the SDK must come to a regular end, with everything that
had been sent in it and a reason that says the reply is not whole.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from support.upstream import Answer, ScriptedUpstream, Seen

from collector.domain.usage import Usage
from sidecar.wire import RequestFacts, meter_for, terminal_events

SSE = [(b"content-type", b"text/event-stream")]
REASON = "budget search-team is spent"
PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.completions": "/v1/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
}
API_OF_ENDPOINT = {
    "chat.completions": "openai.chat",
    "completions": "openai.completions",
    "responses": "openai.responses",
    "messages": "anthropic.messages",
}
ASKED = [{"role": "user", "content": "What is due?"}]

Events = list[bytes]


def events_of(stream: bytes) -> Events:
    """The stream's events, each with the blank line that ends it."""
    return [event for event in re.split(rb"(?<=\n\n)|(?<=\n\r\n)", stream) if event.strip()]


def written(bodies: list[dict[str, Any]], *, named: bool) -> Events:
    lines = [
        (f"event: {body['type']}\n" if named else "") + f"data: {json.dumps(body)}\n\n" for body in bodies
    ]
    return [line.encode() for line in lines]


class Replay:
    """Serves streams that were cut, to SDKs."""

    def __init__(self) -> None:
        self.body = b""
        self._server = ScriptedUpstream(self._answer)

    def __enter__(self) -> "Replay":
        self._server.__enter__()
        self.gpt = openai.OpenAI(base_url=f"{self._server.url}/v1", api_key="k", max_retries=0)
        self.claude = anthropic.Anthropic(base_url=self._server.url, api_key="k", max_retries=0)
        return self

    def __exit__(self, *_: object) -> None:
        self.gpt.close()
        self.claude.close()
        self._server.__exit__()

    def _answer(self, seen: Seen) -> Answer:
        headers = [("content-type", "text/event-stream; charset=utf-8")]
        return Answer(headers=headers, pieces=[self.body], chunked=True)

    def cut(
        self, api: str, events: Events, count: int, *, usage: Usage | None = None, choices: int = 1
    ) -> None:
        """Serve the first ``count`` events and the end that a cut gives them."""
        request = RequestFacts(api, "asked", stream=True, choice_count=choices)
        meter = meter_for(
            api, path=PATHS[api], status=200, headers=SSE, request=request, withhold_usage=False
        )
        sent = b"".join([meter.feed(event) for event in events[:count]])
        self.body = sent + terminal_events(api, meter.facts(), REASON, usage=usage, choices=choices)


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with Replay() as server:
        yield server


# ---- what each SDK makes of a stream -----------------------------------------------------------


def read_chat(replay: Replay) -> tuple[list[Any], Any]:
    """The chunks, and what the SDK's own accumulator makes of them."""
    state = ChatCompletionStreamState()
    chunks = []
    for chunk in replay.gpt.chat.completions.create(model="m", messages=ASKED, stream=True):
        chunks.append(chunk)
        state.handle_chunk(chunk)
    return chunks, state.current_completion_snapshot


def read_messages(replay: Replay) -> tuple[list[Any], Any]:
    with replay.claude.messages.stream(model="m", max_tokens=9, messages=ASKED) as stream:
        seen = list(stream)
        return seen, stream.get_final_message()


def data_of(event: bytes) -> Any:
    """The JSON of one event, ``None`` where it has none."""
    found = re.search(rb"^data: ?(.*)$", event, re.M)
    return json.loads(found[1]) if found and found[1].strip() not in (b"", b"[DONE]") else None


def check_chat(replay: Replay, events: Events, count: int, choices: int = 1) -> None:
    replay.cut("openai.chat", events, count, choices=choices)

    _, whole = read_chat(replay)

    texts, reasons = {}, {}
    for body in filter(None, map(data_of, events[:count])):
        for choice in body.get("choices", ()):
            texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content") or "")
            reasons[choice["index"]] = choice.get("finish_reason") or reasons.get(choice["index"])
    said = {choice.index: choice for choice in whole.choices}
    assert set(said) == set(range(choices))
    for index, choice in said.items():
        assert (choice.message.content or "") == texts.get(index, "")
        told = reasons.get(index) if None not in reasons.values() and len(reasons) == choices else None
        assert choice.finish_reason == (told or "length")


def check_completions(replay: Replay, events: Events, count: int) -> None:
    replay.cut("openai.completions", events, count)

    chunks = list(replay.gpt.completions.create(model="m", prompt="x", stream=True))

    before = [body["choices"][0] for body in map(data_of, events[:count]) if body and body.get("choices")]
    made = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.text for choice in made) == "".join(choice["text"] for choice in before)
    told = [choice["finish_reason"] for choice in before if choice.get("finish_reason")]
    assert [choice.finish_reason for choice in made if choice.finish_reason] == (told or ["length"])


def check_responses(replay: Replay, events: Events, count: int) -> None:
    replay.cut("openai.responses", events, count)

    with replay.gpt.responses.stream(model="m", input="x") as stream:
        seen = list(stream)

    ended = [event for event in seen if event.type in ("response.completed", "response.incomplete")]
    finished = any((data_of(event) or {}).get("type") == "response.completed" for event in events[:count])
    assert [event.type for event in ended] == ["response.completed" if finished else "response.incomplete"]
    assert seen[-1] is ended[0]
    if not finished:
        assert ended[0].response.status == "incomplete"
        assert ended[0].response.incomplete_details.reason == "max_output_tokens"
    numbers = [event.sequence_number for event in seen]
    assert numbers == sorted(set(numbers))


def check_messages(replay: Replay, events: Events, count: int) -> None:
    replay.cut("anthropic.messages", events, count)

    seen, message = read_messages(replay)

    bodies = [body for body in map(data_of, events[:count]) if body]
    told = [body["delta"].get("stop_reason") for body in bodies if body["type"] == "message_delta"]
    assert message.stop_reason == (told[-1] if told else "max_tokens")
    begun = [body["content_block"]["type"] for body in bodies if body["type"] == "content_block_start"]
    assert [block.type for block in message.content] == begun
    assert [event.index for event in seen if event.type == "content_block_stop"] == list(range(len(begun)))
    assert sum(event.type == "message_stop" for event in seen) == 1
    pieces: dict[int, str] = {}
    for body in bodies:
        if body["type"] == "content_block_delta":
            delta = body["delta"]
            text = delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
            pieces[body["index"]] = pieces.get(body["index"], "") + text
    for index, block in enumerate(message.content):
        if block.type in ("text", "thinking"):
            assert getattr(block, block.type) == pieces.get(index, "")
        elif block.type == "tool_use":
            assert isinstance(block.input, dict)


CHECKS: dict[str, Callable[..., None]] = {
    "openai.chat": check_chat,
    "openai.completions": check_completions,
    "openai.responses": check_responses,
    "anthropic.messages": check_messages,
}


# ---- streams with everything in them ------------------------------------------------------------


def chat_stream(choices: int = 1) -> Events:
    """Thoughts, text, and two tools called side by side; several choices come by turns."""

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
        return {**head, "choices": [choice]}

    def tool(place: int, **more: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": place, **more}]}

    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "First "},
        {"reasoning_content": "look."},
        {"content": "Let me"},
        {"content": " see."},
        tool(0, id="call_1", type="function", function={"name": "look", "arguments": ""}),
        tool(0, function={"arguments": '{"pla'}),
        tool(0, function={"arguments": 'ce":"here"}'}),
        tool(1, id="call_2", type="function", function={"name": "pay", "arguments": ""}),
        tool(1, function={"arguments": '{"usd":'}),
        tool(1, function={"arguments": "3}"}),
    ]
    bodies = [chunk(index, delta) for delta in deltas for index in range(choices)]
    bodies += [chunk(index, {}, "tool_calls") for index in range(choices)]
    usage = {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}
    bodies.append({**chunk(0, {}), "choices": [], "usage": usage})
    return [*written(bodies, named=False), b"data: [DONE]\n\n"]


def completions_stream() -> Events:
    bodies = [
        {
            "id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m",
            "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}],
        }
        for text, finish in (("One", None), (", two", None), (", three", None), ("", "stop"))
    ]  # fmt: skip
    return [*written(bodies, named=False), b"data: [DONE]\n\n"]


def messages_stream() -> Events:
    """A ping first, then thinking with a signature, text, two tools, a server's tool, and the end."""
    usage = {"input_tokens": 12, "output_tokens": 1}
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "c", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [
                {"type": "thinking_delta", "thinking": "Hm, "},
                {"type": "thinking_delta", "thinking": "yes."},
                {"type": "signature_delta", "signature": "c2ln"},
            ],
        ),
        (
            {"type": "text", "text": ""},
            [{"type": "text_delta", "text": "Let me "}, {"type": "text_delta", "text": "see."}],
        ),
        (
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
            [
                {"type": "input_json_delta", "partial_json": '{"query":'},
                {"type": "input_json_delta", "partial_json": '"x"}'},
            ],
        ),
        *(
            (
                {"type": "tool_use", "id": f"toolu_{number}", "name": "look", "input": {}},
                [
                    {"type": "input_json_delta", "partial_json": ""},
                    {"type": "input_json_delta", "partial_json": '{"place": "he'},
                    {"type": "input_json_delta", "partial_json": 're", "deep": [1, '},
                    {"type": "input_json_delta", "partial_json": "2]}"},
                ],
            )
            for number in (1, 2)
        ),
    ]  # fmt: skip
    bodies: list[dict[str, Any]] = [
        {"type": "ping"},
        {"type": "message_start", "message": message},
        {"type": "ping"},
    ]
    for index, (block, deltas) in enumerate(blocks):
        bodies.append({"type": "content_block_start", "index": index, "content_block": block})
        bodies += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        bodies.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    bodies.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 80}})
    bodies.append({"type": "message_stop"})
    return written(bodies, named=True)


def responses_stream() -> Events:
    """Reasoning, a message and a function call, with every event that frames them."""
    response = {
        "id": "resp_1", "object": "response", "created_at": 7, "model": "m", "status": "in_progress",
        "output": [],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}, "error": None,
        "incomplete_details": None, "instructions": None, "temperature": 1.0, "top_p": 1.0, "usage": None,
    }  # fmt: skip
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    said = {"type": "output_text", "text": "Let me see.", "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    call = {
        "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "",
        "status": "in_progress",
    }  # fmt: skip
    done = [
        reasoning,
        {**message, "status": "completed", "content": [said]},
        {**call, "status": "completed", "arguments": '{"a":1}'},
    ]
    usage = {
        "input_tokens": 5, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 14,
    }  # fmt: skip
    in_message = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    in_call = {"item_id": "fc_1", "output_index": 2}
    bodies: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": reasoning},
        {"type": "response.output_item.done", "output_index": 0, "item": done[0]},
        {"type": "response.output_item.added", "output_index": 1, "item": message},
        {"type": "response.content_part.added", **in_message, "part": {**said, "text": ""}},
        {"type": "response.output_text.delta", **in_message, "delta": "Let me ", "logprobs": []},
        {"type": "response.output_text.delta", **in_message, "delta": "see.", "logprobs": []},
        {"type": "response.output_text.done", **in_message, "text": "Let me see.", "logprobs": []},
        {"type": "response.content_part.done", **in_message, "part": said},
        {"type": "response.output_item.done", "output_index": 1, "item": done[1]},
        {"type": "response.output_item.added", "output_index": 2, "item": call},
        {"type": "response.function_call_arguments.delta", **in_call, "delta": '{"a":'},
        {"type": "response.function_call_arguments.delta", **in_call, "delta": "1}"},
        {"type": "response.function_call_arguments.done", **in_call, "name": "look", "arguments": '{"a":1}'},
        {"type": "response.output_item.done", "output_index": 2, "item": done[2]},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "output": done, "usage": usage},
        },
    ]
    numbered = [{**body, "sequence_number": number} for number, body in enumerate(bodies)]
    return written(numbered, named=True)


STREAMS = {
    "openai.chat": chat_stream(),
    "openai.completions": completions_stream(),
    "openai.responses": responses_stream(),
    "anthropic.messages": messages_stream(),
}


# ---- the tests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "count"), [(api, count) for api, events in STREAMS.items() for count in range(len(events) + 1)]
)
def test_a_stream_cut_after_any_event_ends_as_the_sdk_expects(replay: Replay, api: str, count: int) -> None:
    CHECKS[api](replay, STREAMS[api], count)


@pytest.mark.parametrize("count", range(len(chat_stream(3)) + 1))
def test_each_of_several_choices_gets_its_end(replay: Replay, count: int) -> None:
    check_chat(replay, chat_stream(3), count, choices=3)


def test_a_tool_call_in_the_middle_keeps_its_id_and_what_there_is_of_its_arguments(replay: Replay) -> None:
    replay.cut("openai.chat", STREAMS["openai.chat"], 10)
    _, whole = read_chat(replay)
    replay.cut("anthropic.messages", STREAMS["anthropic.messages"], 20)
    _, message = read_messages(replay)

    first, second = whole.choices[0].message.tool_calls
    assert (first.id, first.function.name, first.function.arguments) == ("call_1", "look", '{"place":"here"}')
    assert (second.id, second.function.name, second.function.arguments) == ("call_2", "pay", '{"usd":')
    assert whole.choices[0].finish_reason == "length"
    assert message.content[-1].id == "toolu_1"
    assert message.content[-1].input == {"place": "here", "deep": [1]}
    assert message.stop_reason == "max_tokens"


def test_thoughts_in_the_middle_are_kept_without_a_signature(replay: Replay) -> None:
    replay.cut("anthropic.messages", STREAMS["anthropic.messages"], 5)

    _, message = read_messages(replay)

    (block,) = message.content
    assert (block.type, block.thinking, block.signature) == ("thinking", "Hm, ", "")


def test_what_is_charged_reaches_an_agent_that_asked_for_usage(replay: Replay) -> None:
    usage = Usage(input_tokens=1_200, output_tokens=34)
    replay.cut("openai.chat", STREAMS["openai.chat"], 4, usage=usage)
    chunks, _ = read_chat(replay)
    replay.cut("anthropic.messages", STREAMS["anthropic.messages"], 4, usage=usage)
    _, message = read_messages(replay)
    replay.cut("openai.responses", STREAMS["openai.responses"], 8, usage=usage)
    *_, last = replay.gpt.responses.create(model="m", input="x", stream=True)

    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (1_200, 34)
    assert message.usage.output_tokens == 34
    assert (last.response.usage.input_tokens, last.response.usage.output_tokens) == (1_200, 34)


def test_a_strict_parser_reports_a_cut_as_it_does_a_token_limit(replay: Replay) -> None:
    function = {"name": "look", "strict": True, "parameters": {"type": "object", "properties": {}}}
    replay.cut("openai.chat", STREAMS["openai.chat"], 7)

    with (
        pytest.raises(openai.LengthFinishReasonError),
        replay.gpt.chat.completions.stream(
            model="m", messages=ASKED, tools=[{"type": "function", "function": function}]
        ) as stream,
    ):
        list(stream)


async def test_async_clients_read_the_same_end(replay: Replay) -> None:
    replay.cut("anthropic.messages", STREAMS["anthropic.messages"], 12)
    async with (
        anthropic.AsyncAnthropic(base_url=replay.claude.base_url, api_key="k", max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=9, messages=ASKED) as stream,
    ):
        message = await stream.get_final_message()

    assert message.stop_reason == "max_tokens"


class Recording(NamedTuple):
    """A stream as a provider sent it."""

    name: str
    api: str
    events: Events
    choices: int = 1


UNREADABLE = {"mistral", "google", "together"}
"""Their tool calls have no index, over which OpenAI's accumulator stumbles in whole streams, too."""


def recorded(shared_data: Path) -> list[Recording]:
    """Every recorded stream that the SDKs can read."""
    found = []
    for line in gzip.decompress(
        (shared_data / "provider_responses" / "cases.jsonl.gz").read_bytes()
    ).splitlines():
        case = json.loads(line)
        readable = case["endpoint"] in API_OF_ENDPOINT and case["provider"] not in UNREADABLE
        if case.get("sse") and readable and not case["expected"]["error"]:
            choices = (case.get("request") or {}).get("n") or 1
            api = API_OF_ENDPOINT[case["endpoint"]]
            found.append(Recording(case["id"], api, events_of(case["sse"].encode()), choices))
    return found


def cut_everywhere(replay: Replay, streams: list[Recording], most: int) -> int:
    """Check each stream cut at its events, at up to ``most`` of them; how many cuts that was."""
    cuts = 0
    for name, api, events, choices in streams:
        several = {"choices": choices} if choices > 1 else {}
        step = max(1, len(events) // most)
        for count in {*range(0, len(events) + 1, step), *range(max(0, len(events) - 4), len(events) + 1)}:
            try:
                CHECKS[api](replay, events, count, **several)
            except Exception as error:
                raise AssertionError(f"{name} ({api}) cut after {count} of {len(events)} events") from error
            cuts += 1
    return cuts


def test_recorded_streams_end_well_wherever_they_are_cut(replay: Replay, shared_data: Path) -> None:
    streams = recorded(shared_data)

    assert {stream.api for stream in streams} == set(CHECKS)
    assert cut_everywhere(replay, streams, most=5) > 250


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_recorded_streams_end_well_after_every_single_event(replay: Replay, shared_data: Path) -> None:
    streams = recorded(shared_data)

    assert cut_everywhere(replay, streams, most=10_000) > 1_000


def test_streams_of_vllm_end_well_wherever_they_are_cut(replay: Replay, shared_samples: Path) -> None:
    apis = {"chat": "openai.chat", "completions": "openai.completions", "responses": "openai.responses"}
    streams = []
    for path in sorted((shared_samples / "vllm").glob("*stream*.sse")):
        if "rejected" not in path.name:
            api = apis.get(path.name.partition("_")[0], "anthropic.messages")
            streams.append(Recording(path.name, api, events_of(path.read_bytes())))

    assert len(streams) >= 6
    assert cut_everywhere(replay, streams, most=8) > 50
