"""The collector learns of prices that change in the configuration."""

from decimal import Decimal

from sidecar.commands.collector import ChangedPrices
from sidecar.config import load_config


def test_prices_are_told_once_when_the_file_says_others(tmp_path):
    path = tmp_path / "bursar.yaml"
    path.write_text("prices:\n  m: {input: 1, output: 2}\n")
    changed = ChangedPrices(path, load_config(path))

    assert changed() is None
    path.write_text("prices:\n  m: {input: 1, output: 2.5}\n")
    assert changed() == {"m": {"input": Decimal(1), "output": Decimal("2.5")}}
    assert changed() is None


def test_a_file_that_cannot_be_used_or_says_the_same_changes_no_price(tmp_path):
    path = tmp_path / "bursar.yaml"
    path.write_text("prices:\n  m: {input: 1, output: 2}\n")
    changed = ChangedPrices(path, load_config(path))

    path.write_text("prices: [\n")
    assert changed() is None
    path.write_text("workers: 2\nprices:\n  m: {input: 1, output: 2}\n")
    assert changed() is None
    path.write_bytes(b"# caf\xe9\n")
    assert changed() is None
    path.unlink()
    assert changed() is None


def test_whatever_reading_the_file_does_the_books_go_on(tmp_path, monkeypatch, caplog):
    path = tmp_path / "bursar.yaml"
    path.write_text("prices:\n  m: {input: 1, output: 2}\n")
    changed = ChangedPrices(path, load_config(path))

    path.write_text("prices:\n  m: {input: 1, output: 2.5}\n")
    with monkeypatch.context() as patch:
        patch.setattr("sidecar.commands.collector.load_config", lambda path: 1 / 0)
        assert changed() is None
        assert changed() is None
    assert [record.message for record in caplog.records] == [
        "changed prices could not be read; they stay as they were"
    ]
    path.write_text("prices:\n  m: {input: 1, output: 2.75}\n")
    assert changed() == {"m": {"input": Decimal(1), "output": Decimal("2.75")}}
