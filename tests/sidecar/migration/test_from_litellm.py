"""``bursar check --from-litellm``: a proxy's file as ours, valid by our own loader, honest about the rest."""

import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from collector.domain.policy.windows import Window
from collector.settings import InvalidSettings
from sidecar.config import BursarConfig, load_config
from sidecar.migration.litellm_config import convert

FILE = """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, order: 2}
  - model_name: gpt-4o
    litellm_params:
      model: azure/my-gpt4o
      api_base: https://example.openai.azure.com
      api_key: sk-written-out-secret
      api_version: "2024-10-21"
      order: 1
      rpm: 100
  - model_name: claude
    litellm_params: {model: claude-sonnet-4-5}
  - model_name: claude-again
    litellm_params: {model: anthropic/claude-opus-4-5, api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: bed
    litellm_params: {model: bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0, aws_region_name: us-west-2}
  - model_name: qwen
    litellm_params: {model: hosted_vllm/Qwen/Qwen3-8B, api_base: "http://10.0.0.1:8000/v1"}
    model_info: {input_cost_per_token: 0.00000005, output_cost_per_token: 2e-7}
  - model_name: qwen
    litellm_params: {model: hosted_vllm/Qwen/Qwen3-8B, api_base: "http://10.0.0.2:8000/v1"}
  - model_name: gem
    litellm_params:
      model: vertex_ai/gemini-2.5-pro
      vertex_project: p
      vertex_location: eu
      vertex_credentials: /etc/sa.json
      max_budget: 5
      budget_duration: 2d
  - model_name: shared
    litellm_params: {model: groq/llama-3.3-70b-versatile, litellm_credential_name: ours}
  - model_name: "*"
    litellm_params: {model: "openai/*"}
  - model_name: pictures
    litellm_params: {model: openai/dall-e-3}
    model_info: {mode: image_generation}
credential_list:
  - credential_name: ours
    credential_values: {api_key: os.environ/OUR_GROQ_KEY}
litellm_settings:
  drop_params: true
  max_budget: 100
  budget_duration: 30d
  success_callback: [langfuse, prometheus]
  cache: true
  cache_params:
    {type: redis, host: os.environ/REDIS_HOST, port: 6379, password: another-secret, ttl: 60, namespace: n}
  fallbacks: [{gpt-4o: [claude]}]
  request_timeout: 60
  default_internal_user_params: {max_budget: 3, budget_duration: 1d}
router_settings:
  routing_strategy: usage-based-routing-v2
  model_group_alias: {gpt-4: gpt-4o}
  provider_budget_config: {groq: {budget_limit: 10.5, time_period: 1d}}
general_settings:
  master_key: sk-1234-master
  database_url: postgres://user:password-in-url@host/db
  alerting: [slack]
environment_variables: {SLACK_HOOK: https://secret-hook.example}
"""

SECRETS = ("sk-written-out-secret", "another-secret", "sk-1234-master", "password-in-url", "secret-hook")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    return path


def loaded(text: str, folder: Path) -> BursarConfig:
    """What our own loader makes of ``text``, with every variable in it set."""
    (folder / "sa.json").write_text("{}")
    path = folder / "bursar.yaml"
    path.write_text(text.replace("file:/etc/sa.json", "file:sa.json"))
    return load_config(path, {name: f"value-of-{name}" for name in re.findall(r"\$\{(\w+)\}", text)})


def test_models_go_where_they_went(given: Path, tmp_path: Path) -> None:
    config = loaded(convert(given).text(), tmp_path)
    where = {name: (model.upstream, model.model) for name, model in config.models.items()}
    assert where == {
        "gpt-4o": ("azure", "my-gpt4o"),
        "gpt-4o-at-openai": ("openai", "gpt-4o"),
        "gpt-4": ("azure", "my-gpt4o"),
        "claude": ("anthropic", "claude-sonnet-4-5"),
        "claude-again": ("anthropic", "claude-opus-4-5"),
        "bed": ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        "qwen": ("hosted_vllm", "Qwen/Qwen3-8B"),
        "gem": ("vertex_ai", "gemini-2.5-pro"),
        "shared": ("groq", "llama-3.3-70b-versatile"),
    }
    kinds = {name: upstream.kind for name, upstream in config.upstreams.items()}
    assert kinds == {
        "azure": "litellm",
        "anthropic": "anthropic",
        "bedrock": "litellm",
        "hosted_vllm": "vllm",
        "vertex_ai": "litellm",
        "groq": "litellm",
        "openai": "openai",
    }
    assert config.upstreams["hosted_vllm"].replicas == ("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1")
    azure = config.upstreams["azure"]
    assert (azure.base_url, azure.litellm.api_version) == ("https://example.openai.azure.com", "2024-10-21")
    assert azure.litellm.drop_params
    assert config.upstreams["groq"].api_key is not None
    assert config.upstreams["groq"].api_key.reveal() == "value-of-OUR_GROQ_KEY"
    bedrock = config.upstreams["bedrock"].litellm
    assert bedrock.aws_region_name == "us-west-2"
    assert bedrock.aws_access_key_id is not None


def test_money_is_carried_over_exactly(given: Path, tmp_path: Path) -> None:
    config = loaded(convert(given).text(), tmp_path)
    assert config.prices == {"Qwen/Qwen3-8B": {"input": Decimal("0.05"), "output": Decimal("0.2")}}
    budgets = {item.name: (item.limit.amount, item.window, item.each) for item in config.budgets}
    assert budgets == {
        "everything": (100 * 10**9, "month", ""),
        "each-user": (3 * 10**9, "day", "user"),
        "provider-groq": (10_500_000_000, "day", ""),
        "model-gem": (5 * 10**9, "rolling 2d", ""),
    }
    assert all(Window.parse(item.window) for item in config.budgets)
    assert (config.cache.exact, config.cache.semantic, config.cache.ttl) == (True, False, 60)
    assert config.redis == "redis://:value-of-REDIS_PASSWORD@value-of-REDIS_HOST:6379"
    assert config.deadlines.total == 60


def test_what_cannot_be_carried_over_is_said_with_its_reason(given: Path) -> None:
    notes = convert(given).notes
    for what in (
        "model gpt-4o at openai/gpt-4o",
        "model pictures",
        "api_key of azure",
        "rpm",
        "callback langfuse",
        "cache_params.namespace",
        "router_settings.routing_strategy",
        "general_settings.master_key",
        "general_settings.database_url",
        "general_settings.alerting",
        "environment_variables.SLACK_HOOK",
    ):
        assert notes[what], what
    assert "AZURE_API_KEY" in notes["api_key of azure"]


@pytest.mark.parametrize(
    ("similarity", "distance", "is_said"),
    [(0.9, 0.1, False), (0.95, 0.05, False), (0.5, 0.05, True), (1, 0.05, True), ("near", 0.05, True)],
)
def test_a_least_similarity_becomes_a_largest_distance(
    tmp_path: Path, similarity: object, distance: float, is_said: bool
) -> None:
    settings = {"cache": True, "cache_params": {"type": "redis-semantic", "similarity_threshold": similarity}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"model_list": [], "litellm_settings": settings}))
    converted = convert(path)
    config = loaded(converted.text(), tmp_path)
    assert config.cache.semantic
    assert config.cache.similar.distance == distance
    assert ("cache_params.similarity_threshold" in converted.notes) is is_said


def test_no_secret_leaves_the_file_by_the_command(given: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.cli", "check", "--from-litellm", str(given)],
        capture_output=True,
        text=True,
        check=True,
        cwd=given.parent,
    )
    assert yaml.safe_load(done.stdout.replace("${", "$").replace("}", ""))["models"]["gem"]
    assert "things to look at" in done.stderr
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "model_list"),
        ("model_list: {a: b}", "model_list"),
        ("listen: 127.0.0.1:4000", "model_list"),
        ("model_list: [7]", "not shaped"),
        ("a: [", "not YAML"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InvalidSettings, match=said):
        convert(path)


def test_accounts_of_one_provider_stay_apart(tmp_path: Path) -> None:
    deployments = [
        {"model_name": name, "litellm_params": {"model": f"groq/{name}", "api_key": f"os.environ/{key}"}}
        for name, key in (("a", "ONE"), ("b", "TWO"), ("c", "ONE"))
    ]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"model_list": deployments}))
    config = loaded(convert(path).text(), tmp_path)
    assert [config.models[name].upstream for name in "abc"] == ["groq", "groq-2", "groq"]
    assert config.upstreams["groq-2"].litellm.provider == "groq"
    assert config.upstreams["groq-2"].provider_of("groq-2") == "groq"


def converted(tmp_path: Path, **given: object) -> tuple[BursarConfig, dict[str, str]]:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(given))
    found = convert(path)
    return loaded(found.text(), tmp_path), found.notes


def deployment(name: str, model: str, **params: object) -> dict[str, object]:
    return {"model_name": name, "litellm_params": {"model": model, **params}}


def test_other_places_of_a_model_come_before_other_models(given: Path, tmp_path: Path) -> None:
    config = loaded(convert(given).text(), tmp_path)
    (only,) = config.fallbacks
    assert (only.from_, only.to) == (("gpt-4o", "gpt-4"), ("gpt-4o-at-openai", "claude"))
    assert only.on == ("unreachable", "timeout", "rate_limit", "overloaded", "server_error")


def test_deployments_that_differ_in_their_place_become_replicas_with_weights(tmp_path: Path) -> None:
    places = [
        ("http://a:8000/v1", {"weight": 2}),
        ("http://b:8000/v1", {"weight": 6}),
        ("http://a:8000/v1", {}),
    ]
    servers = [
        deployment("m", "openai/m", api_base=place, api_key="os.environ/K", **more) for place, more in places
    ]
    shuffled = [
        deployment("s", "hosted_vllm/s", api_base=f"http://{host}:8000/v1", rpm=rpm)
        for host, rpm in (("c", 100), ("d", 300))
    ]
    elsewhere = [deployment("m", "openai/m", api_base="http://e:8000/v1", api_key="os.environ/OTHER")]

    config, notes = converted(
        tmp_path,
        model_list=[*servers, *shuffled, *elsewhere],
        router_settings={
            "routing_strategy": "simple-shuffle", "num_retries": 3, "allowed_fails": 2, "cooldown_time": 30,
        },
    )  # fmt: skip

    pool = config.upstreams[config.models["m"].upstream]
    # 2 and 1 at a, 6 at b; the heaviest comes first: 1 to 2.
    assert (pool.replicas, pool.weights) == (("http://b:8000/v1", "http://a:8000/v1"), (2, 1))
    assert (pool.balance, pool.retries, pool.breaker.failures, pool.breaker.open) == ("round_robin", 3, 3, 30)
    own = config.upstreams[config.models["s"].upstream]
    assert (own.replicas, own.weights) == (("http://d:8000/v1", "http://c:8000/v1"), (3, 1))
    # Another account is no replica: it stands in.
    (stand_in,) = config.fallbacks
    assert (stand_in.from_, stand_in.to) == (("m",), ("m-at-openai-2",))
    assert config.upstreams["openai-2"].urls == ("http://e:8000/v1",)
    assert "model m at openai/m" in notes


def test_fallbacks_keep_their_reasons_and_their_order(tmp_path: Path) -> None:
    config, notes = converted(
        tmp_path,
        model_list=[deployment(name, f"openai/{name}") for name in ("a", "b", "long")],
        litellm_settings={
            "fallbacks": [{"a": ["b", "gone"]}],
            "context_window_fallbacks": [{"a": ["long"]}],
            "content_policy_fallbacks": [{"a": ["b"]}],
            "default_fallbacks": ["long"],
        },
    )

    context, own, every = config.fallbacks
    assert (context.from_, context.to, context.on) == (("a",), ("long",), ("context_length",))
    assert (own.from_, own.to) == (("a",), ("b",))
    assert (every.from_, every.to) == (("*",), ("long",))
    assert notes["fallbacks of a"] == "there is no model gone"
    assert "content_policy_fallbacks: a -> b" in notes


@pytest.mark.parametrize(
    ("params", "address"),
    [
        ({"url": "os.environ/REDIS_URL"}, "${REDIS_URL}"),
        ({"host": "os.environ/HOST", "port": "os.environ/PORT"}, "redis://${HOST}:${PORT}"),
        ({"host": "10.0.0.5", "port": 6380}, "redis://10.0.0.5:6380"),
    ],
)
def test_where_redis_is_may_stand_in_variables(
    tmp_path: Path, params: dict[str, object], address: str
) -> None:
    path = tmp_path / "config.yaml"
    settings = {"cache": True, "cache_params": {"type": "redis", **params}}
    models = [deployment("gpt-4o", "openai/gpt-4o")]
    path.write_text(yaml.safe_dump({"model_list": models, "litellm_settings": settings}))
    assert f"redis: {address}" in convert(path).text().replace('"', "").replace("'", "")
