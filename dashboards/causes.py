"""Why spend is not what it was in the window it is compared with, to the last pico-dollar.

The change is split into factors (:mod:`collector.domain.attribution`), and told by whose it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from collector.domain.attribution import Factor, Use, split
from collector.domain.money import pico_from_usd, usd
from dashboards import charts, data
from dashboards.charts import REMAINDER, Bar
from dashboards.display import usd as shown
from dashboards.scope import Scope
from dashboards.spending import by_values, column_of

MAX_MODELS = 1000
MAX_VALUES = 1000
MAX_CHANGES = 8

WORDS: Mapping[Factor, str] = {
    Factor.VOLUME: "Number of calls",
    Factor.MIX: "Mix of models",
    Factor.PRICE: "Price of a token",
    Factor.CACHE: "Cached share",
    Factor.INPUT: "Length of input",
    Factor.OUTPUT: "Length of output",
    Factor.RETRIES: "Attempts a call",
}

SUMMED = ("calls", "attempts", "input_tokens", "cache_read_input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Causes:
    """Amounts in USD; the parts sum to ``now`` less ``before``, and so do the changes."""

    before: Decimal
    now: Decimal
    parts: list[tuple[Factor, Decimal]]
    """What each factor added, the largest first; below 0 it saved."""
    changes: list[Bar]
    """What each value of a dimension added, the largest change first, completed by what the others did."""
    answers: tuple[data.Answer, ...]

    @property
    def change(self) -> Decimal:
        """By how much spend rose."""
        return self.now - self.before


def causes(scope: Scope, dimension: str) -> Causes:
    """Why the spend of ``scope`` differs from that of the window it is compared with.

    Args:
        scope: which calls.
        dimension: whose changes are told apart; a dimension or a tag.

    Raises:
        data.CollectorError: there is no answer.
    """
    names = ("request_model",) if dimension == "request_model" else ("request_model", dimension)
    asked = [
        data.about("spend_by", scope, window, by=name, limit=MAX_MODELS)
        for name in names
        for window in (scope.compared, scope.window)
    ]
    totals = [data.about("totals", scope, window) for window in (scope.compared, scope.window)]
    answers = data.ask_all([*asked, *totals])
    before, now = answers[-2:]
    parts = split(
        _uses(answers[0], before.row), _uses(answers[1], now.row), minutes_before=60, minutes_after=60
    )
    spent = [data.money(answer.row.get("effective_cost_usd")) for answer in (before, now)]
    by_value = [by_values(answer, dimension) for answer in answers[len(asked) - 2 : len(asked)]]
    return Causes(
        before=spent[0],
        now=spent[1],
        parts=[(part.factor, usd(part.pico_per_hour)) for part in parts],
        changes=_changes(by_value[0], by_value[1], spent[1] - spent[0]),
        answers=tuple(answers),
    )


def _uses(answer: data.Answer, total: data.Row) -> list[Use]:
    """What each model was used for, and what the total has beyond them."""
    rows: list[data.Row] = list(answer.rows)
    rest: dict[str, object] = {
        name: int(total.get(name) or 0) - sum(int(row.get(name) or 0) for row in rows) for name in SUMMED
    }
    cost = sum((data.money(row["effective_cost_usd"]) for row in rows), Decimal(0))
    rest["effective_cost_usd"] = data.money(total.get("effective_cost_usd")) - cost
    if any(rest.values()):
        rows.append({"request_model": REMAINDER, **rest})
    return [_use(row) for row in rows]


def _use(row: data.Row) -> Use:
    figures = {name: max(0, int(row.get(name) or 0)) for name in SUMMED}
    return Use(
        model=str(row[column_of("request_model")] or ""),
        calls=figures["calls"],
        attempts=figures["attempts"],
        input_tokens=figures["input_tokens"],
        cached_tokens=figures["cache_read_input_tokens"],
        output_tokens=figures["output_tokens"],
        cost_pico=pico_from_usd(data.money(row["effective_cost_usd"])),
    )


def _changes(before: Mapping[str, Decimal], now: Mapping[str, Decimal], change: Decimal) -> list[Bar]:
    moved = {value: now.get(value, Decimal(0)) - before.get(value, Decimal(0)) for value in {*before, *now}}
    largest = charts.top({value: abs(usd) for value, usd in moved.items() if usd}, MAX_CHANGES)
    bars = [Bar(value, moved[value]) for value in largest]
    rest = change - sum((bar.amount for bar in bars), Decimal(0))
    return [*bars, Bar(REMAINDER, rest, is_remainder=True)] if rest else bars


def in_words(found: Causes) -> str:
    """The change and its largest factors in one line."""
    if not found.change and not any(amount for _, amount in found.parts):
        return "Nothing moved: spend is what it was."
    word = "rose" if found.change > 0 else "fell" if found.change < 0 else "stayed the same"
    by = f" by {shown(abs(found.change))}" if found.change else ""
    named: Sequence[str] = [
        f"{WORDS[factor].lower()} {'+' if amount > 0 else '-'}{shown(abs(amount))}"
        for factor, amount in found.parts[:3]
        if amount
    ]
    return f"Spend {word}{by}: {', '.join(named)}." if named else f"Spend {word}{by}."
