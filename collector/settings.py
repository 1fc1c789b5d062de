"""Configuration from one YAML file and the environment, as frozen values; every mistake is reported at once.

A component describes what it can be told as a frozen dataclass whose fields have defaults and
carry their help below them. :func:`load` reads the file into such a dataclass:

* a value ``${NAME}`` comes from the environment, ``file:PATH`` from a file; a :class:`Secret` may come
  from nowhere else;
* ``BURSAR_DATA_DIR`` overrides ``data_dir``, ``BURSAR_CONTROL_LISTEN`` overrides ``control.listen``;
* a problem names the file, the line, and what would have been right.

Types: str, int, float, bool, Decimal, Path, enums, Literals, optional ones, lists, tuples, dicts,
nested dataclasses, and any class with a ``parse(text)`` class method that raises ValueError.
"""

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import yaml

from collector.frozen import dataclass

T = TypeVar("T")

ENV_PREFIX = "BURSAR_"
_WRITTEN_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Braces mean something in YAML, so that {key: ${NAME}} would not be YAML: references are
# read with characters of the private use area in their place.
_REFERENCE = re.compile("\ue000([A-Za-z_][A-Za-z0-9_]*)\ue001")
_PLACEHOLDERS = ("sk-...", "changeme", "your-api-key", "xxx")


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration."""

    where: str
    """``file:line: field``, or the environment variable."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class InvalidSettings(Exception):
    """The configuration cannot be used; ``problems`` says all that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Secret:
    """A value that is never shown."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a server listens: ``host:port``."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``host:port`` or ``[ipv6]:port``.

        Raises:
            ValueError: it is neither.
        """
        host, colon, port = text.strip().rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not host:port")
        return cls(host.strip("[]"), int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or self.host == "::1" or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)?")


class Duration(float):
    """A length of time in seconds, written ``250ms``, ``30s``, ``5m``, ``24h`` or ``7d``."""

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read a number with a unit; seconds when it has none.

        Raises:
            ValueError: it is not such a number.
        """
        match = _DURATION.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a duration; write 250ms, 30s, 5m, 24h or 7d")
        return cls(float(match[1]) * _UNITS[match[2] or "s"])


class Size(int):
    """A number of bytes, written ``20MiB``, ``1GiB`` or plain."""

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Read a number with an optional unit.

        Raises:
            ValueError: it is not such a number.
        """
        match = re.fullmatch(r"(\d+)\s*(B|kB|KiB|MB|MiB|GB|GiB)?", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a size; write 512KiB, 20MiB or 1GiB")
        units = {
            None: 1,
            "B": 1,
            "kB": 1000,
            "KiB": 1 << 10,
            "MB": 10**6,
            "MiB": 1 << 20,
            "GB": 10**9,
            "GiB": 1 << 30,
        }
        return cls(int(match[1]) * units[match[2]])


# ---- what the collector can be told ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorConfig:
    """The process that keeps the books."""

    listen: Address = Address("127.0.0.1", 4010)
    """Where the read API answers."""
    otlp_http: Address | None = Address("127.0.0.1", 4318)
    """Where OTLP over HTTP is taken in."""
    otlp_grpc: Address | None = Address("127.0.0.1", 4317)
    """Where OTLP over gRPC is taken in."""
    retention: Duration = Duration(90 * 86400)
    """How long single calls are kept; roll-ups are kept ten times as long."""
    journal_grace: Duration = Duration(86400)
    """How long a journal segment is kept after the ledger has it: the archive for a rebuild."""
    snapshot_every: Duration = Duration(60)
    """How often a copy of the ledger is published for ad-hoc SQL."""
    commit_every: Duration = Duration(1)
    """How long records are gathered before they are committed together; while less than a MiB of them
    comes at a time and nobody asks, five times as long."""
    memory_limit: Size = Size(160 << 20)
    """What DuckDB may take."""
    threads: int = 1
    """Threads of DuckDB."""
    span_sample_ratio: float = 1.0
    """Share of traces whose spans are exported. The ledger is never sampled."""
    watch_gpus: bool = True
    """Ask NVIDIA's driver, where there is one, for this machine's GPUs once a second."""
    watch_engines: bool = True
    """Read the metrics of every replica of a vllm upstream once a second."""
    cost_window: Duration = Duration(10)
    """The meter of own GPUs is divided over the calls of so long at a time."""
    cost_lag: Duration = Duration(30)
    """How long after its end a window is divided: until then the records of its calls come in."""


# ---- reading --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Node:
    """A value of the file and where it stands."""

    value: Any
    line: int


def load(
    schema: type[T],
    path: Path | None,
    environ: Mapping[str, str] = os.environ,
) -> T:
    """Read ``path`` (nothing but defaults when None) and the environment into a ``schema``.

    Raises:
        InvalidSettings: with every problem found.
    """
    reader = _Reader(str(path) if path else "built-in defaults", environ, path.parent if path else Path())
    root: Any = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InvalidSettings([Problem(str(path), f"cannot be read: {error.strerror}")]) from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise InvalidSettings([Problem(f"{path}:{line}", _not_utf8(error))]) from error
        root = reader.compose(text)
    overrides = overrides_of(schema, environ)
    value = reader.read_dataclass(schema, root if isinstance(root, dict) else {}, "", 1, overrides)
    if path is not None and not isinstance(root, dict):
        reader.problem(1, "", "the file must hold a mapping of settings")
    if reader.problems:
        raise InvalidSettings(reader.problems)
    return value


def overrides_of(schema: type[Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Settings that ``environ`` overrides, by dotted name."""
    names = {_variable(name): name for name in _paths(schema)}
    return {names[variable]: text for variable, text in environ.items() if variable in names}


def unknown_overrides(schema: type[Any], environ: Mapping[str, str], others: frozenset[str]) -> list[Problem]:
    """Variables that look like overrides and are none; ``others`` are known to mean something else."""
    known = [_variable(name) for name in _paths(schema)]
    problems = []
    for variable in sorted(environ):
        if variable.startswith(ENV_PREFIX) and variable not in known and variable not in others:
            close = difflib.get_close_matches(variable, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            problems.append(Problem(variable, f"overrides no setting{hint}"))
    return problems


def _variable(dotted: str) -> str:
    return ENV_PREFIX + dotted.upper().replace(".", "_")


class _Reader:
    def __init__(self, name: str, environ: Mapping[str, str], base: Path) -> None:
        self.name = name
        self.environ = environ
        self.base = base
        self.problems: list[Problem] = []
        self._open: list[yaml.Node] = []
        """The collections that are being read, each inside the one before."""

    def problem(self, line: int, field: str, what: str) -> None:
        where = f"{self.name}:{line}" if line else field
        self.problems.append(Problem(f"{where}: {field}" if line and field else where, what))

    # -- YAML with line numbers

    def compose(self, text: str) -> Any:
        text = _WRITTEN_REFERENCE.sub("\ue000\\1\ue001", text)
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            return {} if node is None else self.plain(node)
        except RecursionError as error:
            raise InvalidSettings([Problem(self.name, "is nested too deeply")]) from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise InvalidSettings([Problem(f"{self.name}:{line}", f"not YAML: {error.problem}")]) from error
        except yaml.YAMLError as error:
            raise InvalidSettings([Problem(self.name, f"not YAML: {error}")]) from error

    def plain(self, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.CollectionNode):
            return self.plain_scalar(node)
        if any(outer is node for outer in self._open):
            line = node.start_mark.line + 1
            raise InvalidSettings([Problem(f"{self.name}:{line}", "holds itself, through an alias (*)")])
        self._open.append(node)
        found = self.plain_collection(node)
        self._open.pop()
        return found

    def plain_collection(self, node: yaml.CollectionNode) -> Any:
        if isinstance(node, yaml.MappingNode):
            found: dict[str, _Node] = {}
            for key_node, value_node in node.value:
                key, line = str(key_node.value), key_node.start_mark.line + 1
                if key in found:
                    self.problem(line, key, f"is given twice; first on line {found[key].line}")
                found[key] = _Node(self.plain(value_node), line)
            return found
        return [_Node(self.plain(item), item.start_mark.line + 1) for item in node.value]

    def plain_scalar(self, node: yaml.Node) -> Any:
        if node.tag == "tag:yaml.org,2002:null":
            return None
        if node.tag == "tag:yaml.org,2002:bool":
            # YAML 1.1 reads on, off, yes and no as booleans; a field that wants words wants the word.
            return _Bool(node.value)
        return node.value

    # -- references

    def resolve(self, text: str, line: int, field: str) -> str | None:
        """``text`` with its references replaced; None when one names nothing."""
        if text.startswith("file:"):
            target = self.base / Path(text[5:]).expanduser()
            try:
                return target.read_text(encoding="utf-8").strip()
            except OSError as error:
                self.problem(line, field, f"cannot read {target}: {error.strerror}")
                return None
            except UnicodeDecodeError as error:
                self.problem(line, field, f"cannot read {target}: {_not_utf8(error)}")
                return None
        whole = _REFERENCE.fullmatch(text)
        if whole:
            return self.environ.get(whole[1], "").strip() or None
        return _REFERENCE.sub(lambda match: self.environ.get(match[1], ""), text)

    # -- values

    def read_dataclass(
        self, schema: type[T], mapping: dict[str, _Node], field: str, line: int, overrides: dict[str, str]
    ) -> T:
        # A setting whose name is a word of Python's has an underscore behind it there: ``from_``.
        hints = {name.rstrip("_"): hint for name, hint in typing.get_type_hints(schema).items()}
        fields = {item.name.rstrip("_"): item for item in dataclasses.fields(schema)}  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        for key, node in mapping.items():
            if key not in fields:
                close = difflib.get_close_matches(key, list(fields), 1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                choices = ", ".join(fields)
                self.problem(node.line, f"{field}{key}", f"is not a setting; {hint}Valid here: {choices}")
                continue
            inner = _inside(overrides, key)
            values[key] = self.read(hints[key], node.value, f"{field}{key}", node.line, inner)
        for name in fields:
            if name in overrides:
                variable = _variable(f"{field}{name}")
                values[name] = self.read(hints[name], overrides[name], variable, 0, {}, from_environment=True)
            elif (
                name not in mapping
                and (inner := _inside(overrides, name))
                and dataclasses.is_dataclass(hints[name])
            ):
                values[name] = self.read_dataclass(hints[name], {}, f"{field}{name}.", line, inner)
        values = {name: value for name, value in values.items() if value is not _INVALID}
        missing = [
            name
            for name, item in fields.items()
            if name not in values
            and item.default is dataclasses.MISSING
            and item.default_factory is dataclasses.MISSING
        ]
        for name in missing:
            if name not in mapping:
                self.problem(line, f"{field}{name}", "is required")
        if missing:
            return typing.cast(T, _INVALID)
        try:
            return schema(**{fields[name].name: value for name, value in values.items()})
        except ValueError as error:
            self.problem(line, field.rstrip("."), str(error))
            return typing.cast(T, _INVALID)

    def read(
        self,
        hint: Any,
        value: Any,
        field: str,
        line: int,
        overrides: dict[str, str],
        *,
        from_environment: bool = False,
    ) -> Any:
        origin = typing.get_origin(hint)
        if origin in (typing.Union, types.UnionType):
            choices = [item for item in typing.get_args(hint) if item is not type(None)]
            if (
                value is None
                or value == ""
                or (isinstance(value, _Bool) and not value.truth and bool not in choices)
            ):
                return None
            resolved = self.resolve(value, line, field) if isinstance(value, str) else value
            if resolved is None:
                return None
            if Secret in choices:
                return self.read_secret(value, resolved, field, line, from_environment)
            return self.read(choices[0], resolved, field, line, overrides)
        if value is None:
            value = (
                {}
                if dataclasses.is_dataclass(hint) or origin is dict
                else []
                if origin in (list, tuple)
                else ""
            )
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            return self.read_dataclass(typing.cast(type[Any], hint), value, f"{field}.", line, overrides)
        if origin in (list, tuple):
            return self.read_sequence(hint, value, field, line)
        if origin is dict:
            if not isinstance(value, dict):
                return self.invalid(line, field, "must be a mapping")
            item = typing.get_args(hint)[1]
            read = {
                key: self.read(item, node.value, f"{field}.{key}", node.line, {})
                for key, node in value.items()
            }
            return {key: got for key, got in read.items() if got is not _INVALID}
        if isinstance(value, str):
            resolved = self.resolve(value, line, field)
            if hint is Secret:
                return self.read_secret(value, resolved, field, line, from_environment)
            value = "" if resolved is None else resolved
        return self.read_scalar(hint, value, field, line)

    def read_sequence(self, hint: Any, value: Any, field: str, line: int) -> Any:
        if isinstance(value, str):
            value = [_Node(item.strip(), line) for item in value.split(",") if item.strip()]
        if not isinstance(value, list):
            return self.invalid(line, field, "must be a list")
        item = typing.get_args(hint)[0]
        read = [self.read(item, node.value, f"{field}[{i}]", node.line, {}) for i, node in enumerate(value)]
        kept = [got for got in read if got is not _INVALID]
        return tuple(kept) if typing.get_origin(hint) is tuple else kept

    def read_secret(
        self, written: Any, resolved: str | None, field: str, line: int, from_environment: bool
    ) -> Any:
        text = written if isinstance(written, str) else ""
        if not from_environment and not text.startswith("file:") and not _REFERENCE.fullmatch(text):
            return self.invalid(
                line, field, "is a secret: write ${NAME_OF_A_VARIABLE} or file:PATH, not the value"
            )
        if not resolved or resolved.lower() in _PLACEHOLDERS:
            return self.invalid(line, field, "is empty or a placeholder")
        return Secret(resolved)

    def read_scalar(self, hint: Any, value: Any, field: str, line: int) -> Any:
        if hint is Any:
            return _bare(value)
        if isinstance(value, dict | list):
            return self.invalid(line, field, "must be a single value")
        if typing.get_origin(hint) is Literal:
            choices = [str(choice) for choice in typing.get_args(hint)]
            text = value.text_in(choices) if isinstance(value, _Bool) else str(value)
            return text if text in choices else self.unknown_choice(text, choices, field, line)
        if isinstance(hint, type) and issubclass(hint, Enum):
            choices = [str(choice.value) for choice in hint]
            text = value.text_in(choices) if isinstance(value, _Bool) else str(value)
            return hint(text) if text in choices else self.unknown_choice(text, choices, field, line)
        if hint is bool:
            truth = value if isinstance(value, _Bool) else _Bool(str(value))
            return (
                truth.truth
                if truth.known
                else self.invalid(line, field, f"must be true or false, not {value!r}")
            )
        text = value.text if isinstance(value, _Bool) else str(value)
        try:
            if hasattr(hint, "parse"):
                return hint.parse(text)
            if hint is str:
                return text
            if hint is Path:
                return Path(text).expanduser()
            if hint is int:
                return int(text.replace("_", ""))
            if hint is Decimal:
                return _amount(text)
            if hint is float:
                return float(text)
        except (ValueError, InvalidOperation) as error:
            said = str(error) if hasattr(hint, "parse") or hint is Decimal else ""
            return self.invalid(line, field, said or f"{text!r} is not {_named(hint)}")
        return self.invalid(line, field, f"must be {_named(hint)}")

    def unknown_choice(self, text: str, choices: list[str], field: str, line: int) -> Any:
        close = difflib.get_close_matches(text, choices, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return self.invalid(line, field, f"{text!r} is not one of {', '.join(choices)}{hint}")

    def invalid(self, line: int, field: str, what: str) -> Any:
        self.problem(line, field, what)
        return _INVALID


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8 text: byte 0x{error.object[error.start]:02x}"


_INVALID: Any = object()
_MOST: Final = 10**6


def _amount(text: str) -> Decimal:
    """An amount in USD, or a share: none that anybody means is above a million.

    Raises:
        ValueError: it is no such number.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None
    if not amount.is_finite():
        raise ValueError(f"{text!r} is not a finite number")
    if not -_MOST <= amount <= _MOST:
        raise ValueError(f"{text!r} is more than a million")
    return amount


class _Bool:
    """A YAML 1.1 boolean with the word that was written."""

    def __init__(self, text: str) -> None:
        self.text = text
        lowered = text.strip().lower()
        self.truth = lowered in ("true", "yes", "on", "y", "1")
        self.known = self.truth or lowered in ("false", "no", "off", "n", "0", "")

    def text_in(self, choices: list[str]) -> str:
        """The word, or the choice that means the same."""
        same = ("on", "true", "yes") if self.truth else ("off", "false", "no")
        return (
            self.text if self.text in choices else next((word for word in same if word in choices), self.text)
        )


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bare(node.value) for key, node in value.items()}
    if isinstance(value, list):
        return [_bare(node.value) for node in value]
    return value.truth if isinstance(value, _Bool) else value


def _inside(overrides: dict[str, str], key: str) -> dict[str, str]:
    return {name[len(key) + 1 :]: text for name, text in overrides.items() if name.startswith(f"{key}.")}


def _paths(schema: type[Any], prefix: str = "") -> list[str]:
    """The dotted names of all settings that an environment variable may override."""
    found = []
    for name, hint in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint) and not hasattr(hint, "parse"):
            found += _paths(typing.cast(type[Any], hint), f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def _named(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        Decimal: "a decimal number",
        str: "text",
        Path: "a path",
    }
    return names.get(hint, getattr(hint, "__name__", str(hint)))
