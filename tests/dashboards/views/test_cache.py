"""The cache page: how often answers are reused, what that saves, and what broke prompt caches."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from streamlit.testing.v1 import AppTest

from collector.domain.price import TokenPrice
from dashboards import whatif
from dashboards.views import cache

Visit = Callable[..., AppTest]


def break_one(collector: Any, **values: Any) -> None:
    """One cause that broke caches four times and cost 0.25 USD, unless said otherwise."""
    at = datetime(2026, 11, 28, 9, 30)
    collector.breaks.append(
        {
            "agent": "planner", "request_model": "gpt-5-mini", "cause": "tools changed", "block": "tools",
            "breaks": 4, "first_at": at, "last_at": at, "lost_tokens": 5000,
            "effective_cost_usd": Decimal("0.25"), "advice": "keep the order of tools",
        }
        | values
    )  # fmt: skip


def tiles(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value.replace("\\", "") for metric in app.metric}


def test_hit_rate_is_of_the_calls_whose_answer_may_be_reused(collector: Any, visit: Visit) -> None:
    # 1 hit + 1 semantic of 5 that were asked for: 40 %; the bypassed call does not count. Every call
    # has 400 of 1000 input tokens cached by its provider. Saved: 0.02 + 0.01.
    collector.book(cache="hit", avoided_cost_usd=Decimal("0.02"))
    collector.book(cache="semantic", avoided_cost_usd=Decimal("0.01"))
    for result in ("miss", "miss", "miss", "bypass"):
        collector.book(cache=result)
    told = tiles(visit("cache"))
    assert told == {
        "Hit rate": "40.0 %", "Saved": "$0.0300", "Cached input": "40.0 %", "Measured error": "–",
    }  # fmt: skip


def test_without_calls_that_may_be_reused_there_is_no_hit_rate_rather_than_zero() -> None:
    assert cache.hits_of([{"cache": "bypass", "calls": 7}]) == (0, 0)
    assert cache.display.share(0, 0) == "–"


def test_each_model_is_shown_with_its_share_of_cached_input(collector: Any, visit: Visit) -> None:
    collector.book(request_model="warm", input_tokens=1000, cache_read_input_tokens=750)
    collector.book(request_model="cold", input_tokens=1000, cache_read_input_tokens=0)
    models = visit("cache").dataframe[1].value.set_index("request_model")
    assert dict(models["share"]) == {"warm": "75.0 %", "cold": "0.0 %"}


def test_what_a_prompt_cache_saved_is_net_of_what_writing_to_it_cost_more() -> None:
    # 1 Mtok in: 0.7 read, 0.1 written, 0.2 neither. Without a cache 3.00 USD; so it was
    # 0.7 x 0.30 + 0.1 x 3.75 + 0.2 x 3 = 1.185 USD. What was answered (0.1 Mtok) costs the same.
    row = {"request_model": "warm", "input_tokens": 1_000_000, "output_tokens": 100_000,
           "cache_read_input_tokens": 700_000, "cache_write_input_tokens": 100_000}  # fmt: skip
    price = TokenPrice(input=3_000_000, output=15_000_000, cache_read=300_000, cache_write=3_750_000)
    assert whatif.saved_by_prompt_cache(row, price) == Decimal("1.815")


def test_what_prompt_caches_saved_is_not_what_our_own_saved(collector: Any, visit: Visit) -> None:
    collector.book(request_model="warm", cache="hit", avoided_cost_usd=Decimal("0.02"))
    price = {"model": "warm", "provider_name": "", "price_version": "1", "price_grade": "configured",
             "input_usd": Decimal("0.000003"), "output_usd": Decimal("0.000015"),
             "cache_read_usd": Decimal("0.0000003"), "terms": "{}"}  # fmt: skip
    collector.tables["prices"] = pa.Table.from_pylist([price])
    app = visit("cache")
    # 400 of 1,000 input tokens out of the provider's cache: 400 x (3 - 0.30) USD a million.
    assert app.dataframe[1].value["saved"].iloc[0] == "$0.00108"
    assert app.dataframe[0].value["avoided"].iloc[0] == "$0.0200"
    collector.tables["prices"] = None  # It fails, and the rest of the page stands.
    other = visit("cache", range="7d")
    assert tiles(other)["Saved"] == "$0.0200"


def test_what_broke_prompt_caches_is_told_with_its_cost_and_advice(collector: Any, visit: Visit) -> None:
    collector.book()
    break_one(collector)
    break_one(collector, cause="<b>\u202eclock", effective_cost_usd=Decimal("0.05"))
    app = visit("cache")
    rows = app.dataframe[2].value
    assert list(rows["cost"]) == ["$0.250", "$0.0500"]
    assert rows.iloc[0]["advice"] == "keep the order of tools"
    assert rows.iloc[1]["cause"] == "<b>⟨U+202E⟩clock (tools)"
    assert any("0.300 for tokens" in caption.value.replace("\\", "") for caption in app.caption)


def test_the_error_of_similar_answers_is_shown_with_its_interval(collector: Any, visit: Visit) -> None:
    collector.book()
    # 2 wrong of 400: 0.5 %; by Wilson at 1.645, (0.005 + 0.00338 -+ 0.00672) / 1.00676.
    row = {"compared": 400, "wrong": 2, "error": 0.005, "error_low": 0.00165, "error_high": 0.015}
    collector.compared.append({"serving": True, "likeness": "same", **row})
    told = visit("cache").dataframe[2].value.iloc[0]
    assert (told["serving"], told["likeness"]) == ("yes", "in almost the same words")
    assert (told["error"], told["between"]) == ("0.50%", "0.17% and 1.50%")


def test_a_filtered_page_says_that_the_broken_caches_are_not_filtered(collector: Any, visit: Visit) -> None:
    collector.book(team="ads")
    assert any("filters do not narrow" in caption.value for caption in visit("cache", team=["ads"]).caption)
    assert not any("filters do not narrow" in caption.value for caption in visit("cache").caption)


def test_without_calls_the_page_says_what_to_do(collector: Any, visit: Visit) -> None:
    app = visit("cache")
    assert "No calls" in app.info[0].value
    assert not app.metric


def test_without_an_answer_the_page_shows_no_figures(collector: Any, visit: Visit) -> None:
    collector.trouble = "broken"
    app = visit("cache")
    assert "No figures" in app.error[0].value
    assert not app.metric
