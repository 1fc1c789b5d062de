"""The memory store on disk: sums, and how far each source's journal is counted in them.

Segments of the journal go a day after the collector has booked them; a budget may last a year. So
the sums are written down now and then, and a start reads the journal from there. The file is whole or
it is not there: it is written beside its place, synced, and renamed; a check sum says the rest.

    file = magic, u32 crc32 of the rest, msgpack {marks, accounts, open, tenants}
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from collector.domain.credit import Counter
from sidecar.budgets.ledger import Account, Ledger

MAGIC = b"BURSARB\x01"
FILE = "budgets.checkpoint"

_CRC = struct.Struct("<I")


class Checkpoint(NamedTuple):
    """What a file holds."""

    marks: dict[str, int]
    accounts: list[list[Any]]
    open: list[str]
    """Leases that were running."""
    tenants: dict[str, list[str]] = {}  # noqa: RUF012 - read only
    """Whose counters each source that lives has touched, where several share them."""


def taken(ledger: Ledger, marks: dict[str, int]) -> Checkpoint:
    """The present sums; what is held, or charged because nobody settled it, is among the leases."""
    charged: dict[tuple[Account, int], int] = {}
    for lease in ledger.leases.values():
        if lease.expired:
            for account, (amount, bucket) in lease.holds.items():
                charged[account, bucket] = charged.get((account, bucket), 0) + amount
    accounts = []
    for account in ledger.accounts.values():
        spent, unsettled, buckets = account.spent, account.unsettled, account.buckets
        if charged:
            for (other, bucket), amount in charged.items():
                if other is account:
                    unsettled -= amount
                    if buckets is None:
                        spent -= amount
                    else:
                        buckets = buckets | {bucket: buckets[bucket] - amount}
        accounts.append([list(account.counter), spent, unsettled, dict(buckets or ()), account.touched_us])
    return Checkpoint(marks, accounts, list(ledger.leases))


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Put ``checkpoint`` at ``path``, whole."""
    packed = msgspec.msgpack.encode(checkpoint)
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(MAGIC + _CRC.pack(zlib.crc32(packed)) + packed)
        file.flush()
        os.fdatasync(file.fileno())
    beside.replace(path)


def read(path: Path) -> Checkpoint | None:
    """What is at ``path``; None when there is nothing that can be trusted."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    head = len(MAGIC) + _CRC.size
    if not data.startswith(MAGIC) or len(data) < head:
        return None
    if zlib.crc32(data[head:]) != _CRC.unpack_from(data, len(MAGIC))[0]:
        return None
    return msgspec.msgpack.decode(data[head:], type=Checkpoint)


def restore(ledger: Ledger, checkpoint: Checkpoint) -> None:
    """Put the sums of ``checkpoint`` into an empty ledger."""
    for values, spent, unsettled, buckets, touched_us in checkpoint.accounts:
        counter = Counter(*values)
        account = Account(counter)
        account.spent, account.unsettled, account.touched_us = spent, unsettled, touched_us
        if counter.bucket_us:
            account.buckets = buckets
        ledger.accounts[counter[:4]] = account
    ledger.marks.update(checkpoint.marks)
