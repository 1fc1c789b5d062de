"""The table on disk: what was built is what is read, and it is small."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.pricing.book import TABLE_PATH, PriceBook
from collector.pricing.rates import Rates, read_rates, written
from collector.pricing.table import (
    InvalidTable,
    Row,
    check_table,
    matches,
    read_row,
    read_table,
    write_row,
    write_table,
)

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "scripts" / "prices" / "build.py"

pico = st.none() | st.integers(0, 10**12)
flat_rates = st.builds(
    Rates, input=pico, output=pico, cache_read=pico, cache_write_1h=pico, image_output=pico, per_request=pico
)


@given(flat_rates, flat_rates, flat_rates)
def test_a_row_comes_back_as_it_was_written(base: Rates, tier: Rates, service: Rates) -> None:
    base.tiers = [(200_000, tier)]
    base.services = {"batch": service}
    base.regions = {"eu": 1100}
    row = Row(
        model="M", rates=base, changes=[("2026-09-01", service)], sources="gl", filled=["output"], other=tier
    )

    assert read_row("m", write_row("m", row)) == Row(
        **{**{name: getattr(row, name) for name in Row.__struct_fields__}, "model": "m"}
    )


def test_figures_are_written_as_people_read_them() -> None:
    assert written(Rates(input=150_000, per_request=12 * 10**9)) == {
        "i": Decimal("0.15"),
        "q": Decimal("0.012"),
    }
    assert read_rates({"i": Decimal("0.15"), "q": Decimal("0.012")}) == Rates(
        input=150_000, per_request=12 * 10**9
    )


def test_an_unknown_rate_in_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown rate"):
        read_rates({"i": 1, "price": 2})


def test_the_table_is_sound() -> None:
    check_table(read_table(TABLE_PATH.read_bytes()))


def test_the_table_is_small_and_one_model_is_one_line() -> None:
    data = TABLE_PATH.read_bytes()
    table = read_table(data)

    assert len(data) < 500_000
    assert data.count(b"\n") > sum(len(provider.models) for provider in table.providers.values())


def test_the_readme_names_the_versions_that_the_table_was_made_from() -> None:
    readme = (TABLE_PATH.parent / "README.md").read_text()
    table = read_table(TABLE_PATH.read_bytes())

    for source in table.sources.values():
        assert f"{source.version} | {source.date} | {source.licence}" in readme


def test_writing_what_was_read_changes_nothing(tmp_path: Path) -> None:
    write_table(read_table(TABLE_PATH.read_bytes()), tmp_path / "again.json")

    assert (tmp_path / "again.json").read_bytes() == TABLE_PATH.read_bytes()


def test_a_table_of_a_later_format_is_refused() -> None:
    with pytest.raises(InvalidTable, match="format 2"):
        read_table(TABLE_PATH.read_bytes().replace(b'"format":1', b'"format":2', 1))


@pytest.mark.parametrize(
    ("clause", "name", "accepted"),
    [
        ({"equals": "A"}, "a", True),
        ({"starts_with": "gpt-"}, "gpt-4o", True),
        ({"ends_with": ":free"}, "x:free", True),
        ({"contains": "nova"}, "us.amazon.nova-lite", True),
        ({"contains": "nova"}, "titan", False),
        ({"regex": r"^o\d$"}, "o3", True),
        ({"or": [{"equals": "a"}, {"equals": "b"}]}, "b", True),
        ({"and": [{"contains": "a"}, {"contains": "b"}]}, "a", False),
    ],
)
def test_a_rule_accepts_a_name(clause: dict[str, object], name: str, accepted: bool) -> None:
    assert matches(clause, name) is accepted


def test_the_rules_of_a_provider_are_found_by_their_strings_as_by_trying_all(book: PriceBook) -> None:
    [table] = book.tables
    for provider in table.providers.values():
        for name in (
            *list(provider.models)[:40],
            "us.anthropic.claude-opus-4-5",
            "gpt-5.4-2026-03-05",
            "nothing",
        ):
            tried = next((key for clause, key in provider.rules if matches(clause, name)), "")
            assert provider.find_by_rule(name) == tried


def test_the_price_book_needs_neither_litellm_nor_genai_prices() -> None:
    code = (
        "import sys; import collector.pricing.book, collector.pricing.refresh, collector.pricing.explain;"
        "bad = {'litellm', 'genai_prices', 'pydantic', 'yaml', 'duckdb'} & set(sys.modules);"
        "sys.exit(repr(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_build_script_makes_the_table_from_two_files(tmp_path: Path) -> None:
    litellm = {"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-6}}
    genai = [
        {
            "id": "openai",
            "models": [{"id": "gpt-4o", "match": {"equals": "gpt-4o"}, "prices": {"input_mtok": 2.5}}],
        }
    ]
    (tmp_path / "l.json").write_text(json.dumps(litellm))
    (tmp_path / "g.json").write_text(json.dumps(genai))
    out = tmp_path / "table.json"

    options = ["--litellm", tmp_path / "l.json", "--litellm-version", "9", "--date", "2026-11-22"]
    options += ["--genai", tmp_path / "g.json", "--genai-version", "8"]

    done = subprocess.run(
        [sys.executable, BUILD, *options, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "1 models, 1 providers" in done.stdout
    quote = PriceBook.load(path=out).quote("openai", "gpt-4o", 0)
    assert (quote.price.input, quote.source) == (2_500_000, "genai-prices 8")


def test_the_committed_table_is_what_the_script_makes(tmp_path: Path, shared_data: Path) -> None:
    pytest.importorskip("genai_prices", reason="the table is made from the installed genai-prices")
    spec = importlib.util.spec_from_file_location("build_prices", BUILD)
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    table = read_table(TABLE_PATH.read_bytes())
    if importlib.metadata.version("genai-prices") != table.sources["g"].version:
        pytest.skip(f"the table was made from genai-prices {table.sources['g'].version}")
    out = tmp_path / "table.json"
    prices = shared_data / "prices" / "litellm_model_prices.json.gz"
    version = table.sources["l"].version

    assert (
        build.main(
            ["--litellm", str(prices), "--litellm-version", version, "--date", table.made, "--out", str(out)]
        )
        == 0
    )
    assert out.read_bytes() == TABLE_PATH.read_bytes()
