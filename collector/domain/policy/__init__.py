"""What may be spent, decided by pure functions: no clock, no store, no client.

asking       Ask: what must be known of a call before it starts
matching     which calls a rule is for
budget       what people can demand: Budget, Ladder, Throttle, ConcurrencyCap, Directive, Raise
windows      when a budget begins anew, exact over daylight saving
counting     which counter of a budget a call touches
plans        Policy, and what it comes to for one kind of call: Slot, Plan, Allow, Crossed
state        what one process knows while calls run: State
deciding     decide: Allow, Downgrade, Throttled or Refuse
holding      how much to hold, when a stream asks for more, what is charged at its end: Lease
experience   how long replies turn out to be
levels       which thresholds are reached
pacing       the share of calls to downgrade so that a budget lasts
rate         so much a minute
wording      what people are told

A call's way through it: ``decide`` says ``Allow``; its claims are taken from a store; ``State.claimed``; a
``Lease`` asks for extensions; ``Lease.settlement`` goes to the store and to ``State.settled``, which tells
the thresholds reached; ``Experience.learn`` remembers how long the reply was.
"""

from collector.domain.policy.asking import Ask
from collector.domain.policy.budget import (
    Action,
    Budget,
    ConcurrencyCap,
    Crossing,
    Directive,
    DirectiveKind,
    HoldSize,
    Ladder,
    Raise,
    Threshold,
    Throttle,
)
from collector.domain.policy.counting import counter_of
from collector.domain.policy.deciding import Decision, Downgrade, Refuse, Throttled, decide, store_lost
from collector.domain.policy.experience import Expected, Experience
from collector.domain.policy.holding import Extension, Lease
from collector.domain.policy.matching import EVERY_CALL, Match
from collector.domain.policy.plans import Allow, Crossed, Policy, Slot
from collector.domain.policy.state import State
from collector.domain.policy.windows import Span, Window, WindowKind, span_at

__all__ = [
    "EVERY_CALL",
    "Action",
    "Allow",
    "Ask",
    "Budget",
    "ConcurrencyCap",
    "Crossed",
    "Crossing",
    "Decision",
    "Directive",
    "DirectiveKind",
    "Downgrade",
    "Expected",
    "Experience",
    "Extension",
    "HoldSize",
    "Ladder",
    "Lease",
    "Match",
    "Policy",
    "Raise",
    "Refuse",
    "Slot",
    "Span",
    "State",
    "Threshold",
    "Throttle",
    "Throttled",
    "Window",
    "WindowKind",
    "counter_of",
    "decide",
    "span_at",
    "store_lost",
]
