"""What one call asks of the model that serves it: looked at when a call may be downgraded, not before."""

from dataclasses import dataclass
from typing import Final

import msgspec

from sidecar.wire import RequestFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one call asks of the model that serves it. Made by :func:`needs_of`."""

    api: str
    abilities: frozenset[str] = frozenset()
    effort: str = ""
    input_tokens: int = 0
    """Estimated."""
    output_tokens: int = 0
    """What it is expected to write, or the caller's cap where that is what may be used up."""
    cap_tokens: int | None = None
    """The caller's own cap."""
    bound: str = ""
    """Why the call cannot leave its upstream, in words; empty when it can."""


class _Role(msgspec.Struct, gc=False):
    role: str = ""


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None


class _Thinking(msgspec.Struct, gc=False):
    type: str = ""


class _Body(msgspec.Struct, gc=False):
    """The fields that request facts leave out."""

    messages: list[_Role] = []
    tools: list[_Tool] | None = None
    thinking: _Thinking | None = None
    max_tokens: int | None = None
    logprobs: bool | int | None = None
    modalities: list[str] | None = None
    audio: msgspec.Raw | None = None


ODD: Final = "odd"
"""Stands among the abilities of a call whose body could not be looked at: no model is known to have it."""

_decode_body: Final = msgspec.json.Decoder(_Body).decode
_OWN_TOOLS: Final = {
    "openai.chat": frozenset({None, "function"}),
    "openai.responses": frozenset({None, "function"}),
    "anthropic.messages": frozenset({None, "custom"}),
}
"""Types of tools that the agent runs itself and any model with tools can call."""
_SAMPLING: Final = frozenset(
    {"temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "stop_sequences"}
)
_MEDIA: Final = {
    "images": (b'"image_url"', b'"input_image"', b'"image"'),
    "documents": (b'"file"', b'"input_file"', b'"document"'),
    "audio": (b'"input_audio"',),
}


def needs_of(
    facts: RequestFacts, body: bytes, *, input_tokens: int, expected_output_tokens: int = 0
) -> Needs:
    """What a call needs of any model that would serve it.

    Args:
        facts: the request as it was read.
        body: the same request; a few fields are looked up in it that only downgrades care about.
        input_tokens: how many tokens it is estimated to have.
        expected_output_tokens: what calls of its kind write; without it the caller's cap counts.
    """
    found: set[str] = set()
    bound = ""
    attributes = facts.attributes
    if facts.has_tools:
        found.add("tools")
    if facts.wants_json_schema or attributes.get("output_type") == "json":
        found.add("json_schema")
    if not _SAMPLING.isdisjoint(attributes):
        found.add("sampling")
    if facts.has_images:
        media = {name for name, marks in _MEDIA.items() if any(mark in body for mark in marks)}
        # A kind of media that is not known may be anything.
        found |= media or _MEDIA.keys()
    effort = str(attributes.get("reasoning_level", ""))
    if effort:
        found.add("reasoning")
    if "previous_response_id" in attributes or (facts.conversation_id and facts.api == "openai.responses"):
        bound = "it continues what is stored at its provider"
    if facts.background:
        bound = "it runs in the background"
    try:
        found |= _named_in(_decode_body(body), facts.api)
    except (msgspec.DecodeError, RecursionError):
        found.add(ODD)
    return Needs(
        api=facts.api,
        abilities=frozenset(found),
        effort=effort,
        input_tokens=input_tokens,
        output_tokens=expected_output_tokens or facts.max_output_tokens or 0,
        cap_tokens=facts.max_output_tokens,
        bound=bound,
    )


def _named_in(body: _Body, api: str) -> set[str]:
    found: set[str] = set()
    own = _OWN_TOOLS.get(api, frozenset())
    if any(tool.type not in own for tool in body.tools or ()):
        found.add("hosted_tools")
    if body.thinking is not None and body.thinking.type != "disabled":
        found |= {"reasoning", f"{'adaptive' if body.thinking.type == 'adaptive' else 'budget'}_thinking"}
    if api == "openai.chat" and body.max_tokens is not None:
        found.add("max_tokens")
    if body.logprobs:
        found.add("log_probabilities")
    if body.audio is not None or "audio" in (body.modalities or ()):
        found.add("audio_output")
    if api == "anthropic.messages" and body.messages and body.messages[-1].role == "assistant":
        found.add("prefill")
    return found
