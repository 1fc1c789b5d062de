"""What the journal's writer says when it cannot take another record."""


class JournalFull(OSError):
    """There is no room for another record, nor in the reserve."""
