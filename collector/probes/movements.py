"""What moves between the lines of a replica's books: a window closes, a late attempt claims. Pure."""

from typing import NamedTuple

from collector.probes.gpu_cost import Charge
from collector.probes.work_units import Method


class Tokens(NamedTuple):
    """What was done in a window, by whomever."""

    prompt: int
    """Computed."""
    cached: int
    """Prompt tokens that a cache supplied."""
    output: int


NO_TOKENS = Tokens(0, 0, 0)


class AttemptCharge(NamedTuple):
    """What one attempt is charged by a movement."""

    attempt: str
    charge: Charge
    idle_pico: int
    """Its part of idle time, for the fully loaded cost; not in ``charge``."""


class Movement(NamedTuple):
    """One entry of the books: ``charged + idle + unobserved`` is ``total``, exactly.

    A window enters once, with its whole meter. A claim enters with a total of nothing: it moves from
    the unobserved line to a charge.
    """

    start_us: int
    end_us: int
    total: Charge
    charged: Charge
    """Sum of ``charges``."""
    idle: Charge
    unobserved: Charge
    busy_us: int
    tokens: Tokens
    method: Method
    residual: float | None
    """Share of the engine's time that the coefficients leave unexplained; None for a prior."""
    charges: tuple[AttemptCharge, ...]
    cache_saved_pico: int = 0
    """What the cached prompt tokens would have cost to compute; of no line, for nobody paid it."""
