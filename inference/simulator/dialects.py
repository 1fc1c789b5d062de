"""Which path speaks which dialect, and what each dialect calls an error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from collector.domain.usage import Usage
from inference.simulator import anthropic, openai_chat, openai_responses, prompts
from inference.simulator.answers import Answer, Asked
from inference.simulator.events import StreamEvent, data_event, named_event
from inference.simulator.prompts import Prompt


class Api(StrEnum):
    """The dialects, by Bursar's names for them."""

    CHAT = "openai.chat"
    COMPLETIONS = "openai.completions"
    RESPONSES = "openai.responses"
    EMBEDDINGS = "openai.embeddings"
    MESSAGES = "anthropic.messages"
    COUNT_TOKENS = "anthropic.count_tokens"


_BY_PATH = {
    "/chat/completions": Api.CHAT,
    "/completions": Api.COMPLETIONS,
    "/responses": Api.RESPONSES,
    "/embeddings": Api.EMBEDDINGS,
    "/messages": Api.MESSAGES,
    "/messages/count_tokens": Api.COUNT_TOKENS,
}

_OPENAI_KINDS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("service_unavailable_error", None),
}
_ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One answer in one dialect: as a body, or as a stream's events."""

    body: bytes
    events: Sequence[StreamEvent]


def api_of(path: str) -> Api | None:
    """The dialect spoken at ``path``, whatever prefix a gateway or a base URL puts before it."""
    matches = [ending for ending in _BY_PATH if path.endswith(ending)]
    return _BY_PATH[max(matches, key=len)] if matches else None


def read_prompt(api: Api, body: Mapping[str, Any], earlier: bytes = b"") -> Prompt:
    """The prompt of a request in dialect ``api``.

    Raises:
        InvalidPrompt: the request is not what the dialect defines.
    """
    match api:
        case Api.CHAT:
            return prompts.of_chat(body)
        case Api.RESPONSES:
            return prompts.of_responses(body, earlier)
        case Api.MESSAGES | Api.COUNT_TOKENS:
            return prompts.of_messages(body)
        case _:
            given = body.get("prompt", "")
            return prompts.of_text(given if isinstance(given, str) else "\n".join(map(str, given)))


def read_asked(api: Api, body: Mapping[str, Any], prompt: Prompt) -> Asked:
    """What the request asks for."""
    match api:
        case Api.RESPONSES:
            return openai_responses.asked(body, prompt)
        case Api.MESSAGES:
            return anthropic.asked(body, prompt)
        case Api.COMPLETIONS:
            plain = {name: body[name] for name in ("model", "stream", "max_tokens", "n") if name in body}
            return openai_chat.asked(plain | {"max_tokens": body.get("max_tokens", 16)}, prompt)
        case _:
            return openai_chat.asked(body, prompt)


def shaped(
    api: Api,
    answer: Answer,
    asked: Asked,
    body: Mapping[str, Any],
    created: int,
    usage: Usage | None,
    owner: str,
) -> Shape:
    """``answer`` in the dialect's own form; ``usage`` None leaves the usage out."""
    told: Mapping[str, Any] | None
    match api:
        case Api.RESPONSES:
            told = None if usage is None else openai_responses.usage_of(usage)
            if asked.stream:
                return Shape(body=b"", events=openai_responses.events(answer, body, created, told))
            return Shape(body=openai_responses.whole(answer, body, created, told), events=())
        case Api.MESSAGES:
            told = None if usage is None else anthropic.usage_of(usage)
            if asked.stream:
                return Shape(body=b"", events=anthropic.events(answer, told))
            return Shape(body=anthropic.whole(answer, told), events=())
        case _:
            told = None if usage is None else openai_chat.usage_of(usage, dialect=owner)
            chat = api is Api.CHAT
            if asked.stream:
                as_events = openai_chat.chat_events if chat else openai_chat.completion_events
                include = bool((body.get("stream_options") or {}).get("include_usage"))
                return Shape(body=b"", events=as_events(answer, created, told, include_usage=include))
            as_body = openai_chat.whole_chat if chat else openai_chat.whole_completion
            return Shape(body=as_body(answer, created, told), events=())


def is_anthropic(api: Api | None) -> bool:
    """Whether errors take Anthropic's form."""
    return api in (Api.MESSAGES, Api.COUNT_TOKENS)


def error_body(
    api: Api | None, status: int, message: str, key: str, param: str | None = None, code: str | None = None
) -> bytes:
    """An error in the caller's dialect."""
    if is_anthropic(api):
        return anthropic.error_of(_ANTHROPIC_KINDS.get(status, "api_error"), message, key)
    kind, usual_code = _OPENAI_KINDS.get(status, ("api_error", None))
    return openai_chat.error_of(status, message, kind=kind, code=code or usual_code, param=param)


def error_event(api: Api) -> StreamEvent:
    """The error that a provider sends inside a stream that began well."""
    message = "The server had an error while processing your request. [simulated]"
    match api:
        case Api.MESSAGES:
            error = {"type": "overloaded_error", "message": "Overloaded [simulated]"}
            return named_event("error", {"type": "error", "error": error})
        case Api.RESPONSES:
            told = {"type": "error", "code": "server_error", "message": message, "param": None}
            return named_event("error", told | {"sequence_number": 0})
        case _:
            return data_event(
                {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
            )
