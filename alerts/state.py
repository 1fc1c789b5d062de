"""What alerting remembers over a restart: JSON in the data directory, replaced whole, never unpickled.

`alerts/state.json` holds the alerts, the directives that stand and the audit lines on their way;
`alerts/detectors.json` what the detectors learned; `alerts/tuned.json` what a back-test allowed them. A
file that cannot be read is set aside, said once, and begun afresh: static thresholds need none of them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from collector import logs

VERSION = 1
MOST_BYTES = 256 << 20
"""A file larger than this is none of ours."""

_log = logs.get("alerts.state")


class AlertFolder:
    """The files of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "alerts"

    def load(self, name: str) -> dict[str, Any]:
        """What ``name``.json holds; nothing when there is no such file or it is damaged."""
        path = self.path / f"{name}.json"
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError("too large")
            found = msgspec.json.decode(path.read_bytes())
            if not isinstance(found, dict) or found.get("version") != VERSION:
                raise ValueError(f"not of version {VERSION}")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
            self._set_aside(path, error)
            return {}
        return found

    def save(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace ``name``.json; a crash leaves the old file or the new one.

        Raises:
            OSError: it cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.path / f"{name}.json"
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(msgspec.json.encode({"version": VERSION, **content}))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def _set_aside(self, path: Path, error: Exception) -> None:
        _log.error("cannot be read; set aside and begun afresh", file=path.name, reason=str(error))
        try:
            path.replace(path.with_suffix(".damaged"))
        except OSError as trouble:
            _log.error("cannot be set aside", file=path.name, reason=str(trouble))
