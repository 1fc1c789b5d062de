"""What can be said of a pool of own GPUs: how many, which, what they cost, and with what to compare.

Light on purpose: the sidecar reads it with its configuration and never needs the rest of this package.
"""

from dataclasses import field
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from collector.frozen import dataclass

if TYPE_CHECKING:
    from collector.probes.gpu_cost import CapacityPrice


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityConfig:
    """The GPUs under a pool, beyond what an hour and a kilowatt-hour cost."""

    gpus: int = 1
    """GPUs of each replica."""
    gpu_ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Which GPUs a replica has: ``host:port`` to UUIDs or indices. Without it the replicas on this machine
    have its GPUs in order; of others energy is not known."""
    pue: Decimal = Decimal(1)
    """Power usage effectiveness: what the building draws for each watt of a GPU."""
    purchase_usd: Decimal | None = None
    """What one GPU with its share of the machine cost, instead of ``gpu_hour_usd``."""
    life_years: Decimal = Decimal(4)
    """Over which it loses its value."""
    residual_usd: Decimal = Decimal(0)
    """What it is worth then."""
    upkeep_hour_usd: Decimal = Decimal(0)
    """Space, staff and repair of one GPU, an hour."""
    output_work: float = 8.0
    """Work of an output token in prompt tokens, for as long as it could not be measured."""
    alternative: str = ""
    """The model that would be bought instead, such as openai/gpt-5-mini; without one, the served model at
    its price in the price book."""

    def __post_init__(self) -> None:
        if self.gpus < 1 or self.pue < 1 or self.life_years <= 0 or self.output_work <= 0:
            raise ValueError("capacity: gpus and pue are at least 1, life_years and output_work above 0")


def replica_name(url: str) -> str:
    """``host:port`` of a server, as attempts name it."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The replicas of one upstream and what they cost."""

    upstream: str
    urls: tuple[str, ...]
    """Base addresses."""
    capacity: CapacityConfig = field(default_factory=CapacityConfig)
    gpu_hour_usd: Decimal | None = None
    energy_kwh_usd: Decimal | None = None

    @property
    def has_price(self) -> bool:
        """Whether somebody said what it costs."""
        return (self.capacity.purchase_usd, self.gpu_hour_usd, self.energy_kwh_usd) != (None, None, None)

    def price(self) -> "CapacityPrice | None":
        """What one replica costs; None where nobody said."""
        from collector.probes.gpu_cost import CapacityPrice

        owned, kwh = self.capacity, self.energy_kwh_usd or Decimal(0)
        if owned.purchase_usd is not None:
            return CapacityPrice.owned(
                owned.purchase_usd,
                owned.life_years,
                residual_usd=owned.residual_usd,
                upkeep_hour_usd=owned.upkeep_hour_usd,
                gpus=owned.gpus,
                kwh_usd=kwh,
                pue=owned.pue,
            )
        if self.gpu_hour_usd is None and self.energy_kwh_usd is None:
            return None
        hour = self.gpu_hour_usd or Decimal(0)
        return CapacityPrice.rented(hour, gpus=owned.gpus, kwh_usd=kwh, pue=owned.pue)
