"""What models can do, and whether a call would lose something if another model took it.

A downgrade must not turn a working call into an error or a blind answer, so doubt counts against
it: what is not known to be served is lost. Knowledge comes from the configuration, else from
``capabilities.json``, which ``scripts/prices/capabilities.py`` makes from litellm's price file; a
model of one's own servers is known by configuration alone, for what it can do depends on how the
server was started.

The last part says what a call would cost elsewhere, where nothing of it is in the cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from collector.domain.price import TokenPrice, list_cost
from collector.domain.usage import Usage
from collector.pricing.names import SELF_HOSTED, candidates, maker_of, normal, prefix_provider, provider_id
from sidecar.budgets.needs import Needs

TABLE_PATH: Final = Path(__file__).with_name("capabilities.json")
FORMAT: Final = 1

UNKNOWN_CONTEXT: Final = 8192
"""Tokens that every model served today takes."""
UNKNOWN_OUTPUT: Final = 4096
"""Tokens that every model served today writes."""

ABILITIES: Final = {
    "tools": "tools",
    "images": "images",
    "documents": "files",
    "audio": "audio",
    "audio_output": "spoken answers",
    "json_schema": "structured output",
    "reasoning": "reasoning",
    "hosted_tools": "tools that the provider runs",
    "prefill": "an answer begun by the caller",
    "sampling": "sampling parameters (temperature, top_p, penalties, stop)",
    "max_tokens": "the parameter max_tokens",
    "budget_thinking": "thinking with a budget",
    "adaptive_thinking": "adaptive thinking",
    "log_probabilities": "log probabilities",
}
"""What a model may be able to do, and how it is said to people."""

_EVERY_API: Final = frozenset({"openai.chat", "openai.completions", "openai.responses", "anthropic.messages"})
_APIS_OF_KIND: Final[Mapping[str, frozenset[str]]] = {
    "openai": frozenset({"openai.chat", "openai.completions", "openai.responses"}),
    "azure": frozenset({"openai.chat", "openai.completions", "openai.responses"}),
    "anthropic": frozenset({"anthropic.messages"}),
    "vllm": _EVERY_API,
    "litellm": frozenset({"openai.chat"}),
}
"""The dialects that a kind of upstream understands at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one model can do where it is served. The defaults are those of a model nobody knows."""

    context_tokens: int = UNKNOWN_CONTEXT
    """Most input and output together."""
    max_output_tokens: int = UNKNOWN_OUTPUT
    abilities: frozenset[str] = frozenset()
    """Of :data:`ABILITIES`."""
    apis: frozenset[str] = frozenset({"openai.chat", "anthropic.messages"})
    """Dialects in which it is served."""
    efforts: frozenset[str] = frozenset()
    """Levels of reasoning effort that it takes."""

    def __post_init__(self) -> None:
        if unknown := self.abilities - ABILITIES.keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: not one of {', '.join(ABILITIES)}")
        if self.context_tokens < 1 or self.max_output_tokens < 1:
            raise ValueError("context_tokens and max_output_tokens must be at least 1")


UNKNOWN: Final = Capabilities(abilities=frozenset({"sampling", "max_tokens"}))
"""A model that nobody knows, for text alone."""
_UNKNOWN_AT_OPENAI: Final = Capabilities()
"""One that is new there is likely to refuse temperature and max_tokens, as its reasoning models do."""
_UNKNOWN_AT_VLLM: Final = Capabilities(
    abilities=UNKNOWN.abilities | {"json_schema", "log_probabilities"}, apis=_EVERY_API
)
"""vLLM constrains any model to a schema; tools and media depend on the model and on how it was started."""


class Served(NamedTuple):
    """A model at one upstream."""

    model: str
    """As the upstream calls it."""
    upstream: str
    """The upstream's name."""
    provider: str
    """The upstream's ``gen_ai.provider.name``."""
    kind: str
    """The upstream's kind."""


# ---- what a model can do ---------------------------------------------------------------------


class _Set(msgspec.Struct, omit_defaults=True):
    """One set of capabilities in the file; many models share it."""

    context: int = 0
    output: int = 0
    can: str = ""
    apis: str = ""
    efforts: str = ""

    def read(self) -> Capabilities:
        return Capabilities(
            context_tokens=self.context or UNKNOWN_CONTEXT,
            max_output_tokens=self.output or UNKNOWN_OUTPUT,
            abilities=frozenset(self.can.split()),
            apis=frozenset(self.apis.split()),
            efforts=frozenset(self.efforts.split()),
        )


class CapabilityTable(msgspec.Struct):
    """The whole file: sets of capabilities, and which model of which provider has which."""

    format: int
    made: str
    """Day, ISO 8601."""
    source: dict[str, str]
    """Name, version, licence and address of where it comes from."""
    sets: list[_Set]
    providers: dict[str, dict[str, int]]
    """Provider id, lower-case model name, place in ``sets``."""


def write_table(
    models: Mapping[tuple[str, str], Capabilities], path: Path, *, made: str, source: Mapping[str, str]
) -> None:
    """Write the file that :class:`Catalogue` reads; keys are provider id and lower-case model name."""
    sets: dict[Capabilities, int] = {}
    providers: dict[str, dict[str, int]] = {}
    for (provider, model), can in sorted(models.items()):
        providers.setdefault(provider, {})[model] = sets.setdefault(can, len(sets))

    def text(value: Any) -> str:
        return msgspec.json.encode(value).decode()

    rows = [
        _Set(
            can.context_tokens,
            can.max_output_tokens,
            " ".join(sorted(can.abilities)),
            " ".join(sorted(can.apis)),
            " ".join(sorted(can.efforts)),
        )
        for can in sets
    ]
    head = text({"format": FORMAT, "made": made, "source": dict(source)})[:-1]
    named = ",\n".join(f"{text(name)}:{text(known)}" for name, known in providers.items())
    path.write_text(
        f'{head},"sets":[\n' + ",\n".join(map(text, rows)) + f'\n],"providers":{{\n{named}\n}}}}\n',
        encoding="utf-8",
    )


class Catalogue:
    """What models can do, by upstream and name. The file is read when first asked.

    Args:
        configured: what the configuration says of models, by name or ``provider/name``; it wins.
        path: the file; by default the one that comes with Bursar.
    """

    def __init__(self, configured: Mapping[str, Capabilities] | None = None, path: Path = TABLE_PATH) -> None:
        self._configured = {normal(name): known for name, known in (configured or {}).items()}
        self._path = path
        self._table: CapabilityTable | None = None
        self._held: dict[tuple[str, str], Capabilities | None] = {}

    def find(self, served: Served) -> Capabilities | None:
        """What a model can do where it is served; ``None`` when nobody says."""
        key = (served.provider, served.model)
        if key not in self._held:
            if len(self._held) >= 4096:
                self._held.clear()
            self._held[key] = self._worked_out(served)
        return self._held[key]

    def _worked_out(self, served: Served) -> Capabilities | None:
        names = candidates(served.model)
        for name in names.literal:
            for written in (f"{served.upstream.lower()}/{name}", f"{served.provider.lower()}/{name}", name):
                if written in self._configured:
                    return self._configured[written]
        provider = provider_id(served.provider)
        if served.kind == "vllm" or provider in SELF_HOSTED:
            return None
        bare = normal(served.model).rpartition("/")[2]
        if (own := self._listed(provider, (*names.literal, *names.family))) is not None:
            return own
        for maker in dict.fromkeys((prefix_provider(served.model), maker_of(bare))):
            if maker and (made := self._listed(maker, (*names.literal, *names.family))) is not None:
                # A reseller passes the plain dialect on; for the rest there is no promise.
                return replace(
                    made, apis=made.apis & UNKNOWN.apis, abilities=made.abilities - {"hosted_tools"}
                )
        return None

    def _listed(self, provider: str, names: tuple[str, ...]) -> Capabilities | None:
        if self._table is None:
            self._table = msgspec.json.decode(self._path.read_bytes(), type=CapabilityTable)
        known = self._table.providers.get(provider)
        for name in names if known else ():
            if (place := known.get(name)) is not None:  # type: ignore[union-attr]
                return self._table.sets[place].read()
        return None


def configured_capabilities(settings: Mapping[str, Any]) -> Capabilities:
    """What the configuration says of one model.

    ``{"context_tokens": 32768, "max_output_tokens": 8192, "abilities": ["tools", "json_schema"]}``;
    what is not said is as for a model nobody knows, but every dialect of its upstream is served.

    Raises:
        ValueError: a name or a value cannot be used; says which are valid.
    """
    fields = {"context_tokens", "max_output_tokens", "abilities", "efforts", "apis"}
    if unknown := settings.keys() - fields:
        raise ValueError(f"{', '.join(sorted(unknown))}: not one of {', '.join(sorted(fields))}")
    if odd := set(settings.get("apis", ())) - _EVERY_API:
        raise ValueError(f"apis: {', '.join(sorted(odd))}: not one of {', '.join(sorted(_EVERY_API))}")
    return Capabilities(
        context_tokens=int(settings.get("context_tokens", UNKNOWN_CONTEXT)),
        max_output_tokens=int(settings.get("max_output_tokens", UNKNOWN_OUTPUT)),
        abilities=frozenset(settings.get("abilities", ())),
        apis=frozenset(settings.get("apis", _EVERY_API)),
        efforts=frozenset(settings.get("efforts", ())),
    )


# ---- the comparison --------------------------------------------------------------------------


def loses(needs: Needs, source: Served, target: Served, catalogue: Catalogue) -> str | None:
    """What a call would lose if ``target`` served it instead of ``source``; ``None`` when nothing.

    Written to follow "is not downgraded to qwen3-8b: ".
    """
    if needs.bound and source.upstream != target.upstream:
        return needs.bound
    known = catalogue.find(target)
    can = known or _unknown_at(target)
    if needs.api not in can.apis & _APIS_OF_KIND.get(target.kind, frozenset()):
        return f"it is not served in the dialect {needs.api}"
    if "hosted_tools" in needs.abilities and source.provider != target.provider:
        return f"{target.provider} does not run the tools of {source.provider}"
    if missing := needs.abilities - can.abilities:
        said = ", ".join(sorted(ABILITIES.get(name, "its unusual body") for name in missing))
        return f"it does not serve {said}" if known else f"it is not known to serve {said}"
    if needs.effort and needs.effort not in can.efforts:
        return f"it has no reasoning effort {needs.effort!r}"
    most = max(needs.cap_tokens or 0, needs.output_tokens)
    if most > can.max_output_tokens:
        return f"the call may write {most} tokens, it writes {can.max_output_tokens} at most"
    if needs.input_tokens + needs.output_tokens > can.context_tokens:
        return (
            f"the call takes {needs.input_tokens} tokens of input and {needs.output_tokens} of output, "
            f"its context {can.context_tokens}"
        )
    return None


def _unknown_at(target: Served) -> Capabilities:
    if target.kind == "vllm":
        return _UNKNOWN_AT_VLLM
    return _UNKNOWN_AT_OPENAI if provider_id(target.provider) in ("openai", "azure") else UNKNOWN


# ---- what it would cost ----------------------------------------------------------------------


def cold(expected: Usage) -> Usage:
    """The same call at a model that has nothing of it in its cache.

    What would have been read is written there instead: a provider that charges for writes does
    so once more, any other charges plain input.
    """
    return replace(
        expected,
        cache_read_input_tokens=0,
        cache_read_audio_input_tokens=0,
        cache_write_input_tokens=expected.cache_write_input_tokens + expected.cache_read_input_tokens,
    )


def cost_after(price: TokenPrice, expected: Usage) -> int:
    """What a call would cost at another model, in pico-USD, nothing of it being in the cache there."""
    return list_cost(cold(expected), price)


def saved(staying: TokenPrice, going: TokenPrice, expected: Usage) -> int:
    """What one call saves by going to another model, in pico-USD; negative when it costs more.

    Args:
        staying: the price of the model that was asked for.
        going: the price of the other.
        expected: what the call would consume if it stayed, cache reads included.
    """
    return list_cost(expected, staying) - cost_after(going, expected)
