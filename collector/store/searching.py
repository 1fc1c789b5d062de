"""Calls that have a text among their names, or an id that begins with it, as SQL.

The text is bound twice: as it is (``$sought``) for ids, in small letters (``$sought_lower``) for names.
"""

NAMES = (
    *("agent", "team", "tenant", "user_id", "request_model", "response_model", "provider_name", "upstream"),
    *("key_id", "api", "outcome", "outcome_reason", "error_type"),
)
"""Have few values each: DuckDB looks at each value once for many calls."""

IDS = ("call_id", "conversation_id", "task_id", "trace_id", "response_id")
"""Compared by how they begin, which is cheap; a text in their midst would be sought in every one."""

SOUGHT = "({})".format(
    " OR ".join(
        (
            *(f"contains(lower({name}), $sought_lower)" for name in NAMES),
            *(f"starts_with({name}, $sought)" for name in IDS),
        )
    )
)
"""Whether a row of the calls has the text."""
