"""The official OpenAI SDK reads everything that the simulator says in its dialects."""

import asyncio
import base64
import json
import math
import struct
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from inference.simulator.tokens import count_tokens

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "minimum": 1, "maximum": 3},
            },
            "required": ["city", "days"],
        },
    },
}
HELLO: Any = [{"role": "user", "content": "hello"}]


async def test_a_chat_completion_reports_the_tokens_of_its_text(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.chat.completions.create(model="gpt-4.1-mini", messages=HELLO)

    assert reply.usage is not None
    text = reply.choices[0].message.content or ""
    assert reply.usage.prompt_tokens == 3  # "user: hello\n" is 12 bytes
    assert reply.usage.completion_tokens == count_tokens(text)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert (text.startswith("[simulated] "), reply.system_fingerprint) == (True, "simulated")
    assert reply.choices[0].finish_reason == "stop"


async def test_the_reply_carries_the_simulators_header(openai_client: openai.AsyncOpenAI) -> None:
    raw = await openai_client.chat.completions.with_raw_response.create(model="gpt-4.1-mini", messages=HELLO)
    assert raw.headers["x-bursar-simulator"] == "1"


async def test_the_same_request_gets_the_same_text_and_its_repetition_another_id(
    openai_client: openai.AsyncOpenAI,
) -> None:
    first, second = [
        await openai_client.chat.completions.create(
            model="gpt-4.1-mini", messages=HELLO, seed=3, max_tokens=9
        )
        for _ in range(2)
    ]
    assert first.id != second.id
    assert (first.usage and first.usage.completion_tokens) == (
        second.usage and second.usage.completion_tokens
    )


async def test_the_cap_cuts_the_reply_and_says_length(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.chat.completions.create(
        model="gpt-4.1-mini",
        messages=[{"role": "user", "content": "[[simulate output_tokens=500]]"}],
        max_completion_tokens=20,
    )
    assert reply.usage is not None
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (20, "length")
    assert len(reply.choices[0].message.content or "") == 80


async def test_a_stream_adds_up_to_its_usage(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(
        model="gpt-4.1-mini",
        messages=HELLO,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"x-simulate-output-tokens": "33"},
    )
    chunks = [chunk async for chunk in stream]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text) == 4 * 33
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 33
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_a_stream_that_did_not_ask_for_usage_gets_none(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(model="gpt-4.1-mini", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


async def test_a_reasoning_model_spends_part_of_its_output_on_reasoning(
    openai_client: openai.AsyncOpenAI,
) -> None:
    reply = await openai_client.chat.completions.create(
        model="gpt-5.4", messages=HELLO, extra_headers={"x-simulate-output-tokens": "100"}
    )
    assert reply.usage is not None
    assert reply.usage.completion_tokens_details is not None
    assert reply.usage.completion_tokens == 100
    assert reply.usage.completion_tokens_details.reasoning_tokens == 50
    assert len(reply.choices[0].message.content or "") == 4 * 50


async def test_a_growing_conversation_gets_cached_tokens(openai_client: openai.AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "x" * 8000}]
    first = await openai_client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "go on"},
    ]
    second = await openai_client.chat.completions.create(model="gpt-4.1-mini", messages=messages)

    cached = [
        reply.usage.prompt_tokens_details.cached_tokens or 0
        for reply in (first, second)
        if reply.usage and reply.usage.prompt_tokens_details
    ]
    assert cached[0] == 0
    assert cached[1] >= 1920  # 15 whole steps of the 8,007 bytes they share, and more of the reply


async def test_a_named_tool_is_called_with_arguments_that_fit_its_schema(
    openai_client: openai.AsyncOpenAI,
) -> None:
    reply = await openai_client.chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "ask get_weather"}], tools=[WEATHER]
    )
    calls = reply.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == ["get_weather"]
    arguments = json.loads(calls[0].function.arguments)  # type: ignore[union-attr]
    assert isinstance(arguments["city"], str)
    assert 1 <= arguments["days"] <= 3
    assert (reply.choices[0].finish_reason, reply.choices[0].message.content) == ("tool_calls", None)


async def test_after_the_tools_result_the_model_answers_in_words(openai_client: openai.AsyncOpenAI) -> None:
    messages: list[Any] = [
        {"role": "user", "content": "ask get_weather"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    reply = await openai_client.chat.completions.create(
        model="gpt-4.1-mini", messages=messages, tools=[WEATHER]
    )
    assert reply.choices[0].finish_reason == "stop"


async def test_a_streamed_tool_call_is_put_together_by_the_sdk(openai_client: openai.AsyncOpenAI) -> None:
    async with openai_client.chat.completions.stream(
        model="gpt-4.1-mini", messages=HELLO, tools=[WEATHER], tool_choice="required"
    ) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert json.loads(calls[0].function.arguments).keys() == {"city", "days"}


class Verdict(BaseModel):
    guilty: bool
    sentences: list[str]


async def test_a_json_schema_is_followed(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.chat.completions.parse(
        model="gpt-4.1-mini", messages=HELLO, response_format=Verdict
    )
    assert isinstance(reply.choices[0].message.parsed, Verdict)


async def test_several_choices_are_all_paid_for(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.chat.completions.create(
        model="gpt-4.1-mini", messages=HELLO, n=3, extra_headers={"x-simulate-output-tokens": "10"}
    )
    assert len(reply.choices) == 3
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 30


async def test_a_text_completion_and_its_stream(openai_client: openai.AsyncOpenAI) -> None:
    whole = await openai_client.completions.create(
        model="gpt-3.5-turbo-instruct", prompt="Once", max_tokens=12
    )
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (1, 12)
    stream = await openai_client.completions.create(
        model="gpt-3.5-turbo-instruct", prompt="Once", max_tokens=12, stream=True
    )
    assert len("".join([chunk.choices[0].text async for chunk in stream])) == 48


async def test_a_response_has_its_items_and_its_usage(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.responses.create(
        model="gpt-5.4", input="hello", extra_headers={"x-simulate-output-tokens": "40"}
    )
    assert [item.type for item in reply.output] == ["reasoning", "message"]
    assert reply.usage is not None
    assert (reply.usage.output_tokens, reply.usage.output_tokens_details.reasoning_tokens) == (40, 20)
    assert len(reply.output_text) == 80


async def test_a_streamed_response_ends_with_the_whole(openai_client: openai.AsyncOpenAI) -> None:
    async with openai_client.responses.stream(model="gpt-5.4", input="hello") as stream:
        numbers = [event.sequence_number async for event in stream if hasattr(event, "sequence_number")]
        final = await stream.get_final_response()
    assert numbers == sorted(numbers)
    assert final.status == "completed"
    assert final.usage is not None
    reasoning = final.usage.output_tokens_details.reasoning_tokens
    assert final.usage.output_tokens == reasoning + count_tokens(final.output_text)


async def test_a_capped_response_is_incomplete(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.responses.create(
        model="gpt-4.1-mini", input="[[simulate output_tokens=99]]", max_output_tokens=16, stream=True
    )
    last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"


async def test_a_response_continues_an_earlier_one_and_pays_for_it(openai_client: openai.AsyncOpenAI) -> None:
    first = await openai_client.responses.create(model="gpt-4.1-mini", input="x" * 8000)
    second = await openai_client.responses.create(
        model="gpt-4.1-mini", input="and now", previous_response_id=first.id
    )
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    assert second.usage.input_tokens_details.cached_tokens >= 1920
    with pytest.raises(openai.BadRequestError, match="resp_no"):
        await openai_client.responses.create(model="gpt-4.1-mini", input="x", previous_response_id="resp_no")


async def test_a_response_calls_tools(openai_client: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "strict": False} | WEATHER["function"]
    async with openai_client.responses.stream(
        model="gpt-4.1-mini", input="hello", tools=[tool], tool_choice="required"
    ) as stream:
        final = await stream.get_final_response()
    assert [item.type for item in final.output] == ["function_call"]
    assert json.loads(str(getattr(final.output[0], "arguments", ""))).keys() == {"city", "days"}


async def test_embeddings_are_unit_vectors_that_depend_on_the_text(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.embeddings.create(model="text-embedding-3-small", input=["one", "two", "one"])
    vectors = [item.embedding for item in reply.data]
    assert [len(vector) for vector in vectors] == [1536] * 3
    assert math.isclose(sum(x * x for x in vectors[0]), 1.0, rel_tol=1e-5)
    assert vectors[0] == vectors[2] != vectors[1]
    assert reply.usage.prompt_tokens == 3


async def test_embeddings_come_as_floats_or_as_base64_of_the_same_floats(
    openai_client: openai.AsyncOpenAI,
) -> None:
    floats, packed = [
        await openai_client.embeddings.create(
            model="text-embedding-3-small", input="one", dimensions=8, encoding_format=kind
        )
        for kind in ("float", "base64")
    ]
    raw: Any = packed.data[0].embedding
    assert list(struct.unpack("<8f", base64.b64decode(raw))) == floats.data[0].embedding


async def test_dictated_figures_are_reported_in_openais_way(openai_client: openai.AsyncOpenAI) -> None:
    marker = "[[simulate usage input=5000 cache_read=4096 output=700 reasoning=300]]"
    reply = await openai_client.chat.completions.create(
        model="gpt-5.4", messages=[{"role": "user", "content": f"go on {marker}"}]
    )
    usage = reply.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (5000, 4096)
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (700, 300)


async def test_a_vllm_model_reports_as_barely_as_vllm(openai_client: openai.AsyncOpenAI) -> None:
    reply = await openai_client.chat.completions.create(model="qwen3-8b", messages=HELLO)
    assert reply.usage is not None
    assert reply.usage.prompt_tokens_details is None
    assert reply.usage.completion_tokens_details is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"messages": []}, "expected a non-empty array"),
        ({"messages": [{"content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "[[simulate nonsense]]"}]}, "faults: rate_limit"),
    ],
)
async def test_a_bad_request_is_refused_in_the_dialect(
    openai_client: openai.AsyncOpenAI, body: Any, told: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=told):
        await openai_client.chat.completions.create(model="gpt-4.1-mini", **body)


async def test_a_prompt_beyond_the_context_is_refused(openai_client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 128000"):
        await openai_client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "x" * 520_000}]
        )


async def test_models_are_listed(openai_client: openai.AsyncOpenAI) -> None:
    assert "qwen3-8b" in [model.id async for model in openai_client.models.list()]


async def test_the_synchronous_sdk_works_alike(simulator: Any) -> None:
    def ask() -> str:
        with openai.OpenAI(base_url=f"{simulator.base_url}/v1", api_key="any", max_retries=0) as client:
            stream = client.chat.completions.create(model="gpt-4.1-mini", messages=HELLO, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert (await asyncio.to_thread(ask)).startswith("[simulated] ")
