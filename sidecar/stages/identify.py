"""Who and what a call is for: the first source that answers wins.

Virtual key, then ``x-bursar-*`` headers, then allow-listed W3C baggage, then the body's own
fields. What a key fixes, no header can change.
"""

import hmac
import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from collector.domain.record import ConversationSource
from sidecar.call import Call, Caller, Onward, Reply
from sidecar.errors import InvalidCall, NotAllowed, Overloaded, UnknownKey, WrongMethod
from sidecar.http import HeaderList, Request
from sidecar.keys import KeyRing, VirtualKey
from sidecar.stitching import Stitching
from sidecar.wire import Beginnings, InvalidRequest, RequestFacts, read_raw_request, read_request, spends

CREDENTIAL_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
MAX_VALUE_CHARS = 256
MAX_TAGS = 16

_HEADER_FIELDS = {
    b"x-bursar-tenant": "tenant",
    b"x-bursar-team": "team",
    b"x-bursar-user": "user",
    b"x-bursar-agent": "agent",
    b"x-bursar-conversation": "conversation",
    b"x-bursar-task": "task",
}

_BAGGAGE_FIELDS = {
    "gen_ai.agent.name": "agent",
    "gen_ai.conversation.id": "conversation",
    "session.id": "conversation",
    "user.id": "user",
    "enduser.id": "user",
    "bursar.tenant": "tenant",
    "bursar.team": "team",
    "bursar.task": "task",
}

_METADATA_FIELDS = {
    "team": "team",
    "user_id": "user",
    "agent": "agent",
    "agent_name": "agent",
    "conversation_id": "conversation",
    "session_id": "conversation",
    "thread_id": "conversation",
    "task_id": "task",
}


def credentials_of(headers: HeaderList) -> set[str]:
    """The keys that came with a request, whatever header carried them."""
    found = set()
    for name, value in headers:
        if name in CREDENTIAL_HEADERS:
            text = value.decode("latin-1").strip()
            if name == b"authorization":
                scheme, _, rest = text.partition(" ")
                text = rest.strip() if scheme.lower() == "bearer" else text
            if text:
                found.add(text)
    return found


class Identify:
    """The stage that fills in the caller.

    Without any virtual key, and bound to loopback, everybody may call and bring a
    provider's key along (pass-through mode).
    """

    def __init__(
        self,
        keys: KeyRing,
        *,
        control_key: str | None,
        require_key: bool,
        streams_per_key: int,
        capture: bool,
        tags: dict[str, str],
        stitching: Stitching | None = None,
        dearest: Callable[[Call], str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._control_key = control_key
        self._require_key = require_key
        self._streams_per_key = streams_per_key
        self._stitching = stitching
        self._dearest = dearest
        self._clock = clock
        self._running: dict[str, int] = {}
        self._beginnings = Beginnings()
        self._nobody = Caller(capture=capture, tags=dict(tags))

    def __call__(self, call: Call, onward: Onward) -> Awaitable[Reply]:
        """Identify, then go on; a key's calls in flight are counted while it runs."""
        key = self.key_of(call.request.headers)
        read_body(call, self._beginnings, key.id if key is not None else "")
        call.caller = caller_of(attribution_of(call.request), call.facts, key, self._nobody)
        if self._stitching is not None:
            self._stitching.place(call)
        models, facts = call.caller.models, call.facts
        if models is not None and facts is not None:
            for model in (facts.model, *facts.other_models):
                if model not in models:
                    raise NotAllowed(
                        f"key {call.caller.key_id} may not use model {model!r}; "
                        f"it may use {', '.join(sorted(models))}",
                        code="model_not_allowed",
                    )
        if facts is not None and facts.other_models and self._dearest is not None:
            facts.model = self._dearest(call)
        if key is None:
            return onward(call)
        running = self._running.get(key.id, 0)
        if running >= self._streams_per_key:
            raise Overloaded(f"key {key.id} already has {running} calls running", code="too_many_calls")
        self._running[key.id] = running + 1
        call.on_close = self._release
        return onward(call)

    def caller_without_call(self, request: Request) -> Caller:
        """Who asks something of the sidecar itself.

        Raises:
            UnknownKey, NotAllowed: as :meth:`key_of`.
            InvalidCall: an attribution header is malformed.
        """
        return caller_of(attribution_of(request), None, self.key_of(request.headers), self._nobody)

    def _release(self, call: Call) -> None:
        key_id = call.caller.key_id
        left = self._running[key_id] - 1
        if left:
            self._running[key_id] = left
        else:
            del self._running[key_id]

    def key_of(self, headers: HeaderList) -> VirtualKey | None:
        """The virtual key of a request; None in pass-through mode.

        Raises:
            UnknownKey: one is needed, and none or more than one came, or it is not valid.
            NotAllowed: it is the control plane's.
        """
        if not self._require_key and not len(self._keys):
            return None
        found = credentials_of(headers)
        if len(found) != 1:
            said = "no key came with this call" if not found else "two different keys came with this call"
            raise UnknownKey(f"{said}; send one virtual key (vk_...) as the API key", code="invalid_api_key")
        token = found.pop()
        control = self._control_key
        if control is not None and hmac.compare_digest(token.encode("latin-1", "replace"), control.encode()):
            raise NotAllowed("the control key cannot call models; create a virtual key", code="control_key")
        key = self._keys.find(token, self._clock())
        if key is None:
            raise UnknownKey(
                "this key is not valid here; create one with `bursar keys create`", code="invalid_api_key"
            )
        return key


def read_body(call: Call, beginnings: Beginnings | None = None, scope: str = "") -> None:
    """Read what the request's body says of the call, strictly for our own routes.

    Raises:
        InvalidCall: it is not what the dialect defines.
        WrongMethod: a dialect's own path was asked with anything but POST.
    """
    request, route = call.request, call.route
    if request.method != "POST" and route.api not in ("raw", "models"):
        call.metered = False
        raise WrongMethod(f"{request.method} is not allowed here; use POST", code="method_not_allowed")
    if route.api == "models":
        call.metered = False
    elif route.api == "raw":
        call.metered = spends(request.method, route.path) != "free"
        if call.metered:
            content_type = (request.header(b"content-type") or b"").decode("latin-1")
            call.facts = read_raw_request(route.path, request.body, content_type)
            call.api = call.facts.api
    else:
        try:
            call.facts = read_request(call.api, request.body, beginnings=beginnings, scope=scope)
        except InvalidRequest as error:
            raise InvalidCall(str(error), code="invalid_request", param=error.param or None) from error


def attribution_of(request: Request) -> HeaderList:
    """The headers that say who a call is for."""
    found: HeaderList | None = request.derived.get("attribution")
    if found is None:
        found = [field for field in request.headers if field[0].startswith((b"x-bursar-", b"baggage"))]
        request.derived["attribution"] = found
    return found


def caller_of(
    headers: HeaderList, facts: RequestFacts | None, key: VirtualKey | None, nobody: Caller
) -> Caller:
    """Put together what key, headers, baggage and body say, in this order.

    Raises:
        InvalidCall: an attribution header is too long or holds control characters.
    """
    if key is None and not headers and (facts is None or not says_who(facts)):
        return nobody
    found: dict[str, str] = {}
    tags = dict(nobody.tags)
    source = ConversationSource.NONE
    if key is not None:
        tags |= key.tags
        fixed = {"tenant": key.tenant, "team": key.team, "user": key.user, "agent": key.agent}
        found = {name: value for name, value in fixed.items() if value}
    baggage = b""
    for name, raw in headers:
        if name.startswith(b"x-bursar-"):
            if name in _HEADER_FIELDS:
                value = checked(name.decode(), raw)
                if (
                    value
                    and found.setdefault(_HEADER_FIELDS[name], value) is value
                    and name == b"x-bursar-conversation"
                ):
                    source = ConversationSource.HEADER
            elif name == b"x-bursar-tags":
                tags = read_tags(raw) | tags
        elif name == b"baggage":
            baggage = raw
    if baggage:
        for name_, value in read_baggage(baggage).items():
            if found.setdefault(name_, value) is value and name_ == "conversation":
                source = ConversationSource.BAGGAGE
    if facts is not None:
        for name_, value in body_fields(facts).items():
            if found.setdefault(name_, value) is value and name_ == "conversation":
                source = ConversationSource.BODY
    return Caller(
        **found,
        conversation_source=source,
        tags=tags,
        key_id=key.id if key else "",
        models=frozenset(key.models) if key and key.models else None,
        capture=key.capture if key else nobody.capture,
        owns_tenant=bool(key and key.tenant),
    )


def checked(name: str, raw: bytes) -> str:
    """An attribution header's value.

    Raises:
        InvalidCall: it is too long, not UTF-8, or holds control characters.
    """
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise InvalidCall(f"{name} is not UTF-8", code="invalid_attribution", param=name) from None
    if len(text) > MAX_VALUE_CHARS or not text.isprintable():
        raise InvalidCall(
            f"{name} must be at most {MAX_VALUE_CHARS} printable characters",
            code="invalid_attribution",
            param=name,
        )
    return text


def read_tags(raw: bytes) -> dict[str, str]:
    """``a=b, c`` as tags; a bare word is a tag whose value is ``true``."""
    tags: dict[str, str] = {}
    for part in checked("x-bursar-tags", raw).split(","):
        name, _, value = part.strip().partition("=")
        if name and len(tags) < MAX_TAGS:
            tags[name.strip()] = value.strip() or "true"
    return tags


def read_baggage(raw: bytes) -> dict[str, str]:
    """What allow-listed W3C baggage says; members that are malformed or not listed are passed over."""
    found: dict[str, str] = {}
    for member in raw[:8192].decode("latin-1").split(","):
        name, equals, value = member.split(";", 1)[0].partition("=")
        field = _BAGGAGE_FIELDS.get(name.strip())
        text = unquote(value.strip())
        if equals and field and text and len(text) <= MAX_VALUE_CHARS and text.isprintable():
            found.setdefault(field, text)
    return found


def says_who(facts: RequestFacts) -> bool:
    """Whether the body itself says anything of who it is for."""
    return bool(facts.user or facts.conversation_id or facts.metadata)


def body_fields(facts: RequestFacts) -> dict[str, str]:
    """What the body's own fields say: ``user``, ``metadata``, a conversation of the Responses API."""
    found: dict[str, str] = {}
    if facts.conversation_id:
        found["conversation"] = facts.conversation_id[:MAX_VALUE_CHARS]
    if facts.user:
        user, marker, session = facts.user.partition("_session_")
        # Coding agents of Anthropic's put the session behind the user in metadata.user_id.
        if marker and session:
            found.setdefault("conversation", session[:MAX_VALUE_CHARS])
        found["user"] = (user if marker else facts.user)[:MAX_VALUE_CHARS]
    for name, value in facts.metadata.items():
        field = _METADATA_FIELDS.get(name)
        if field and value and value.isprintable():
            found.setdefault(field, value[:MAX_VALUE_CHARS])
    return found
