"""The configuration is read again when its file changes, and prices when theirs does.

A file that cannot be used leaves the old configuration running, and says so once.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

from collector.logs import get
from collector.settings import InvalidSettings
from sidecar.app import Sidecar
from sidecar.config import BursarConfig, config_path, load_config, stamp_of

log = get("bursar.sidecar")

LOOK_EVERY_S = 1.0

NEEDS_RESTART = ("listen", "control", "workers", "data_dir", "journal", "collector", "dashboard", "labels")
"""Settings that only a new process can take up."""


async def follow(sidecar: Sidecar, given: Path | None) -> None:
    """Look at the file once a second, for as long as we run."""
    path = config_path(given)
    stamp = stamp_of(path)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        seen = stamp_of(path)
        if seen == stamp or seen is None:
            continue
        stamp = seen
        try:
            config = await asyncio.to_thread(load_config, path)
            usable, kept = merged(sidecar.config, config)
            sidecar.reconfigure(usable)
        except InvalidSettings as error:
            sidecar.metrics.set_gauge("bursar_config_valid", {}, 0)
            log.error("configuration invalid, the old one stays in force", reason=str(error))
        except Exception as error:  # whatever it is, the next change of the file may mend it
            sidecar.metrics.set_gauge("bursar_config_valid", {}, 0)
            log.error("configuration not taken up; it is read again when it changes", failure=error)
        else:
            sidecar.metrics.set_gauge("bursar_config_valid", {}, 1)
            log.info("configuration reloaded", names=", ".join(kept))


def merged(old: BursarConfig, new: BursarConfig) -> tuple[BursarConfig, list[str]]:
    """``new`` with what needs a restart as it was, and the names of what that held back."""
    kept = [name for name in NEEDS_RESTART if getattr(old, name) != getattr(new, name)]
    return replace(new, **{name: getattr(old, name) for name in NEEDS_RESTART}), kept
