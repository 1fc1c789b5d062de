"""From the bytes of a request to its facts: strict on our own routes, forgiving on pass-through."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from sidecar.wire.beginnings import WORTH_BYTES, Beginnings
from sidecar.wire.chat_request import read_chat_in_c, read_chat_request, read_typed_chat
from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.members import MOST_MEMBERS, is_heavy
from sidecar.wire.messages_request import read_count_tokens_request, read_messages_request
from sidecar.wire.prompt_request import read_completions_request, read_embeddings_request
from sidecar.wire.request_fields import check_fields
from sidecar.wire.responses_request import read_responses_request
from sidecar.wire.strict import Fields, place_of, top_level
from sidecar.wire.token_prompts import part_tokens

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


def read_chat_going_on(body: bytes, scope: str, known: Beginnings) -> RequestFacts:
    """As :func:`read_request` does of a chat; what ``known`` has of its beginning is not read again.

    Raises:
        InvalidRequest: as there.
    """
    found = known.find(scope, body)
    if found is not None:
        before, rest = found
        read = read_chat_in_c(rest, before.facts) or _read_ordinary_chat(rest, before.facts)
        if read is not None:
            facts, place, end = read
            known.extend(before, body, end - place, facts)
            return facts
    read = read_chat_in_c(body) or _read_ordinary_chat(body)
    if read is None:
        return read_chat_request(top_level(body), body)
    facts, place, end = read
    known.keep(scope, body, place, end, facts)
    return facts


def _read_ordinary_chat(
    body: bytes, before: RequestFacts | None = None
) -> tuple[RequestFacts, int, int] | None:
    """The facts of an ordinary body, and from where to where its list of messages stands, as far as known."""
    fields = top_level(body)
    check_fields(fields)
    facts = read_typed_chat(fields, body, before)
    if facts is None:
        return None
    place = place_of(fields, body, "messages")
    return facts, place, place + memoryview(fields["messages"]).nbytes


def read_request(
    api: str,
    body: bytes,
    *,
    path: str = "",
    content_type: str = "",
    beginnings: Beginnings | None = None,
    scope: str = "",
) -> RequestFacts:
    """The facts of a request on one of our own routes.

    Args:
        api: one of ``APIS``; ``raw`` is read as :func:`sidecar.wire.raw.read_raw_request` does.
        body: the whole body.
        path: the request's path; only ``raw`` looks at it.
        content_type: its media type; only ``raw`` looks at it.
        beginnings: of requests before, so that a long one that goes on from one of them is read quicker.
        scope: whose beginnings.

    Raises:
        InvalidRequest: the body is not what the API defines, names a host or credentials, or has more members
            than are decoded.
    """
    if api == "raw":
        from sidecar.wire.raw import read_raw_request

        return read_raw_request(path, body, content_type)
    parted = None
    if is_heavy(body):
        parted = part_tokens(api, body)
        if parted is None:
            raise InvalidRequest(f"The body has more than {MOST_MEMBERS} members; send fewer at a time.")
        body = parted.rest
    try:
        if beginnings is not None and api == "openai.chat" and len(body) >= WORTH_BYTES:
            return read_chat_going_on(body, scope, beginnings)
        if api == "openai.chat" and (read := read_chat_in_c(body)) is not None:
            return read[0]
        fields = top_level(body)
        check_fields(fields)
        facts = REQUEST_READERS[api](fields, body)
        if parted is not None:
            parted.add_to(facts)
        return facts
    except UnicodeEncodeError:
        raise InvalidRequest("The body holds text that is not valid Unicode.") from None
