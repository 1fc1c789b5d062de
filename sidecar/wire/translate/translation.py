"""The way between two dialects, there and back. Chat is the hub: what is not next to it goes by way of it."""

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.refusals import error_body
from sidecar.wire.translate.chat_reply import ChatStreamToMessages, chat_reply_to_messages
from sidecar.wire.translate.chat_reply_as_response import ChatStreamToResponse, chat_reply_to_response
from sidecar.wire.translate.chat_to_messages import chat_to_messages
from sidecar.wire.translate.chat_to_responses import chat_to_responses
from sidecar.wire.translate.common import Json, StreamTranslator, decode, encode
from sidecar.wire.translate.messages_reply import MessagesStreamToChat, messages_reply_to_chat
from sidecar.wire.translate.messages_to_chat import messages_to_chat
from sidecar.wire.translate.responses_reply import ResponsesStreamToChat, responses_reply_to_chat
from sidecar.wire.translate.responses_to_chat import responses_to_chat

if TYPE_CHECKING:
    from sidecar.wire.translate.meter import TranslatingMeter

CHAT: Final = "openai.chat"
MESSAGES: Final = "anthropic.messages"
RESPONSES: Final = "openai.responses"

PATHS: Final = {CHAT: "/v1/chat/completions", MESSAGES: "/v1/messages", RESPONSES: "/v1/responses"}
"""Where each dialect that can be translated is spoken."""

_JSON: Final = [(b"content-type", b"application/json")]
HEADERS: Final = {
    CHAT: _JSON,
    RESPONSES: _JSON,
    MESSAGES: [*_JSON, (b"anthropic-version", b"2023-06-01")],
}
"""What the head of a request in it says."""

_MALFORMED: Final = (AttributeError, TypeError, KeyError, IndexError, RecursionError, msgspec.MsgspecError)
"""What reading something that is not what it should be ends in."""

_NEAREST: Final = {
    CHAT: (MESSAGES, RESPONSES),
    MESSAGES: (CHAT, RESPONSES),
    RESPONSES: (CHAT, MESSAGES),
}


def nearest(api: str, spoken: frozenset[str]) -> str | None:
    """Which of the ``spoken`` dialects ``api`` is best translated into; None when it cannot be."""
    return next((other for other in _NEAREST.get(api, ()) if other in spoken), None)


class Translation:
    """Between the agent, who speaks ``agent``, and the upstream, which speaks ``upstream``.

    Args:
        agent: the dialect of the call.
        upstream: another one.
        cap: what an upstream that speaks chat calls its limit on tokens.
        extended: it understands what litellm added to chat (:func:`messages_to_chat`).
    """

    def __init__(self, agent: str, upstream: str, *, cap: str = "max_tokens", extended: bool = False) -> None:
        self.agent = agent
        self.upstream = upstream
        self.path = PATHS[upstream]
        self.headers = HEADERS[upstream]
        self._cap = cap
        self._extended = extended

    def request(self, body: bytes, model: str) -> bytes:
        """``body`` in the upstream's dialect, asking for ``model``.

        Raises:
            InvalidRequest: it asks for something that cannot be said there; names the field.
        """
        try:
            fields = decode(body)
            fields["model"] = model
            if self.agent == MESSAGES:
                fields = messages_to_chat(fields, cap=self._cap, extended=self._extended)
            elif self.agent == RESPONSES:
                fields = responses_to_chat(fields, cap=self._cap)
            if self.upstream == MESSAGES:
                fields = chat_to_messages(fields)
            elif self.upstream == RESPONSES:
                fields = chat_to_responses(fields)
            elif fields.get("stream"):
                fields["stream_options"] = {"include_usage": True}
        except (AttributeError, TypeError, KeyError, msgspec.MsgspecError) as error:
            raise InvalidRequest(
                "The body is not what its API defines, so it cannot be translated."
            ) from error
        return encode(fields)

    def body(self, raw: bytes, *, created: int) -> bytes:
        """A whole reply in the agent's dialect.

        Args:
            raw: the reply.
            created: seconds since the epoch, for dialects that say when.

        Raises:
            ValueError: it is not what the upstream's dialect defines.
        """
        try:
            reply: Json = decode(raw)
            if self.upstream == MESSAGES:
                reply = messages_reply_to_chat(reply, created=created)
            elif self.upstream == RESPONSES:
                reply = responses_reply_to_chat(reply)
            if self.agent == MESSAGES:
                reply = chat_reply_to_messages(reply)
            elif self.agent == RESPONSES:
                reply = chat_reply_to_response(reply)
            return encode(reply)
        except (
            AttributeError,
            TypeError,
            KeyError,
            IndexError,
            msgspec.MsgspecError,
            RecursionError,
        ) as error:
            raise ValueError("the reply is not what its dialect defines") from error

    def stream(self, *, created: int, include_usage: bool) -> "Chain":
        """Translates a reply's events; ``include_usage``: the agent wants a chat's chunk of usage."""
        steps: list[StreamTranslator] = []
        wanted = include_usage or self.agent != CHAT
        if self.upstream == MESSAGES:
            steps.append(MessagesStreamToChat(created=created, include_usage=wanted))
        elif self.upstream == RESPONSES:
            steps.append(ResponsesStreamToChat(include_usage=wanted))
        if self.agent == MESSAGES:
            steps.append(ChatStreamToMessages())
        elif self.agent == RESPONSES:
            steps.append(ChatStreamToResponse())
        return Chain(steps)

    def meter(
        self, status: int, headers: list[tuple[bytes, bytes]], request: RequestFacts, created: int
    ) -> "TranslatingMeter":
        """Reads one reply in the upstream's dialect, and gives it in the agent's."""
        from sidecar.wire.translate.meter import TranslatingMeter

        return TranslatingMeter(self, status=status, headers=headers, request=request, created=created)

    def error(self, raw: bytes, status: int) -> bytes:
        """A provider's error in the agent's dialect, in the provider's words."""
        told: Any = None
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            told = decode(raw)
        inner = told.get("error", told) if isinstance(told, dict) else told
        inner = inner if isinstance(inner, dict) else {"message": inner}
        text = partial(_text, inner)
        message = text("message") or text("detail") or raw[:2000].decode("utf-8", "replace")
        return error_body(
            self.agent,
            status,
            kind=text("type") or "api_error",
            code=text("code") or text("type"),
            message=message or f"HTTP {status}",
            param=text("param") or None,
        )


def _text(error: Json, name: str) -> str:
    value = error.get(name)
    return value if isinstance(value, str) else "" if value is None else str(value)


class Chain:
    """Translators one after the other."""

    def __init__(self, steps: list[StreamTranslator]) -> None:
        self._steps = steps

    def feed(self, data: bytes) -> bytes:
        """What ``data`` completes."""
        for step in self._steps:
            data = step.feed(data)
        return data

    def finish(self) -> bytes:
        """What is left when the stream has ended."""
        out = b""
        for step in self._steps:
            out = (step.feed(out) if out else b"") + step.finish()
        return out
