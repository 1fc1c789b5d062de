"""The rules that ship with Bursar: one definition, for two engines.

`alerts/definitions/*.yml` says what each alert is about. From it :func:`prometheus_rules` writes what
Prometheus reads (`alerts/rules/*.yml`, committed), and :mod:`alerts.engine` computes the same alone.
The labels of an alert are the same either way, so that the two make one incident.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

from alerts.expressions import (
    Condition,
    InvalidExpression,
    Quantile,
    leaves,
    promql_duration,
    read_condition,
    seconds,
)

DEFINITIONS = Path(__file__).parent / "definitions"
RULES = Path(__file__).parent / "rules"

SEVERITIES = ("page", "warn", "info", "none")
"""``none`` is the dead-man's switch: it goes to whoever misses it."""
IMPACTS = ("users", "cost", "availability", "ledger", "security")
"""Who or what is hurt."""


class InvalidRule(ValueError):
    """A definition that cannot be used; the message names the file and the alert."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alert and when it fires."""

    name: str
    group: str
    about: str
    by: tuple[str, ...]
    """Labels that tell one alert of this rule from another."""
    conditions: tuple[Condition, ...]
    """All must hold for the same labels; the first one's value is the alert's."""
    for_s: int = 0
    """How long they must hold before it fires."""
    keep_firing_s: int = 0
    """How long it goes on firing after they last held, so that it does not flap."""
    severity: str = "warn"
    impact: str = "users"
    summary: str = ""
    """``{label}``, ``{threshold}`` and ``{threshold:percent}`` are filled in."""
    advice: str = ""
    optional: str = ""
    """The setting without which this rule is left out."""

    @property
    def threshold(self) -> float:
        """What the value is held against."""
        return self.conditions[0].threshold

    @property
    def labels(self) -> dict[str, str]:
        """The labels that every alert of this rule has."""
        return {"alertname": self.name, "severity": self.severity, "impact": self.impact}

    def promql(self) -> str:
        """The whole condition in Prometheus' words."""
        return " and ".join(condition.promql(self.by) for condition in self.conditions)

    def text(self, template: str, labels: Mapping[str, str]) -> str:
        """``template`` filled in for one alert."""
        return _filled(template, self.threshold, {name: labels.get(name, "") for name in self.by})


def load_rules(
    folder: Path = DEFINITIONS,
    *,
    thresholds: Mapping[str, float] | None = None,
    disabled: Iterable[str] = (),
    settings: Mapping[str, float | None] | None = None,
) -> list[Rule]:
    """The rules in force.

    Args:
        folder: where the definitions lie.
        thresholds: by alert, a number that replaces the shipped one.
        disabled: alerts to leave out.
        settings: values of the settings that optional groups wait for. None keeps every group with
            its shipped numbers: that is how the files for Prometheus are made.

    Raises:
        InvalidRule: a definition cannot be used, or a name is not one of an alert.
    """
    thresholds, disabled = dict(thresholds or {}), set(disabled)
    found: list[Rule] = []
    names: set[str] = set()
    for path in sorted(folder.glob("*.yml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        optional = content.get("optional", "") if isinstance(content, dict) else ""
        listed = content["rules"] if isinstance(content, dict) else content
        names |= {given.get("alert") for given in listed}
        wanted = settings.get(optional) if optional and settings is not None else None
        if optional and settings is not None and wanted is None:
            continue
        found.extend(
            _read(given, path.stem, optional, thresholds.get(given.get("alert"), wanted)) for given in listed
        )
    for name in (*thresholds, *disabled):
        if name not in names:
            raise InvalidRule(f"{name!r} is no alert; there are {', '.join(sorted(names))}")
    return [rule for rule in found if rule.name not in disabled]


_KEYS = {
    *("alert", "about", "by", "when", "and", "enough", "for", "keep_firing_for"),
    *("severity", "impact", "summary", "advice"),
}


def _read(given: dict[str, Any], group: str, optional: str, threshold: float | None) -> Rule:
    where = f"{group}.yml: {given.get('alert', '?')}"
    try:
        if unknown := set(given) - _KEYS:
            raise InvalidExpression(f"does not take {', '.join(sorted(unknown))}")
        others = [*given.get("and", []), *([given["enough"]] if "enough" in given else [])]
        first = read_condition(given["when"], threshold)
        rule = Rule(
            name=given["alert"],
            group=group,
            about=given["about"],
            by=tuple(given["by"]),
            conditions=(first, *(read_condition(other) for other in others)),
            for_s=seconds(given.get("for", "0s")),
            keep_firing_s=seconds(given.get("keep_firing_for", "0s")),
            severity=given["severity"],
            impact=given["impact"],
            summary=given["summary"],
            advice=given["advice"],
            optional=optional,
        )
    except (InvalidExpression, KeyError, TypeError) as error:
        raise InvalidRule(f"{where}: {error}") from error
    if rule.severity not in SEVERITIES or rule.impact not in IMPACTS:
        raise InvalidRule(f"{where}: severity is one of {SEVERITIES}, impact one of {IMPACTS}")
    unknown = {name for text in (rule.summary, rule.advice) for name in _fields(text)} - {
        *rule.by,
        "threshold",
    }
    if unknown:
        raise InvalidRule(f"{where}: the text names {', '.join(sorted(unknown))}, which is no label of it")
    return rule


def needed(rules: Iterable[Rule]) -> dict[str, float]:
    """Every metric that ``rules`` read, and for how many seconds its samples are needed."""
    keep: dict[str, float] = {}
    for rule in rules:
        for condition in rule.conditions:
            for leaf in leaves(condition.value):
                name = f"{leaf.metric}_bucket" if isinstance(leaf, Quantile) else leaf.metric
                keep[name] = max(keep.get(name, 0.0), float(getattr(leaf, "over_s", 0)))
    return keep


# ---- for Prometheus -------------------------------------------------------------------------


def prometheus_rules(rules: Iterable[Rule]) -> dict[str, Any]:
    """A rules file for Prometheus 2.42 or newer, as plain data."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for rule in rules:
        groups.setdefault(rule.group, []).append(_prometheus_rule(rule))
    return {"groups": [{"name": f"bursar-{name}", "rules": listed} for name, listed in groups.items()]}


def prometheus_text(rules: Iterable[Rule], head: str = "") -> str:
    """The same as text."""
    body = yaml.safe_dump(prometheus_rules(rules), sort_keys=False, width=110, allow_unicode=True)
    return f"{head}{body}"


def _prometheus_rule(rule: Rule) -> dict[str, Any]:
    told: dict[str, Any] = {"alert": rule.name, "expr": rule.promql()}
    if rule.for_s:
        told["for"] = promql_duration(rule.for_s)
    if rule.keep_firing_s:
        told["keep_firing_for"] = promql_duration(rule.keep_firing_s)
    told["labels"] = {"severity": rule.severity, "impact": rule.impact}
    labels = {name: f"{{{{ $labels.{name} }}}}" for name in rule.by}
    told["annotations"] = {
        "summary": rule.text(rule.summary, labels),
        "value": "{{ $value | humanize }}",
        "threshold": shown(rule.threshold),
        "about": " ".join(rule.about.split()),
        "advice": rule.text(rule.advice, labels),
    }
    return told


# ---- texts ----------------------------------------------------------------------------------


def shown(value: float) -> str:
    """A number for people: four significant digits."""
    return f"{value:.4g}"


def _fields(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name]


def _filled(template: str, threshold: float, labels: Mapping[str, str]) -> str:
    # Label values are data from outside: they are put in, never read as a template.
    out = []
    for text, name, form, _ in Formatter().parse(template):
        out.append(text)
        if name == "threshold":
            out.append(f"{threshold * 100:.4g} %" if form == "percent" else shown(threshold))
        elif name:
            out.append(labels.get(name, ""))
    return "".join(out)
