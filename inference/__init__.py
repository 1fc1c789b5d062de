"""Models to call: real ones that we start and watch, and one that only pretends.

simulator   a model server without a model, for demonstrations, proofs and tests
workload    calls worth replaying: read from traces, or drawn from what was fitted on them
"""
