"""A LiteLLM proxy's models and their providers as upstreams, models and prices.

Deployments that share provider, place and credentials become one upstream. Keys are never copied: a
reference to a variable stays one, and for a key that is written out a variable is named.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from math import gcd
from typing import Any, Final

from collector.pricing.names import maker_of
from sidecar.config import RESERVED_NAMES
from sidecar.providers.litellm_settings import LitellmConfig

Json = dict[str, Any]
Note = Callable[[str, str], None]
"""Told what could not be carried over, and why."""

ENVIRONMENT: Final = "os.environ/"

NATIVE: Final = {"openai": "openai", "anthropic": "anthropic", "hosted_vllm": "vllm", "vllm": "vllm"}
"""Providers that need no litellm here."""
COMPATIBLE: Final = frozenset(
    {"openai_like", "custom_openai", "lm_studio", "llamafile", "litellm_proxy", "xinference", "infinity"}
)
"""Servers that speak like OpenAI; with an address they need no litellm either."""

USUAL_KEYS: Final = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "azure": "AZURE_API_KEY",
    "azure_ai": "AZURE_AI_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "cohere": "COHERE_API_KEY",
    "cohere_chat": "COHERE_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "xai": "XAI_API_KEY",
    "together_ai": "TOGETHERAI_API_KEY",
    "fireworks_ai": "FIREWORKS_AI_API_KEY",
    "perplexity": "PERPLEXITYAI_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "huggingface": "HUGGINGFACE_API_KEY",
    "voyage": "VOYAGE_API_KEY",
}
"""Variables that litellm looks into on its own (docs.litellm.ai/docs/providers)."""
USUAL_FIELDS: Final = {
    "azure": {"base_url": "AZURE_API_BASE", "api_version": "AZURE_API_VERSION"},
    "bedrock": {
        "aws_access_key_id": "AWS_ACCESS_KEY_ID",
        "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "aws_region_name": "AWS_REGION_NAME",
    },
    "vertex_ai": {"vertex_project": "VERTEXAI_PROJECT", "vertex_location": "VERTEXAI_LOCATION"},
}

_MADE_BY: Final = {"openai": "openai", "anthropic": "anthropic", "google": "gemini", "cohere": "cohere_chat"}
_NOT_OURS: Final = ("image_generation", "audio_transcription", "audio_speech", "realtime", "rerank", "batch")
_KNOWN_FIELDS: Final = {item.name for item in dataclasses.fields(LitellmConfig)}
_SECRET_FIELDS: Final = {
    item.name for item in dataclasses.fields(LitellmConfig) if "Secret" in str(item.type)
}
_AWS_ACCOUNT: Final = frozenset({"aws_access_key_id", "aws_profile_name", "aws_role_name"})
"""What says whose Amazon account it is."""

_RATES: Final = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "cache_creation_input_token_cost_above_12hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
}

_HEAVIEST: Final = 100
"""No replica has more weight than that here."""
_DEAREST_USD: Final = 100_000
"""For a million tokens: no model costs more."""

_WHY: Final = {
    "rpm": "providers' own limits are honoured by their replies; `concurrency` and `throttles` are ours",
    "tpm": "providers' own limits are honoured by their replies; `budgets` count by the hour or longer",
    "timeout": "`deadlines` are the same for all models",
    "stream_timeout": "`deadlines` are the same for all models",
    "tags": "calls are tagged by their key or by `x-bursar-tags`",
    "cache_control_injection_points": "prompts go on as the agent wrote them",
    "mock_response": "no answer is made up; `bursar demo` has a simulator",
}
_SAID_ELSEWHERE: Final = frozenset({"model", "litellm_credential_name", "use_in_pass_through", "base_model"})


class Models:
    """What the ``model_list`` of a proxy comes to."""

    def __init__(self, credentials: Mapping[str, Json], *, drop_params: bool, note: Note) -> None:
        self.upstreams: dict[str, Json] = {}
        self.models: dict[str, Json] = {}
        self.prices: dict[str, Json] = {}
        self._described_as: dict[str, Json] = {}
        self.providers: dict[str, str] = {}
        """Each upstream's provider, in litellm's words."""
        self.limits: list[tuple[str, Any, Any]] = []
        """Models with a budget of their own: name, amount, duration."""
        self.stand_ins: dict[str, list[str]] = {}
        """Other places of a model, under names of their own."""
        self.aliases: dict[str, list[str]] = {}
        """Other names of a model."""
        self._credentials = credentials
        self._drop_params = drop_params
        self._note = note

    def add(self, name: str, deployments: list[Json]) -> None:
        """One model with all its deployments."""
        found = (self._usable(name, one) for one in deployments)
        usable = sorted((one for one in found if one is not None), key=_preference)
        if not usable:
            return
        pools: list[list[_Deployment]] = []
        for one in usable:
            pool = next((pool for pool in pools if self._shares(pool[0], one)), None)
            if pool is None:
                pools.append([one])
            else:
                pool.append(one)
        provider, model, given = pools[0][0]
        upstream = self._pool(pools[0])
        if name == "*" or name.endswith("/*"):
            if provider not in ("openai", "anthropic"):
                self._note(f"model {name}", f"patterns are not routed; list the models of {upstream}")
            return
        self.models[name] = {"upstream": upstream} | ({"model": model} if model != name else {})
        self._price(model, given)
        if given.get("max_budget") is not None:
            self.limits.append((name, given["max_budget"], given.get("budget_duration")))
        for pool in pools[1:]:
            self._stand_in(name, pool)

    def _stand_in(self, name: str, pool: "list[_Deployment]") -> None:
        """Another place of a model: a model of its own, asked when the first does not answer."""
        provider, model, given = pool[0]
        upstream = self._pool(pool)
        own = f"{name}-at-{upstream}"
        self.models[own] = {"upstream": upstream, "model": model}
        self._price(model, given)
        self.stand_ins.setdefault(name, []).append(own)
        there = f"{provider}/{model}"
        self._note(
            f"model {name} at {there}",
            f"calls are not shared out among accounts or providers; {there} is asked as {own} where the first"
            " place of the model does not answer",
        )

    def _shares(self, one: "_Deployment", other: "_Deployment") -> bool:
        """Whether two deployments are replicas of one upstream: they differ in place and weight alone."""
        if one[:2] != other[:2] or one[2].get("order") != other[2].get("order"):
            return False
        ours, theirs = (self._described(provider, given) for provider, _, given in (one, other))
        places = [made.pop("base_url", None) for made in (ours, theirs)]
        is_own = NATIVE.get(one[0]) == "vllm"
        return ours == theirs and ours["kind"] != "litellm" and (is_own or None not in places)

    def _pool(self, pool: "list[_Deployment]") -> str:
        """The upstream of replicas, each with its share."""
        provider, _, given = pool[0]
        if len(pool) == 1 and NATIVE.get(provider) != "vllm":
            return self._upstream(provider, given)
        usual = f"{ENVIRONMENT}HOSTED_VLLM_API_BASE"
        shares: dict[str, Decimal] = {}
        for _, _, params in pool:
            place = str(params.get("api_base") or params.get("base_url") or usual)
            shares[place] = shares.get(place, Decimal(0)) + _share(params)
        weights = whole_weights(list(shares.values()))
        more: Json = {"replicas": list(shares)}
        if len(set(weights)) > 1:
            more["weights"] = weights
        return self._upstream(provider, {**given, **more})

    def alias(self, name: str, target: str) -> None:
        """Another name for a model."""
        if target in self.models:
            self.models[name] = {"model": target, **self.models[target]}
            self.aliases.setdefault(target, []).append(name)
        else:
            self._note(f"model_group_alias {name}", f"there is no model {target!r}")

    def _usable(self, name: str, deployment: Json) -> "_Deployment | None":
        """Provider, model and parameters of one deployment."""
        params = dict(deployment.get("litellm_params") or {})
        info = deployment.get("model_info") or {}
        params = {**self._credentials.get(str(params.get("litellm_credential_name")), {}), **params}
        written = str(params.get("model") or "")
        provider, slash, model = written.partition("/")
        if params.get("custom_llm_provider"):
            provider, model = str(params["custom_llm_provider"]), written.removeprefix(f"{provider}/")
            model = written if written.partition("/")[0] != provider else model
        elif not slash:
            provider, model = _MADE_BY.get(maker_of(written), ""), written
        if not provider:
            self._note(f"model {name}", f"it is not said whose {written!r} is; write PROVIDER/{written}")
            return None
        if info.get("mode") in _NOT_OURS:
            self._note(f"model {name}", f"{info['mode']} is not metered by tokens; use pass-through for it")
            return None
        if info.get("base_model") and not any(rate in {**info, **params} for rate in _RATES):
            why = f"they are found by {model!r}; say prices.{model} if they are not those of"
            self._note(f"prices of {name}", f"{why} {info['base_model']}")
        priced = {rate: info[rate] for rate in _RATES if rate in info}
        return provider, model, {**priced, **params}

    # -- upstreams

    def _upstream(self, provider: str, params: Json) -> str:
        """The name of the upstream that has these credentials; made when there is none yet."""
        made = self._described(provider, params)
        for name, known in self._described_as.items():
            if known == made and self.providers[name] == provider:
                return name
        base = provider.replace(".", "_").replace("/", "_")
        name, number = base, 1
        while name in self.upstreams or name in RESERVED_NAMES:
            number += 1
            name = f"{base}-{number}"
        self._described_as[name], self.providers[name] = made, provider
        if made["kind"] == "litellm" and name != provider:
            made = {**made, "litellm": {"provider": provider, **made.get("litellm", {})}}
        self.upstreams[name] = self._with_variables(name, made)
        return name

    def _described(self, provider: str, params: Json) -> Json:
        """An upstream as the file describes it; keys that are written out are still in it."""
        place = params.get("api_base") or params.get("base_url")
        kind = NATIVE.get(provider) or ("openai" if provider in COMPATIBLE and place else "litellm")
        usual = USUAL_FIELDS.get(provider, {})
        made: Json = {"kind": kind}
        if params.get("replicas"):
            made["replicas"] = [reference(item) for item in params["replicas"]]
            if params.get("weights"):
                made["weights"] = params["weights"]
        elif place or "base_url" in usual:
            made["base_url"] = reference(place) if place else f"${{{usual['base_url']}}}"
        if params.get("api_key"):
            made["api_key"] = params["api_key"]
        elif provider in USUAL_KEYS and not (kind == "openai" and place):
            made["api_key"] = f"{ENVIRONMENT}{USUAL_KEYS[provider]}"
        if params.get("extra_headers") or params.get("headers"):
            self._note(f"headers of {provider}", "put them into upstreams.NAME.headers; they may hold keys")
        if kind == "litellm":
            ours: Json = {name: params[name] for name in params if name in _KNOWN_FIELDS and params[name]}
            known = not _AWS_ACCOUNT.isdisjoint(ours)
            for name, variable in usual.items():
                if name in _KNOWN_FIELDS and name not in ours and not (known and "access_key" in name):
                    ours[name] = f"{ENVIRONMENT}{variable}"
            if self._drop_params or params.get("drop_params"):
                ours["drop_params"] = True
            if ours:
                made["litellm"] = ours
        for name in sorted(params.keys() - _KNOWN_FIELDS - _SAID_ELSEWHERE - _RATES.keys()):
            if name not in _HANDLED:
                self._note(name, _WHY.get(name, "it is not a setting of an upstream"))
        return made

    def _with_variables(self, upstream: str, made: Json) -> Json:
        """``made`` with references in place of whatever may not be written out."""
        prefix = upstream.upper().replace("-", "_")
        out = dict(made)
        if "api_key" in out:
            out["api_key"] = self._secret(f"{prefix}_API_KEY", f"api_key of {upstream}", out["api_key"])
        if "litellm" in out:
            out["litellm"] = {
                name: self._field(prefix, upstream, name, value) for name, value in out["litellm"].items()
            }
        return out

    def _field(self, prefix: str, upstream: str, name: str, value: Any) -> Any:
        if name == "vertex_credentials" and isinstance(value, str) and value.endswith(".json"):
            return f"file:{value}"
        if name in _SECRET_FIELDS:
            return self._secret(f"{prefix}_{name.upper()}", f"{name} of {upstream}", value)
        return reference(value)

    def _secret(self, variable: str, what: str, value: Any) -> str:
        if isinstance(value, str) and value.startswith(ENVIRONMENT):
            return str(reference(value))
        self._note(what, f"it is written out in the file; put it into the variable {variable}")
        return f"${{{variable}}}"

    # -- prices

    def _price(self, model: str, given: Json) -> None:
        rates: Json = {}
        for written, rate in _RATES.items():
            if given.get(written) is not None:
                try:
                    rates[rate] = per_million(given[written])
                except InvalidOperation:
                    self._note(f"{written} of {model}", f"{given[written]!r} is no price")
        if "input" in rates and "output" in rates:
            self.prices[model] = rates
        elif rates:
            self._note(f"prices of {model}", "input and output have to be said together")


_HANDLED: Final = frozenset(
    {
        "api_base", "base_url", "api_key", "custom_llm_provider", "replicas", "weights", "extra_headers",
        "headers", "order", "weight", "max_budget", "budget_duration", "drop_params",
    }
)  # fmt: skip


_Deployment = tuple[str, str, Json]
"""Provider, model, parameters."""


def _share(params: Json) -> Decimal:
    """Its part of the calls: what litellm's shuffle goes by."""
    told = next((params[name] for name in ("weight", "rpm", "tpm") if params.get(name) is not None), None)
    return _number(told, 1)


def whole_weights(shares: Sequence[Decimal]) -> list[int]:
    """Shares as whole numbers from 1 to 100, as small as they can be where they were whole before."""
    whole = all(share == share.to_integral_value() and share > 0 for share in shares)
    if whole:
        common = gcd(*(int(share) for share in shares))
        weights = [int(share) // common for share in shares]
        if max(weights) <= _HEAVIEST:
            return weights
    most = max(shares)
    if most <= 0:
        return [1] * len(shares)
    return [max(1, round(_HEAVIEST * share / most)) for share in shares]


def _preference(one: _Deployment) -> tuple[Decimal, Decimal]:
    return (_number(one[2].get("order"), 0), -_share(one[2]))


def _number(value: Any, default: int) -> Decimal:
    try:
        return Decimal(str(value)) if value is not None else Decimal(default)
    except InvalidOperation:
        return Decimal(default)


def per_million(value: Any) -> float | int | str:
    """A price for one token in USD as the price for a million, exactly.

    Raises:
        InvalidOperation: it is no number, or no price.
    """
    usd = (Decimal(str(value)) * 1_000_000).normalize()
    if not 0 <= usd <= _DEAREST_USD:
        raise InvalidOperation
    return int(usd) if usd == usd.to_integral_value() else format(usd, "f")


def reference(value: Any) -> Any:
    """``os.environ/NAME`` as ``${NAME}``; anything else as it is."""
    if isinstance(value, str) and value.startswith(ENVIRONMENT):
        return f"${{{value.removeprefix(ENVIRONMENT)}}}"
    return value
