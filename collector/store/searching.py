"""Calls that have a text among their names, or an id that begins with it, as SQL.

To look for a text in all columns of ten million calls takes seconds, and hardly any column has it. So the
sums are asked first, in which names and conversations stand many times less often, which columns have it at
all. And the whole id of a call, a conversation or a task says when that was, as does what is noted of the ids
of traces and of providers' answers (`collector.store.noted`): only the calls of that time are looked at. So
it is with some digits of a trace's id, and of a call's; of a provider's answer, fewer than 16 characters tell
nothing: such a beginning is looked for in every call.

The text is bound twice: as it is (``$sought``) for ids, in small letters (``$sought_lower``) for names.
"""

import re
from collections.abc import Collection

NAMES = (
    *("agent", "team", "tenant", "user_id", "request_model", "response_model", "provider_name", "upstream"),
    *("key_id", "api", "outcome", "outcome_reason", "error_type"),
)
"""Have few values each: DuckDB looks at each value once for many calls."""

GIVEN_IDS = ("conversation_id", "task_id")
"""May look like anything. All ids are compared by how they begin, which is cheap."""

PROVIDERS_IDS = ("response_id",)
"""Such as ``chatcmpl-…``. Of these columns each call has a text of its own, which takes long to read."""

UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""A call's id; it says in milliseconds since 1970 when it was made."""

UUID7_BEGUN = re.compile(r"([0-9a-f]{8})-([0-9a-f]{0,4})(?:-[0-9a-f-]*)?")
"""What such an id begins with."""

_WHOLE_ID = re.compile(r"(?=\S*\d)\S{12,}")
"""May be a whole id, and is hardly a part of a name."""

_HEXADECIMAL = re.compile(r"[0-9a-f-]+")
_PROVIDERS = re.compile(r"[A-Za-z0-9]+[-_]\S*")


def columns(text: str, absent: Collection[str] = ()) -> list[str]:
    """The columns that may have ``text``.

    Args:
        text: what is searched for.
        absent: columns that are known not to have it.
    """
    ids = [*GIVEN_IDS]
    if _HEXADECIMAL.fullmatch(text):
        # A call's id has a dash after eight digits, a trace's has none.
        ids += ["call_id"] if len(text) <= 8 or text[8] == "-" else []
        ids += ["trace_id"] if "-" not in text else []
    if _PROVIDERS.fullmatch(text):
        ids += PROVIDERS_IDS
    return [name for name in (*NAMES, *ids) if name not in absent]


def condition(text: str, absent: Collection[str] = ()) -> str:
    """Whether a row of the calls has ``text``: only columns that may hold such a text are looked at."""
    tests = [has(name) for name in columns(text, absent)]
    # Both are bound: the database wants each to be used.
    return f"({' OR '.join(tests or ['false'])}) AND $sought IS NOT NULL AND $sought_lower IS NOT NULL"


def made_ms(text: str) -> tuple[int, int]:
    """When calls were made whose ids begin with ``text``, which may be one's: first and last."""
    digits = text.replace("-", "")[:12]
    return int(digits.ljust(12, "0"), 16), int(digits.ljust(12, "f"), 16)


def has(column: str) -> str:
    """Whether a row has the text in that column."""
    if column in NAMES:
        return f"contains(lower({column}), $sought_lower)"
    return f"starts_with({column}, $sought)"


def may_be_whole(text: str) -> bool:
    """Whether ``text`` may be all of an id."""
    return _WHOLE_ID.fullmatch(text) is not None
