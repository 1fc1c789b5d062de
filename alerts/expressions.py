"""What a rule looks at, in a form that two engines understand.

An expression is a small tree. It is read from YAML, it writes itself as PromQL for Prometheus, and
:mod:`alerts.evaluation` computes it without one. The language is small because of one decision:
every leaf adds up its series by the *same* labels, those of the rule, so that arithmetic between
two leaves needs no matching rules.

```yaml
value: {ratio: [{increase: bursar_calls_total, where: {outcome: failed}, over: 5m},
                {increase: bursar_calls_total, over: 5m}]}
```
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from collector.settings import Duration

FUNCTIONS = MappingProxyType(
    {
        "last": "",
        "rate": "rate",
        "increase": "increase",
        "delta": "delta",
        "deriv": "deriv",
        "highest": "max_over_time",
        "lowest": "min_over_time",
        "average": "avg_over_time",
        "counted": "",
    }
)
"""Our word for what is done to each series, and PromQL's. ``last`` takes no window; ``counted`` is an
increase that also counts what a series began with, for events so rare that the first one matters."""

ADDING = ("rate", "increase", "delta", "counted")
"""Functions whose results are added up; of the others the largest is taken unless the leaf says otherwise."""

OPERATORS: Mapping[str, tuple[str, Callable[[float, float], float]]] = MappingProxyType(
    {
        "ratio": ("/", lambda a, b: divided(a, b)),
        "plus": ("+", operator.add),
        "minus": ("-", operator.sub),
        "times": ("*", operator.mul),
    }
)
COMPARISONS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = MappingProxyType(
    {
        "above": (">", operator.gt),
        "at_least": (">=", operator.ge),
        "below": ("<", operator.lt),
        "at_most": ("<=", operator.le),
        "equals": ("==", operator.eq),
    }
)


def divided(a: float, b: float) -> float:
    """``a / b`` as IEEE has it, which is what Prometheus does."""
    if b:
        return a / b
    if a == 0 or a != a:
        return float("nan")
    return float("inf") if a > 0 else float("-inf")


class InvalidExpression(ValueError):
    """The YAML is no expression; the message says where and what would be."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label."""

    label: str
    values: tuple[str, ...]
    negated: bool = False

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with ``labels`` is meant; a missing label is empty, as in Prometheus."""
        return (labels.get(self.label, "") in self.values) is not self.negated

    def promql(self) -> str:
        """As it stands between braces."""
        if len(self.values) == 1:
            mark = "!=" if self.negated else "="
            return f'{self.label}{mark}"{quoted(self.values[0])}"'
        # Only word characters are accepted in lists, so nothing needs escaping in the expression.
        return f'{self.label}{"!~" if self.negated else "=~"}"{"|".join(self.values)}"'


@dataclass(frozen=True, slots=True)
class Leaf:
    """Series of one metric, each put through ``function``, gathered by the rule's labels."""

    function: str
    metric: str
    where: tuple[Matcher, ...] = ()
    over_s: int = 0
    """The window that the function looks back over; 0 for ``last``."""
    gather: Literal["sum", "max", "min"] = "max"

    def promql(self, by: tuple[str, ...]) -> str:
        """In Prometheus' words."""
        series = selector(self.metric, self.where)
        window = promql_duration(self.over_s) if self.over_s else ""
        if self.function == "last":
            inner = series
        elif self.function == "counted":
            inner = f"({series} unless {series} offset {window}) or increase({series}[{window}])"
        else:
            inner = f"{FUNCTIONS[self.function]}({series}[{window}])"
        return gathered(self.gather, by, inner)


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of a histogram, over a window."""

    quantile: float
    metric: str
    """The histogram's name, without ``_bucket``."""
    where: tuple[Matcher, ...] = ()
    over_s: int = 300

    def promql(self, by: tuple[str, ...]) -> str:
        """In Prometheus' words."""
        buckets = f"rate({selector(f'{self.metric}_bucket', self.where)}[{promql_duration(self.over_s)}])"
        return f"histogram_quantile({self.quantile}, {gathered('sum', (*by, 'le'), buckets)})"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Two expressions, label set by label set, or an expression and a number."""

    word: str
    left: "Expression"
    right: "Expression | float"

    def promql(self, by: tuple[str, ...]) -> str:
        """In Prometheus' words."""
        right = number_text(self.right) if isinstance(self.right, float) else _inner(self.right, by)
        return f"{_inner(self.left, by)} {OPERATORS[self.word][0]} {right}"


@dataclass(frozen=True, slots=True)
class Absent:
    """1 when no series of a metric is there: its value has no labels but those asked for."""

    metric: str
    where: tuple[Matcher, ...] = ()

    def promql(self, by: tuple[str, ...]) -> str:
        """In Prometheus' words."""
        return f"absent({selector(self.metric, self.where)})"

    @property
    def labels(self) -> dict[str, str]:
        """Prometheus gives the result the labels that were asked for by equality."""
        return {m.label: m.values[0] for m in self.where if not m.negated and len(m.values) == 1}


@dataclass(frozen=True, slots=True)
class Always:
    """1, always."""

    def promql(self, by: tuple[str, ...]) -> str:
        """In Prometheus' words."""
        return "vector(1)"


Expression = Leaf | Quantile | Arithmetic | Absent | Always


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression held against a number."""

    value: Expression
    comparison: str
    threshold: float

    def holds(self, value: float) -> bool:
        """Whether a value meets it; NaN never does."""
        return COMPARISONS[self.comparison][1](value, self.threshold)

    def promql(self, by: tuple[str, ...]) -> str:
        """In Prometheus' words."""
        return f"{_inner(self.value, by)} {COMPARISONS[self.comparison][0]} {number_text(self.threshold)}"


def leaves(expression: Expression) -> list[Leaf | Quantile | Absent]:
    """Everything in ``expression`` that reads series."""
    if isinstance(expression, Arithmetic):
        right = [] if isinstance(expression.right, float) else leaves(expression.right)
        return leaves(expression.left) + right
    return [] if isinstance(expression, Always) else [expression]


# ---- writing PromQL -------------------------------------------------------------------------


def selector(metric: str, where: tuple[Matcher, ...]) -> str:
    """``metric{...}``."""
    return f"{metric}{{{', '.join(matcher.promql() for matcher in where)}}}" if where else metric


def gathered(gather: str, by: tuple[str, ...], inner: str) -> str:
    """``inner`` added up by labels; without labels, over everything."""
    return f"{gather} by ({', '.join(by)}) ({inner})" if by else f"{gather}({inner})"


def _inner(expression: Expression, by: tuple[str, ...]) -> str:
    text = expression.promql(by)
    return f"({text})" if isinstance(expression, Arithmetic) else text


def quoted(text: str) -> str:
    """``text`` as it stands between double quotes in PromQL."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number_text(value: float) -> str:
    """A number, whole where it is."""
    return str(int(value)) if value == int(value) else repr(value)


def promql_duration(seconds: int) -> str:
    """``90`` as ``1m30s``, ``3600`` as ``1h``."""
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


# ---- reading YAML ---------------------------------------------------------------------------


def read_condition(given: Any, threshold: float | None = None) -> Condition:
    """A condition from YAML: ``{value: ..., above: 0.85}``; ``threshold`` replaces the number.

    Raises:
        InvalidExpression: it is none.
    """
    if not isinstance(given, dict):
        raise InvalidExpression(f"a condition is a mapping, not {given!r}")
    words = [word for word in COMPARISONS if word in given]
    if len(words) != 1 or "value" not in given:
        raise InvalidExpression(f"a condition has a value and one of {', '.join(COMPARISONS)}")
    number = given[words[0]] if threshold is None else threshold
    return Condition(read_expression(given["value"]), words[0], float(number))


def read_expression(given: Any) -> Expression:
    """An expression from YAML.

    Raises:
        InvalidExpression: it is none.
    """
    if given == "always":
        return Always()
    if not isinstance(given, dict):
        raise InvalidExpression(f"an expression is a mapping or 'always', not {given!r}")
    for word in OPERATORS:
        if word in given:
            return _read_arithmetic(word, given[word])
    if "absent" in given:
        return Absent(str(given["absent"]), read_where(given.get("where")))
    if "quantile" in given:
        return Quantile(
            float(given["quantile"]),
            str(given["of"]),
            read_where(given.get("where")),
            seconds(given.get("over", "5m")),
        )
    words = [word for word in FUNCTIONS if word in given]
    if len(words) != 1:
        known = ", ".join([*FUNCTIONS, "quantile", "absent", *OPERATORS])
        raise InvalidExpression(f"{given!r} does not name one of {known}")
    return _read_leaf(words[0], given)


def _read_leaf(word: str, given: dict[str, Any]) -> Leaf:
    if unknown := set(given) - {word, "where", "over", "gather"}:
        raise InvalidExpression(f"{word} does not take {', '.join(sorted(unknown))}")
    over = seconds(given["over"]) if "over" in given else 0
    if (word == "last") is bool(over):
        raise InvalidExpression(f"{word} {'takes no' if over else 'needs a'} window (over)")
    gather = given.get("gather", "sum" if word in ADDING else "max")
    if gather not in ("sum", "max", "min"):
        raise InvalidExpression(f"gather is sum, max or min, not {gather!r}")
    return Leaf(word, str(given[word]), read_where(given.get("where")), over, gather)


def _read_arithmetic(word: str, sides: Any) -> Arithmetic:
    if not isinstance(sides, list) or len(sides) != 2:
        raise InvalidExpression(f"{word} takes a list of two")
    right = float(sides[1]) if isinstance(sides[1], int | float) else read_expression(sides[1])
    return Arithmetic(word, read_expression(sides[0]), right)


def read_where(given: Any) -> tuple[Matcher, ...]:
    """Conditions on labels: ``{outcome: failed, reason: {not: [a, b]}}``."""
    found = []
    for label, wanted in (given or {}).items():
        negated = isinstance(wanted, dict)
        values = wanted["not"] if isinstance(wanted, dict) else wanted
        texts = tuple(str(value) for value in (values if isinstance(values, list) else [values]))
        if len(texts) > 1 and not all(text.replace("_", "").isalnum() for text in texts):
            raise InvalidExpression(f"{label}: a list of values holds plain words only")
        found.append(Matcher(label, texts, negated))
    return tuple(found)


def seconds(text: Any) -> int:
    """A length of time in whole seconds.

    Raises:
        InvalidExpression: it is none.
    """
    try:
        return round(Duration.parse(str(text)))
    except ValueError as error:
        raise InvalidExpression(str(error)) from error
