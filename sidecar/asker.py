"""Which dialect to refuse a request in: that of whoever asked, as far as the request shows it.

The path says most: a dialect's own path, ours or below an upstream's name. Else it is what the
upstream speaks, and where none is named, what the headers show of the client.
"""

from collections.abc import Mapping
from typing import Final

from sidecar.http import HeaderList
from sidecar.routes import OWN_ROUTES
from sidecar.wire import api_of

DEFAULT: Final = "openai.chat"
_ANTHROPIC: Final = "anthropic.messages"

_SPOKEN: Final = {"anthropic": _ANTHROPIC, "google": "gemini", "bedrock": "bedrock", "cohere": "cohere"}
"""By kind of upstream; the others speak OpenAI's, or several."""

_OPENAI_OF_GOOGLE: Final = ("/v1beta/openai/", "/endpoints/openapi/")


def dialect_of(path: str, headers: HeaderList | None = None, kinds: Mapping[str, str] | None = None) -> str:
    """The dialect to refuse a request for ``path`` in.

    Args:
        path: as it was asked of us; "" where it could not be read.
        headers: of the request; None where they could not be read.
        kinds: of the configured upstreams, by name.
    """
    own = OWN_ROUTES.get(path)
    if own is not None:
        return own
    if path.startswith("/v1/messages"):
        return _ANTHROPIC
    api = api_of(path)
    if api != "raw":
        return api
    name, _, _ = path[1:].partition("/")
    kind = (kinds or {}).get(name, name if name == "anthropic" else "")
    if kind in _SPOKEN:
        return DEFAULT if any(mark in path for mark in _OPENAI_OF_GOOGLE) else _SPOKEN[kind]
    return DEFAULT if kind == "openai" else _client_of(headers or [])


def _client_of(headers: HeaderList) -> str:
    """The dialect of the client that sends such ``headers``."""
    names = {name for name, _ in headers}
    if b"anthropic-version" in names or (b"x-api-key" in names and b"authorization" not in names):
        return _ANTHROPIC
    return "gemini" if b"x-goog-api-key" in names else DEFAULT
