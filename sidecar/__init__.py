"""The path of one call: HTTP in ``http``, dialects in ``wire``, the order of work in ``app``."""

from collector import __version__ as __version__
