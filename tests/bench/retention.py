"""What keeping answers by value saves, against plain LRU: money, on recorded calls and on made ones.

    python tests/bench/retention.py

Recorded are the calls of a chat service (Mooncake, FAST'25: one hour of Kimi): two calls are the same if
their whole prompts are, block for block. Made are calls whose questions come by Zipf's law, whose favourites
change, and whose costs and lengths differ by lognormal laws. Prices: 1 and 10 USD per million tokens.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from sidecar.cache.key import Key  # noqa: E402
from sidecar.cache.memory import MemoryStore  # noqa: E402
from tests.sidecar.cache.conftest import entry_with  # noqa: E402

TRACE = ROOT.parent / "shared/data/llm_traces/mooncake_conversation.parquet"
TTL_S = 3600.0
BYTES_PER_TOKEN = 4


class Asked(NamedTuple):
    """One call."""

    at: float
    key: Key
    cost_pico: int
    length: int
    """Bytes of the answer."""


def recorded() -> list[Asked]:
    """The chat service's calls."""
    from pyarrow import parquet

    rows = sorted(parquet.read_table(TRACE).to_pylist(), key=lambda row: row["timestamp"])
    return [
        Asked(
            row["timestamp"] / 1000,
            _key(row["input_length"], row["block_ranges"]),
            row["input_length"] * 1_000_000 + row["output_length"] * 10_000_000,
            row["output_length"] * BYTES_PER_TOKEN,
        )
        for row in rows
    ]


def made(calls: int = 20_000, questions: int = 2000, seed: int = 5) -> Iterator[Asked]:
    """A help desk: one call a second; every 3,000 calls some questions change their places in the order."""
    chance = random.Random(seed)
    costs = [round(1e9 * chance.lognormvariate(0, 1)) for _ in range(questions)]
    lengths = [round(chance.lognormvariate(7, 0.8)) for _ in range(questions)]
    weights = list(accumulate((place + 1) ** -0.9 for place in range(questions)))
    order = list(range(questions))
    now = 0.0
    for number in range(calls):
        now += chance.expovariate(1.0)
        if number % 3000 == 0:
            for one in chance.sample(range(questions), questions // 7):
                other = chance.randrange(questions)
                order[one], order[other] = order[other], order[one]
        asked = order[chance.choices(range(questions), cum_weights=weights)[0]]
        yield Asked(now, _key(asked), costs[asked], lengths[asked])


def saved(calls: Sequence[Asked], room: int, *, by_value: bool, seed: int = 1) -> float:
    """Share of the money that a store of ``room`` bytes saves."""
    store = MemoryStore(room, by_value=by_value, seed=seed)
    kept_usd = all_usd = 0
    for call in calls:
        all_usd += call.cost_pico
        entry = store.get(call.key, call.at)
        if entry is not None:
            kept_usd += call.cost_pico
            entry.last_asked_at, entry.hits = call.at, entry.hits + 1
            continue
        times = {"stored_at": call.at, "last_asked_at": call.at, "expires_at": call.at + TTL_S}
        store.put(call.key, entry_with(body=b"x" * call.length, cost_pico=call.cost_pico, **times))
    return kept_usd / all_usd


def _key(*parts: object) -> Key:
    return Key(b"s" * 16, blake2b(repr(parts).encode(), digest_size=20).digest())


def main() -> None:
    """Print the table."""
    rooms = (1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23)
    sets = {"made": list(made())} | ({"recorded": recorded()} if TRACE.is_file() else {})
    for name, calls in sets.items():
        print(f"{name}: {len(calls):,} calls; share of the money saved")
        for room in rooms:
            value, lru = (saved(calls, room, by_value=by_value) for by_value in (True, False))
            print(f"  {room >> 10:>6} KiB   by value {value:8.4%}   LRU {lru:8.4%}")


if __name__ == "__main__":
    main()
