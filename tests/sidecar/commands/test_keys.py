"""`bursar keys`, as somebody types it."""

import json
import re
from pathlib import Path

import pytest


def test_a_name_is_neither_markup_nor_does_it_steer_the_terminal(bursar):
    bursar("keys", "create", "--name", "[/oops]\x1b[2J")

    assert "[/oops]\\x1b[2J" in bursar("keys", "list").out


@pytest.mark.parametrize("width", [80, 40])
def test_what_is_listed_can_be_revoked(bursar, a_terminal, width):
    a_terminal(width)
    about = ("--name", "what it is for, at length", "--team", "search", "--models", "gpt-5.4,claude-opus-5")
    bursar("keys", "create", *about)

    (listed,) = re.findall(r"vk_[0-9a-f]{6}\b", bursar("keys", "list").out)

    assert listed == json.loads(bursar("keys", "list", "--format", "json").out)[0]["id"]
    assert "is revoked" in bursar("keys", "revoke", listed).out


def test_it_is_said_where_a_key_counts(bursar, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "bursar.yaml").write_text("data_dir: data\n")

    made = bursar("keys", "--config", "etc/bursar.yaml", "create")

    assert f"data directory is {tmp_path}/data\n" in made.err  # where the command ran, not beside the file
    assert (tmp_path / "data" / "keys.json").exists()
    assert f"data: {tmp_path}/data\n" in bursar("check", "--config", "etc/bursar.yaml").out


def test_that_there_is_no_key_is_said_in_words(bursar):
    assert bursar("keys", "list").out == "There is no key yet; `bursar keys create` makes one.\n"


def test_a_key_has_its_tags_and_ends_when_it_was_said_to(bursar):
    tags = ("--tag", "env=prod", "--tag", "note=a=b", "--tag", "empty=")
    bursar("keys", "create", *tags, "--expires", "36500d")

    (kept,) = json.loads(Path(".bursar/keys.json").read_text())["keys"]
    assert kept["tags"] == {"env": "prod", "note": "a=b", "empty": ""}
    assert kept["expires_at"] == kept["created_at"] + 36_500 * 86_400
    assert bursar("keys", "list").code == 0
