"""The collector's HTTP face: questions, ad-hoc SQL, batches from afar, health and metrics.

app      the routes
guard    who may ask
state    what the process is doing, for those who answer
metrics  the collector's own Prometheus families
"""
