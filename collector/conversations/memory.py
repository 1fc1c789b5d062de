"""What a stitcher should know after a restart: from the ledger's rows, or from a journal's records.

A sidecar asks the collector for `RECENT` (or reads the end of its own journal) and hands the answer
to :func:`collector.domain.stitching.recall`; until then it begins new conversations.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from collector.domain.record import CallRecord
from collector.domain.stitching import STITCHED_APIS, Known

MOST_CALLS: Final = 20_000
"""About as many as a stitcher's memory holds states of."""

RECENT: Final = f"""
    SELECT * FROM (
        SELECT started_at, tenant, key_id, user_id, conversation_id,
            message_hashes, last_message_hash, response_id
        FROM calls
        WHERE conversation_id <> '' AND len(message_hashes) > 0 AND started_at >= make_timestamp($1)
            AND api IN ({", ".join(f"'{api}'" for api in sorted(STITCHED_APIS))})
        ORDER BY started_at DESC LIMIT {MOST_CALLS}
    ) ORDER BY started_at
"""  # noqa: S608  (all of it is our own)
"""The latest calls since an instant in microseconds, oldest first."""


def scope_of(tenant: str, key_id: str, user_id: str) -> tuple[str, ...]:
    """Within what calls may be joined: never across tenants, keys or users."""
    return tenant, key_id, user_id


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[Known]:
    """Rows of `RECENT`, as a stitcher takes them."""
    for row in rows:
        yield Known(
            scope_of(row["tenant"] or "", row["key_id"] or "", row["user_id"] or ""),
            row["conversation_id"],
            row["message_hashes"],
            row["last_message_hash"] or 0,
            row["response_id"] or "",
        )


def from_records(records: Iterable[CallRecord]) -> Iterator[Known]:
    """Records of a journal, in its order, as a stitcher takes them."""
    for record in records:
        if record.conversation_id and record.message_hashes and record.api in STITCHED_APIS:
            yield Known(
                scope_of(record.tenant, record.key_id, record.user_id),
                record.conversation_id,
                record.message_hashes,
                record.last_message_hash,
                record.response_id,
            )
