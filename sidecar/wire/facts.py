"""What a request asks and what a reply said, as values; and the one error of this package.

``RequestFacts`` and ``ReplyFacts`` are all that the rest of the sidecar sees of a
dialect. Text that people wrote never leaves this package: facts hold lengths,
hashes, names and counts.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from collector.domain.usage import Usage

APIS: Final = (
    "openai.chat",
    "openai.completions",
    "openai.responses",
    "openai.embeddings",
    "anthropic.messages",
    "anthropic.count_tokens",
    "raw",
)
"""The dialects an agent may speak to us; ``raw`` is the pass-through to a configured upstream."""


class InvalidRequest(ValueError):
    """The request body is not what its API defines. The message is written for the agent.

    ``param`` names the field at fault, empty when the body as a whole is.
    """

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class RequestFacts(msgspec.Struct):
    """What one request asks for. A struct, because it is made for every call."""

    api: str
    model: str
    stream: bool = False
    max_output_tokens: int | None = None
    """The cap that the agent itself set, per choice."""
    choice_count: int = 1
    """How many completions may be generated and billed: choices times prompts."""
    has_tools: bool = False
    wants_json_schema: bool = False
    has_images: bool = False
    """Images, files or other media that a text-only model could not read."""
    has_remote_media: bool = False
    """Media named by a URL that the model's server would have to fetch."""
    include_usage: bool = False
    """The agent itself asked for the usage chunk of its stream."""
    background: bool = False
    """The work goes on after the reply, which therefore cannot carry its usage."""
    user: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    """At most 16 pairs, keys up to 64 characters, values up to 512 (OpenAI's own limits)."""
    conversation_id: str = ""
    text_bytes: int = 0
    """UTF-8 bytes of all text the model will read, tool definitions included; media are not."""
    message_bytes: int = 0
    """Those of the messages alone, of a chat."""
    message_hashes: list[int] = msgspec.field(default_factory=list)
    """Rolling 63-bit hash after each message, in order."""
    input_role: str = ""
    """Who speaks last: ``tool`` where the agent hands in what a tool said, else the message's role."""
    input_hash: int = 0
    """What is said last, two ways (:func:`sidecar.wire.hashing.told_two_ways`)."""
    tool_errors: int = 0
    """How many tools said that they failed, among what is said last."""
    tools_hash: int = 0
    """The tools offered, in their order and in any (:func:`sidecar.wire.hashing.tools_digest`)."""
    system_hash: int = 0
    """The system prompt, two ways."""
    attributes: dict[str, object] = msgspec.field(default_factory=dict)
    """See ``CallRecord.request_attributes``."""
    region: str = ""
    """Where it asks to be processed; empty where it leaves that open."""
    other_models: tuple[str, ...] = ()
    """Those that stand beside ``model`` under the same name: its provider may take any of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireError:
    """An error as a provider reported it, with the class we sort it into."""

    error_class: str
    """One of :data:`sidecar.wire.errors.ERROR_CLASSES`."""
    type: str = ""
    code: str = ""
    message: str = ""
    """At most 200 characters."""
    retry_after_s: float | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later or elsewhere."""
        return self.error_class in ("rate_limit", "overloaded", "timeout", "server_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlace:
    """What must be known of a stream to end it at any event with valid last events."""

    dialect: str = ""
    """As in :mod:`sidecar.wire.dialects`; empty while nothing was recognised."""
    framing: str = ""
    """``sse``, ``frames`` (AWS), ``array`` (Gemini's JSON array), empty when it is no stream."""
    inside_event: bool = False
    """The agent has the beginning of an event whose end it will not get."""
    created: int = 0
    """Seconds since the epoch, as the stream itself says."""
    open_blocks: tuple[int, ...] = ()
    """Anthropic: content blocks begun and not yet ended."""
    sequence_number: int = -1
    """OpenAI responses: of the last event."""


class ReplyFacts(msgspec.Struct):
    """What one reply said; valid at any time, also of a reply that was cut off."""

    usage: Usage | None = None
    """What the provider reported so far; ``None`` when it reported nothing, or nothing believable.
    Final when ``complete``; before, input is what was said and output a lower bound."""
    response_id: str = ""
    response_model: str = ""
    finish_reasons: list[str] = msgspec.field(default_factory=list)
    """In the provider's words, one for each choice that ended, in order of choices."""
    tool_names: list[str] = msgspec.field(default_factory=list)
    """Tools that the agent is asked to run, in order; server-side tools are not among them."""
    tool_call_hashes: list[int] = msgspec.field(default_factory=list)
    """Of each of them, name and arguments two ways (:func:`sidecar.wire.hashing.told_two_ways`)."""
    error: WireError | None = None
    chunks: int = 0
    """Stream events seen, the closing ``[DONE]`` included; 0 when the reply is not a stream."""
    complete: bool = False
    """The terminal event, or the whole body, was seen, and with it the last word on usage."""
    output_text_bytes: int = 0
    """UTF-8 bytes of everything the model visibly wrote: text, reasoning, tool arguments."""
    reasoning_text_bytes: int = 0
    """The part of ``output_text_bytes`` that was reasoning; 0 also when reasoning is hidden."""
    provider_cost_pico: int | None = None
    service_tier: str = ""
    region: str = ""
    """Where it was processed, as the provider says; empty where it says nothing."""
    system_fingerprint: str = ""
    last_message_hash: int = 0
    """The request's rolling hash extended by this reply; 0 when it cannot be known."""
    usage_flags: tuple[str, ...] = ()
    """What had to be corrected or dropped before the reply could be believed."""
    unread: str = ""
    """Where our own reader failed of it, if it did: bytes passed unread, so the reply is not complete."""
    place: StreamPlace = StreamPlace()
    """Where the stream stands, for ending it validly."""
