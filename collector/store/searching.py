"""Calls that have a text among their names, or an id that begins with it, as SQL.

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
