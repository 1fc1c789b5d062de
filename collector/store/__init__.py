"""The ledger: DuckDB, and what can be asked of it.

migrations/, migrate   the tables, and how an older file gets them
schema, packed         records as columns; the second in C
duckdb                 one locked-down database file
opening                a working ledger, whatever state the files are in
rollups                sums by minute, hour and day, exact at every instant
questions, ask         the catalogue of named questions, and how one is answered
snapshot, sandbox      a published copy, and one SELECT on it from outside
retention              what is let go of, and when
"""
