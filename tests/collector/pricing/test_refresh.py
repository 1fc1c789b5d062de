"""Newer prices come from a file of any of three formats; a bad one changes nothing."""

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from collector.domain.record import PriceGrade
from collector.pricing import refresh
from collector.pricing.book import TABLE_PATH, PriceBook
from collector.pricing.refresh import fetch, load_overlay, main
from collector.pricing.table import InvalidTable

TODAY = date(2026, 11, 22)


def litellm_file(usd_in: float = 9.0, count: int = 12) -> bytes:
    entries: dict[str, Any] = {
        f"gpt-new-{number}": {
            "litellm_provider": "openai",
            "mode": "chat",
            "input_cost_per_token": usd_in / 1e6,
            "output_cost_per_token": 2 * usd_in / 1e6,
        }
        for number in range(count)
    }
    return json.dumps(entries | {"gpt-4o": entries["gpt-new-0"]}).encode()


def genai_file() -> bytes:
    models = [
        {"id": f"m-{n}", "match": {"starts_with": f"m-{n}"}, "prices": {"input_mtok": 9, "output_mtok": 18}}
        for n in range(12)
    ]
    return json.dumps([{"id": "openai", "models": models}]).encode()


def test_litellms_file_is_laid_over_the_book(book: PriceBook) -> None:
    newer = load_overlay(book, litellm_file(), "/tmp/prices.json", TODAY)

    quote = newer.quote("openai", "gpt-new-3", newer.made_us)
    assert (quote.price.input, quote.grade, quote.source) == (9_000_000, PriceGrade.LISTED, "prices.json")
    assert newer.quote("openai", "gpt-4o", newer.made_us).price.input == 9_000_000
    assert newer.quote("openai", "gpt-5", newer.made_us).price.input == 1_250_000
    assert newer.version != book.version
    assert book.quote("openai", "gpt-4o", book.made_us).price.input == 2_500_000


def test_genai_prices_data_is_laid_over_the_book(book: PriceBook) -> None:
    newer = load_overlay(book, gzip.compress(genai_file()), "data.json", TODAY)

    assert newer.quote("openai", "m-3-2026", newer.made_us).price.output == 18_000_000


def test_a_table_of_our_own_replaces_the_book(book: PriceBook) -> None:
    changed = TABLE_PATH.read_bytes().replace(b'"made":"2026-11-22"', b'"made":"2026-12-24"', 1)

    newer = load_overlay(book, changed, "table.json", TODAY)

    assert newer.version.startswith("2026-12-24-")
    assert len(newer.tables) == 1


def test_a_second_overlay_takes_the_place_of_the_first(book: PriceBook) -> None:
    first = load_overlay(book, litellm_file(9.0), "a", TODAY)
    second = load_overlay(first, litellm_file(8.0), "a", TODAY)

    assert len(second.tables) == 2
    assert second.quote("openai", "gpt-new-3", second.made_us).price.input == 8_000_000
    assert second.version != first.version


def test_configured_prices_survive_a_refresh() -> None:
    own = PriceBook.load({"gpt-4o": {"input": 1, "output": 1}})

    newer = load_overlay(own, litellm_file(), "a", TODAY)

    assert newer.quote("openai", "gpt-4o", newer.made_us).grade is PriceGrade.CONFIGURED


def test_the_same_file_makes_the_same_version(book: PriceBook) -> None:
    assert (
        load_overlay(book, litellm_file(), "a", TODAY).version
        == load_overlay(book, litellm_file(), "a", TODAY).version
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"\x1f\x8bgarbage", "gzip"),
        (b"42", "neither"),
        (b"[1, 2]", "not the price file"),
        (b'[{"id": "x"}]', "not the price file"),
        (b"{}", "no model"),
        (b'{"format": 99}', "price table"),
        (litellm_file(count=2), "only 3 models"),
        (
            b'[{"id":"x","models":[{"id":"m","match":{"regex":"("},"prices":{"input_mtok":1}}]}]',
            "regular expression",
        ),
        (
            b'[{"id":"x","models":[{"id":"m","match":{"near":"m"},"prices":{"input_mtok":1}}]}]',
            "unknown match",
        ),
        (b'[{"id":"x","models":[{"id":"m","match":{"equals":"m"},"prices":{"input_mtok":-1}}]}]', "negative"),
    ],
)
def test_a_bad_file_says_why_and_changes_nothing(book: PriceBook, data: bytes, why: str) -> None:
    with pytest.raises(InvalidTable, match=why):
        load_overlay(book, data, "prices.json", TODAY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"p":{"i":2.5,', b'"p":{"i":-2.5,'),
        (b'"p":{"i":2.5,', b'"p":{"i":"much",'),
        (b'"p":{"i":2.5,', b'"p":{"price":2.5,'),
        (b'"d":[["20', b'"d":[["yesterday-20'),
        (b'"prior":["openai",', b'"prior":["nowhere",'),
    ],
)
def test_a_damaged_table_is_refused(book: PriceBook, old: bytes, new: bytes) -> None:
    damaged = TABLE_PATH.read_bytes().replace(old, new, 1)

    with pytest.raises(InvalidTable):
        load_overlay(book, damaged, "table.json", TODAY)


def test_a_file_that_unpacks_without_end_is_refused(book: PriceBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "MAX_BYTES", 1000)

    with pytest.raises(InvalidTable, match="larger"):
        load_overlay(book, gzip.compress(b" " * 100_000), "bomb", TODAY)


def test_prices_are_read_from_files_and_https_only(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_bytes(litellm_file())

    assert fetch(str(file)) == litellm_file()
    assert fetch(file.as_uri()) == litellm_file()
    for source in ("http://127.0.0.1:9/prices.json", "ftp://127.0.0.1/prices.json", str(tmp_path / "gone")):
        with pytest.raises(InvalidTable):
            fetch(source)


def test_an_address_that_cannot_be_reached_says_so() -> None:
    with pytest.raises(InvalidTable, match=r"https://127\.0\.0\.1:9/"):
        fetch("https://127.0.0.1:9/prices.json", timeout_s=2)


def test_a_file_beyond_the_cap_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "MAX_BYTES", 10)
    (tmp_path / "big").write_bytes(b"x" * 11)

    with pytest.raises(InvalidTable, match="larger"):
        fetch(str(tmp_path / "big"))


def test_another_process_may_do_the_parsing(tmp_path: Path, book: PriceBook) -> None:
    (tmp_path / "in.json").write_bytes(litellm_file())
    out = tmp_path / "out.json"

    assert main([str(tmp_path / "in.json"), str(out)]) == 0
    newer = load_overlay(book, out.read_bytes(), "out.json", TODAY)
    assert newer.quote("openai", "gpt-new-3", newer.made_us).price.input == 9_000_000
    assert newer.quote("openai", "gpt-5", newer.made_us).price.input == 1_250_000

    (tmp_path / "in.json").write_bytes(b"{")
    assert main([str(tmp_path / "in.json"), str(out)]) == 1
    assert main([]) == 2
