"""Conversations judged after the fact: what was waste, what broke prompt caches, how they seem to have ended.

noticing   which conversations have changed, told by the records as they are booked
rows       calls of the ledger as `collector.domain.turns.Turn`, and those that stand alone as columns
alone      what the rules say of conversations of one call, by their kind
tables     what is found, as rows of the ledger
judge      the worker: judges what has changed and writes down what it finds

What is found stands in tables of its own, sparsely: money without a row there was useful. So the bill adds
up to the ledger whatever the worker has got to.
"""
