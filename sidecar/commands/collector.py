"""``bursar collector``: the process that owns the ledger."""

import argparse
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from collector.domain.money import pico_from_usd
from collector.logs import get
from collector.settings import InvalidSettings
from sidecar.commands.process import checked_config, started
from sidecar.config import BursarConfig, config_path, load_config, stamp_of

if TYPE_CHECKING:
    from collector.domain.price import TokenPrice
    from collector.ingest.price_watch import PriceSource
    from collector.pricing.book import PriceBook
    from collector.probes.true_cost import PriceOf

log = get("bursar.collector")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own but those between our processes."""
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Follow the journal and answer questions until told to stop."""
    config = checked_config(arguments.config, writes=True)
    started("collector", config, supervised=arguments.supervised)
    from collector.run import run as run_collector

    key = config.control.key.reveal() if config.control.key else None
    return run_collector(
        config.collector,
        data_dir=config.data_dir,
        control_key=key,
        pools=config.pools,
        price_of=alternatives(config),
        prices=config.prices,
        changed_prices=ChangedPrices(config_path(arguments.config), config),
        price_source=newer_prices(config),
        roles=config.access.all_roles(),
        tool_prices={name: pico_from_usd(tool.price) for name, tool in config.tools.items()},
    )


class ChangedPrices:
    """What the configuration says that models cost, once its file has changed.

    A file that cannot be used changes nothing; the sidecar says what is wrong with it.

    Args:
        path: the file.
        config: what it said when it was read last.
    """

    def __init__(self, path: Path, config: BursarConfig) -> None:
        self._path = path
        self._stamp = stamp_of(path)
        self._prices = config.prices

    def __call__(self) -> Mapping[str, Mapping[str, Decimal]] | None:
        """The prices where they are others than at the last time, else None."""
        stamp = stamp_of(self._path)
        if stamp is None or stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            prices = load_config(self._path).prices
        except InvalidSettings:
            return None
        except Exception as error:  # whatever it is, the books go on, and the next change may mend it
            log.error("changed prices could not be read; they stay as they were", failure=error)
            return None
        if prices == self._prices:
            return None
        self._prices = prices
        return prices


def newer_prices(config: BursarConfig) -> "PriceSource | None":
    """Where newer prices are than those that come with Bursar."""
    if config.price_source is None:
        return None
    from collector.ingest.price_watch import PriceSource

    return PriceSource(config.price_source, float(config.price_refresh))


def alternatives(config: BursarConfig) -> "dict[str, PriceOf]":
    """For each pool whose capacity has a price: what would be bought instead, and for how much."""
    return {
        pool.upstream: _Bought(config, pool.upstream).price_of
        for pool in config.pools
        if pool.price() is not None
    }


class _Bought:
    """Looks the alternative up in the price book, which is read when it is first needed."""

    def __init__(self, config: BursarConfig, upstream: str) -> None:
        self._config = config
        self._alternative = config.upstreams[upstream].capacity.alternative
        self._provider = config.upstreams[upstream].provider or "vllm"
        self._book: PriceBook | None = None

    def price_of(self, model: str, at_us: int) -> "tuple[str, str, TokenPrice]":
        """Name, grade and price; the served ``model`` itself where the configuration names no other."""
        from collector.pricing.book import PriceBook

        if self._book is None:
            self._book = PriceBook.load(self._config.prices)
        name = self._alternative or model
        provider, slash, bare = self._alternative.partition("/")
        quote = self._book.quote(provider if slash else self._provider, bare if slash else name, at_us)
        return name, quote.grade.value, quote.price
