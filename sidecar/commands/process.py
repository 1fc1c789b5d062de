"""What every process of ours does when it starts and when it is told to stop."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from collector.logs import configure, get
from collector.settings import InvalidSettings, Problem
from sidecar.config import BursarConfig, load_config

PR_SET_PDEATHSIG = 1
M_ARENA_MAX = -8

FILES = 65_536
"""Open files wanted: a stream takes two sockets, and the usual limit is 1,024."""


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
