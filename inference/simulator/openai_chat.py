"""OpenAI chat completions and completions: cached tokens are counted inside the prompt.

https://platform.openai.com/docs/api-reference/chat and /completions
"""

from collections.abc import Mapping
from typing import Any

from collector.domain.usage import Usage
from inference.simulator.answers import Answer, Asked, Tool
from inference.simulator.events import StreamEvent, data_event, encode
from inference.simulator.prompts import InvalidPrompt, Prompt
from inference.simulator.tokens import count_tokens

FINGERPRINT = "simulated"
_FINISH = {"stop": "stop", "length": "length", "tools": "tool_calls"}
_DONE = StreamEvent(b"data: [DONE]\n\n")


def asked(body: Mapping[str, Any], prompt: Prompt) -> Asked:
    """What a chat request asks for."""
    response_format = body.get("response_format") or {}
    return Asked(
        model=str(body["model"]),
        stream=bool(body.get("stream")),
        prompt_tokens=prompt.tokens,
        last_user_text=prompt.last_user_text,
        answers_a_tool=prompt.answers_a_tool,
        output_cap=output_cap(body, "max_completion_tokens", "max_tokens"),
        tools=tuple(
            Tool(tool["function"]["name"], tool["function"].get("parameters") or {})
            for tool in body.get("tools") or ()
            if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping)
        ),
        tool_choice=_tool_choice(body.get("tool_choice")),
        json_schema=(response_format.get("json_schema") or {}).get("schema"),
        reasoning=False if body.get("reasoning_effort") in ("none", "minimal") else None,
        choices=max(1, min(16, int(body.get("n") or 1))),
    )


def output_cap(body: Mapping[str, Any], *names: str) -> int | None:
    """The first of ``names`` that caps the output.

    Raises:
        InvalidPrompt: it is not a positive integer.
    """
    for name in names:
        cap = body.get(name)
        if cap is not None:
            if not isinstance(cap, int) or isinstance(cap, bool) or cap < 1:
                raise InvalidPrompt(f"Invalid '{name}': expected an integer above 0, but got {cap!r}.", name)
            return cap
    return None


def usage_of(usage: Usage, *, dialect: str = "openai") -> dict[str, Any]:
    """``usage`` in the chat API's shape; vLLM's own is barer."""
    whole: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if dialect == "vllm":
        cached, reasoning = usage.cache_read_input_tokens, usage.reasoning_output_tokens
        details = {"prompt_tokens_details": {"cached_tokens": cached} if cached else None}
        if reasoning:
            details["completion_tokens_details"] = {"reasoning_tokens": reasoning}
        return whole | details
    prompt_details = {"cached_tokens": usage.cache_read_input_tokens, "audio_tokens": 0}
    if usage.cache_write_input_tokens:
        prompt_details["cache_write_tokens"] = usage.cache_write_input_tokens
    return whole | {
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_output_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def whole_chat(answer: Answer, created: int, usage: Mapping[str, Any] | None) -> bytes:
    """A chat completion in one body."""
    choices = []
    for index, text in enumerate(answer.texts):
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if answer.tool_calls:
            message["tool_calls"] = [_tool_call(call) for call in answer.tool_calls]
        choices.append(
            {"index": index, "message": message, "logprobs": None, "finish_reason": _FINISH[answer.finish]}
        )
    reply = _head(answer, created, "chat.completion") | {"choices": choices}
    if usage is not None:
        reply["usage"] = usage
    return encode(reply)


def chat_events(
    answer: Answer, created: int, usage: Mapping[str, Any] | None, *, include_usage: bool
) -> list[StreamEvent]:
    """The same as a stream; with ``include_usage`` the usage comes in a last chunk without choices."""
    head = _head(answer, created, "chat.completion.chunk")
    tail: dict[str, Any] = {"usage": None} if include_usage else {}

    def chunk(index: int, delta: dict[str, Any], tokens: int = 0, finish: str | None = None) -> StreamEvent:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return data_event(head | {"choices": [choice]} | tail, tokens)

    events = []
    for index, text in enumerate(answer.texts):
        content = None if answer.tool_calls else ""
        events.append(chunk(index, {"role": "assistant", "content": content, "refusal": None}))
        events += [chunk(index, {"content": piece}, count_tokens(piece)) for piece in answer.pieces(text)]
        for place, call in enumerate(answer.tool_calls):
            opened = {"index": place} | _tool_call(call)
            opened["function"] = {"name": call.name, "arguments": ""}
            events.append(chunk(index, {"tool_calls": [opened]}))
            for piece in answer.pieces(call.arguments):
                delta = {"index": place, "function": {"arguments": piece}}
                events.append(chunk(index, {"tool_calls": [delta]}, count_tokens(piece)))
        events.append(chunk(index, {}, finish=_FINISH[answer.finish]))
    if include_usage and usage is not None:
        events.append(data_event(head | {"choices": [], "usage": usage}, is_usage=True))
    events.append(_DONE)
    return events


def whole_completion(answer: Answer, created: int, usage: Mapping[str, Any] | None) -> bytes:
    """A text completion in one body."""
    choices = [
        {"text": text, "index": index, "logprobs": None, "finish_reason": _FINISH[answer.finish]}
        for index, text in enumerate(answer.texts)
    ]
    reply = _head(answer, created, "text_completion", "cmpl") | {"choices": choices}
    if usage is not None:
        reply["usage"] = usage
    return encode(reply)


def completion_events(
    answer: Answer, created: int, usage: Mapping[str, Any] | None, *, include_usage: bool
) -> list[StreamEvent]:
    """A text completion as a stream."""
    head = _head(answer, created, "text_completion", "cmpl")
    tail: dict[str, Any] = {"usage": None} if include_usage else {}
    events = []
    for index, text in enumerate(answer.texts):
        for piece in [*answer.pieces(text), ""]:
            finish = None if piece else _FINISH[answer.finish]
            choice = {"text": piece, "index": index, "logprobs": None, "finish_reason": finish}
            events.append(data_event(head | {"choices": [choice]} | tail, count_tokens(piece)))
    if include_usage and usage is not None:
        events.append(data_event(head | {"choices": [], "usage": usage}, is_usage=True))
    events.append(_DONE)
    return events


def error_of(status: int, message: str, *, kind: str, code: str | None, param: str | None = None) -> bytes:
    """OpenAI's error body."""
    return encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _head(answer: Answer, created: int, kind: str, prefix: str = "chatcmpl") -> dict[str, Any]:
    return {
        "id": f"{prefix}-sim{answer.key}",
        "object": kind,
        "created": created,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def _tool_call(call: Any) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_sim{call.call_id}", "type": "function", "function": function}


def _tool_choice(choice: object) -> str:
    if isinstance(choice, Mapping):
        return str((choice.get("function") or {}).get("name", "required"))
    return str(choice or "auto")
