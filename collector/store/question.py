"""What a question to the ledger is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question: what it is called, what it takes, how it is answered."""

    name: str
    help: str
    parameters: tuple[str, ...]
    """Names from `PARAMETERS`; ``filters`` stands for every dimension."""
    sql: str
