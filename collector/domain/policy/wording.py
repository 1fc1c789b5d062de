"""What people are told: amounts, times, and why a call did not go through."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from collector.domain.credit import Unit

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def amount_text(unit: Unit, amount: int) -> str:
    """``12.5 USD``, ``1000 tokens``, ``1 call``."""
    if unit is Unit.USD:
        return f"{Decimal(amount).scaleb(-9).normalize():f} USD"
    name = unit.value if amount != 1 else unit.value[:-1]
    return f"{amount} {name}"


def time_text(at_us: int) -> str:
    """``2026-11-23T00:00:00Z``, to the second."""
    return (_EPOCH + timedelta(seconds=at_us // 1_000_000)).strftime("%Y-%m-%dT%H:%M:%SZ")


def used_up(
    name: str, subject: str, unit: Unit, limit: int, spent: int, held: int, resets: str, *, is_entry: bool
) -> str:
    """Why a budget has no room."""
    who = f" for {subject!r}" if subject else ""
    up_to = " for new calls" if is_entry else ""
    holding = f", {amount_text(unit, held)} held by running calls" if held > 0 else ""
    return (
        f"budget {name!r}{who} has no room for this call: limit{up_to} {amount_text(unit, limit)}, "
        f"{amount_text(unit, spent)} spent{holding}; {resets}"
    )


def resets_text(ends_us: int | None, window: str, *, rolling: bool) -> str:
    """When there is room again."""
    if ends_us is not None:
        return f"it resets at {time_text(ends_us)}"
    if rolling:
        return f"room returns as spending leaves its window ({window})"
    return f"it does not reset ({window})"
