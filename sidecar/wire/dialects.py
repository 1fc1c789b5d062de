"""The map of dialects: who reads which reply.

| dialect   | module           | spoken by                                                              |
|-----------|------------------|------------------------------------------------------------------------|
| CHAT      | openai_chat      | OpenAI chat, completions, embeddings; Azure, Groq, OpenRouter, xAI ... |
| RESPONSES | openai_responses | OpenAI, Azure, xAI, DeepSeek, vLLM                                     |
| MESSAGES  | anthropic        | Anthropic, Claude on Bedrock and Vertex, vLLM                          |
| GEMINI    | gemini           | Gemini on the Developer API and on Vertex                              |
| CONVERSE  | bedrock          | Bedrock Converse; Nova                                                 |
| INVOKED   | bedrock          | Titan, Llama, Mistral on Bedrock InvokeModel                           |
| COHERE    | cohere           | Cohere, versions 1 and 2                                               |
| OLLAMA    | ollama           | Ollama                                                                 |
| DASHSCOPE | dashscope        | Qwen and others on Alibaba's DashScope, in its own dialect             |
| OTHER     | here             | anything with a usage block                                            |

On our own routes the route says which; on pass-through each JSON object is
recognised by its own shape.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from sidecar.wire import (
    anthropic,
    bedrock,
    chunks,
    cohere,
    dashscope,
    gemini,
    ollama,
    openai_chat,
    openai_responses,
)
from sidecar.wire.reading import Reading


class Dialect(NamedTuple):
    """How one family of replies is read."""

    name: str
    body: Callable[[Mapping[str, Any], Reading], None]
    """Reads a whole body."""
    event: Callable[[str, Mapping[str, Any], Reading], bool]
    """Reads one event of a stream; true when it carried nothing but usage."""
    ordinary: Callable[[bytes, Reading], bool] | None = None
    """Reads an event that only adds text, fast; false when it is not one."""
    plain: Callable[[bytes, Reading], bool | None] | None = None
    """Reads an event of documented fields alone, as ``event`` does but faster; None when it holds others."""


def _read_other(body: Mapping[str, Any], reading: Reading) -> None:
    reading.identify(body.get("id"), body.get("model"))
    usage = body.get("usage")
    if isinstance(usage, dict):
        openai_chat.read_cost(usage, reading)
        if _is_of_images(body) and "output_tokens_details" not in usage:
            usage = {**usage, "output_tokens_details": {"image_tokens": usage.get("output_tokens")}}
    reading.use(usage)
    reading.fail(body.get("error"))


def _is_of_images(body: Mapping[str, Any]) -> bool:
    """Whether it is images that were made, as OpenAI answers: then that is what its output tokens are for."""
    data = body.get("data")
    return "b64_json" in body or (
        isinstance(data, list) and any(isinstance(one, dict) and "b64_json" in one for one in data)
    )


def _read_other_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    _read_other(event, reading)
    kind = str(event.get("type") or name)
    if kind.startswith("image_") and kind.endswith(".completed"):
        reading.complete = True
    if name == "error":
        reading.fail(event)
    return False


def _read_nothing(body: Mapping[str, Any], reading: Reading) -> None:
    reading.fail(body.get("error"))


def _read_invoked_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    bedrock.read_invoked_body(event, reading)
    return False


CHAT: Final = Dialect(
    "chat",
    openai_chat.read_chat_body,
    openai_chat.read_chat_event,
    chunks.read_ordinary_chunk,
    chunks.read_plain_chunk,
)
RESPONSES: Final = Dialect(
    "responses",
    openai_responses.read_responses_body,
    openai_responses.read_responses_event,
    openai_responses.read_ordinary_delta,
)
MESSAGES: Final = Dialect(
    "messages", anthropic.read_messages_body, anthropic.read_messages_event, anthropic.read_ordinary_event
)
GEMINI: Final = Dialect("gemini", gemini.read_gemini_body, gemini.read_gemini_event)
CONVERSE: Final = Dialect("converse", bedrock.read_converse_body, bedrock.read_converse_event)
INVOKED: Final = Dialect("invoked", bedrock.read_invoked_body, _read_invoked_event)
COHERE: Final = Dialect("cohere", cohere.read_cohere_body, cohere.read_cohere_event)
OLLAMA: Final = Dialect("ollama", ollama.read_ollama_body, ollama.read_ollama_event)
DASHSCOPE: Final = Dialect("dashscope", dashscope.read_dashscope_body, dashscope.read_dashscope_event)
OTHER: Final = Dialect("other", _read_other, _read_other_event)
COUNTING: Final = Dialect("counting", _read_nothing, _read_other_event)
"""Replies of token counting: their ``input_tokens`` were not consumed."""

BY_API: Final[Mapping[str, Dialect]] = {
    "openai.chat": CHAT,
    "openai.completions": CHAT,
    "openai.embeddings": CHAT,
    "openai.responses": RESPONSES,
    "anthropic.messages": MESSAGES,
    "anthropic.count_tokens": COUNTING,
}

_BY_TYPE: Final = {
    **dict.fromkeys(
        (
            "message_start", "message_delta", "message_stop", "content_block_start",
            "content_block_delta", "content_block_stop", "ping", "message", "completion",
        ),
        MESSAGES,
    ),
    **dict.fromkeys(
        (
            "message-start", "message-end", "content-start", "content-delta", "content-end",
            "tool-plan-delta", "tool-call-start", "tool-call-delta", "tool-call-end",
            "citation-start", "citation-end",
        ),
        COHERE,
    ),
}  # fmt: skip

_BY_KEY: Final = (
    (frozenset({"choices", "x_groq"}), CHAT),
    (frozenset({"candidates", "usageMetadata", "promptFeedback", "predictions"}), GEMINI),
    (
        frozenset({"stopReason", "messageStart", "contentBlockStart", "contentBlockDelta", "messageStop"}),
        CONVERSE,
    ),
    (frozenset({"event_type", "generations", "meta", "generation_id", "finish_reason"}), COHERE),
    (frozenset({"generation", "outputText", "results", "outputs", "inputTextTokenCount"}), INVOKED),
    (frozenset({"done", "eval_count", "prompt_eval_count"}), OLLAMA),
)


def recognise(body: Mapping[str, Any]) -> Dialect:
    """The dialect that ``body`` is written in, by its shape."""
    kind = body.get("type")
    if isinstance(kind, str):
        if kind.startswith("response."):
            return RESPONSES
        if kind in _BY_TYPE:
            return _BY_TYPE[kind]
        if kind == "error":
            return MESSAGES if isinstance(body.get("error"), dict) else RESPONSES
    if "metadata" in body and len(body) == 1:  # The end of a stream of Nova.
        return CONVERSE
    if body.get("object") == "response":
        return RESPONSES
    if isinstance(inner := body.get("response"), dict) and "candidates" in inner:
        return GEMINI
    if "request_id" in body and isinstance(body.get("output"), dict):
        return DASHSCOPE
    return next((dialect for keys, dialect in _BY_KEY if not keys.isdisjoint(body)), OTHER)


def read_recognised_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one event of a stream by its own shape."""
    return recognise(event).event(name, event, reading)


GOOGLE_MODELS: Final = ("gemini", "google/gemini")


def hides_thinking(path: str, model: str) -> bool:
    """Whether a chat reply comes from Google, whose usage has thinking only in the total."""
    return "/v1beta/openai" in path or "/endpoints/openapi" in path or model.startswith(GOOGLE_MODELS)
