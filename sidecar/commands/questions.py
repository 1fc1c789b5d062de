"""Asking the collector from the command line."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from sidecar.config import BursarConfig


class NoAnswer(Exception):
    """The collector did not answer; the message says what to do."""


def ask(config: BursarConfig, question: str, **parameters: object) -> list[dict[str, Any]]:
    """The rows that answer ``question``; money is text, an exact decimal.

    Raises:
        NoAnswer: the collector is not there, or does not know the question.
    """
    given = [(name, item) for name, value in parameters.items() for item in _each(value)]
    url = f"http://{config.collector.listen}/v1/questions/{question}?{urllib.parse.urlencode(given)}"
    headers = {"accept": "application/json"}
    if config.control.key is not None:
        headers["authorization"] = f"Bearer {config.control.key.reveal()}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as error:
        raise NoAnswer(error.read(2000).decode("utf-8", "replace")) from error
    except (urllib.error.URLError, OSError) as error:
        raise NoAnswer(
            f"the collector on {config.collector.listen} does not answer; run `bursar up`"
        ) from error
    rows = answer["rows"] if isinstance(answer, dict) else answer
    return list(rows)


def _each(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def complain(error: NoAnswer) -> int:
    """Say why there is no answer; returns the exit code."""
    sys.stderr.write(f"{error}\n")
    return 1
