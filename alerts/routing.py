"""Who would be told: the routing tree of an `alertmanager.yml`, followed as Alertmanager does."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

_MATCHER = re.compile(r'\s*([A-Za-z_:][A-Za-z0-9_:]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|(\S*))\s*')


class BadRouting(ValueError):
    """The file is no configuration of Alertmanager that could be followed."""


def receivers(configuration: str, labels: Mapping[str, str]) -> list[str]:
    """The names of the receivers of an alert with ``labels``, in the order of the routes.

    Raises:
        BadRouting: ``configuration`` is not one.
    """
    try:
        content = yaml.safe_load(configuration)
        found = _follow(content["route"], labels, content["route"]["receiver"])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, re.error) as error:
        raise BadRouting(f"not a configuration of Alertmanager: {error!r}") from error
    return list(dict.fromkeys(found))


def _follow(route: Mapping[str, Any], labels: Mapping[str, str], receiver: str) -> list[str]:
    """A node that matches answers by its children; by itself when none of them matches."""
    receiver = route.get("receiver") or receiver
    found: list[str] = []
    for child in route.get("routes") or ():
        if _matches(child, labels):
            found += _follow(child, labels, receiver)
            if not child.get("continue", False):
                break
    return found or [receiver]


def _matches(route: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """All matchers hold; the older ``match`` and ``match_re`` are read too."""
    old = (labels.get(name, "") == str(value) for name, value in (route.get("match") or {}).items())
    old_patterns = (
        re.fullmatch(str(pattern), labels.get(name, "")) is not None
        for name, pattern in (route.get("match_re") or {}).items()
    )
    written = route.get("matchers") or ()
    texts = [written] if isinstance(written, str) else written
    return all(old) and all(old_patterns) and all(_holds(text, labels) for text in texts)


def _holds(text: str, labels: Mapping[str, str]) -> bool:
    match = _MATCHER.fullmatch(text)
    if match is None:
        raise BadRouting(f"{text!r} is no matcher")
    name, sign, quoted, bare = match.groups()
    wanted = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
    value = labels.get(name, "")
    same = re.fullmatch(wanted, value) is not None if "~" in sign else value == wanted
    return same is not sign.startswith("!")
