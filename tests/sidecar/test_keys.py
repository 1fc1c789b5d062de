"""Virtual keys: shown once, kept as a keyed hash, ended within seconds."""

import json
from pathlib import Path

import pytest

from sidecar.keys import KeyFileBroken, KeyRing, digest_of, read_pepper


def test_a_key_is_found_until_it_is_revoked(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token, key = ring.create(100, team="search")
    assert token.startswith("vk_")
    found = ring.find(token, 101)
    assert found is not None and found.team == "search"

    ring.revoke(key.id, 102)

    assert ring.find(token, 103) is None
    assert ring.revoke(key.id, 104) is None


def test_another_process_sees_new_and_revoked_keys(tmp_path: Path) -> None:
    here, there = KeyRing(tmp_path), KeyRing(tmp_path)
    token, key = here.create(1)
    assert there.find(token, 2) is None

    assert there.refresh()
    assert there.find(token, 2) is not None
    here.revoke(key.id, 3)
    there.refresh()
    assert there.find(token, 4) is None


def test_a_key_ends_when_it_expires(tmp_path: Path) -> None:
    token, _ = (ring := KeyRing(tmp_path)).create(0, expires_at=10)

    assert ring.find(token, 9.9) is not None
    assert ring.find(token, 10) is None


def test_neither_the_key_nor_anything_that_opens_the_door_is_kept(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token, key = ring.create(1)

    assert token not in ring.path.read_text()
    assert ring.find(key.digest, 2) is None
    assert ring.find(key.id, 2) is None
    assert (tmp_path / "pepper").stat().st_mode & 0o077 == 0
    assert key.digest == digest_of(token, read_pepper(tmp_path))


@pytest.mark.parametrize(
    "token", ["", "vk_", "' OR '1'='1", "*", "%00", "{tenant}", "ключ", "x" * 1_000_000, "\udcff"]
)
def test_what_is_no_key_is_not_found(tmp_path: Path, token: str) -> None:
    ring = KeyRing(tmp_path)
    ring.create(1)

    assert ring.find(token, 2) is None


def test_a_damaged_file_leaves_the_known_keys_in_force(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token, _ = ring.create(1)
    ring.path.write_text("{")

    with pytest.raises(KeyFileBroken):
        ring.refresh()

    assert ring.find(token, 2) is not None


@pytest.mark.parametrize("text", ["[]", "{}", '{"keys": ["x"]}', '{"keys": 3}', '{"keys": [{"id": "x"}]}'])
def test_a_file_that_holds_something_else_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)

    with pytest.raises(KeyFileBroken, match=r"keys\.json: holds no list of keys"):
        KeyRing(tmp_path)


def test_a_folder_that_is_none_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    with pytest.raises(KeyFileBroken, match="Not a directory"):
        KeyRing(tmp_path / "data")


def test_fields_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token, _ = ring.create(1, models=("a", "b"), tags={"x": "y"})
    rows = json.loads(ring.path.read_text())
    rows["keys"][0]["from_the_future"] = 1
    ring.path.write_text(json.dumps(rows))
    ring.refresh()

    found = ring.find(token, 2)
    assert found is not None and found.models == ("a", "b") and found.tags == {"x": "y"}
