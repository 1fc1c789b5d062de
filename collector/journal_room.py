"""How much room the journal has, and what is left out when it runs short; never what money needs."""

from enum import StrEnum

from collector.domain.record import CallRecord


class JournalFull(OSError):
    """There is no room for another record, nor in the reserve."""


class Pressure(StrEnum):
    """How much room the journal has left, and so what is still written."""

    NONE = "none"
    SHED_CONTENT = "shed_content"
    """Captured content is left out."""
    SHED_ATTRIBUTES = "shed_attributes"
    """So are attributes that are not needed for money or attribution."""
    FULL = "full"
    """Nothing more can be written."""


def pressure_of(left: int, reserve_bytes: int) -> Pressure:
    """What to leave out with ``left`` bytes of room; ``reserve_bytes`` are kept for what money needs."""
    if left <= 0:
        return Pressure.FULL
    if left < reserve_bytes:
        return Pressure.SHED_ATTRIBUTES
    if left < 2 * reserve_bytes:
        return Pressure.SHED_CONTENT
    return Pressure.NONE


def lightened(record: CallRecord, pressure: Pressure) -> CallRecord:
    """``record`` without what the journal has no room for; never without its costs."""
    if pressure is Pressure.SHED_CONTENT:
        return record._replace(content=None) if record.content else record
    return record._replace(
        content=None, request_attributes={}, response_attributes={}, message_hashes=[], user_agent=""
    )
