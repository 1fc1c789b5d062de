"""What own GPUs cost, as Prometheus text and as the small file that sidecars read prices from."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from collector.domain.money import usd
from collector.domain.price import TokenPrice
from collector.export.exposition import Number, header, label_text, number
from collector.export.families import FAMILIES, Family
from collector.probes.live_prices import FILE, LivePrice

if TYPE_CHECKING:
    from collector.probes.true_cost import Present, TrueCost


def _family(name: str, text: str, *labels: str) -> Family:
    kind: Literal["counter", "gauge"] = "counter" if name.endswith("_total") else "gauge"
    return Family(name, kind, text, ("upstream", *labels), announced=False)


MORE_FAMILIES = (
    _family(
        "bursar_gpu_cost_charged_usd_total", "Of the cost of own GPUs, what calls were charged.", "replica"
    ),
    _family("bursar_gpu_cost_idle_usd_total", "Of the cost of own GPUs, time without work.", "replica"),
    _family(
        "bursar_gpu_cache_saved_usd_total", "What prompt tokens out of a cache would have cost.", "replica"
    ),
    _family(
        "bursar_gpu_alternative_usd_total", "What the alternative would have asked for the same.", "replica"
    ),
    _family(
        "bursar_gpu_token_price_usd",
        "What a token costs at present: busy, or with idle time.",
        "class",
        "cost",
    ),
    _family("bursar_gpu_idle_ratio", "Share of the present cost that is idle time."),
    _family("bursar_gpu_cost_residual_ratio", "Engine time that the work of tokens leaves unexplained."),
)
"""Beside ``bursar_gpu_cost_usd_total`` of `collector.export.families`."""

_ALL = {"bursar_gpu_cost_usd_total": FAMILIES["bursar_gpu_cost_usd_total"]} | {
    family.name: family for family in MORE_FAMILIES
}

_Line = tuple[str, tuple[str, ...], Number]


def metrics_of(costs: "TrueCost") -> str:
    """Prometheus text (0.0.4); nothing where no capacity has a price."""
    values: dict[str, list[tuple[tuple[str, ...], Number]]] = {}
    for name, labels, value in (*_sums(costs), *_present(costs.now)):
        values.setdefault(name, []).append((labels, value))
    chunks = []
    for name, family in _ALL.items():
        if found := values.get(name):
            chunks.append(header(name, family.kind, family.help))
            chunks += [
                f"{name}{{{label_text(family.labels, labels)}}} {number(value)}\n" for labels, value in found
            ]
    return "".join(chunks)


def _sums(costs: "TrueCost") -> Iterable[_Line]:
    whole: dict[str, int] = {}
    for key, sums in list(costs.sums.items()):
        whole[key.upstream] = whole.get(key.upstream, 0) + sums.meter
        yield "bursar_gpu_cost_charged_usd_total", tuple(key), usd(sums.charged)
        yield "bursar_gpu_cost_idle_usd_total", tuple(key), usd(sums.idle)
        yield "bursar_gpu_cache_saved_usd_total", tuple(key), usd(sums.cache_saved)
        yield "bursar_gpu_alternative_usd_total", tuple(key), usd(sums.alternative)
    for upstream, meter in whole.items():
        yield "bursar_gpu_cost_usd_total", (upstream,), usd(meter)


def _present(present: "Mapping[str, Present]") -> Iterable[_Line]:
    for upstream, now in present.items():
        prices: tuple[tuple[str, TokenPrice | None], ...] = (("busy", now.busy), ("loaded", now.loaded))
        for cost, price in prices:
            if price is not None:
                yield "bursar_gpu_token_price_usd", (upstream, "input", cost), usd(price.input)
                yield "bursar_gpu_token_price_usd", (upstream, "output", cost), usd(price.output)
        yield "bursar_gpu_idle_ratio", (upstream,), now.idle_ratio
        if now.residual is not None:
            yield "bursar_gpu_cost_residual_ratio", (upstream,), now.residual


def write_present_prices(folder: Path, present: "Mapping[str, Present]") -> None:
    """Leave what tokens cost at present where the sidecars of this machine look; whole or not at all.

    Raises:
        OSError: it could not be written.
    """
    told = {
        upstream: LivePrice(
            input=now.busy.input, output=now.busy.output, method=now.method, until_us=now.until_us
        )
        for upstream, now in present.items()
    }
    fresh = folder / f"{FILE}.new"
    fresh.write_bytes(msgspec.json.encode(told))
    fresh.replace(folder / FILE)
