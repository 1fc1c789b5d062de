"""``bursar outcomes``: tell how tasks ended, many at once."""

import argparse
import csv
import http.client
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from collector.outcomes import BadOutcome, read_outcome
from collector.settings import Address
from sidecar.config import load_config

MOST_PROBLEMS = 20
"""Shown one by one; the others are counted."""
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


class Line(NamedTuple):
    """One outcome of a file."""

    number: int
    """Of the line it ends on, from 1."""
    body: bytes
    """As JSON; empty where it cannot be read."""
    problem: str = ""


class Unreachable(Exception):
    """The collector does not answer, or does not take outcomes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Import a file."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    imported = actions.add_parser(
        "import", help="send the outcomes of a file to the collector; sent twice, they count twice"
    )
    imported.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="CSV with a line of names, or JSONL: success, one of task_id, conversation_id, trace_id;"
        " and tenant, score, value_usd, note",
    )
    imported.add_argument("--check", action="store_true", help="read the file and send nothing")


def run(arguments: argparse.Namespace) -> int:
    """Send what can be sent; 1 when a line could not, 2 when there is no such file."""
    config = load_config(arguments.config)
    key = config.control.key
    try:
        with arguments.file.open(encoding="utf-8-sig", newline="") as file:
            lines = checked(read_lines(file, arguments.file.suffix.lower()))
            if arguments.check:
                return report(lines, "could be recorded")
            sender = Sender(config.collector.listen, key.reveal() if key is not None else "")
            return report(sent(lines, sender), "recorded")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        sys.stderr.write(f"{arguments.file}: {error}\n")
        return 2


def read_lines(file: Iterable[str], suffix: str) -> Iterator[Line]:
    """The outcomes of a CSV or, by any other suffix, of JSONL; empty lines are passed over."""
    if suffix == ".csv":
        yield from _csv_lines(file)
        return
    for number, line in enumerate(file, 1):
        if line.strip():
            yield Line(number, line.strip().encode())


def _csv_lines(file: Iterable[str]) -> Iterator[Line]:
    reader = csv.DictReader(file)
    for row in reader:
        number = reader.line_num
        if None in row:
            yield Line(number, b"", "more values than names in the first line")
            continue
        try:
            # A field that is left empty says nothing.
            said = {name.strip(): _typed(name.strip(), text) for name, text in row.items() if text}
        except ValueError as error:
            yield Line(number, b"", str(error))
            continue
        yield Line(number, json.dumps(said).encode())


def _typed(name: str, text: str) -> object:
    text = text.strip()
    if name == "success":
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ValueError(f"success: true or false, not {text[:40]!r}")
        return text.lower() in _TRUE
    if name == "score":
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"score: a number, not {text[:40]!r}") from None
    return text


def checked(lines: Iterable[Line]) -> Iterator[Line]:
    """The same lines, each with what is wrong with it: found by what reads it at the other end."""
    for line in lines:
        problem = line.problem
        if not problem:
            try:
                read_outcome(line.body)
            except BadOutcome as error:
                problem = str(error)
        yield line._replace(problem=problem)


class Sender:
    """Posts outcomes to the collector over one connection.

    Args:
        listen: where the collector answers.
        key: the control key; may be empty.
    """

    def __init__(self, listen: Address, key: str) -> None:
        self._listen = listen
        self._headers = {"content-type": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._connection = http.client.HTTPConnection(listen.host, listen.port, timeout=30)

    def send(self, body: bytes) -> str:
        """Record one outcome; what the collector has against it, empty when it took it.

        Raises:
            Unreachable: it took neither this one, nor would it take another.
        """
        try:
            self._connection.request("POST", "/v1/outcomes", body, self._headers)
            reply = self._connection.getresponse()
            said = reply.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"the collector on {self._listen} does not answer; run `bursar up`") from error
        if reply.status == http.HTTPStatus.CREATED:
            return ""
        if reply.status == http.HTTPStatus.BAD_REQUEST:
            return said[:500]
        raise Unreachable(f"the collector answers {reply.status}: {said[:500]}")


def sent(lines: Iterable[Line], sender: Sender) -> Iterator[Line]:
    """The same lines, after those without a problem were sent; ends where the collector does."""
    for line in lines:
        if line.problem:
            yield line
            continue
        try:
            yield line._replace(problem=sender.send(line.body))
        except Unreachable as error:
            yield line._replace(problem=f"{error}; nothing from this line on was sent")
            return


def report(lines: Iterable[Line], done: str) -> int:
    """Say how many were ``done`` and what was wrong with the others; returns the exit code."""
    good = bad = 0
    for line in lines:
        if not line.problem:
            good += 1
            continue
        bad += 1
        if bad <= MOST_PROBLEMS:
            sys.stderr.write(f"line {line.number}: {line.problem}\n")
    if bad > MOST_PROBLEMS:
        sys.stderr.write(f"and {bad - MOST_PROBLEMS} more lines\n")
    sys.stdout.write(f"{good} outcomes {done}, {bad} not\n")
    return 1 if bad else 0
