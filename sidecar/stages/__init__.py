"""The steps of a call, in the order of ``sidecar/app.py``: record, identify, forward."""
