"""One question each: what was spent, and on which calls."""
