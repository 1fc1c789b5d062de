"""How much what reaches a model looks like a prompt injection: on a copy, beside the calls, never a verdict.

model    a text's score, by words; weights.json holds what was fitted (scripts/alerts/injection.py)
bursts   many high scores together, for one subject: when that is an incident
texts    what of a request is from users and tools
listening  hears the copies that sidecars send
watching  what comes of it: signals, lines for the ledger, counts
worker   the thread that scores what calls offer, within its share of one processor

Needs the standard library only. Texts stay in this process, in memory, until they are scored.
"""

from alerts.injection.bursts import Burst, Bursts
from alerts.injection.model import Model, built_in
from alerts.injection.worker import HIGH, SUSPICIOUS, Injections, Seen

__all__ = ["HIGH", "SUSPICIOUS", "Burst", "Bursts", "Injections", "Model", "Seen", "built_in"]
