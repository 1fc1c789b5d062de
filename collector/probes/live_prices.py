"""What a token of an own upstream costs at present, as the collector leaves it for the sidecars."""

from pathlib import Path

import msgspec

FILE = "gpu_prices.json"
"""In the data directory."""
STALE_US = 300_000_000
"""A price this old says nothing any more: the list price takes its place."""
_MOST_BYTES = 1 << 20


class LivePrice(msgspec.Struct, frozen=True):
    """Pico-USD for a token that has to be computed; one from the engine's prefix cache costs nothing."""

    input: int
    output: int
    method: str
    until_us: int
    """End of the time that it is measured over, microseconds since the epoch."""


def read_live_prices(folder: Path, now_us: int) -> dict[str, LivePrice]:
    """By upstream; those that are too old are left out. Nothing where nothing can be read."""
    try:
        with (folder / FILE).open("rb") as file:
            told = msgspec.json.decode(file.read(_MOST_BYTES), type=dict[str, LivePrice])
    except (OSError, msgspec.DecodeError):
        return {}
    return {
        upstream: price
        for upstream, price in told.items()
        if price.until_us >= now_us - STALE_US and price.input >= 0 and price.output >= 0
    }
