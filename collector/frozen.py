"""Frozen dataclasses with keywords alone, for settings: no source is written and compiled for them.

``dataclasses.dataclass`` writes six methods for each class as text and has Python compile it; for the forty
classes that a configuration is made of that is a fifth of a sidecar's start. Here the same methods are
written once and look at the fields. Making a value takes longer so, which matters where values are made by
the call and not where they are made once.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        *, frozen: Literal[True], slots: Literal[True], kw_only: Literal[True]
    ) -> Callable[[type[T]], type[T]]:
        """As the decorator of that name in the standard library, for these three words alone."""
        return _frozen


def _frozen(cls: type[T]) -> type[T]:
    for method in (_init, _repr, _eq, _hash, _setattr, _delattr, _getstate, _setstate):
        name = f"_{method.__name__}__"
        if name not in cls.__dict__:
            setattr(cls, name, method)
    return dataclasses.dataclass(cls, init=False, repr=False, eq=False, slots=True, kw_only=True)


def _init(self: Any, /, **given: Any) -> None:
    missing = []
    for item in dataclasses.fields(self):
        name = item.name
        if name in given:
            value = given.pop(name)
        elif item.default is not dataclasses.MISSING:
            value = item.default
        elif item.default_factory is not dataclasses.MISSING:
            value = item.default_factory()
        else:
            missing.append(repr(name))
            continue
        object.__setattr__(self, name, value)
    if given or missing:
        what = f"misses {', '.join(missing)}" if missing else f"has no {', '.join(map(repr, given))}"
        raise TypeError(f"{type(self).__name__} {what}")
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def _repr(self: Any) -> str:
    shown = ", ".join(
        f"{item.name}={getattr(self, item.name)!r}" for item in dataclasses.fields(self) if item.repr
    )
    return f"{type(self).__qualname__}({shown})"


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, item.name) for item in dataclasses.fields(self))


def _eq(self: Any, other: object) -> object:
    if type(other) is not type(self):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _setattr(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> tuple[Any, ...]:
    return _values(self)


def _setstate(self: Any, state: tuple[Any, ...]) -> None:
    for item, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, item.name, value)
