"""What every process of ours does when it starts and when it is told to stop."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from collector.logs import configure, get
from collector.settings import Address, InvalidSettings, Problem
from sidecar.config import BursarConfig, UpstreamConfig, load_config

PR_SET_PDEATHSIG = 1
M_ARENA_MAX = -8

FILES = 65_536
"""Open files wanted: a stream takes two sockets, and the usual limit is 1,024."""

OURS = (
    *("journal", "run", "alerts", "inference", "logs", "prices", "profiles", "quarantine"),
    *("bursar.duckdb", "bursar.duckdb.wal", "snapshot.duckdb", "directives.json", "experience.json"),
)
"""What we make in a data directory."""


def started(component: str, config: BursarConfig, *, supervised: bool) -> None:
    """Set up logs, keep secrets out of core dumps, and go when the supervisor is gone."""
    configure(component, secrets=config.secrets)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if supervised and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    for what in unenforced(config):
        get("bursar").warning(what)


def key_for(upstream: UpstreamConfig, *, virtual_keys: bool) -> str:
    """Whose key calls to ``upstream`` carry, in words.

    Args:
        upstream: where they go.
        virtual_keys: whether callers use them; of theirs none is passed on.
    """
    if upstream.api_key is not None or _has_credentials(upstream):
        return "our key"
    if upstream.kind == "litellm":
        return "what stands under litellm"
    if upstream.kind == "vllm" or (virtual_keys and _is_here(upstream)):
        return "no key"
    return LACKS_A_KEY if virtual_keys else "the agent's own key is passed on"


LACKS_A_KEY = "no key: set api_key; callers use virtual keys"


def uses_virtual_keys(config: BursarConfig) -> bool:
    """Whether callers need one: as soon as there is one, or others than this machine can call."""
    from sidecar.keys import KeyRing

    return not config.listen.is_loopback or len(KeyRing(config.data_dir)) > 0


def _has_credentials(upstream: UpstreamConfig) -> bool:
    """Whether a key is among the fixed headers."""
    if not upstream.headers:
        return False
    from sidecar.stages.identify import CREDENTIAL_HEADERS

    return not CREDENTIAL_HEADERS.isdisjoint(name.lower().encode() for name in upstream.headers)


def _is_here(upstream: UpstreamConfig) -> bool:
    """Whether it is a server on this machine, which needs no key as a rule."""
    hosts = [Address(urlsplit(url).hostname or "", 0) for url in upstream.urls]
    return bool(hosts) and all(host.is_loopback for host in hosts)


def keep_to_one_heap() -> None:
    """Let all threads of this process share one heap: with one busy thread, others only cost memory."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # a C library that has no such setting
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def unenforced(config: BursarConfig) -> list[str]:
    """Settings that were given and have no effect yet: said, never passed over in silence."""
    found = []
    if config.throttles and config.workers > 1:
        found.append(f"throttles count in each of the {config.workers} workers for itself")
    if config.concurrency and config.workers > 1:
        found.append(f"concurrency counts in each of the {config.workers} workers for itself")
    if config.cache.encrypt and config.cache.redis is None:
        found.append("cache.encrypt is for answers in Redis: without cache.redis they are in memory alone")
    return found


def no_folder(wanted: Path) -> str:
    """Why ``wanted`` neither is a folder nor can become one; empty where it can."""
    with contextlib.suppress(PermissionError):  # on the way: whether it can be written to is another question
        for place in (wanted.absolute(), *wanted.absolute().parents):
            if place.is_dir():
                break
            if place.exists():
                return f"{wanted} cannot be a folder: {place} is a file"
    return ""


def not_writable(wanted: Path) -> str:
    """Why nothing can be written to ``wanted``, which may have to be made first; empty where it can."""
    try:
        nearest = next(place for place in (wanted.absolute(), *wanted.absolute().parents) if place.exists())
    except PermissionError as error:  # a folder on the way that we may not look into
        return f"{wanted} cannot be used: {error.strerror}"
    if os.access(nearest, os.W_OK | os.X_OK):
        return ""
    return f"{wanted} cannot be {'written to' if nearest == wanted.absolute() else f'made in {nearest}'}"


def check_data_dir(config: BursarConfig, *, writes: bool) -> None:
    """See that there can be such a folder, and that we may write to it if the caller is going to.

    Raises:
        InvalidSettings: it cannot be used.
    """
    if wrong := no_folder(config.data_dir) or (not_writable(config.data_dir) if writes else ""):
        raise InvalidSettings([Problem("data_dir", wrong)])
    if writes:
        close_to_others(config.data_dir)


def close_to_others(data_dir: Path) -> None:
    """Take from everybody else what was made here before files were made so that only we can read them.

    The folder itself may be one that somebody else made, for more than us: its mode stays.
    """
    for name in OURS:
        path = data_dir / name
        with contextlib.suppress(OSError):  # Not there yet, or another user's.
            mode = path.stat().st_mode & 0o7777
            if mode & 0o007:
                path.chmod(mode & ~0o007)


def checked_config(path: Path | None, *, writes: bool = False) -> BursarConfig:
    """The configuration, together with what can only be seen from outside the file.

    Args:
        path: see `load_config`.
        writes: whether the caller writes to the data directory.

    Raises:
        InvalidSettings: it cannot be used.
    """
    from sidecar.keys import KeyRing

    config = load_config(path)
    check_data_dir(config, writes=writes)
    if config.cache.encrypt and config.cache.redis is not None and find_spec("cryptography") is None:
        missing = (
            "needs cryptography: pip install '.[encryption]' in Bursar's clone; "
            "answers are not kept in the clear"
        )
        raise InvalidSettings([Problem("cache.encrypt", missing)])
    if not config.listen.is_loopback and not len(KeyRing(config.data_dir)):
        raise InvalidSettings(
            [
                Problem(
                    "listen",
                    f"{config.listen} is open to others: create a virtual key first (bursar keys create)",
                )
            ]
        )
    return config
