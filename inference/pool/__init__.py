"""Which replica a call goes to, and whether it is tried again: decisions, as functions of values.

ring      a hash ring with bounded loads: where conversations that begin alike find their prefix cached
affinity  what conversations that begin alike have in common, as one number
choice    the policies: in turn, least loaded, fastest, by prefix
breaker   when a replica is left alone, and when it is tried again
retrying  how long to wait before the next attempt, and when there is none

No clock, no client, standard library only; the edges are in ``sidecar/providers`` and ``sidecar/stages``.
"""
