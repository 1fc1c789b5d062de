"""Every mistake in the configuration is reported at once, with its line and the valid choices."""

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from collector.settings import (
    Address,
    Duration,
    InvalidSettings,
    Secret,
    Size,
    load,
    unknown_overrides,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    key: Secret | None = None
    colour: Literal["red", "blue", "off"] = "red"
    needed: int = 1


@dataclass(frozen=True, kw_only=True)
class Item:
    limit: Decimal
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Whole:
    listen: Address = Address("127.0.0.1", 1)
    wait: Duration = Duration(1)
    room: Size = Size(1)
    on: bool = False
    inner: Inner = field(default_factory=Inner)
    items: dict[str, Item] = field(default_factory=dict)
    target: str | None = None


def read(tmp_path: Path, text: str, **environ: str) -> Whole:
    path = tmp_path / "bursar.yaml"
    path.write_text(text)
    return load(Whole, path, environ)


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        read(tmp_path, text, **environ)
    return [str(problem).replace(str(tmp_path) + "/", "") for problem in caught.value.problems]


def test_values_are_read_into_their_types(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "listen: '[::1]:80'\nwait: 250ms\nroom: 20MiB\non: yes\n"
        "items: {a: {limit: 0.1, names: [x, y]}}\ninner: {colour: off}\n",
    )

    assert found == Whole(
        listen=Address("::1", 80),
        wait=Duration(0.25),
        room=Size(20 << 20),
        on=True,
        inner=Inner(colour="off"),
        items={"a": Item(limit=Decimal("0.1"), names=("x", "y"))},
    )


def test_an_empty_file_and_no_file_mean_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") == load(Whole, None, {}) == Whole()


def test_all_mistakes_are_reported_together_with_their_lines(tmp_path: Path) -> None:
    said = problems(
        tmp_path, "lisen: a:1\nwait: soon\ninner:\n  colour: bleu\n  needed: many\nitems:\n  a: {}\n"
    )

    assert said == [
        "bursar.yaml:1: lisen: is not a setting; did you mean 'listen'? "
        "Valid here: listen, wait, room, on, inner, items, target",
        "bursar.yaml:2: wait: 'soon' is not a duration; write 250ms, 30s, 5m, 24h or 7d",
        "bursar.yaml:4: inner.colour: 'bleu' is not one of red, blue, off; did you mean 'blue'?",
        "bursar.yaml:5: inner.needed: 'many' is not a whole number",
        "bursar.yaml:7: items.a.limit: is required",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "bursar.yaml:1: not YAML"),
        ("- a\n", "bursar.yaml:1: the file must hold a mapping of settings"),
        ("on: true\non: false\n", "bursar.yaml:2: on: is given twice; first on line 1"),
        ("listen: 4000\n", "bursar.yaml:1: listen: '4000' is not host:port"),
        ("room: 3 potatoes\n", "bursar.yaml:1: room: '3 potatoes' is not a size"),
        ("items: 3\n", "bursar.yaml:1: items: must be a mapping"),
        ("on: perhaps\n", "bursar.yaml:1: on: must be true or false"),
        ("items: {a: {limit: NaN}}\n", "bursar.yaml:1: items.a.limit: 'NaN' is not a finite number"),
        ("items: {a: {limit: ten}}\n", "bursar.yaml:1: items.a.limit: 'ten' is not a number"),
        ("items: {a: {limit: 1e999999999}}\n", "bursar.yaml:1: items.a.limit: '1e999999999' is more"),
    ],
)
def test_a_mistake_says_where_it_is(tmp_path: Path, text: str, said: str) -> None:
    assert any(line.startswith(said) for line in problems(tmp_path, text))


def test_a_file_that_is_not_utf8_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bursar.yaml"
    path.write_bytes("wait: 1s\ntarget: café\n".encode("latin-1"))

    with pytest.raises(InvalidSettings) as caught:
        load(Whole, path, {})

    assert str(caught.value) == f"{path}:2: not UTF-8 text: byte 0xe9"


def test_a_file_of_a_secret_that_is_not_utf8_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "bin.key").write_bytes(b"\xff\xfe")

    (said,) = problems(tmp_path, "inner: {key: 'file:bin.key'}")

    assert said == "bursar.yaml:1: inner.key: cannot read bin.key: not UTF-8 text: byte 0xff"


@pytest.mark.parametrize("text", ["items: &a [*a]\n", "items: &a {b: {c: *a}}\n"])
def test_an_alias_for_what_it_stands_in_is_a_mistake(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == ["bursar.yaml:1: holds itself, through an alias (*)"]


def test_an_alias_may_be_used_twice(tmp_path: Path) -> None:
    found = read(tmp_path, "items: {a: &a {limit: 1}, b: *a}\n")

    assert found.items["a"] == found.items["b"] == Item(limit=Decimal(1))


def test_brackets_without_end_are_a_mistake(tmp_path: Path) -> None:
    assert problems(tmp_path, f"target: {'[' * 5000}") == ["bursar.yaml: is nested too deeply"]


def test_a_reference_stands_even_inside_braces(tmp_path: Path) -> None:
    found = read(
        tmp_path, "inner: {key: ${THE_KEY}, needed: 2}\ntarget: http://${HOST}/x\n", THE_KEY="abc", HOST="h"
    )

    assert found.inner.key == Secret("abc")
    assert found.target == "http://h/x"


def test_a_secret_comes_from_a_file_with_its_newline_trimmed(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("abc\n")

    assert read(tmp_path, "inner: {key: 'file:key'}").inner.key == Secret("abc")


def test_a_secret_written_out_or_a_placeholder_is_refused(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, "inner: {key: sk-12345}")
    assert "is a secret" in said
    assert "12345" not in said

    (said,) = problems(tmp_path, "inner: {key: ${K}}", K="sk-...")
    assert said.endswith("is empty or a placeholder")


def test_a_reference_to_nothing_leaves_an_optional_secret_unset(tmp_path: Path) -> None:
    assert read(tmp_path, "inner: {key: ${UNSET_KEY}}").inner.key is None


def test_a_secret_is_never_shown() -> None:
    assert "abc" not in f"{Secret('abc')!r} {Secret('abc')} {Inner(key=Secret('abc'))}"


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, "wait: 1s\n", BURSAR_WAIT="5s", BURSAR_INNER_NEEDED="7", BURSAR_INNER_KEY="abc")

    assert (found.wait, found.inner.needed, found.inner.key) == (5.0, 7, Secret("abc"))


def test_a_wrong_override_names_its_variable(tmp_path: Path) -> None:
    assert problems(tmp_path, "", BURSAR_WAIT="soon") == [
        "BURSAR_WAIT: 'soon' is not a duration; write 250ms, 30s, 5m, 24h or 7d"
    ]


def test_a_variable_that_overrides_nothing_is_pointed_out() -> None:
    (problem,) = unknown_overrides(
        Whole, {"BURSAR_LISEN": "x", "BURSAR_OTHER": "x"}, frozenset({"BURSAR_OTHER"})
    )

    assert str(problem) == "BURSAR_LISEN: overrides no setting; did you mean BURSAR_LISTEN?"
