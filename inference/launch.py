"""From a configured server to the command that starts it. Pure, but for the file that it writes.

A server is checked before anything is started: no dangerous option that was not asked for by name, no
vLLM with known holes, no model from the hub that could change by itself.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inference.installed import LEAST_VERSION, Installed
from inference.profiles import UnknownProfile, options_of, unsafe
from inference.settings import ServerConfig

_QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
}
"""Nothing is told to anybody outside; traces go to the collector over HTTP."""
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME", "TZ")
_KEPT_BEGINNINGS = ("VLLM_", "HF_", "CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "TORCH_", "RAY_", "OMP_", "XDG_")
"""Of our own environment; above all no key of a provider."""


class CannotStart(Exception):
    """The configuration of a server stands against starting it; says every reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All that is needed to start a server."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    options_file: Path
    options: Mapping[str, Any]
    url: str
    served_name: str
    left_out: tuple[str, ...] = ()
    """Options of profiles that this vLLM does not have."""

    @property
    def is_headless(self) -> bool:
        """Whether it works for a server on another machine, and answers nobody itself."""
        return bool(self.options.get("headless"))

    def write(self) -> None:
        """Write the options file.

        Raises:
            OSError: it could not be written.
        """
        self.options_file.parent.mkdir(parents=True, exist_ok=True)
        self.options_file.write_text(yaml.safe_dump(dict(self.options), sort_keys=True), encoding="utf-8")


def launch_of(
    name: str,
    config: ServerConfig,
    vllm: Installed,
    folder: Path,
    *,
    traces_to: str | None = None,
    profiles_to: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Launch:
    """How to start one server.

    Args:
        name: of the server in the configuration.
        config: what was said of it.
        vllm: the installed one.
        folder: where its options file goes.
        traces_to: the collector's OTLP/HTTP address for traces, where it takes them.
        profiles_to: where torch profiles go, if operators may ask for them.
        environ: our own environment.

    Raises:
        CannotStart: something stands against it.
    """
    problems: list[str] = []
    try:
        profiled = options_of(config.profile, {})
    except UnknownProfile as error:
        raise CannotStart([str(error)]) from error
    known, left_out = vllm.without_unknown(profiled)
    options = known | {
        key: value for key, value in options_of((), config.options).items() if _is_own(key, config.options)
    }
    if traces_to and "otlp-traces-endpoint" not in options:
        options["otlp-traces-endpoint"] = traces_to
    if profiles_to is not None and "profiler-config" not in options:
        options["profiler-config"] = {
            "profiler": "torch",
            "torch_profiler_dir": str(profiles_to.resolve()),
            "ignore_frontend": True,
            # Python's stacks are all of a worker's waiting: a hundred times the size, and minutes to write.
            "torch_profiler_with_stack": False,
            "max_iterations": 200,
        }
    environment = _environment(config, environ)
    problems += unsafe(options, environment, config.allow_unsafe)
    problems += _untrusted(config, vllm, options, environment)
    if problems:
        raise CannotStart(problems)
    served = config.served_name or config.model
    file = (folder / f"{name}.yml").resolve()
    argv = [str(vllm.command), "serve", config.model, "--config", str(file)]
    argv += ["--host", config.listen.host, "--port", str(config.listen.port), "--served-model-name", served]
    if config.revision:
        argv += ["--revision", config.revision, "--tokenizer-revision", config.revision]
    return Launch(
        name=name,
        argv=tuple(argv),
        environment=environment,
        options_file=file,
        options=options,
        url=f"http://{config.listen}",
        served_name=served,
        left_out=tuple(left_out),
    )


def _is_own(key: str, own: Mapping[str, str]) -> bool:
    return key in {name.lstrip("-").replace("_", "-") for name in own}


def _untrusted(
    config: ServerConfig, vllm: Installed, options: Mapping[str, Any], environment: Mapping[str, str]
) -> list[str]:
    found = []
    if vllm.is_old and "version" not in config.allow_unsafe:
        least = ".".join(map(str, LEAST_VERSION))
        found.append(f"version: vLLM {vllm.version} is older than {least}, and those have known holes")
    is_local = Path(config.model).is_dir()
    if (
        not is_local
        and not (config.revision or options.get("revision"))
        and "revision" not in config.allow_unsafe
    ):
        found.append(f"revision: {config.model} comes from the hub; name the commit that is meant")
    if not config.listen.is_loopback and not environment.get("VLLM_API_KEY"):
        found.append(f"listen: {config.listen} is open to others; set VLLM_API_KEY, or listen on loopback")
    return found


def _environment(config: ServerConfig, environ: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value for name, value in environ.items() if name in _KEPT or name.startswith(_KEPT_BEGINNINGS)
    }
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(config.gpus)} if config.gpus else {}
    if Path(config.model).is_dir():
        chosen["HF_HUB_OFFLINE"] = "1"
    return {**kept, "PYTHONUNBUFFERED": "1", **_QUIET, **chosen, **config.environment}
