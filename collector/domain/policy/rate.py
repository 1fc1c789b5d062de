"""Spending so much a minute: a token bucket, kept as the one time at which it would be full again.

This is the generic cell rate algorithm (ITU-T I.371): a charge moves that time on by what it
costs at the given rate, and a new one is let in while it lies no further ahead than the burst allows.
"""

_MINUTE_US = 60_000_000


def wait_us(full_us: int, now_us: int, amount: int, per_minute: int, burst: int) -> int:
    """How long a charge of ``amount`` has to wait; 0 when it may be made now.

    A charge larger than the burst waits for a full bucket, and then leaves a debt.
    """
    ahead = max(full_us - now_us, 0)
    allowed = max(burst - min(amount, burst), 0) * _MINUTE_US // per_minute
    return max(ahead - allowed, 0)


def poured(full_us: int, now_us: int, amount: int, per_minute: int) -> int:
    """The time at which the bucket is full again after a charge, rounded up; a negative one gives back."""
    start = max(full_us, now_us) if amount >= 0 else full_us
    return start + -(-amount * _MINUTE_US // per_minute)
