"""The histories are worth something: each of these mistakes, made on purpose, is found by them."""

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import NamedTuple

import pytest

from collector.domain import policy
from tests.collector.domain.policy.histories import run

MODULES = [
    importlib.import_module(f"{policy.__name__}.{name}")
    for name in ("counting", "deciding", "holding", "levels", "matching", "plans", "state", "windows")
]
ENOUGH = 150
"""Histories within which a mistake must show."""


class Mutant(NamedTuple):
    """One mistake: in the function named, some text becomes another."""

    where: str
    right: str
    wrong: str


MUTANTS = {
    # holds and rooms
    "only the first budget is checked": Mutant(
        "deciding._fit",
        "if need * _AMPLE > room:",
        "if need * _AMPLE > room and slot is plan.slots[0]:",
    ),
    "what others hold is overlooked": Mutant("deciding._fit", "- slot.spent - slot.held", "- slot.spent"),
    "what was spent is overlooked": Mutant("deciding._fit", "- slot.spent - slot.held", "- slot.held"),
    "the limit itself does not fit": Mutant("deciding._fit", "if need <= room:", "if need < room:"),
    "a hold is rounded down": Mutant(
        "deciding._fit",
        "-(-(picos[kind] + outputs[kind] * ask.output_pico)",
        "((picos[kind] + outputs[kind] * ask.output_pico)",
    ),
    "tokens forget the input": Mutant("deciding._fit", "ask.input_tokens + outputs[", "outputs["),
    "the first budget is named, not the tightest": Mutant(
        "deciding._without_room", "tightest = min(", "tightest = next(iter(short)) or min("
    ),
    "the call that crosses is not let finish": Mutant("deciding._fit", "slot.finishes and room > 0", "False"),
    "calls after the one that crosses are let finish too": Mutant(
        "deciding._fit", "slot.finishes and room > 0", "slot.finishes"
    ),
    "new calls are let in up to where streams end": Mutant(
        "plans.Slot.limit_to", "full * budget.entry_share", "full * budget.stop_share"
    ),
    "a budget that only tells refuses": Mutant(
        "plans.Slot.limit_to", "LARGEST) if budget.enforced else LARGEST", "LARGEST)"
    ),
    # streams
    "a look-ahead of one": Mutant("holding.must_end", "LOOK_AHEAD * quantum", "1 * quantum"),
    "no look-ahead": Mutant("holding.must_end", "LOOK_AHEAD * quantum", "0"),
    "streams never end": Mutant("holding.must_end", "held < cap and", "False and"),
    "more is asked for too late": Mutant(
        "holding.extension", "held - produced >= (LOOK_AHEAD + _ASK_AHEAD) * quantum", "held > produced"
    ),
    "an extension is rounded down": Mutant(
        "holding.Lease._amount", "-(-(self.input_pico + output_tokens", "((self.input_pico + output_tokens"
    ),
    "an extension claims only the output": Mutant(
        "holding.Lease._amount", "self.input_pico + output_tokens", "output_tokens"
    ),
    "an extension claims all anew": Mutant("holding.Lease.extension", " - self.amounts[index]", ""),
    "an extension is not remembered": Mutant("holding.Lease.extended", "+= claim.amount", "+= 0"),
    "an extension is not counted": Mutant("state.State.extended", "+= claim.amount", "+= 0"),
    "streams begin with one quantum": Mutant(
        "holding.initial_hold",
        "wanted = wanted if wanted > least else least",
        "wanted = min(wanted, quantum)",
    ),
    "streams hold one quantum where room is scarce": Mutant(
        "holding.least_hold", "(LOOK_AHEAD + _ASK_AHEAD)", "1"
    ),
    # settling
    "a hold is not released": Mutant("state.State.settled", "slot.held - held[place]", "slot.held"),
    "only the first hold is released": Mutant(
        "state.State.settled", "slot.held - held[place]", "slot.held - (0 if place else held[place])"
    ),
    "the first claim is settled, not what was extended": Mutant(
        "state.State.settled", "slot.held - held[place]", "slot.held - claims[place].amount"
    ),
    "what was spent is not charged": Mutant("state.State.settled", "+= charges[place]", "+= 0"),
    "the hold is charged, not the cost": Mutant("state.State.settled", "+= charges[place]", "+= held[place]"),
    "a charge is rounded down": Mutant(
        "holding.Lease.settlement", "-(-cost_pico // _PICO_PER_NANO)", "cost_pico // _PICO_PER_NANO"
    ),
    "calls are charged as tokens": Mutant("holding.Lease.settlement", "else calls", "else tokens"),
    # counters and windows
    "each is ignored": Mutant("counting.counter_of", "subject_of(budget.each, ask)", '""'),
    "calls of nobody are free": Mutant(
        "counting.counter_of", "not subject and budget.each in", "not subject or budget.each in"
    ),
    "one budget for all conversations": Mutant("windows.span_at", "{kind.value}:{lifetime}", "{kind.value}"),
    "a match is ignored": Mutant("matching.Match.accepts", "return all(", "return True or all("),
    "one match of several is enough": Mutant("matching.Match.accepts", "all(", "any("),
    "plans do not tell agents apart": Mutant(
        "plans.key_by", "if not name.startswith(TAG)", 'if name[0] not in "at"'
    ),
    "plans do not tell tags apart": Mutant("plans.key_by", "if not tags:", "if True:"),
    "the time zone is ignored": Mutant("windows.zone_of", 'if name == "UTC":', "if True:"),
    "daylight saving is ignored": Mutant(
        "windows._starts",
        "tzinfo=zone) - _EPOCH",
        "tzinfo=UTC) - _EPOCH - (zone.utcoffset(datetime(day.year, 1, 1)) or timedelta())",
    ),
    "an hour that comes twice is one": Mutant("windows._hour", "%Y-%m-%dT%H%z", "%Y-%m-%dT%H"),
    "weeks begin on Sunday": Mutant("windows.span_at", "today.weekday()", "(today.weekday() + 1) % 7"),
    "a month has 28 days": Mutant("windows.span_at", "days=32)).replace(day=1)", "days=28))"),
    "a plan outlives its window": Mutant("state.State.plan", "now_us < plan.until_us", "now_us"),
    "a rolling window forgets nothing": Mutant("plans.Slot.roll", "if bucket < first", "if bucket < 0"),
    "a rolling window forgets a bucket too early": Mutant(
        "plans.Slot.roll", "bucket < first", "bucket <= first"
    ),
    "a rolling window is one bucket too long": Mutant("windows.span_at", "+ 1 - BUCKETS", "- BUCKETS"),
    "a rolling window is charged when a call ends": Mutant(
        "plans.Slot.charge", "bucket = counter.", "bucket = self.counter."
    ),
    # raises
    "an expired raise is kept": Mutant("state._end_of", "else rule.until_us", "else FOREVER"),
    "a raise begins at once": Mutant("state.State._slot", "one.from_us <= now_us", "True"),
    "a raise for one is for all": Mutant("state.State._slot", 'one.subject in ("", counter.subject)', "True"),
    "a raise is for every budget": Mutant("state.State._slot", "one.budget == budget.name and", ""),
    "the end of a raise is not noticed": Mutant("state.State._slot", "until.append(one.until_us)", "pass"),
    # thresholds
    "a threshold just reached is not told": Mutant("levels.level_after", "used >= ", "used > "),
    "a threshold is told again and again": Mutant("state.State._look", "slot.level = level", "pass"),
    "thresholds count what is only held": Mutant(
        "state.State._look", "slot.spent, slot.full)", "slot.spent + slot.held, slot.full)"
    ),
}


@pytest.fixture(params=MUTANTS.values(), ids=MUTANTS.keys())
def mutant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The policy with one mistake in it."""
    where, right, wrong = request.param
    module_name, *path, name = where.split(".")
    module = next(one for one in MODULES if one.__name__.endswith(f".{module_name}"))
    owner = module
    for part in path:
        owner = getattr(owner, part)
    original = inspect.unwrap(getattr(owner, name))
    changed = mistaken(module, original, right, wrong)
    if owner is not module:
        monkeypatch.setattr(owner, name, changed)
    else:
        for one in MODULES:
            if name in vars(one):
                monkeypatch.setattr(one, name, changed)
    yield


def mistaken(module: ModuleType, original: FunctionType, right: str, wrong: str) -> FunctionType:
    source = textwrap.dedent(inspect.getsource(original))
    assert right in source, f"{original.__name__} no longer says {right!r}"
    changed = source.replace(right, wrong)
    made: dict[str, FunctionType] = {}
    exec(changed, vars(module), made)
    return inspect.unwrap(made[original.__name__])


def test_a_mistake_is_found(mutant: None) -> None:
    for seed in range(ENOUGH):
        try:
            run(seed)
        except Exception:  # a mistake may also show as a crash
            return
    pytest.fail(f"{ENOUGH} histories did not notice")
