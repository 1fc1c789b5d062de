"""The official Anthropic SDK reads everything that the simulator says in its dialect."""

from typing import Any

import anthropic
import pytest

from inference.simulator.tokens import count_tokens

MODEL = "claude-sonnet-5"
HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER: Any = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def long_system(ttl: str) -> Any:
    return [{"type": "text", "text": "s" * 8000, "cache_control": {"type": "ephemeral", "ttl": ttl}}]


async def test_a_message_reports_the_tokens_of_its_text(anthropic_client: anthropic.AsyncAnthropic) -> None:
    reply = await anthropic_client.messages.create(model=MODEL, max_tokens=4096, messages=HELLO)

    assert [block.type for block in reply.content] == ["text"]
    text = reply.content[0].text  # type: ignore[union-attr]
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3, count_tokens(text))
    assert reply.stop_reason == "end_turn"


async def test_cached_tokens_are_counted_beside_the_input(anthropic_client: anthropic.AsyncAnthropic) -> None:
    replies = [
        await anthropic_client.messages.create(
            model=MODEL, max_tokens=10, system=long_system("5m"), messages=HELLO
        )
        for _ in range(2)
    ]
    # 8,009 bytes of system text are 2,002 whole tokens; with the 12 of the message, 2,006 in all.
    figures = [
        (u.input_tokens, u.cache_creation_input_tokens, u.cache_read_input_tokens)
        for u in (reply.usage for reply in replies)
    ]
    assert figures == [(4, 2002, 0), (4, 0, 2002)]


async def test_one_hour_writes_are_told_apart(anthropic_client: anthropic.AsyncAnthropic) -> None:
    reply = await anthropic_client.messages.create(
        model=MODEL, max_tokens=10, system=long_system("1h"), messages=HELLO
    )
    assert reply.usage.cache_creation is not None
    assert reply.usage.cache_creation.ephemeral_1h_input_tokens == 2002
    assert reply.usage.cache_creation.ephemeral_5m_input_tokens == 0


async def test_a_stream_ends_with_the_running_totals(anthropic_client: anthropic.AsyncAnthropic) -> None:
    async with anthropic_client.messages.stream(
        model=MODEL,
        max_tokens=4096,
        system=long_system("5m"),
        messages=HELLO,
        extra_headers={"x-simulate-output-tokens": "45"},
    ) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_message()

    start = next(event for event in events if event.type == "message_start")
    delta = next(event for event in events if event.type == "message_delta")
    assert start.message.usage.output_tokens == 1
    assert start.message.usage.cache_creation_input_tokens == 2002
    assert delta.usage.output_tokens == 45
    assert len(final.content[0].text) == 4 * 45  # type: ignore[union-attr]
    assert final.usage.cache_creation_input_tokens == 2002


async def test_the_cap_stops_the_message(anthropic_client: anthropic.AsyncAnthropic) -> None:
    reply = await anthropic_client.messages.create(
        model=MODEL,
        max_tokens=12,
        messages=HELLO,
        extra_headers={"x-simulate-output-tokens": "99"},
    )
    assert (reply.stop_reason, reply.usage.output_tokens) == ("max_tokens", 12)


async def test_thinking_is_a_block_of_its_own_and_part_of_the_output(
    anthropic_client: anthropic.AsyncAnthropic,
) -> None:
    async with anthropic_client.messages.stream(
        model=MODEL,
        max_tokens=4096,
        messages=HELLO,
        thinking={"type": "enabled", "budget_tokens": 1024},
        extra_headers={"x-simulate-output-tokens": "100"},
    ) as stream:
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.usage.output_tokens == 100
    assert final.usage.output_tokens_details is not None
    assert final.usage.output_tokens_details.thinking_tokens == 40


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
async def test_a_tool_is_called_when_demanded(
    anthropic_client: anthropic.AsyncAnthropic, choice: Any
) -> None:
    reply = await anthropic_client.messages.create(
        model=MODEL, max_tokens=4096, messages=HELLO, tools=[WEATHER], tool_choice=choice
    )
    assert reply.stop_reason == "tool_use"
    assert [block.input for block in reply.content if block.type == "tool_use"] == [{"city": "simulated"}]


async def test_a_streamed_tool_call_is_put_together_by_the_sdk(
    anthropic_client: anthropic.AsyncAnthropic,
) -> None:
    async with anthropic_client.messages.stream(
        model=MODEL,
        max_tokens=4096,
        messages=[{"role": "user", "content": "use get_weather"}],
        tools=[WEATHER],
    ) as stream:
        final = await stream.get_final_message()
    assert [block.input for block in final.content if block.type == "tool_use"] == [{"city": "simulated"}]


async def test_after_the_tools_result_the_model_answers_in_words(
    anthropic_client: anthropic.AsyncAnthropic,
) -> None:
    messages: Any = [
        {"role": "user", "content": "use get_weather"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]},
    ]
    reply = await anthropic_client.messages.create(
        model=MODEL, max_tokens=4096, messages=messages, tools=[WEATHER]
    )
    assert reply.stop_reason == "end_turn"


async def test_dictated_figures_are_reported_in_anthropics_way(
    anthropic_client: anthropic.AsyncAnthropic,
) -> None:
    marker = "[[simulate usage input=1000 cache_read=500 cache_write=300 cache_write_1h=100 output=77]]"
    async with anthropic_client.messages.stream(
        model=MODEL, max_tokens=4096, messages=[{"role": "user", "content": marker}]
    ) as stream:
        usage = (await stream.get_final_message()).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (
        200,
        500,
        300,
    )
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_1h_input_tokens == 100
    assert usage.output_tokens == 77


async def test_tokens_are_counted_as_they_would_be_billed(anthropic_client: anthropic.AsyncAnthropic) -> None:
    counted = await anthropic_client.messages.count_tokens(model=MODEL, messages=HELLO, tools=[WEATHER])
    reply = await anthropic_client.messages.create(
        model=MODEL, max_tokens=10, messages=HELLO, tools=[WEATHER]
    )
    assert counted.input_tokens == reply.usage.input_tokens


async def test_a_missing_cap_is_refused_in_the_dialect(simulator: Any) -> None:
    body = b'{"model":"claude-sonnet-5","messages":[{"role":"user","content":"x"}]}'
    reply = await simulator.raw("/v1/messages", body)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b'"type":"invalid_request_error","message":"max_tokens: Field required"' in reply


async def test_five_breakpoints_are_refused(anthropic_client: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="maximum of 4 blocks"):
        await anthropic_client.messages.create(
            model=MODEL, max_tokens=10, system=long_system("5m") * 5, messages=HELLO
        )


async def test_models_are_listed(anthropic_client: anthropic.AsyncAnthropic) -> None:
    assert [model.id async for model in anthropic_client.models.list()] == [
        "claude-opus-5",
        "claude-sonnet-5",
        "claude-haiku-4-5",
    ]
