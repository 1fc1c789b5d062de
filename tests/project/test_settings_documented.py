"""Whoever writes a bursar.yaml finds each setting explained, and its name in the environment."""

import ast
import dataclasses
import itertools
import typing
from pathlib import Path

import pytest

from collector.settings import overrides_of
from sidecar.config import BursarConfig

ROOT = Path(__file__).resolve().parents[2]


def config_classes() -> list[type]:
    """Every dataclass that a bursar.yaml is read into."""
    found: dict[str, type] = {}

    def visit(hint: object) -> None:
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if hint.__name__ in found or not hint.__name__.endswith(("Config", "Settings")):
                return
            found[hint.__name__] = hint
            for inner in typing.get_type_hints(hint).values():
                visit(inner)
        for inner in typing.get_args(hint):
            visit(inner)

    visit(BursarConfig)
    assert len(found) >= 8
    return list(found.values())


def documented(schema: type) -> dict[str, str]:
    """The text below each field."""
    path = ROOT / (schema.__module__.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text())
    body = next(
        node.body
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == schema.__name__
    )
    texts = {}
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if is_text and isinstance(after.value.value, str):
                texts[field.target.id] = after.value.value
    return texts


@pytest.mark.parametrize("schema", config_classes(), ids=lambda schema: schema.__name__)
def test_every_setting_is_explained_below_its_name(schema: type) -> None:
    texts = documented(schema)
    silent = [field.name for field in dataclasses.fields(schema) if not texts.get(field.name, "").strip()]
    assert silent == []


@pytest.mark.parametrize("schema", config_classes(), ids=lambda schema: schema.__name__)
def test_every_explanation_is_a_sentence(schema: type) -> None:
    ragged = [
        name for name, text in documented(schema).items() if not text.strip().endswith((".", "?", "``"))
    ]
    assert ragged == []


def test_a_setting_inside_another_can_be_set_from_the_environment() -> None:
    assert overrides_of(BursarConfig, {"BURSAR_CONTROL_LISTEN": "127.0.0.1:1"}) == {
        "control.listen": "127.0.0.1:1"
    }
