"""Which part of an answer somebody may see: the tenants of their role, whatever the URL asks for.

A question that cannot be narrowed down to tenants is not answered to those who may not see all, so that
a new one is closed until somebody has thought of it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from collector.domain.access import Viewer, allowed
from collector.store.question import Question

OF_NOBODY: Final = frozenset({"health", "prices", "price_changes"})
"""What they tell belongs to no tenant; of ``health`` a part."""

OF_ONE_CALL: Final = frozenset({"call", "attempts", "gpu_charges"})
"""About one call: answered after a look whose it is."""

HEALTH_OF_ALL: Final = frozenset(
    {"calls", "attempts", "open_calls", "presumed_calls", "lost_frames", "notes", "database_bytes"}
)
"""Columns of ``health`` that count what all tenants do."""


class NotYours(Exception):
    """The viewer's role does not reach that far."""


def narrowed(
    question: Question, given: Mapping[str, Sequence[str]], viewer: Viewer
) -> dict[str, Sequence[str]]:
    """The parameters of ``question`` as this viewer may ask it.

    Raises:
        NotYours: no part of the answer would be theirs.
    """
    if viewer.sees_all or question.name in OF_NOBODY | OF_ONE_CALL:
        return dict(given)
    if not {"filters", "judged", "tenant"} & set(question.parameters):
        raise NotYours(f"{question.name!r} is about all tenants, of which {viewer.name!r} sees some")
    tenants = allowed(given.get("tenant", ()), viewer)
    if not tenants:
        raise NotYours(f"{viewer.name!r} does not see the calls of {', '.join(given['tenant'])[:200]!r}")
    return {**given, "tenant": tenants}


def shown(question: Question, table: pa.Table, viewer: Viewer) -> pa.Table:
    """The part of an answer that belongs to no tenant as this viewer may see it."""
    if viewer.sees_all or question.name != "health":
        return table
    return table.select([name for name in table.column_names if name not in HEALTH_OF_ALL])
