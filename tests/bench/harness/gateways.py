"""The gateways to compare: how each is configured and started in front of the upstream.

``{port}`` is where a gateway has to answer, ``{upstream}`` the upstream's port, ``{spare}`` a free
port more, ``{folder}`` a folder of its own. A peer is measured when its program is found: in the
environment that ``make bench-peers`` makes (.venvs/NAME), or named by the variable beside it.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.phases import MODEL

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENTS = ROOT / ".venvs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One target of the benchmark."""

    name: str
    commands: tuple[tuple[str, ...], ...] = ()
    """Its processes, started in this order; the first is the one that serves. Empty: no gateway at all."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files it needs in its folder; ``@port@`` and so on, since braces are common in them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = "/v1/chat/completions"
    model: str = MODEL
    port_file: str | None = None
    """Where it writes the port it chose, when it cannot be told one."""
    ledger: str | None = None
    """Base address that can say how many calls it recorded; None: it keeps no record that we check."""
    skip: frozenset[str] = frozenset()
    """Phases that it is known to die of."""
    on_request: bool = False
    """Measured only where it is named."""
    records: str = "nothing"
    """What it keeps of a call in this set-up: figures are to be read with it in mind."""


DIRECT = Gateway(name="direct")

_NGINX = """
worker_processes 1; daemon off; master_process off; pid @folder@/nginx.pid; error_log stderr error;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path @folder@/body; proxy_temp_path @folder@/proxy; fastcgi_temp_path @folder@/fastcgi;
  uwsgi_temp_path @folder@/uwsgi; scgi_temp_path @folder@/scgi;
  keepalive_requests 100000000;
  upstream provider { server 127.0.0.1:@upstream@; keepalive 2048; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:@port@ backlog=4096; client_body_buffer_size 256k;
    location / {
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }
  }
}
"""

# Everything on, as a user would run it; only the limits are wide enough for the largest phase.
_BURSAR = """
listen: 127.0.0.1:@port@
control: {listen: 127.0.0.1:@control@}
collector: {listen: 127.0.0.1:@spare@, otlp_http: off, otlp_grpc: off}
data_dir: @folder@/data
upstreams:
  openai: {kind: openai, base_url: "http://127.0.0.1:@upstream@/v1", connections: 4096}
limits: {streams: 4096, connections: 8192}
# The load says the same again and again; it is to be forwarded, whatever it says.
cache: {exact: off}
"""
# The same, with two names for the upstream: a call has to be given to one of two replicas.
_ONE = 'base_url: "http://127.0.0.1:@upstream@/v1"'
_TWO = 'replicas: ["http://127.0.0.1:@upstream@/v1", "http://localhost:@upstream@/v1"], balance: {}'

_TENSORZERO = f"""
[gateway]
observability.enabled = false
[models."{MODEL}"]
routing = ["bench"]
[models."{MODEL}".providers.bench]
type = "openai"
model_name = "{MODEL}"
api_base = "http://127.0.0.1:@upstream@/v1/"
api_key_location = "env::BENCH_KEY"
"""
# TensorZero's gateway comes on PyPI inside its client, which picks the port.
_TENSORZERO_RUN = """
import pathlib, sys, threading, urllib.parse
import openai, tensorzero
client = tensorzero.patch_openai_client(
    openai.OpenAI(api_key="x"), config_file=sys.argv[1], clickhouse_url=None, async_setup=False
)
pathlib.Path(sys.argv[2]).write_text(str(urllib.parse.urlparse(str(client.base_url)).port))
threading.Event().wait()
"""

_LITELLM = f"""
model_list:
  - model_name: {MODEL}
    litellm_params: {{model: openai/{MODEL}, api_base: "http://127.0.0.1:@upstream@/v1", api_key: sk-x}}
litellm_settings: {{telemetry: false, request_timeout: 60, num_retries: 0}}
"""
_LITELLM_KEY = "sk-" + "benchmark" * 4  # it does not start without a master key


def _found(variable: str, *places: Path | str | None) -> str | None:
    """The program that ``variable`` names, else the first of ``places`` that is there."""
    named = os.environ.get(variable)
    candidates = [named] if named else [str(place) for place in places if place]
    return next((path for path in candidates if Path(path).exists()), None)


def bursar(balance: str = "") -> Gateway:
    """Ours: the sidecar and the collector, both counted; with ``balance`` in front of a pool of two."""
    command = str(Path(sys.executable).with_name("bursar"))
    configuration = _BURSAR.replace(_ONE, _TWO.format(balance)) if balance else _BURSAR
    return Gateway(
        name=f"bursar-{balance}" if balance else "bursar",
        on_request=bool(balance),
        commands=(
            (command, "sidecar", "--config", "{folder}/bursar.yaml"),
            (command, "collector", "--config", "{folder}/bursar.yaml"),
        ),
        files={"bursar.yaml": configuration},
        headers={"Authorization": "Bearer sk-bench-0123456789abcdef"},
        ledger="http://127.0.0.1:{spare}",
        records="journal, ledger, metrics, trace ids",
    )


def peers() -> list[Gateway]:
    """Every peer that is installed, lightest first."""
    found = []
    if nginx := _found("NGINX_BIN", shutil.which("nginx"), "/usr/sbin/nginx"):
        found.append(
            Gateway(
                name="nginx",
                commands=((nginx, "-p", "{folder}", "-c", "{folder}/nginx.conf"),),
                files={"nginx.conf": _NGINX},
            )
        )
    if router := _found("VLLM_ROUTER", ENVIRONMENTS / "vllm-router/bin/vllm-router"):
        found.append(
            Gateway(
                name="vllm-router",
                commands=(
                    (
                        *(router, "--worker-urls", "http://127.0.0.1:{upstream}", "--host", "127.0.0.1"),
                        *("--port", "{port}", "--policy", "round_robin", "--prometheus-port", "{spare}"),
                        *("--log-level", "warning"),
                    ),
                ),
                records="metrics",
            )
        )
    if python := _found("TENSORZERO_PY", ENVIRONMENTS / "tensorzero/bin/python"):
        found.append(
            Gateway(
                name="tensorzero",
                commands=((python, "{folder}/run.py", "{folder}/tensorzero.toml", "{folder}/port"),),
                files={"run.py": _TENSORZERO_RUN, "tensorzero.toml": _TENSORZERO},
                environment={"BENCH_KEY": "x"},
                path="/openai/v1/chat/completions",
                model=f"tensorzero::model_name::{MODEL}",
                port_file="port",
                records="nothing (observability off)",
            )
        )
    portkey = _found(
        "PORTKEY_JS", ENVIRONMENTS / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    )
    node = shutil.which("node")
    if portkey and node:
        found.append(
            Gateway(
                name="portkey",
                commands=((node, portkey, "--port={port}", "--headless"),),
                environment={"NODE_ENV": "production", "PORT": "{port}"},
                headers={
                    "x-portkey-provider": "openai",
                    "x-portkey-custom-host": "http://127.0.0.1:{upstream}/v1",
                    "Authorization": "Bearer sk-x",
                },
            )
        )
    if litellm := _found("LITELLM_BIN", ENVIRONMENTS / "litellm-proxy/bin/litellm"):
        found.append(
            Gateway(
                name="litellm",
                commands=(
                    (
                        *(litellm, "--config", "{folder}/litellm.yaml", "--host", "127.0.0.1"),
                        *("--port", "{port}", "--num_workers", "1"),
                    ),
                ),
                files={"litellm.yaml": _LITELLM},
                environment={
                    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                    "LITELLM_LOG": "ERROR",
                    "LITELLM_MODE": "PRODUCTION",
                    "LITELLM_MASTER_KEY": _LITELLM_KEY,
                    "NO_DOCS": "True",
                },
                headers={"Authorization": f"Bearer {_LITELLM_KEY}"},
                skip=frozenset({"stream500", "stream1000", "stream2000"}),
                records="its defaults",
            )
        )
    return found


def all_gateways() -> list[Gateway]:
    """No gateway, every peer that is installed, and ours: before one upstream, and before pools."""
    return [DIRECT, *peers(), bursar(), bursar("least"), bursar("prefix")]
