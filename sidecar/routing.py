"""Which upstream a call goes to, and which model is asked of it."""

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.call import Call
from sidecar.config import ModelConfig
from sidecar.errors import NoRoute
from sidecar.providers.native import Upstream

SPOKEN_BY = {
    "openai": ("openai", "vllm", "azure"),
    "anthropic": ("anthropic", "vllm"),
}
"""Kinds of upstream that speak a family of dialects, best first."""
_tuple = tuple.__new__
"""Makes a named tuple without its own constructor, which costs more."""


class Target(NamedTuple):
    """Where a call goes."""

    upstream: Upstream
    model: str
    """As the upstream knows it; empty for a request that asks no model."""


class Routing:
    """The configured upstreams and models."""

    def __init__(self, upstreams: Mapping[str, Upstream], models: Mapping[str, ModelConfig]) -> None:
        self.upstreams = upstreams
        self._models = models
        self._usual: dict[str, Upstream | None] = {
            family: next(
                (
                    upstream
                    for kind in kinds
                    for upstream in upstreams.values()
                    if upstream.kind == kind and upstream.replicas
                ),
                None,
            )
            for family, kinds in SPOKEN_BY.items()
        }

    def target_of(self, call: Call, model: str | None = None) -> Target:
        """Where ``call`` goes, or would go if it asked for ``model``.

        Raises:
            NoRoute: no upstream serves its model or dialect.
        """
        facts = call.facts
        asked = model or (facts.model if facts is not None else "")
        if call.route.upstream:
            return Target(self.upstreams[call.route.upstream], asked)
        named = self._models.get(asked)
        if named is not None:
            return Target(self.upstreams[named.upstream], named.model or asked)
        family = call.api.partition(".")[0]
        if call.api == "models":
            family = "anthropic" if call.request.header(b"anthropic-version") else "openai"
        usual = self._usual[family]
        if usual is not None:
            return _tuple(Target, (usual, asked))
        configured = ", ".join(f"{name} ({up.kind})" for name, up in self.upstreams.items()) or "none"
        raise NoRoute(
            f"no upstream serves {asked or call.route.template!r} in the {family} dialect; "
            f"configured: {configured}",
            code="model_not_found",
            param="model",
        )
