"""What a call may cost, before it is made: a range in USD, from the price book."""

from decimal import Decimal
from typing import Final, NamedTuple

from collector.domain.money import usd
from collector.domain.price import list_cost
from collector.domain.usage import Usage
from collector.pricing.book import PriceBook
from sidecar.config import BursarConfig
from sidecar.wire.estimate import default_ratio

UNKNOWN_OUTPUT: Final = 4096
"""Tokens, where neither the caller nor the price book says how much a model may write."""
_SPREAD: Final = 1.4
"""How far a count made from bytes may be off, either way: code and other languages take more tokens."""


class Estimate(NamedTuple):
    """What one call may cost."""

    low_usd: Decimal
    """The prompt alone, nothing written, all of it read from the provider's cache."""
    high_usd: Decimal
    """The prompt written to the cache at its price, and all of the output used up."""
    prompt_usd: Decimal
    """The prompt at the plain input rate."""
    input_tokens: tuple[int, int]
    """Fewest and most; the same where the caller knew."""
    max_output_tokens: int
    provider: str
    priced_as: str
    """The price book's own name for the model."""
    grade: str
    """``listed``, ``configured``, or ``prior``: a conservative stand-in for a model that nobody lists."""
    source: str
    reason: str


class Estimator:
    """Estimates by the configuration's own models and prices.

    Args:
        config: which provider serves a model.
        prices: what it charges.
    """

    def __init__(self, config: BursarConfig, prices: PriceBook) -> None:
        self._config = config
        self._prices = prices

    def estimate(
        self,
        model: str,
        at_us: int,
        *,
        input_tokens: int | None,
        text: str | None,
        max_output_tokens: int | None,
    ) -> Estimate:
        """What a call for ``model`` may cost at ``at_us`` (microseconds since the epoch).

        Raises:
            ValueError: neither or both of ``input_tokens`` and ``text`` are given, or a count is negative.
        """
        if (input_tokens is None) == (text is None):
            raise ValueError("give either input_tokens or text")
        if min(input_tokens or 0, max_output_tokens or 0) < 0:
            raise ValueError("a number of tokens cannot be negative")
        if not model.strip():
            raise ValueError("name the model")
        provider, asked, region = self._served(model)
        quote = self._prices.quote(provider, asked, at_us, region)
        few, many = (input_tokens, input_tokens) if input_tokens is not None else tokens_in(text or "", asked)
        most = (
            max_output_tokens if max_output_tokens is not None else quote.max_output_tokens or UNKNOWN_OUTPUT
        )
        read = Usage(input_tokens=few, cache_read_input_tokens=few)
        written = Usage(input_tokens=many, cache_write_input_tokens=many, output_tokens=most)
        plain = Usage(input_tokens=many, output_tokens=most)
        costs = [list_cost(usage, quote.price) for usage in (read, written, plain)]
        return Estimate(
            low_usd=usd(min(costs)),
            high_usd=usd(max(costs)),
            prompt_usd=usd(list_cost(Usage(input_tokens=many), quote.price)),
            input_tokens=(few, many),
            max_output_tokens=most,
            provider=provider or "unknown",
            priced_as=quote.model,
            grade=str(quote.grade),
            source=quote.source,
            reason=quote.reason,
        )

    def _served(self, model: str) -> tuple[str, str, str]:
        """The provider that serves ``model`` here, what it calls the model, and where; empty: open."""
        target = self._config.models.get(model)
        if target is None:
            return "", model, ""
        upstream = self._config.upstreams[target.upstream]
        provider = upstream.provider_of(target.upstream)
        return provider, target.model or model, upstream.where


def tokens_in(text: str, model: str) -> tuple[int, int]:
    """The fewest and the most tokens that ``text`` may have."""
    size = len(text.encode("utf-8", "replace"))
    expected = size / default_ratio(model)
    return int(expected / _SPREAD), int(expected * _SPREAD) + 1
