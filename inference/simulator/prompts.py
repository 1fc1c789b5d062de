"""A request of any dialect, rendered to the text that the model "reads".

Rendering decides two things: how many tokens a prompt has, and which prompts
share a prefix. Order follows the providers: tools, then system text, then
messages. An image is a stand-in text of 85 tokens made from its digest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec

from inference.simulator.tokens import BYTES_PER_TOKEN, count_tokens

IMAGE_TOKENS = 85


class InvalidPrompt(ValueError):
    """The request is not what the API defines; the message is for its sender.

    Args:
        message: what is wrong.
        param: the field at fault.
        code: OpenAI's error code, where it has one for this.
    """

    def __init__(self, message: str, param: str, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """A place up to which the sender wants the prompt cached."""

    offset: int
    """Bytes from the start of the rendered prompt."""
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model reads, and the places that matter in it."""

    text: bytes
    boundaries: tuple[int, ...]
    """Byte offset after each content block."""
    breakpoints: tuple[Breakpoint, ...]
    last_user_text: str
    """The text of the last user message: the one that may carry directives."""
    answers_a_tool: bool
    """Whether the conversation ends with a tool's result."""

    @property
    def tokens(self) -> int:
        """Length in tokens."""
        return count_tokens(self.text)


@dataclass(slots=True)
class _Rendering:
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    boundaries: list[int] = field(default_factory=list)
    breakpoints: list[Breakpoint] = field(default_factory=list)
    last_user_text: str = ""
    answers_a_tool: bool = False

    def add(self, label: str, text: str, mark: object = None) -> None:
        block = f"{label}: {text}\n".encode()
        self.parts.append(block)
        self.size += len(block)
        self.boundaries.append(self.size)
        if isinstance(mark, Mapping):
            ttl_s = 3600.0 if mark.get("ttl") == "1h" else 300.0
            self.breakpoints.append(Breakpoint(self.size, ttl_s))

    def done(self) -> Prompt:
        if len(self.breakpoints) > 4:
            raise InvalidPrompt(
                f"A maximum of 4 blocks with cache_control may be provided. Found {len(self.breakpoints)}.",
                "cache_control",
            )
        return Prompt(
            text=b"".join(self.parts),
            boundaries=tuple(self.boundaries),
            breakpoints=tuple(self.breakpoints),
            last_user_text=self.last_user_text,
            answers_a_tool=self.answers_a_tool,
        )


def of_chat(body: Mapping[str, Any]) -> Prompt:
    """The prompt of ``/v1/chat/completions``."""
    rendering = _Rendering()
    _add_tools(rendering, body.get("tools"))
    for index, message in enumerate(_messages(body, "messages")):
        role = message.get("role")
        if not isinstance(role, str):
            raise InvalidPrompt(
                f"Missing required parameter: 'messages[{index}].role'.", f"messages[{index}].role"
            )
        _add_turn(rendering, role, message.get("content"), message.get("tool_calls"))
    return rendering.done()


def of_responses(body: Mapping[str, Any], earlier: bytes) -> Prompt:
    """The prompt of ``/v1/responses``; ``earlier`` is the rendered conversation it continues."""
    rendering = _Rendering()
    if earlier:
        rendering.parts.append(earlier)
        rendering.size = len(earlier)
        rendering.boundaries.append(len(earlier))
    if instructions := body.get("instructions"):
        rendering.add("system", str(instructions))
    if not earlier:
        _add_tools(rendering, body.get("tools"))
    given = body.get("input")
    if isinstance(given, str):
        _add_turn(rendering, "user", given, None)
        return rendering.done()
    for item in _messages(body, "input"):
        kind = item.get("type", "message")
        if kind == "message":
            _add_turn(rendering, str(item.get("role", "user")), item.get("content"), None)
        elif kind == "function_call_output":
            _add_turn(rendering, "tool", item.get("output"), None)
        else:
            rendering.add(str(kind), _json(item))
    return rendering.done()


def of_messages(body: Mapping[str, Any]) -> Prompt:
    """The prompt of Anthropic's ``/v1/messages``."""
    rendering = _Rendering()
    _add_tools(rendering, body.get("tools"))
    for block in _blocks(body.get("system")):
        rendering.add("system", _text_of(block), block.get("cache_control"))
    for index, message in enumerate(_messages(body, "messages")):
        role = message.get("role")
        if role not in ("user", "assistant"):
            raise InvalidPrompt(
                f'messages.{index}.role: Input should be "user" or "assistant"', f"messages.{index}.role"
            )
        blocks = list(_blocks(message.get("content")))
        if not blocks:
            raise InvalidPrompt(f"messages.{index}.content: Field required", f"messages.{index}.content")
        for block in blocks:
            rendering.add(role, _text_of(block), block.get("cache_control"))
        rendering.answers_a_tool = blocks[-1].get("type") == "tool_result"
        texts = [_text_of(block) for block in blocks if block.get("type") == "text"]
        if role == "user" and texts:
            rendering.last_user_text = "\n".join(texts)
    return rendering.done()


def of_text(text: str) -> Prompt:
    """The prompt of ``/v1/completions``, and of one embedding input: the text and nothing around it."""
    encoded = text.encode()
    return Prompt(
        text=encoded,
        boundaries=(len(encoded),),
        breakpoints=(),
        last_user_text=text,
        answers_a_tool=False,
    )


def _messages(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    messages = body.get(name)
    if not isinstance(messages, list) or not messages:
        raise InvalidPrompt(f"Invalid '{name}': expected a non-empty array.", name)
    if not all(isinstance(message, Mapping) for message in messages):
        raise InvalidPrompt(f"Invalid '{name}': expected an array of objects.", name)
    return messages


def _add_turn(rendering: _Rendering, role: str, content: object, tool_calls: object) -> None:
    blocks = list(_blocks(content))
    for block in blocks:
        rendering.add(role, _text_of(block))
    if isinstance(tool_calls, list):
        for call in tool_calls:
            rendering.add(role, _json(call))
    rendering.answers_a_tool = role == "tool"
    if role == "user":
        rendering.last_user_text = "\n".join(_text_of(block) for block in blocks)


def _add_tools(rendering: _Rendering, tools: object) -> None:
    if isinstance(tools, list):
        for tool in tools:
            mark = tool.get("cache_control") if isinstance(tool, Mapping) else None
            rendering.add("tool", _json(tool), mark)


def _blocks(content: object) -> Iterable[Mapping[str, Any]]:
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    elif isinstance(content, list):
        for block in content:
            yield block if isinstance(block, Mapping) else {"type": "text", "text": str(block)}


def _text_of(block: Mapping[str, Any]) -> str:
    text = block.get("text")
    if isinstance(text, str):
        return text
    if "image" in str(block.get("type")):
        return (sha256(_json(block).encode()).hexdigest() * 6)[: IMAGE_TOKENS * BYTES_PER_TOKEN]
    return _json({name: value for name, value in block.items() if name != "cache_control"})


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
