"""One answer that is kept, and which answers never are."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from collector.domain.usage import Usage
from sidecar.call import Call
from sidecar.http import HeaderList
from sidecar.relay import CAPTURED_REPLY_LIMIT
from sidecar.wire import ReplyFacts
from sidecar.wire.modes import says_events
from sidecar.wire.sse import Splitter

GOOD_ENDS: Final = frozenset(
    {"stop", "tool_calls", "function_call", "end_turn", "tool_use", "stop_sequence", "completed", "eos"}
)
"""Why a whole answer ends; any other reason (length, content_filter, refusal ...) is never kept."""

_decode: Final = msgspec.json.Decoder().decode


class Entry(msgspec.Struct, array_like=True):
    """An answer as it was given, and what must be known to give it again. Appended to only."""

    content_type: bytes
    body: bytes
    """Without the event of a stream that says nothing but usage."""
    usage_event: bytes
    """That event; empty where there is none."""
    usage_at: int
    """Where in ``body`` it stood."""
    stored_at: float
    """Seconds since the epoch."""
    expires_at: float
    provider: str
    model: str
    """As the upstream knows it."""
    response_model: str
    response_id: str
    finish_reasons: list[str]
    tool_names: list[str]
    tool_call_hashes: list[int]
    chunks: int
    last_message_hash: int
    usage: Usage
    service_tier: str
    cost_pico: int
    """What it cost."""
    tenant: str = ""
    request_model: str = ""
    tags: dict[str, str] = {}
    last_asked_at: float = 0.0
    """Of the last call that it answered, or its own; for what the provider's cache would still have had."""
    hits: int = 0

    def bytes_for(self, include_usage: bool) -> bytes:
        """The body, with the usage at the end of a stream only for those who asked for it."""
        if not include_usage or not self.usage_event:
            return self.body
        return b"".join((self.body[: self.usage_at], self.usage_event, self.body[self.usage_at :]))

    def reply_facts(self) -> ReplyFacts:
        """What the record says of the reply; no usage, for none was used."""
        return ReplyFacts(
            response_id=self.response_id,
            response_model=self.response_model,
            finish_reasons=self.finish_reasons,
            tool_names=self.tool_names,
            tool_call_hashes=self.tool_call_hashes,
            chunks=self.chunks,
            complete=True,
            service_tier=self.service_tier,
            last_message_hash=self.last_message_hash,
        )

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return len(self.body) + len(self.usage_event) + 1500


def may_be_kept(call: Call) -> bool:
    """Whether how ``call`` ended, and whom it was answered by, allows to keep its answer."""
    reply, facts, attempts = call.reply_facts, call.facts, call.attempts
    if reply is None or facts is None or not attempts or call.outcome != "served" or call.downgraded_from:
        return False
    last = attempts[-1]
    if (
        last.status != 200
        or last.error_type
        or last.model != attempts[0].model
        or last.grade in ("", "assumed")
    ):
        return False
    if reply.error is not None or not reply.complete or reply.usage_flags:
        return False
    if facts.api == "openai.embeddings":
        return True
    ends = reply.finish_reasons
    if not ends or not GOOD_ENDS.issuperset(ends):
        return False
    if facts.api in ("openai.chat", "openai.completions"):
        # One end for each choice asked for; prompts and best_of make more of them than there are choices.
        wanted = facts.attributes.get("choice_count", 1)
        if isinstance(wanted, int) and len(ends) < wanted:
            return False
    return bool(reply.output_text_bytes or reply.tool_names)


def entry_of(
    call: Call, status: int, headers: HeaderList, body: bytes, now: float, ttl_s: float, largest: int
) -> Entry | None:
    """The answer to ``call`` as it is kept; None when it must not be.

    Args:
        body: all bytes that came from the upstream.
    """
    if status != 200 or not may_be_kept(call) or not 0 < len(body) <= min(largest, CAPTURED_REPLY_LIMIT - 1):
        return None
    named = dict(headers)
    if b"content-encoding" in named:
        return None
    content_type = named.get(b"content-type", b"")
    facts, reply, last = call.facts, call.reply_facts, call.attempts[-1]
    assert facts is not None and reply is not None
    usage_event, usage_at = b"", 0
    if says_events(content_type):
        if not facts.stream:
            return None
        taken = _without_usage(body)
        if taken is None:
            return None
        body, usage_event, usage_at = taken
    elif facts.stream or b"json" not in content_type.lower() or _refuses(_decode(body)):
        return None
    return Entry(
        content_type, body, usage_event, usage_at, now, now + ttl_s, last.provider, last.model,
        reply.response_model, reply.response_id, reply.finish_reasons, reply.tool_names,
        reply.tool_call_hashes, reply.chunks, reply.last_message_hash, last.usage, reply.service_tier,
        last.cost_pico, call.caller.tenant, facts.model, dict(call.caller.tags), now,
    )  # fmt: skip


def _without_usage(stream: bytes) -> tuple[bytes, bytes, int] | None:
    """A stream without its event of usage alone, that event, and where it stood; None when it refuses."""
    splitter = Splitter()
    found, at = b"", 0
    events = splitter.feed(stream)
    if splitter.oversized or not splitter.idle:
        return None  # It does not end between two events.
    for event in events:
        if event.data == b"[DONE]":
            continue
        said = _decode(event.data)
        if _refuses(said):
            return None
        if isinstance(said, dict) and said.get("choices") == [] and isinstance(said.get("usage"), dict):
            found, at = stream[event.start : event.end], event.start
    return (stream[:at] + stream[at + len(found) :], found, at) if found else (stream, b"", 0)


def _refuses(said: Any) -> bool:
    """Whether a body or an event says that the model refuses, or that something was filtered out."""
    waiting = [said]
    while waiting:
        member = waiting.pop()
        if isinstance(member, list):
            waiting += [inner for inner in member if isinstance(inner, dict | list)]
        elif isinstance(member, Mapping):
            kind = member.get("type")
            if member.get("refusal") or kind == "refusal" or (isinstance(kind, str) and "refusal." in kind):
                return True
            waiting += [inner for inner in member.values() if isinstance(inner, dict | list)]
    return False
