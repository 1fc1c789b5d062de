"""What credit control remembers over a restart, besides what was spent: directives, raises, experience.

Small files in the data directory, each written anew as a whole. None of them is worth failing for: what
cannot be read is said, and begun anew.
"""

import os
from pathlib import Path
from typing import Any

import msgspec

from collector.domain.policy import Experience
from collector.logs import get

log = get("bursar.budgets")

BOARD = "directives.json"
EXPERIENCE = "experience.json"


class Memories:
    """Reads and writes the files; without a folder nothing is remembered."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def board(self) -> list[dict[str, Any]]:
        """Directives and raises as they were."""
        found = self._read(BOARD)
        return [item for item in found if isinstance(item, dict)]

    def keep_board(self, items: list[dict[str, Any]]) -> None:
        """Remember directives and raises."""
        self._write(BOARD, items)

    def recall_experience(self, experience: Experience) -> None:
        """Add what was learned before."""
        try:
            experience.merge(self._read(EXPERIENCE))
        except ValueError as error:
            log.warning("what was learned before cannot be used", reason=str(error))

    def keep_experience(self, experience: Experience) -> None:
        """Remember what was learned."""
        self._write(EXPERIENCE, experience.plain())

    def _read(self, name: str) -> list[Any]:
        if self._folder is None:
            return []
        try:
            return msgspec.json.decode((self._folder / name).read_bytes(), type=list[Any])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            log.error("a file of before the restart cannot be read", path=name, reason=str(error))
            return []

    def _write(self, name: str, items: list[Any]) -> None:
        if self._folder is None:
            return
        # Workers of one sidecar share the folder.
        part = self._folder / f"{name}.{os.getpid()}.part"
        try:
            part.write_bytes(msgspec.json.encode(items, enc_hook=int))
            part.replace(self._folder / name)
        except OSError as error:
            log.error("this would not survive a restart", path=name, reason=str(error))
