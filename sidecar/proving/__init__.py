"""``bursar prove``: bursts at real sidecars in front of the built-in simulator, and what was measured.

stage    processes in a folder of their own: simulator, sidecars, collector, a Redis
agents   the load: many agents at once, each reply's own usage counted beside the ledger
trials   what is done, and the bounds that must hold
"""
