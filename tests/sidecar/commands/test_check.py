"""What is found wrong with a configuration before anything runs by it."""

import sys
from pathlib import Path

import pytest

from sidecar.cli import main

ENCRYPTED = "cache: {redis: redis://127.0.0.1:6380/1, encrypt: true}\n"


@pytest.mark.parametrize("command", [["check"], ["sidecar"]])
def test_answers_to_be_encrypted_are_refused_where_nothing_can_encrypt_them(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bursar.yaml"
    path.write_text(f"data_dir: {tmp_path}\n{ENCRYPTED}")
    monkeypatch.setitem(sys.modules, "cryptography", None)  # As where it is not installed.

    assert main([*command, "--config", str(path)]) == 2
    said = capsys.readouterr().err
    assert "cache.encrypt" in said and "'.[encryption]'" in said


def test_encryption_of_answers_that_are_in_memory_alone_is_said_to_do_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bursar.yaml"
    path.write_text(f"data_dir: {tmp_path}\ncache: {{encrypt: true}}\n")
    assert main(["check", "--config", str(path)]) == 0
    assert "cache.encrypt" in capsys.readouterr().err


def test_a_price_a_thousand_times_off_the_list_is_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bursar.yaml"
    path.write_text(f"data_dir: {tmp_path}\nprices: {{gpt-4o: {{input: 2500, output: 10}}}}\n")
    assert main(["check", "--config", str(path)]) == 0
    said = capsys.readouterr().err
    assert "warning: prices.gpt-4o.input: 2500 USD per million tokens is 1000 times the listed 2.5" in said
