"""Which path is which API, and where a call for a model goes."""

from dataclasses import dataclass
from functools import lru_cache

from sidecar.errors import NoRoute

OWN_ROUTES = {
    "/v1/chat/completions": "openai.chat",
    "/v1/completions": "openai.completions",
    "/v1/responses": "openai.responses",
    "/v1/embeddings": "openai.embeddings",
    "/v1/messages": "anthropic.messages",
    "/v1/messages/count_tokens": "anthropic.count_tokens",
}
"""The dialects' own paths. An OpenAI base URL without ``/v1`` reaches the same ones."""

MODEL_LIST = "/v1/models"


@dataclass(frozen=True, slots=True)
class Route:
    """What a path stands for."""

    api: str
    """A dialect, ``models``, or ``raw`` for an upstream's other paths."""
    path: str
    """The path to ask of the upstream, with ``/v1`` in front for the dialects."""
    template: str
    """For records: bounded in number, free of ids."""
    upstream: str = ""
    """Named by the path itself, on pass-through."""


_OWN = {path: Route(api, path, path) for path, api in OWN_ROUTES.items()}
_OWN |= {path[3:]: route for path, route in list(_OWN.items()) if not path.startswith("/v1/messages")}


def route_of(path: str, upstreams: frozenset[str]) -> Route:
    """What ``path`` stands for.

    Raises:
        NoRoute: nothing.
    """
    own = _OWN.get(path)
    if own is not None:
        return own
    if path == MODEL_LIST or path.startswith(MODEL_LIST + "/") or path == "/models":
        return Route("models", path if path != "/models" else MODEL_LIST, MODEL_LIST)
    name, slash, rest = path[1:].partition("/")
    if slash and name in upstreams:
        return Route("raw", "/" + rest, f"/{name}/*", name)
    served = ", ".join(OWN_ROUTES)
    raise NoRoute(
        f"{path[:200]!r} is not served here. Served: {served}, {MODEL_LIST}, "
        f"and /UPSTREAM/... for {', '.join(sorted(upstreams))}",
        code="unknown_path",
    )


@lru_cache(maxsize=512)
def joined(base_path: str, path: str, kind: str) -> str:
    """The path to ask of an upstream whose base address has ``base_path``.

    The dialects' paths begin with ``/v1``. An OpenAI base address already ends where the
    dialect begins (as in the official SDK), an Anthropic one does not; a bare host gets ``/v1``.
    """
    base = base_path.rstrip("/")
    if base.endswith("/v1"):
        return base + path[3:]
    if not base or kind in ("anthropic", "vllm"):
        return base + path
    return base + path.removeprefix("/v1")


def joined_raw(base_path: str, rest: str) -> str:
    """The path to ask on pass-through: ``rest`` as it stands, below the base address's path once."""
    base = base_path.rstrip("/")
    return rest if not base or rest == base or rest.startswith(base + "/") else base + rest
