"""Calls worth replaying, and the client that replays them.

calls       one call as a trace or a generator states it
traces      calls read from CSV, JSONL or Parquet
columns     which column of a trace means what
blocks      cached prefixes, worked out from the block ids of a trace
quantiles   a distribution as the few numbers that were fitted
fitted      the fit itself (``fitted.json``), and where it came from (``FIT.md``)
generator   calls of an imaginary company, drawn from the fit
bodies      a call as a request in its dialect
client      a small HTTP client that can also leave in the middle
replay      drives calls through a base URL and says what should have been counted
"""
