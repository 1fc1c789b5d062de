"""A reply that our own reader failed of is told to the operator, once for each place that fails."""

from typing import Final

from collector.logs import get

log = get("bursar.sidecar")

_MOST: Final = 100
_told: Final[set[str]] = set()


def tell_unread(place: str) -> None:
    """Say that part of a reply passed unread because of what failed at ``place``."""
    if place not in _told and len(_told) < _MOST:
        _told.add(place)
        log.error(
            "part of a reply could not be read: it was passed on, and its usage is estimated", reason=place
        )
