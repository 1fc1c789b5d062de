"""How a LiteLLM proxy chooses among deployments, tries again and falls back, in our words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

Json = dict[str, Any]
Note = Callable[[str, str], None]

BALANCES: Final = {
    "simple-shuffle": "round_robin",
    "least-busy": "least",
    "latency-based-routing": "ewma",
}
"""Their strategies, and which of ours does the same (docs.litellm.ai/docs/routing)."""
_MOST_RETRIES: Final = 10
_PURPOSES: Final[Mapping[str, Sequence[str]]] = {
    "fallbacks": (),
    "context_window_fallbacks": ("context_length",),
}
"""Their lists, and the reasons that each is for; our own default where none is named."""
_NO_FILTERS: Final = "what a provider's filter refuses is not asked of another model; the agent is told"


class Routing:
    """What is said of it in a proxy's two sections of settings, the later one winning.

    Args:
        note: told what is not carried over.
    """

    def __init__(self, note: Note) -> None:
        self._note = note
        self._wanted: dict[str, dict[str, list[str]]] = {name: {} for name in _PURPOSES}
        self._default: list[str] = []
        self._retries: int | None = None
        self._breaker: Json = {}
        self._balance = ""

    def read(self, place: str, section: Json) -> None:
        """Take what is ours out of a section."""
        for name in _PURPOSES:
            for model, others in self._pairs(f"{place}.{name}", section.pop(name, None)):
                self._wanted[name][model] = others
        for model, others in self._pairs(
            f"{place}.content_policy_fallbacks", section.pop("content_policy_fallbacks", None)
        ):
            self._note(f"content_policy_fallbacks: {model} -> {', '.join(others)}", _NO_FILTERS)
        self._default = self._names(f"{place}.default_fallbacks", section.pop("default_fallbacks", None)) or (
            self._default
        )
        retries = section.pop("num_retries", None)
        if isinstance(retries, int) and retries >= 0:
            self._retries = min(retries, _MOST_RETRIES)
        strategy = section.pop("routing_strategy", None)
        if strategy in BALANCES:
            self._balance = BALANCES[strategy]
        elif strategy is not None:
            self._note(f"{place}.routing_strategy", f"there is no {strategy}; see upstreams.NAME.balance")
        if isinstance(allowed := section.pop("allowed_fails", None), int) and allowed >= 0:
            self._breaker["failures"] = allowed + 1
        if isinstance(seconds := section.pop("cooldown_time", None), int | float) and seconds > 0:
            self._breaker["open"] = f"{seconds:g}s"

    def apply(self, upstreams: Mapping[str, Json]) -> None:
        """Say it of each upstream that it concerns."""
        for upstream in upstreams.values():
            if self._retries is not None:
                upstream["retries"] = self._retries
            if len(upstream.get("replicas", ())) > 1:
                if self._balance:
                    upstream["balance"] = self._balance
                if self._breaker:
                    upstream["breaker"] = dict(self._breaker)

    def fallbacks(
        self,
        models: Iterable[str],
        stand_ins: Mapping[str, Sequence[str]],
        aliases: Mapping[str, Sequence[str]],
    ) -> list[Json]:
        """The list as our configuration has it.

        Args:
            models: all that there are.
            stand_ins: other places of a model, by the model: they come before other models.
            aliases: other names of a model.
        """
        known = list(models)
        made: list[Json] = []
        for purpose, reasons in reversed(list(_PURPOSES.items())):
            wanted = {
                model: self._there(model, others, known) for model, others in self._wanted[purpose].items()
            }
            default = self._there("*", self._default, known) if not reasons else []
            if not reasons:
                for model, others in stand_ins.items():
                    own = wanted.get(model, wanted.get("*", default))
                    wanted[model] = [*others, *(one for one in own if one not in others and one != model)]
            every = wanted.pop("*", default)
            if every:
                wanted["*"] = every
            for model, others in wanted.items():
                if others:
                    names = [model, *aliases.get(model, ())]
                    entry: Json = {"from": names if len(names) > 1 else model, "to": others}
                    made.append({**entry, "on": list(reasons)} if reasons else entry)
        return made

    def _there(self, model: str, others: Sequence[str], known: Sequence[str]) -> list[str]:
        missing = [other for other in others if other not in known]
        if missing:
            self._note(f"fallbacks of {model}", f"there is no model {', '.join(missing)}")
        return [other for other in others if other in known]

    def _pairs(self, place: str, given: Any) -> Iterable[tuple[str, list[str]]]:
        for entry in given or ():
            for model, others in entry.items():
                yield str(model), self._names(place, others)

    def _names(self, place: str, given: Any) -> list[str]:
        """Names of models; one may stand alone, and one with parameters of its own is not carried over."""
        found = []
        for one in [given] if isinstance(given, str) else given or ():
            if isinstance(one, str):
                found.append(one)
            else:
                self._note(place, "a fallback with parameters of its own is not carried over; name a model")
        return found
