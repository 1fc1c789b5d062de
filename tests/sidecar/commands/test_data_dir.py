"""A data directory that cannot be is told in a line, before anything is started."""

import os

import pytest

from sidecar.commands.process import close_to_others, not_writable


@pytest.mark.parametrize("command", ["check", "up", "sidecar", "collector", "keys list", "keys create"])
@pytest.mark.parametrize("folder", ["taken", "taken/below", "/dev/null/x"])
def test_a_file_in_its_place_is_said_in_a_line(bursar, tmp_path, command, folder):
    (tmp_path / "taken").write_text("")
    (tmp_path / "bursar.yaml").write_text(f"data_dir: {folder}\n")

    ran = bursar(*command.split())

    place = "/dev/null" if folder.startswith("/") else tmp_path / "taken"
    assert ran.code == 2
    said = f"data_dir: {folder} cannot be a folder: {place} is a file"
    assert ran.err == f"The configuration cannot be used:\n  {said}\n"


def test_the_demonstration_says_it_too(bursar):
    ran = bursar("demo", "--data-dir", "/dev/null/x")

    assert ran.code == 2
    assert ran.err == "--data-dir: /dev/null/x cannot be a folder: /dev/null is a file\n"


def test_a_folder_that_may_not_be_written_to_is_said_before_it_starts(bursar, tmp_path, monkeypatch):
    # Root, who may run the tests, may do anything.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (tmp_path / "bursar.yaml").write_text("data_dir: data\n")

    assert f"data_dir: data cannot be made in {tmp_path}" in bursar("up").err
    checked = bursar("check")
    assert checked.code == 0  # Somebody else may run it.
    assert f"warning: data_dir: data cannot be made in {tmp_path}" in checked.err


def test_a_folder_that_is_to_be_made_can_be(tmp_path):
    assert not_writable(tmp_path / "a" / "b") == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("keys", "list"), ("check", "--key", "vk_1")])
def test_damaged_keys_are_said_in_a_line(bursar, tmp_path, command):
    (tmp_path / ".bursar").mkdir()
    (tmp_path / ".bursar" / "keys.json").write_text("[]")

    ran = bursar(*command)

    assert ran.code == 2
    assert ran.err.splitlines()[-1] == (
        "The virtual keys cannot be read: .bursar/keys.json: holds no list of keys as we write it"
    )


def test_an_address_that_is_none_of_redis_is_a_mistake(bursar, tmp_path):
    (tmp_path / "bursar.yaml").write_text("redis: http://x\n")

    ran = bursar("check")

    assert ran.code == 2
    assert "bursar.yaml:1: redis: not a Redis address: redis://, rediss:// or unix:// is expected" in ran.err


def open_to_others(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.stat().st_mode & 0o007)


def test_what_was_made_before_is_closed_to_others_and_what_others_made_is_left(tmp_path):
    made = ["journal", "alerts"]
    for name in made:
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "bursar.duckdb").write_text("")
    (tmp_path / "bursar.duckdb").chmod(0o644)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "notes.txt").chmod(0o644)
    tmp_path.chmod(0o755)

    close_to_others(tmp_path)

    assert open_to_others(tmp_path) == ["notes.txt"]
    assert (tmp_path / "bursar.duckdb").stat().st_mode & 0o777 == 0o640
    assert tmp_path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(("before", "after"), [(0o022, 0o027), (0o077, 0o077), (0o002, 0o007)])
def test_a_command_takes_nothing_but_what_others_may(bursar, before, after):
    was = os.umask(before)
    try:
        bursar("--version")
        bursar("keys", "list")
        assert os.umask(0) == after
    finally:
        os.umask(was)
