"""Asking the collector from the command line."""

import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from sidecar.config import BursarConfig

MOST_REFUSAL = 1 << 16
MOST_SHOWN = 2000
"""Bytes of a refusal that are read, and letters that are shown of one in words that are not ours."""


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
        raise NoAnswer(refusal(error.read(MOST_REFUSAL))) from error
    except (urllib.error.URLError, OSError) as error:
        raise NoAnswer(
            f"the collector on {config.collector.listen} does not answer; run `bursar up`"
        ) from error
    except (ValueError, http.client.HTTPException) as error:
        raise NoAnswer(f"what answers on {config.collector.listen} is no collector of Bursar's") from error
    rows = answer["rows"] if isinstance(answer, dict) else answer
    return list(rows)


def refusal(body: bytes) -> str:
    """The collector's own words for why it does not answer, with what there is to choose from."""
    said = body.decode("utf-8", "replace")
    try:
        error = json.loads(said)["error"]
        message = str(error["message"])
        choices = ", ".join(map(str, error.get("choices") or ()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return said[:MOST_SHOWN]
    return f"{message}; there are: {choices}" if choices and choices not in message else message


def _each(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def complain(error: NoAnswer) -> int:
    """Say why there is no answer; returns the exit code."""
    sys.stderr.write(f"{error}\n")
    return 1
