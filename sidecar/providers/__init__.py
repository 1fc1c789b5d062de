"""Ways to a model: ``native`` speaks to HTTP APIs on our own connection pools."""
