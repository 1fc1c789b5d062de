"""Calls that have a text among their names, or an id that begins with it, as SQL.

The whole id of a call, a conversation or a task is looked up first: it says when that was, and only the calls
of that time are looked at. What a provider or an agent made up, such as a trace's id, says nothing: of every
call of the period that id is read.

The text is bound twice: as it is (``$sought``) for ids, in small letters (``$sought_lower``) for names.
"""

import re

NAMES = (
    *("agent", "team", "tenant", "user_id", "request_model", "response_model", "provider_name", "upstream"),
    *("key_id", "api", "outcome", "outcome_reason", "error_type"),
)
"""Have few values each: DuckDB looks at each value once for many calls."""

GIVEN_IDS = ("conversation_id", "task_id")
"""May look like anything. All ids are compared by how they begin, which is cheap."""

HEXADECIMAL_IDS = ("call_id", "trace_id")
PROVIDERS_IDS = ("response_id",)
"""Such as ``chatcmpl-…``. Of these columns each call has a text of its own, which takes long to read."""

UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""A call's id; it says in milliseconds since 1970 when it was made."""

_WHOLE_ID = re.compile(r"(?=\S*\d)\S{12,}")
"""May be a whole id, and is hardly a part of a name."""

_HEXADECIMAL = re.compile(r"[0-9a-f-]+")
_PROVIDERS = re.compile(r"[A-Za-z0-9]+[-_]\S*")


def condition(text: str) -> str:
    """Whether a row of the calls has ``text``: only columns that may hold such a text are looked at."""
    ids = [*GIVEN_IDS]
    if _HEXADECIMAL.fullmatch(text):
        ids += HEXADECIMAL_IDS
    if _PROVIDERS.fullmatch(text):
        ids += PROVIDERS_IDS
    named = [f"contains(lower({name}), $sought_lower)" for name in NAMES]
    return f"({' OR '.join([*named, *(f'starts_with({name}, $sought)' for name in ids)])})"


def may_be_whole(text: str) -> bool:
    """Whether ``text`` may be all of an id."""
    return _WHOLE_ID.fullmatch(text) is not None
