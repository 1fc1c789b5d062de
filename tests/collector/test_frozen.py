"""Values of settings: what the standard library's dataclasses do, of classes that take no compiling."""

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, field, replace

import pytest

from collector.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may come."""

    name: str
    most: int = 3
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError("most is below zero")

    @property
    def twice(self) -> int:
        """Of the most."""
        return 2 * self.most


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AsTheLibraryDoes:
    """The same fields."""

    name: str
    most: int = 3
    tags: dict[str, str] = field(default_factory=dict)


def test_fields_take_their_defaults_and_a_mapping_of_its_own() -> None:
    one, other = Limits(name="a"), Limits(name="b", most=4)

    assert (one.name, one.most, one.tags, one.twice) == ("a", 3, {}, 6)
    assert other.most == 4
    assert one.tags is not other.tags


def test_they_are_shown_compared_and_replaced_as_the_library_does_it() -> None:
    one = Limits(name="a", most=1)
    same: object = AsTheLibraryDoes(name="a", most=1)

    assert repr(one) == repr(same).replace("AsTheLibraryDoes", "Limits")
    assert one == Limits(name="a", most=1)
    assert one != Limits(name="b", most=1)
    assert one != same
    assert replace(one, most=2) == Limits(name="a", most=2)
    assert dataclasses.asdict(one) == {"name": "a", "most": 1, "tags": {}}
    assert dataclasses.is_dataclass(one)
    assert not hasattr(one, "__dict__")


def test_nothing_of_them_can_be_changed() -> None:
    limits = Limits(name="a")

    with pytest.raises(FrozenInstanceError):
        limits.most = 5  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del limits.most
    assert limits.most == 3


def test_a_field_that_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(TypeError, match="misses 'name'"):
        Limits()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="has no 'least'"):
        Limits(name="a", least=1)  # type: ignore[call-arg]


def test_what_a_class_checks_itself_is_checked() -> None:
    with pytest.raises(ValueError, match="below zero"):
        Limits(name="a", most=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """Nothing that cannot be hashed."""

    name: str
    most: int = 3


def test_they_are_keys_and_survive_being_copied_and_pickled() -> None:
    plain = Plain(name="a")

    assert {plain: 1}[Plain(name="a")] == 1
    assert copy.deepcopy(plain) == plain
    assert pickle.loads(pickle.dumps(plain)) == plain
