"""The books of every replica of own GPUs, fed by the probes and by what the ledger books.

One thread (`collector.probes.watch`) calls everything here. It goes on where the last collector stopped:
the meter has run meanwhile, and calls that ended meanwhile come out of the journal.
"""

import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from collector.domain.price import TokenPrice
from collector.domain.record import AttemptRecord
from collector.ingest.charges import Alternative, Entry, attempt_name
from collector.probes.capacity import Pool, replica_name
from collector.probes.gpu_cost import Split
from collector.probes.gpu_prices import present_price
from collector.probes.gpu_sample import GpuSample
from collector.probes.replica_costs import ReplicaCosts, ReplicaCostsConfig
from collector.probes.timelines import Timeline
from collector.probes.vllm_metrics import EngineSample
from collector.probes.work_units import Calibrator, peaks_of

LONGEST_GAP_US = 3_600_000_000
"""A collector that was away for longer begins a new meter: nobody saw whether the GPUs were even there."""
PRESENT_WINDOWS = 30
"""The present price is that of the last so many windows: five minutes, if they are ten seconds long."""

PriceOf = Callable[[str, int], tuple[str, str, TokenPrice]]
"""A model and an instant to the name, the grade and the price of what would be bought instead."""


@dataclass(slots=True)
class Replica:
    """One replica's books and what is fixed of it."""

    pool: Pool
    name: str
    """``host:port``, as attempts and metrics name it."""
    costs: ReplicaCosts
    is_local: bool
    gpus: tuple[str, ...] = ()


@dataclass(slots=True)
class Present:
    """What a token of an upstream costs at present."""

    busy: TokenPrice
    loaded: TokenPrice | None
    method: str
    residual: float | None
    idle_ratio: float
    until_us: int


@dataclass(slots=True)
class Sums:
    """Since the process started, in pico-USD."""

    meter: int = 0
    charged: int = 0
    idle: int = 0
    alternative: int = 0
    cache_saved: int = 0


class Key(NamedTuple):
    """Which replica."""

    upstream: str
    replica: str


class TrueCost:
    """All replicas whose capacity has a price.

    Args:
        pools: which; those without a price are passed over.
        window_us, lag_us: as in `ReplicaCostsConfig`.
        price_of: what would be bought instead, by upstream.
        now_us: the clock.
    """

    def __init__(
        self,
        pools: Iterable[Pool],
        *,
        window_us: int,
        lag_us: int,
        price_of: Mapping[str, PriceOf] | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._config = ReplicaCostsConfig(window_us=window_us, lag_us=lag_us)
        self._price_of = price_of or {}
        self._now_us = now_us
        self._pools = [pool for pool in pools if pool.price() is not None]
        self.upstreams = frozenset(pool.upstream for pool in self._pools)
        self.replicas: dict[Key, Replica] = {}
        self.sums: dict[Key, Sums] = {}
        self.now: dict[str, Present] = {}
        """What a token of each upstream costs at present; without those that did nothing of late."""
        self._resumed: set[str] = set()
        self._seen_gpus: tuple[tuple[str, int], ...] = ()

    # -- beginning

    def resume(self, connection: Any) -> None:
        """Go on from what the ledger holds; call once, before anything else."""
        now = self._now_us()
        for pool in self._pools:
            for url in pool.urls:
                name, local = _named(url)
                start = _resumed_at(connection, pool.upstream, name, now, self._config.window_us)
                key = Key(pool.upstream, name)
                price = pool.price()
                assert price is not None
                calibrator = Calibrator(output_ratio=pool.capacity.output_work)
                costs = ReplicaCosts(price, start, calibrator=calibrator, config=self._config)
                self.replicas[key] = Replica(pool, name, costs, local)
                self.sums[key] = Sums()
                for call_id, attempt in _unsettled(connection, key, start):
                    self._resumed.add(attempt_name(call_id, attempt.attempt))
                    self.see_attempt(call_id, attempt, again=True)

    # -- what comes in

    def see_attempt(self, call_id: str, attempt: AttemptRecord, *, again: bool = False) -> None:
        """An attempt that has been booked."""
        replica = self.replicas.get(Key(attempt.upstream, attempt.replica))
        name = attempt_name(call_id, attempt.attempt)
        if replica is None or (name in self._resumed and not again):
            return
        first = attempt.time_to_first_chunk_us
        line = Timeline(
            attempt=name,
            started_us=attempt.started_at_us,
            first_token_us=None if first is None else attempt.started_at_us + first,
            ended_us=attempt.started_at_us + attempt.duration_us,
            prompt_tokens=max(0, attempt.input_tokens - attempt.cache_read_input_tokens),
            output_tokens=attempt.output_tokens,
            cached_tokens=attempt.cache_read_input_tokens,
        )
        replica.costs.see_attempt(line)

    def see_engines(self, samples: Iterable[EngineSample]) -> None:
        """Looks at engines, oldest first."""
        for sample in samples:
            replica = self.replicas.get(Key(sample.upstream, sample.replica))
            if replica is not None:
                replica.costs.see_engine(sample)

    def see_gpus(self, samples: Sequence[GpuSample]) -> None:
        """Samples of this machine's GPUs, oldest first."""
        found = tuple(sorted({(sample.gpu, sample.index) for sample in samples}, key=lambda one: one[1]))
        if found and set(found) - set(self._seen_gpus):
            self._seen_gpus = tuple(sorted({*self._seen_gpus, *found}, key=lambda one: one[1]))
            self._share_out(samples)
        for replica in self.replicas.values():
            if replica.gpus:
                replica.costs.see_gpus(samples)

    def _share_out(self, samples: Sequence[GpuSample]) -> None:
        """Which GPUs each replica has: those that were named, else the next ones of this machine."""
        free = [gpu for gpu, _ in self._seen_gpus]
        by_index = {str(index): gpu for gpu, index in self._seen_gpus}
        named = {
            key: tuple(by_index.get(one, one) for one in replica.pool.capacity.gpu_ids.get(replica.name, ()))
            for key, replica in self.replicas.items()
        }
        taken = {gpu for gpus in named.values() for gpu in gpus}
        free = [gpu for gpu in free if gpu not in taken]
        for key, replica in self.replicas.items():
            mine = named[key]
            if not mine and replica.is_local:
                count = replica.pool.capacity.gpus
                mine, free = tuple(free[:count]), free[count:]
            replica.gpus = mine
            replica.costs.use_gpus(mine)
            names = {sample.name for sample in samples if sample.gpu in mine}
            if len(names) == 1 and (peaks := peaks_of(names.pop())) is not None:
                replica.costs.use_peaks(peaks)

    # -- what goes out

    def advance(self) -> list[Entry]:
        """Close what is due; the entries to book, each once."""
        now, entries = self._now_us(), []
        for key, replica in self.replicas.items():
            replica.costs.advance(now)
            for moved in replica.costs.drain():
                other = self._alternative(replica, moved.end_us, moved.tokens)
                entries.append(Entry(key.upstream, key.replica, replica.costs.model, moved, other))
                sums = self.sums[key]
                sums.meter += moved.total.money_pico
                sums.charged += moved.charged.money_pico
                sums.idle += moved.idle.money_pico
                sums.alternative += other.pico or 0
                sums.cache_saved += moved.cache_saved_pico
        if entries:
            self.now = self._present()
        return entries

    def _alternative(self, replica: Replica, at_us: int, tokens: tuple[int, int, int]) -> Alternative:
        price_of = self._price_of.get(replica.pool.upstream)
        if price_of is None or not any(tokens):
            return Alternative()
        name, grade, price = price_of(replica.costs.model, at_us)
        prompt, cached, output = tokens
        return Alternative(
            name, grade, prompt * price.input + cached * price.cache_read + output * price.output
        )

    def _present(self) -> dict[str, Present]:
        splits: dict[str, list[Split]] = {}
        for key, replica in self.replicas.items():
            splits.setdefault(key.upstream, []).extend(replica.costs.windows[-PRESENT_WINDOWS:])
        found = {}
        for upstream, windows in splits.items():
            windows.sort(key=lambda one: one.window.end_us)
            busy = present_price(windows) if windows else None
            if busy is None:
                continue
            meter = sum(one.total.money_pico for one in windows)
            idle = sum(one.idle.money_pico for one in windows)
            last = windows[-1]
            found[upstream] = Present(
                busy=busy,
                loaded=present_price(windows, loaded=True),
                method=last.method,
                residual=last.residual,
                idle_ratio=idle / meter if meter else 0.0,
                until_us=last.window.end_us,
            )
        return found


def _named(url: str) -> tuple[str, bool]:
    """``host:port`` of a replica, and whether it is on this machine."""
    host, place = urlsplit(url).hostname or "", replica_name(url)
    try:
        return place, ipaddress.ip_address(host).is_loopback
    except ValueError:
        return place, host == "localhost"


def _resumed_at(connection: Any, upstream: str, replica: str, now_us: int, window_us: int) -> int:
    found = connection.execute(
        "SELECT epoch_us(max(window_end)) FROM gpu_windows WHERE upstream = $1 AND replica = $2",
        [upstream, replica],
    ).fetchone()
    last = found[0] if found else None
    if last is not None and now_us - LONGEST_GAP_US <= last <= now_us:
        return int(last)
    return now_us // window_us * window_us


_FIELDS = (
    "attempt, upstream, replica, provider_name, request_model, span_id, epoch_us(started_at),"
    " CAST(duration_ms * 1000 AS BIGINT), CAST(time_to_first_chunk_ms * 1000 AS BIGINT), http_status,"
    " error_type, input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens,"
    " cache_write_1h_input_tokens, reasoning_output_tokens, usage_grade, price_grade, price_version, 0, 0"
)


def _unsettled(connection: Any, key: Key, start_us: int) -> list[tuple[str, AttemptRecord]]:
    """Attempts that were running after the last closed window."""
    rows = connection.execute(
        f"SELECT call_id, {_FIELDS} FROM attempts WHERE upstream = $1 AND replica = $2"  # noqa: S608
        " AND started_at >= make_timestamp($3) AND epoch_us(started_at) + duration_ms * 1000 >= $4",
        [key.upstream, key.replica, start_us - LONGEST_GAP_US, start_us],
    ).fetchall()
    return [(row[0], AttemptRecord(*row[1:])) for row in rows]
