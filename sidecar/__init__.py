"""The path of one call: HTTP in ``http``, dialects in ``wire``, the order of work in ``app``."""

__version__ = "0.1.0"
