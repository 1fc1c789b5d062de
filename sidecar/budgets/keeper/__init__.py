"""A small store for the workers of one sidecar, where there is no Redis to share.

values       hashes, sorted sets and texts with an expiry: what the scripts need of a Redis, no more
scripting    the very scripts of the shared store, run over them
serving      the same wire, on a Unix socket that only this user may open
tally        what was spent, from the journals of all workers, so that nothing is lost with the process

It is a process of its own, watched over beside the workers. They talk to it as to a Redis, so slices,
epochs, replay and inheritance are those of :mod:`sidecar.budgets.redis_store`, faults and all.
"""
