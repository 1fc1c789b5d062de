"""Logs: one JSON object a line, on stderr, saying only what is on the list.

Three rules keep secrets out. A record carries a message written by us and fields
from an allow-list, never a body or a header. Every text then passes a filter that
knows the loaded secrets by value (as they are, URL-quoted, base64) and their kinds
by shape (`sk-...`, `Bearer ...`). And an exception is told by its type, its redacted
message and the places it came through, never by the values there.

On a terminal the same records are printed for people.

    log = logs.get("sidecar.http")
    log.info("listening", address="127.0.0.1", port=4000)
"""

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import cache
from typing import IO, Final

# fmt: off
FIELDS: Final = frozenset(
    {
        "action", "address", "after_s", "agent", "alert", "api", "attempt", "budget", "bytes", "cache",
        "call_id", "command", "component", "count", "detector", "directive", "dropped", "duration_ms",
        "duration_s", "error_type", "exit_code", "field", "file", "folder", "frames", "gpu", "host",
        "http_status", "interval_s", "key_id", "lag_s", "limit", "line", "method", "model", "names",
        "offset", "outcome", "outcome_reason", "path", "pid", "platform", "port", "previous_state",
        "previous_version", "price_grade", "provider_name", "python", "queue", "reason", "records",
        "replica", "request_model", "response_model", "retry_in_s", "rows", "schema_version", "segment",
        "sequence", "signal", "size_bytes", "source", "span_id", "stage", "state", "status", "team",
        "temperature_celsius", "tenant", "timeout_s", "total", "trace_id", "upstream", "url", "usage_grade",
        "value_type", "version", "worker", "workers"
    }
)
# fmt: on
"""What a record may say besides its message. Anything else is left out, and named in ``left_out``."""

trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""The trace of the call at hand; every record made in its context carries it."""

MASK = "***"
_LONGEST_TEXT = 1000
_LONGEST_TRACE = 20
_SHORTEST_SECRET = 6

Value = str | int | float | bool | None

_SHAPES = r"""
      (?P<keep>
          \b(?i:bearer|basic|digest)[ ]+
        | [?&;](?i:[\w.-]*(?:key|token|secret|signature|password)|sig|code)=
        | ["']?\b(?i:(?:x-)?(?:api[-_]?key|goog-api-key|authorization|password|secret))["']?[ ]*[:=][ ]*["']?
          (?:(?i:bearer|basic|digest)[ ]+)?
        | ://(?=[^\s/@]*@)
      )
      [^\s"'&,;@<>]{4,}
    | \b(?:sk|vk|gsk|xai|hf|pplx|ghp|gho|xoxb|xoxp)[-_][A-Za-z0-9_-]{12,}
    | \bAIza[A-Za-z0-9_-]{20,}
    | \bA(?:KI|SI)A[A-Z0-9]{16}\b
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.?[A-Za-z0-9_-]*
    """
_HINTS = (
    *("sk-", "sk_", "vk_", "vk-", "bearer", "basic", "digest", "aiza", "akia", "asia", "eyj", "key", "token"),
    *("secret", "password", "auth", "sig", "code=", "://", "xai", "hf_", "pplx", "gho", "ghp", "xox"),
)
"""One of these is in every text with a credential's shape; looking for them first is ten times cheaper."""


def redact_shapes(text: str) -> str:
    """``text`` with everything that looks like a credential masked."""
    lower = text.lower()
    for hint in _HINTS:
        if hint in lower:
            return _shapes().sub(_masked, text)
    return text


@cache
def _shapes() -> re.Pattern[str]:
    return re.compile(_SHAPES, re.VERBOSE)  # 5 ms: not for a process that never needs it


def _masked(match: re.Match[str]) -> str:
    return (match["keep"] or "") + MASK


class Redactor:
    """Masks the known secrets in every form they travel in, and what looks like one.

    Secrets of fewer than six characters are not looked for: they would mask
    ordinary words, and none of ours is that short.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= _SHORTEST_SECRET for form in _forms(secret)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """``text`` without secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return redact_shapes(text)


def _forms(secret: str) -> set[str]:
    """The spellings of one secret: raw, URL-quoted, escaped in JSON, in hex, and base64 at any offset."""
    from base64 import b64encode
    from urllib.parse import quote, quote_plus

    forms = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    raw = secret.encode("utf-8", "surrogateescape")
    forms.add(raw.hex())
    for before in range(3):
        # As in Basic authentication the secret may begin anywhere within three bytes; only the
        # characters that depend on it alone are looked for.
        first = -(-before * 8 // 6)
        encoded = b64encode(b"\0" * before + raw).decode()
        inside = encoded[first : (before + len(raw)) * 8 // 6]
        if len(inside) >= _SHORTEST_SECRET:
            forms |= {inside, inside.replace("+", "-").replace("/", "_")}
    return forms


class _Settings:
    """What `configure` sets; one per process, like the handler it serves."""

    component = ""
    redact: Redactor = Redactor()


_settings = _Settings()


def configure(
    component: str, level: str = "info", secrets: Iterable[str] = (), stream: IO[str] | None = None
) -> None:
    """Send this process's log records to ``stream`` (stderr), for people when that is a terminal.

    Args:
        component: ``sidecar``, ``collector``, ...: says which process speaks.
        level: debug, info, warning or error.
        secrets: values that must never appear, in any form.
        stream: where to write.

    Raises:
        ValueError: there is no such level.
    """
    target = sys.stderr if stream is None else stream
    names = logging.getLevelNamesMapping()
    if level.upper() not in names:
        raise ValueError(f"log level {level!r} is not one of debug, info, warning, error")
    _settings.component = component
    _settings.redact = Redactor(secrets)
    handler = logging.StreamHandler(target)
    handler.setFormatter(_People() if target.isatty() else _Json())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, _Json | _People):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(names[level.upper()])
    # A failed write to stderr must not print a traceback with the record's values to the same place.
    logging.raiseExceptions = False


def redact(text: str) -> str:
    """``text`` without the secrets that this process knows."""
    return _settings.redact(text)


class Log:
    """Writes records of one part of the program."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, message: str, /, **fields: Value) -> None:
        """Something only a developer looks for."""
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: Value) -> None:
        """Something an operator may want to have seen."""
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: Value) -> None:
        """Something is worse than it should be, and the program goes on."""
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, /, *, failure: BaseException | None = None, **fields: Value) -> None:
        """Something failed; ``failure`` is told without the values it touched."""
        self._write(logging.ERROR, message, fields, failure)

    def _write(
        self, level: int, message: str, fields: dict[str, Value], failure: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", message, extra={"fields": fields}, exc_info=failure)


def get(name: str) -> Log:
    """The log of the part called ``name``, such as ``collector.export``."""
    return Log(logging.getLogger(name))


class StateLog:
    """One line when something changes state, none while it stays.

    A store that is down for an hour is one warning and one recovery, not 36,000 lines.
    """

    def __init__(
        self, log: Log, what: str, *, good: str = "ok", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._what = what
        self._good = good
        self._clock = clock
        self._since = clock()
        self._repeats = 0
        self.state = good

    def enter(self, state: str, **fields: Value) -> bool:
        """Note the state at this moment; True when it is a new one, which is then logged."""
        if state == self.state:
            self._repeats += 1
            return False
        now = self._clock()
        write = self._log.info if state == self._good else self._log.warning
        write(
            f"{self._what}: {state}",
            **{
                **fields,
                "state": state,
                "previous_state": self.state,
                "after_s": round(now - self._since, 3),
                "count": self._repeats,
            },
        )
        self.state, self._since, self._repeats = state, now, 0
        return True


def _fields(record: logging.LogRecord) -> dict[str, Value]:
    """The record's allowed fields, redacted, with the trace it belongs to."""
    given = record.__dict__.get("fields")
    told: dict[str, Value] = {}
    left_out = []
    if isinstance(given, dict):
        for name, value in given.items():
            if name not in FIELDS:
                left_out.append(str(name)[:64])
            elif value is None or isinstance(value, bool | int | float):
                told[name] = value
            else:
                told[name] = _clean(str(value))
    if "trace_id" not in told and (trace := trace_id.get()):
        told["trace_id"] = _clean(trace)
    if left_out:
        told["left_out"] = _clean(",".join(left_out))
    return told


def _clean(text: str) -> str:
    cleaned = _settings.redact(text)
    return cleaned if len(cleaned) <= _LONGEST_TEXT else cleaned[:_LONGEST_TEXT] + "..."


def _message(record: logging.LogRecord) -> str:
    try:
        return _clean(record.getMessage())
    except (TypeError, ValueError):
        return _clean(str(record.msg))


def _failure(record: logging.LogRecord) -> dict[str, object]:
    """The exception of a record: type, message and places, innermost last."""
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    failure = record.exc_info[1]
    places = [
        f"{'/'.join(frame.filename.replace(chr(92), '/').split('/')[-2:])}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(failure.__traceback__)
    ]
    return {
        "error_type": type(failure).__name__,
        "error": _clean(str(failure)),
        "places": places[-_LONGEST_TRACE:],
    }


def _instant(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


class _Json(logging.Formatter):
    """One JSON object; control characters are escaped, so nothing in it can start a line."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": _instant(record),
            "level": record.levelname.lower(),
            "component": _settings.component,
            "logger": record.name,
            "message": _message(record),
            **_fields(record),
            **_failure(record),
        }
        return json.dumps(told, default=str, separators=(",", ":"))


class _People(logging.Formatter):
    """The same facts for a terminal: time, level, message, then ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {**_fields(record), **_failure(record)}
        places = facts.pop("places", [])
        parts = [
            time.strftime("%H:%M:%S", time.localtime(record.created)),
            f"{record.levelname.lower():<7}",
            _settings.component,
            _printable(_message(record)),
            *[f"{name}={_printable(str(value))}" for name, value in facts.items()],
        ]
        lines = [" ".join(part for part in parts if part)]
        if isinstance(places, list):
            lines += [f"    {_printable(str(place))}" for place in places]
        return "\n".join(lines)


def _printable(text: str) -> str:
    """``text`` with control characters spelled out: a log line never steers the terminal."""
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])
