"""From the bytes of a request to its facts: strict on our own routes, forgiving on pass-through."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from sidecar.wire.chat_request import read_chat_request
from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.messages_request import read_count_tokens_request, read_messages_request
from sidecar.wire.prompt_request import read_completions_request, read_embeddings_request
from sidecar.wire.request_fields import check_fields
from sidecar.wire.responses_request import read_responses_request
from sidecar.wire.strict import Fields, top_level

REQUEST_READERS: Final[Mapping[str, Callable[[Fields, bytes], RequestFacts]]] = MappingProxyType(
    {
        "openai.chat": read_chat_request,
        "openai.completions": read_completions_request,
        "openai.responses": read_responses_request,
        "openai.embeddings": read_embeddings_request,
        "anthropic.messages": read_messages_request,
        "anthropic.count_tokens": read_count_tokens_request,
    }
)


def read_request(api: str, body: bytes, *, path: str = "", content_type: str = "") -> RequestFacts:
    """The facts of a request on one of our own routes.

    Args:
        api: one of ``APIS``; ``raw`` is read as :func:`sidecar.wire.raw.read_raw_request` does.
        body: the whole body.
        path: the request's path; only ``raw`` looks at it.
        content_type: its media type; only ``raw`` looks at it.

    Raises:
        InvalidRequest: the body is not what the API defines, or names a host or credentials.
    """
    if api == "raw":
        from sidecar.wire.raw import read_raw_request

        return read_raw_request(path, body, content_type)
    fields = top_level(body)
    check_fields(fields)
    try:
        return REQUEST_READERS[api](fields, body)
    except UnicodeEncodeError:
        raise InvalidRequest("The body holds text that is not valid Unicode.") from None
