"""Named sets of vLLM's own options, and which options are never given without being asked for twice.

Each ``*.yml`` here is a file that vLLM reads with ``--config``. Profiles are laid over one another in the
order given: ``common`` first, then those that a server names, then its own options.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
COMMON = "common"

FORBIDDEN = {
    "trust-remote-code": "runs code that comes with the model",
    "enable-prompt-embeds": "takes tensors from callers and has had holes",
    "enable-mm-embeds": "takes tensors from callers, and crashes on wrong ones",
    "allowed-local-media-path": "lets callers read files of this machine",
    "api-key": "shows on the command line; put VLLM_API_KEY into the environment",
    "ssl-keyfile": "put TLS in front, or replicas on a network of their own",
    "tokenizer-mode": "may run code that comes with the model",
    "worker-extension-cls": "runs code of one's own in the engine",
    "logits-processors": "runs code of one's own in the engine",
    "middleware": "runs code of one's own in the server",
    "enable-log-requests": "writes prompts to the log",
}
"""Options that a configuration has to allow by name (`allow_unsafe`), and why."""

_NOT_SHORT = frozenset({"tokenizer"})
"""Options of their own that forbidden ones begin with."""

FORBIDDEN_ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "opens endpoints that change the engine",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "lets callers load adapters",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "unpickles what comes over the network",
    "VLLM_TORCH_PROFILER_DIR": "profiles from the start; ask for a profile instead",
}
"""Variables of the same kind."""


class UnknownProfile(ValueError):
    """There is no profile of that name."""


def profile_names() -> list[str]:
    """Every profile but the common one."""
    return sorted(path.stem for path in FOLDER.glob("*.yml") if path.stem != COMMON)


def profile(name: str) -> dict[str, Any]:
    """The options of one profile, as written.

    Raises:
        UnknownProfile: there is none of that name.
    """
    path = FOLDER / f"{name}.yml"
    if path.stem not in (*profile_names(), COMMON):
        raise UnknownProfile(f"no profile {name!r}; there are {', '.join(profile_names())}")
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def summary(name: str) -> str:
    """What a profile is for: the first sentence of its file."""
    first = (FOLDER / f"{name}.yml").read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("#").strip()


def options_of(profiles: Iterable[str], own: Mapping[str, object]) -> dict[str, Any]:
    """All options of a server; what comes later wins.

    Raises:
        UnknownProfile: one of ``profiles`` is none.
    """
    found: dict[str, Any] = {}
    for name in (COMMON, *profiles):
        found |= profile(name)
    return found | {key.lstrip("-").replace("_", "-"): _plain(value) for key, value in own.items()}


def _plain(value: object) -> object:
    """A switch as vLLM's file has it; our configuration's values are texts."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def unsafe(
    options: Mapping[str, object], environment: Mapping[str, str], allowed: Iterable[str]
) -> list[str]:
    """What of a server's options is dangerous and was not allowed by name, in words."""
    known = set(allowed)
    given = [name for name, value in options.items() if value not in (None, False, "", "auto")]
    found = [
        f"{name}: {why}"
        for name, why in FORBIDDEN.items()
        if name not in known and any(_means(short, name) for short in given)
    ]
    return found + [
        f"{name}: {why}"
        for name, why in FORBIDDEN_ENVIRONMENT.items()
        if name not in known and environment.get(name) not in (None, "", "0")
    ]


def _means(given: str, option: str) -> bool:
    """Whether vLLM may take ``given`` for ``option``: any beginning does that is no option itself."""
    return option.startswith(given) and (given == option or given not in _NOT_SHORT)
