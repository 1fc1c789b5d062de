"""A LiteLLM proxy's ``config.yaml`` as a ``bursar.yaml``, with all that could not be carried over said in it.

``bursar check --from-litellm config.yaml > bursar.yaml``
"""

import re
import tempfile
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import yaml

from collector.settings import InvalidSettings, Problem
from sidecar.cache.settings import check_distance
from sidecar.config import load_config
from sidecar.migration.litellm_models import ENVIRONMENT, Models, reference
from sidecar.migration.litellm_routing import Routing

Json = dict[str, Any]

_WINDOWS: Final = {
    "1h": "hour", "60m": "hour", "24h": "day", "1d": "day", "7d": "week", "1w": "week", "30d": "month",
    "1mo": "month", "31d": "month",
}  # fmt: skip
_DURATION: Final = re.compile(r"(\d+)\s*(s|m|h|d|w|mo)")
_UNITS_MIN: Final = {"m": 1, "h": 60, "d": 1440, "w": 10_080, "mo": 43_200}

_CALLBACKS: Final = {
    "prometheus": "it is always on: GET /metrics on the control port",
    "otel": "set OTEL_EXPORTER_OTLP_ENDPOINT for the collector",
    "arize": "set OTEL_EXPORTER_OTLP_ENDPOINT for the collector",
    "langfuse_otel": "set OTEL_EXPORTER_OTLP_ENDPOINT and _HEADERS for the collector",
}
_CALLBACK_LISTS: Final = ("callbacks", "success_callback", "failure_callback", "service_callback")
_NO_PLUGINS: Final = (
    "no code of others runs in the path of a call; spans go out by OTLP, rows by the read API"
)
_WHY: Final = {
    "router_settings.retry_after": "a provider's own Retry-After is heeded; else pauses double",
    "router_settings.max_fallbacks": "all that are named are asked, in their order",
    "router_settings.retry_policy": "`retries` is the same for every kind of failure that may pass",
    "router_settings.enable_pre_call_checks": "a downgrade always keeps to what the call uses",
    "litellm_settings.set_verbose": "set BURSAR_LOG_LEVEL=debug",
    "litellm_settings.json_logs": "logs are JSON anyway",
    "litellm_settings.turn_off_message_logging": "prompts are not kept unless a key opts in",
    "litellm_settings.redact_user_api_key_info": "keys are never written down",
    "general_settings.database_url": "the ledger is built in; keys, teams and budgets that are only in that "
    "database are made anew: bursar keys create, budgets",
    "general_settings.store_model_in_db": "models stand in the configuration alone",
    "general_settings.alerting": "alerts go to an Alertmanager: alerts.alertmanager",
    "general_settings.alerting_threshold": "alerts have rules of their own: alerts",
    "guardrails": "what prompts say is not judged in the path of a call",
    "mcp_servers": "tools are no business of a treasurer",
    "pass_through_endpoints": "any path of an upstream is reached as /UPSTREAM/...",
    "vector_store_registry": "there is nothing like it",
    "finetune_settings": "use pass-through with unmetered_paths",
    "files_settings": "use pass-through with unmetered_paths",
}

_SECTIONS: Final = frozenset(
    {
        "model_list", "litellm_settings", "general_settings", "router_settings", "credential_list",
        "environment_variables",
    }
)  # fmt: skip


class Converted:
    """What a proxy's file comes to."""

    def __init__(self, given: Json) -> None:
        self.settings: Json = {}
        self.notes: dict[str, str] = {}
        """What was not carried over -> why; in the order in which it was met."""
        self._budgets: list[Json] = []
        self.routing = Routing(self.note)
        settings = _section(given, "litellm_settings")
        credentials = {
            str(item.get("credential_name")): item.get("credential_values") or {}
            for item in given.get("credential_list") or ()
        }
        self.models = Models(
            credentials, drop_params=settings.pop("drop_params", False) is True, note=self.note
        )
        groups: dict[str, list[Json]] = {}
        for deployment in given.get("model_list") or ():
            groups.setdefault(str(deployment.get("model_name")), []).append(deployment)
        for name, deployments in groups.items():
            self.models.add(name, deployments)
        self._general(_section(given, "general_settings"))
        self._router(_section(given, "router_settings"))
        self._litellm(settings)
        for variable in given.get("environment_variables") or ():
            self.note(f"environment_variables.{variable}", "set it where Bursar is started")
        for name in sorted(map(str, given.keys() - _SECTIONS)):
            self.note(name, _WHY.get(name, "there is no setting like it"))
        for name, amount, duration in self.models.limits:
            self._budget(f"model-{name}", amount, duration, match={"model": name})
        self._finish()

    def note(self, what: str, why: str) -> None:
        """Something is not carried over."""
        self.notes.setdefault(what, why)

    def text(self) -> str:
        """The file, with what it lacks in comments at its head."""
        lines = ["# Made from a LiteLLM configuration by bursar check --from-litellm."]
        if self.notes:
            lines.append("# Not carried over, or to be looked at:")
            lines += [f"#   {what}: {why}" for what, why in self.notes.items()]
        return "\n".join(lines) + "\n" + yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True)

    # -- sections

    def _general(self, section: Json) -> None:
        if key := section.pop("master_key", None):
            named = isinstance(key, str) and key.startswith(ENVIRONMENT)
            self.settings["control"] = {"key": reference(key) if named else "${BURSAR_CONTROL_KEY}"}
            if not named:
                self.note(
                    "general_settings.master_key",
                    "it is written out in the file; put it into the variable BURSAR_CONTROL_KEY. It "
                    "administers; agents get keys of their own (bursar keys create)",
                )
        limits: Json = {}
        running = section.pop("global_max_parallel_requests", section.pop("max_parallel_requests", None))
        if isinstance(running, int):
            limits["streams"] = running
        if isinstance(size := section.pop("max_request_size_mb", None), int | float):
            limits["body"] = f"{int(size)}MiB"
        if limits:
            self.settings["limits"] = limits
        self._leave("general_settings", section)

    def _router(self, section: Json) -> None:
        host, port = section.pop("redis_host", None), section.pop("redis_port", 6379)
        password, url = section.pop("redis_password", None), section.pop("redis_url", None)
        if url or host:
            self._redis(url, host, port, password)
        for name, target in (section.pop("model_group_alias", None) or {}).items():
            self.models.alias(str(name), str(target.get("model") if isinstance(target, dict) else target))
        for provider, limit in (section.pop("provider_budget_config", None) or {}).items():
            upstreams = [name for name, known in self.models.providers.items() if known == provider]
            amount = limit.get("budget_limit", limit.get("max_budget"))
            duration = limit.get("time_period", limit.get("budget_duration"))
            if upstreams:
                self._budget(f"provider-{provider}", amount, duration, match={"upstream": upstreams})
            else:
                self.note(f"provider_budget_config.{provider}", "no model of this provider is in the file")
        for tag, limit in (section.pop("tag_budget_config", None) or {}).items():
            self._budget(
                f"tag-{tag}", limit.get("max_budget"), limit.get("budget_duration"), match={"tag": [str(tag)]}
            )
        self._waiting(section.pop("timeout", None))
        self.routing.read("router_settings", section)
        self._leave("router_settings", section)

    def _litellm(self, section: Json) -> None:
        self._budget("everything", section.pop("max_budget", None), section.pop("budget_duration", None))
        user = section.pop("default_internal_user_params", None) or {}
        self._budget(
            "each-user",
            section.pop("max_internal_user_budget", user.get("max_budget")),
            section.pop("internal_user_budget_duration", user.get("budget_duration")),
            each="user",
        )
        self._budget("each-end-user", section.pop("max_end_user_budget", None), None, each="user")
        team = section.pop("default_team_params", None) or {}
        self._budget("each-team", team.get("max_budget"), team.get("budget_duration"), each="team")
        key = section.pop("default_key_generate_params", None) or {}
        self._budget("each-key", key.get("max_budget"), key.get("budget_duration"), each="key")
        self._cache(section)
        self._waiting(section.pop("request_timeout", None))
        for name in _CALLBACK_LISTS:
            given = section.pop(name, None) or []
            for callback in [given] if isinstance(given, str) else given:
                self.note(f"callback {callback}", _CALLBACKS.get(str(callback), _NO_PLUGINS))
        self.routing.read("litellm_settings", section)
        self._leave("litellm_settings", section)

    def _cache(self, section: Json) -> None:
        wanted, params = section.pop("cache", None), section.pop("cache_params", None) or {}
        if wanted is None:
            return
        kind = str(params.get("type", "redis"))
        cache: Json = {"exact": bool(wanted), "semantic": bool(wanted) and "semantic" in kind}
        self.settings["cache"] = cache
        self._distance(cache, params.pop("similarity_threshold", None))
        ttl = params.get("ttl")
        if isinstance(ttl, int | float) and ttl > 0:
            cache["ttl"] = f"{params.pop('ttl'):g}s"
        if (embedding := params.pop("redis_semantic_cache_embedding_model", None)) is not None:
            self.note(
                f"embedding model {embedding}",
                "similar questions are found by MiniLM on this machine; for an endpoint set "
                "cache.similar.embedding: {runner: endpoint, url, model}",
            )
        if params.get("host") or params.get("url"):
            self._redis(
                params.get("url"), params.get("host"), params.get("port", 6379), params.get("password")
            )
        for name in sorted(params.keys() - {"type", "host", "port", "password", "url"}):
            self.note(f"cache_params.{name}", "there is no setting for it under cache")

    def _distance(self, cache: Json, similarity: Any) -> None:
        """A least similarity as the largest distance that it is."""
        if similarity is None:
            return
        distance = round(1 - similarity, 6) if isinstance(similarity, int | float) else 0.0
        try:
            check_distance(distance)
        except ValueError as error:
            self.note("cache_params.similarity_threshold", str(error))
        else:
            cache["similar"] = {"distance": distance}

    # -- parts

    def _redis(self, url: Any, host: Any, port: Any, password: Any) -> None:
        if url:
            written = str(reference(url))
            if "@" in written and "${" not in written:
                self.note("redis_url", "it holds a password; put it into the variable REDIS_URL")
                written = "${REDIS_URL}"
            self.settings["redis"] = written
            return
        secret = ""
        if password:
            named = isinstance(password, str) and password.startswith(ENVIRONMENT)
            secret = f":{reference(password) if named else '${REDIS_PASSWORD}'}@"
            if not named:
                why = "it is written out in the file; put it into the variable REDIS_PASSWORD"
                self.note("redis_password", why)
        self.settings["redis"] = f"redis://{secret}{reference(host)}:{reference(port)}"

    def _waiting(self, seconds: Any) -> None:
        if isinstance(seconds, int | float) and seconds > 0:
            self.settings["deadlines"] = {"total": f"{seconds:g}s"}
            if seconds < 600:
                self.settings["deadlines"]["first_byte"] = f"{seconds:g}s"

    def _budget(
        self, name: str, amount: Any, duration: Any, *, match: Json | None = None, each: str = ""
    ) -> None:
        if amount is None:
            return
        try:
            usd = Decimal(str(amount))
        except InvalidOperation:
            self.note(f"budget {name}", f"{amount!r} is no amount")
            return
        if usd <= 0:
            self.note(f"budget {name}", "nothing could be spent")
            return
        window = self._window(name, duration)
        budget: Json = {"name": re.sub(r"[^A-Za-z0-9_.-]", "-", name), "limit": f"{usd.normalize():f} USD"}
        budget |= {"window": window} if window else {}
        budget |= {"match": match} if match else {}
        budget |= {"each": each} if each else {}
        self._budgets.append(budget)

    def _window(self, name: str, duration: Any) -> str:
        if duration is None:
            return ""
        written = str(duration).strip().lower()
        if written in _WINDOWS:
            return _WINDOWS[written]
        found = _DURATION.fullmatch(written)
        minutes = int(found[1]) * _UNITS_MIN.get(found[2], 0) if found else 0
        if not 1 <= minutes <= 366 * 1440:
            self.note(f"budget {name}", f"its duration {duration!r} has no window here; it is for all time")
            return ""
        for unit, length in (("d", 1440), ("h", 60), ("min", 1)):
            if minutes % length == 0:
                return f"rolling {minutes // length}{unit}"
        raise AssertionError("every number of minutes is divided by one")

    def _leave(self, place: str, section: Json) -> None:
        for name in section:
            dotted = f"{place}.{name}"
            self.note(dotted, _WHY.get(dotted, "there is no setting like it"))

    def _finish(self) -> None:
        models = self.models
        self.routing.apply(models.upstreams)
        fallbacks = self.routing.fallbacks(models.models, models.stand_ins, models.aliases)
        for name, found in (
            ("upstreams", models.upstreams),
            ("models", models.models),
            ("prices", models.prices),
            ("fallbacks", fallbacks),
            ("budgets", self._budgets),
        ):
            if found:
                self.settings[name] = found


def _section(given: Json, name: str) -> Json:
    section = given.get(name) or {}
    return dict(section) if isinstance(section, dict) else {}


def convert(path: Path) -> Converted:
    """The configuration in ``path`` as ours; what it gives has passed our own loader.

    Raises:
        InvalidSettings: ``path`` cannot be read, or is no configuration of a proxy.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings([Problem(str(path), f"cannot be read: {error.strerror}")]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidSettings([Problem(str(path), "is not YAML")]) from error
    known = isinstance(given, dict) and not _SECTIONS.isdisjoint(given)
    if not known or not isinstance(given.get("model_list", []), list):
        raise InvalidSettings([Problem(str(path), "has no model_list: is it a LiteLLM configuration?")])
    try:
        converted = Converted(given)
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidSettings([Problem(str(path), "is not shaped like a LiteLLM configuration")]) from error
    _check(converted.text())
    return converted


_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_REDIS: Final = re.compile(r"^redis: *['\"]?(rediss?://)?(.*)", re.MULTILINE)
_FILE: Final = re.compile(r"file:\S+")


def _check(text: str) -> None:
    """Let our own loader read ``text``, as if every variable in it were set.

    Raises:
        InvalidSettings: it would not be taken.
    """
    environment = {name: f"http://{name.lower()}.example" for name in _REFERENCE.findall(text)}
    # What is a whole address elsewhere is one of Redis's here, or a host, a port or a password of one.
    for whole, address in _REDIS.findall(text):
        for name in _REFERENCE.findall(address):
            environment[name] = "6379" if whole else "redis://redis.example"
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder) / "stand-in"
        stand_in.write_text("{}")
        path = Path(folder) / "bursar.yaml"
        path.write_text(_FILE.sub(f"file:{stand_in}", text), encoding="utf-8")
        load_config(path, environment)
