"""How twins are held against each other: by chance, and however busy the machine is."""

from hypothesis import HealthCheck, settings

often = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
