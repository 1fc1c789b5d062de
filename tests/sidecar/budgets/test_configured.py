"""Budgets and their neighbours in bursar.yaml: what they mean, and what is told of a mistake."""

from pathlib import Path

import pytest

from collector.domain.credit import Unit
from collector.domain.policy import (
    Action,
    Ask,
    Crossing,
    Directive,
    HoldSize,
    Match,
    Threshold,
    Window,
    WindowKind,
)
from collector.settings import InvalidSettings
from sidecar.budgets.amounts import Amount, Rate
from sidecar.budgets.configured import policy_of
from sidecar.config import BursarConfig, load_config

DESIGN = """
budgets:
  - name: search-team
    match: {team: search}
    each: agent
    limit: 25 USD
    window: day
    at: {50%: notify, 80%: downgrade, 100%: cut}
    mode: hard
downgrades:
  - {from: gpt-5, to: [gpt-5-mini, qwen3-8b]}
"""


def load(tmp_path: Path, text: str) -> BursarConfig:
    path = tmp_path / "bursar.yaml"
    path.write_text(text)
    return load_config(path, {})


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidSettings) as told:
        load(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in told.value.problems]


def test_the_budget_of_the_design_means_what_it_says(tmp_path: Path) -> None:
    config = load(tmp_path, DESIGN)

    policy = policy_of(config.budgets, config.downgrades)

    [budget] = policy.budgets
    assert (budget.name, budget.limit, budget.unit) == ("search-team", 25 * 10**9, Unit.USD)
    assert budget.window == Window(WindowKind.DAY)
    assert budget.match == Match.of({"team": "search"})
    assert budget.each == "agent"
    assert budget.at == (
        Threshold(5000, Action.NOTIFY),
        Threshold(8000, Action.DOWNGRADE),
        Threshold(10_000, Action.CUT),
    )
    assert (budget.hard, budget.size, budget.finishes) == (True, HoldSize.PROGRESSIVE, False)
    [ladder] = policy.ladders
    assert ladder.to == ("gpt-5-mini", "qwen3-8b")
    assert ladder.source.accepts(Ask(call_id="c", model="gpt-5"))


def test_everything_that_can_be_said_is_taken_over(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
budgets:
  - name: all
    match: {tenant: [a, b], key: vk_1, model: "gpt-*", tag: {env: [prod, stage], beta: true}}
    each: "tag:feature"
    limit: 2M tokens
    window: rolling 6h
    timezone: Europe/Berlin
    mode: soft
    hold: whole
    crossing: finish
    unpriced: refuse
    lower_max_tokens: on
    never_for: [{agent: judge}, {tag: audit}]
  - {name: paced, limit: $1.50, pace: true, window: week, at: {90.5%: throttle}, throttle: 6 USD/hour}
downgrades:
  - {from: [a, b], to: c, match: {team: x}, never_for: [{user: boss}]}
throttles:
  - {name: slow, rate: 0.50 USD/min, burst: 2 USD, each: user}
concurrency:
  - {name: few, limit: 3}
off_track: {action: cut, match: {agent: loop}}
""",
    )

    policy = policy_of(config.budgets, config.downgrades, config.throttles, config.concurrency)

    everything, paced = policy.budgets
    assert everything.match.accepts(
        Ask(call_id="c", model="gpt-5", tenant="b", key="vk_1", tags={"env": "stage", "beta": "true"})
    )
    assert (everything.each, everything.limit, everything.unit) == ("tag:feature", 2_000_000, Unit.TOKENS)
    assert everything.window.length_us == 6 * 3600 * 1_000_000
    assert (everything.hard, everything.size, everything.finishes) == (False, HoldSize.WHOLE, True)
    assert everything.refuse_unpriced and everything.lower_max_tokens
    assert everything.never_for == (Match.of({"agent": "judge"}), Match.of({"tag:audit": "true"}))
    assert (paced.limit, paced.pace, paced.throttle_per_minute) == (1_500_000_000, True, 100_000_000)
    assert paced.at == (Threshold(9050, Action.THROTTLE),)
    [ladder] = policy.ladders
    assert ladder.source == Match.of({"model": ("a", "b"), "team": "x"})
    [throttle] = policy.throttles
    assert (throttle.per_minute, throttle.burst, throttle.each) == (5 * 10**8, 2 * 10**9, "user")
    [cap] = policy.caps
    assert (cap.most, cap.each) == (3, "key")
    assert config.off_track.action == "cut"


def test_what_a_conversation_may_cost_lets_the_call_that_crosses_finish(tmp_path: Path) -> None:
    config = load(tmp_path, "budgets: [{name: c, limit: 5 USD, each: conversation}]")

    [budget] = policy_of(config.budgets).budgets

    assert (budget.finishes, budget.size, budget.crossing) == (True, HoldSize.LEARNED, None)
    assert Crossing.FINISH == "finish"


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("25 USD", (25 * 10**9, Unit.USD)),
        ("0.000000001usd", (1, Unit.USD)),
        ("$9000000", (9 * 10**15, Unit.USD)),
        ("0 USD", (0, Unit.USD)),
        ("1_000 calls", (1000, Unit.CALLS)),
        ("1 call", (1, Unit.CALLS)),
        ("1.5M tokens", (1_500_000, Unit.TOKENS)),
        ("300k tokens", (300_000, Unit.TOKENS)),
    ],
)
def test_an_amount_is_read_exactly(text: str, amount: tuple[int, Unit]) -> None:
    assert Amount.parse(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        *("10", "-1 USD", "1e30 USD", "NaN USD", "inf USD", "", "USD", "10 EUR", "$5 USD"),
        *("9000000.1 USD", "1.5 calls", "0.0000000001 USD", "10000000000000000 tokens"),
    ],
)
def test_what_is_no_amount_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Amount.parse(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("1 USD/min", 10**9), ("6 USD per hour", 10**8), ("$1/s", 60 * 10**9)]
)
def test_a_rate_is_so_much_a_minute(text: str, rate: int) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize("text", ["1 USD", "0 USD/min", "5 tokens/min", "fast"])
def test_what_is_no_rate_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Rate.parse(text)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{limit: 1 USD}", "budgets[0].name: is required"),
        ("{name: b}", "budgets[0].limit: is required"),
        ("{name: b, limit: 10}", "budgets[0].limit: '10' is not an amount; write 25 USD"),
        ("{name: b, limit: 1 USD, max_budet: 1}", "budgets[0].max_budet: is not a setting"),
        ("{name: b, limit: 1 USD, window: dya}", "budgets[0].window: 'dya' is not one of hour, day"),
        ("{name: b, limit: 1 USD, timezone: Berlin}", "budgets[0].timezone: 'Berlin' is not a time zone"),
        ("{name: b, limit: 1 USD, match: {taem: x}}", "match.taem: is not a setting; did you mean 'team'?"),
        ("{name: b, limit: 1 USD, each: modle}", "budgets[0].each: 'modle' is not one of tenant"),
        ("{name: b, limit: 1 USD, at: {50%: ct}}", "budgets[0].at.50%: 'ct' is not one of notify"),
        ("{name: b, limit: 1 USD, at: {half: cut}}", "budgets[0]: at: 'half' is not a share; write 80%"),
        ("{name: b, limit: 1 USD, at: {120%: cut}}", "budgets[0]: at: cut must lie between 0% and 100%"),
        ("{name: b, limit: 1 USD, mode: firm}", "budgets[0].mode: 'firm' is not one of hard, soft"),
        ("{name: b, limit: 1 USD, pace: on}", "budgets[0]: pace: needs a window that ends"),
        ("{name: b, limit: 1 calls, throttle: 1 USD/min}", "budgets[0]: throttle: is in USD"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    [*_, problem] = problems(tmp_path, f"# comment\nbudgets:\n  - {line}\n")

    assert problem.startswith("bursar.yaml:3: ")
    assert told in problem


def test_rules_of_one_kind_have_different_names(tmp_path: Path) -> None:
    twice = "[{name: x, limit: 1 USD}, {name: x, limit: 2 USD}]"
    assert "two budgets have the same name" in problems(tmp_path, f"budgets: {twice}")[0]
    twice = "[{name: x, limit: 1}, {name: x, limit: 2}]"
    assert "concurrency: two have the same name" in problems(tmp_path, f"concurrency: {twice}")[0]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        "budgets:\n  - {name: a, limit: ten}\n  - {name: b, limit: 1 USD, window: x}\n"
        "downgrades:\n  - {to: [x]}\nconcurrency:\n  - {name: n, limit: 0}\n",
    )

    assert [problem.split(": ")[0] for problem in told] == [
        "bursar.yaml:2", "bursar.yaml:3", "bursar.yaml:5", "bursar.yaml:7",
    ]  # fmt: skip


def test_a_directive_names_calls_as_a_budget_does() -> None:
    match = {"agent": ["loop"], "tag:env": ["prod"]}
    directive = Directive.of({"id": "d", "kind": "pause", "match": match, "expires_us": 1})

    assert directive.match.accepts(Ask(call_id="c", model="m", agent="loop", tags={"env": "prod"}))
    assert not directive.match.accepts(Ask(call_id="c", model="m", agent="loop"))
