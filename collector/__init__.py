"""The books: everybody reads them, so everything below stands on nothing above.

domain    the vocabulary; standard library only
journal   what happened, in order, on disk: the truth
settings  configuration, with every mistake reported at once
logs      what we say to operators, and nothing that is secret
pricing   what tokens cost
native    parts of ingest in C, where they could be built
ingest    from the journal into the ledger, exactly once
store     the ledger (DuckDB), its schema, its questions
export    Prometheus text and OpenTelemetry spans
probes    what the machine says of itself
api       the read API over HTTP
run       the process that owns all of it
"""

__version__ = "0.1.0"
