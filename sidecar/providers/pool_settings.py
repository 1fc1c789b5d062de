"""What can be said of an upstream's replicas in the configuration, and of those who stand in for it."""

from decimal import Decimal
from typing import Literal

from collector.frozen import dataclass
from collector.settings import Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When a replica that fails is left alone."""

    failures: int = 5
    """After so many in a row; 0 for never."""
    open: Duration = Duration(5)
    """For how long at first; twice as long after each trial that failed, up to a minute."""

    def __post_init__(self) -> None:
        if self.failures < 0:
            raise ValueError(f"failures: {self.failures} is less than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixConfig:
    """How ``balance: prefix`` keeps conversations that begin alike together."""

    blocks: int = 16
    """So many whole blocks from the beginning (tools, system prompt, messages) tell conversations apart."""
    block_tokens: int = 16
    """Tokens of one block, as the engine has it (vLLM: ``--block-size``)."""
    load_factor: Decimal = Decimal("1.25")
    """A replica takes calls of its prefixes up to so many times the mean load, in uncached tokens."""
    floor: int = 16_384
    """Uncached tokens under way that a replica takes without trouble, whatever the mean."""

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.block_tokens < 1 or self.floor < 0 or self.load_factor < 1:
            raise ValueError("blocks and block_tokens are at least 1, load_factor 1, floor 0")


FallbackOn = Literal[
    "unreachable",
    "timeout",
    "rate_limit",
    "overloaded",
    "server_error",
    "quota",
    "not_found",
    "context_length",
]
"""Why a model did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackConfig:
    """Which models are asked when another does not answer, the best first."""

    from_: tuple[str, ...]
    """Models, as calls ask for them; ``*`` for any text."""
    to: tuple[str, ...]
    """Models to ask then, in this order; ``models`` says where each is."""
    on: tuple[FallbackOn, ...] = ("unreachable", "timeout", "rate_limit", "overloaded", "server_error")
    """Why: for these reasons, once the retries of the first are used up."""

    def __post_init__(self) -> None:
        if not self.from_ or not self.to:
            raise ValueError("needs a model under from and one under to")
