"""What a call is told: it may go, should be cheaper, has to wait, or must not go; and why."""

import pytest

from collector.domain.credit import Claim, Standing, Unit
from collector.domain.policy import (
    Allow,
    ConcurrencyCap,
    Crossing,
    Directive,
    Downgrade,
    HoldSize,
    Ladder,
    Match,
    Policy,
    Raise,
    Refuse,
    State,
    Throttle,
    Throttled,
    decide,
    store_lost,
)
from tests.collector.domain.policy.conftest import HOUR_US, MINUTE_US, NOON_US, USD, Desk, ask, budget

LADDER = Ladder(source=Match.of({"model": "large"}), to=("middle", "small"))


def held(allow: object) -> list[int]:
    assert isinstance(allow, Allow), allow
    return [claim.amount for claim in allow.claims]


# ---- room


def test_a_call_holds_what_it_may_cost_at_most_on_every_budget_it_touches() -> None:
    desk = Desk(
        budget(10),
        budget(10, name="search", match=Match.of({"team": "search"})),
        budget(name="tokens", limit=5000, unit=Unit.TOKENS),
        budget(name="calls", limit=5, unit=Unit.CALLS),
    )

    allow = desk.decide(ask(1, input_tokens=50, input_pico=1, team="shop"))

    assert held(allow) == [USD + 1, 1050, 1]  # the odd pico-USD is rounded up


def test_a_refusal_names_the_tightest_budget_and_claims_nothing() -> None:
    desk = Desk(budget(10, name="wide"), budget(2, name="tight"), budget(3, name="close"))
    desk.spend(1.5)

    refused = desk.decide(ask(2))

    assert isinstance(refused, Refuse)
    assert (refused.reason, refused.rule) == ("budget_exceeded", "tight")
    assert (refused.limit, refused.spent, refused.held) == (2 * USD, 1.5 * USD, 0)
    assert refused.resets_us == NOON_US + 12 * HOUR_US
    assert refused.message == (
        "budget 'tight' has no room for this call: limit 2 USD, 1.5 USD spent; "
        "it resets at 2026-11-23T00:00:00Z"
    )
    assert all(standing.held == 0 for standing in desk.state.standings(desk.now_us))


def test_the_whole_of_a_budget_can_be_spent_and_not_a_nano_usd_more() -> None:
    desk = Desk(budget(1))

    assert isinstance(desk.decide(ask(1)), Allow)
    assert isinstance(desk.decide(ask(1, input_pico=1)), Refuse)


def test_what_running_calls_hold_is_not_there_for_others_until_they_end() -> None:
    desk = Desk(budget(2))
    running = desk.begin(ask(1.5))

    refused = desk.decide(ask(1))
    assert isinstance(refused, Refuse)
    assert "1.5 USD held by running calls" in refused.message

    desk.end(running, 0.5)
    assert isinstance(desk.decide(ask(1.5)), Allow)


def test_a_budget_of_nothing_lets_nothing_through() -> None:
    assert isinstance(Desk(budget(0)).decide(ask(1)), Refuse)


def test_a_new_day_is_a_new_counter() -> None:
    desk = Desk(budget(1))
    desk.spend(1)
    assert isinstance(desk.decide(ask(1)), Refuse)

    desk.now_us += 12 * HOUR_US

    assert isinstance(desk.decide(ask(1)), Allow)


def test_a_call_is_charged_to_the_window_it_was_let_in_by() -> None:
    desk = Desk(budget(1))
    running = desk.begin(ask(1))
    desk.now_us += 12 * HOUR_US

    desk.end(running, 1)

    assert isinstance(desk.decide(ask(1)), Allow)
    desk.now_us -= 12 * HOUR_US
    assert isinstance(desk.decide(ask(1)), Refuse)


def test_each_agent_has_a_counter_and_those_without_a_name_share_one() -> None:
    desk = Desk(budget(1, each="agent"))
    desk.spend(1, agent="a")
    desk.spend(1)

    assert isinstance(desk.decide(ask(1, agent="a")), Refuse)
    assert isinstance(desk.decide(ask(1, agent="b")), Allow)
    assert isinstance(desk.decide(ask(1)), Refuse)


def test_a_budget_for_each_conversation_does_not_lump_together_calls_without_one() -> None:
    desk = Desk(budget(1, each="conversation", window="total"))
    desk.spend(1, conversation="c")

    assert isinstance(desk.decide(ask(1, conversation="c")), Refuse)
    assert held(desk.decide(ask(1))) == []


def test_names_that_could_break_a_key_are_hashed() -> None:
    desk = Desk(budget(1, each="agent"))

    [claim] = desk.begin(ask(1, agent="a\x1fday:2026"))[0].claims

    assert claim.counter.subject.startswith("#")
    assert claim.counter.key.count("\x1f") == 2


def test_a_counter_belongs_to_a_tenant_where_its_budget_is_for_one() -> None:
    desk = Desk(
        budget(name="a", match=Match.of({"tenant": "acme"})),
        budget(name="b", each="tenant"),
        budget(name="c"),
    )

    allow, _ = desk.begin(ask(1, tenant="acme"))

    assert [claim.counter.tenant for claim in allow.claims] == ["acme", "acme", ""]


def test_tags_choose_budgets_and_counters() -> None:
    desk = Desk(budget(1, match=Match.of({"tag:env": "prod"}), each="tag:feature"))
    desk.spend(1, tags={"env": "prod", "feature": "x"})

    assert isinstance(desk.decide(ask(1, tags={"env": "prod", "feature": "x"})), Refuse)
    assert isinstance(desk.decide(ask(1, tags={"env": "prod", "feature": "y"})), Allow)
    assert held(desk.decide(ask(1, tags={"env": "test", "feature": "x"}))) == []


# ---- the call that crosses


def test_the_call_that_crosses_takes_what_is_left_and_none_comes_after_it() -> None:
    desk = Desk(budget(2, each="conversation", window="total"))
    desk.spend(1.5, conversation="c")

    crossing = desk.begin(ask(1, conversation="c"))
    assert [claim.amount for claim in crossing[0].claims] == [USD // 2]

    waits = desk.decide(ask(0.1, conversation="c"))
    assert isinstance(waits, Throttled)
    assert waits.reason == "room_held"
    desk.end(crossing, 1)
    assert isinstance(desk.decide(ask(0.1, conversation="c")), Refuse)


def test_a_conversation_with_a_strict_budget_is_refused_what_would_cross_it() -> None:
    desk = Desk(budget(2, each="conversation", window="total", crossing=Crossing.REFUSE))
    desk.spend(1.5, conversation="c")

    assert isinstance(desk.decide(ask(1, conversation="c")), Refuse)


# ---- shares of a limit


def test_new_calls_end_where_refuse_says_and_streams_where_cut_says() -> None:
    desk = Desk(budget(10, at={90: "refuse", 100: "cut"}))

    [claim] = desk.begin(ask(9))[0].claims

    assert claim.counter.limit == 10 * USD
    assert isinstance(desk.decide(ask(1)), Refuse)


def test_a_soft_budget_that_only_notifies_refuses_nothing() -> None:
    desk = Desk(budget(1, hard=False, at={50: "notify"}))

    crossed = desk.spend(3)
    allow = desk.decide(ask(100))

    assert [one.threshold.share for one in crossed] == [5000]
    assert isinstance(allow, Allow)
    assert allow.claims[0].counter.limit == 9 * 10**15


def test_a_hard_budget_that_only_notifies_still_ends() -> None:
    assert isinstance(Desk(budget(1, at={50: "notify"})).decide(ask(2)), Refuse)


@pytest.mark.parametrize("limit", [1, 3, 7, 999_999_999, 10**10 + 1])
@pytest.mark.parametrize("share", [50, 80, 100, 33.33])
def test_a_threshold_is_reached_exactly_at_its_share(limit: int, share: float) -> None:
    boundary = -(-limit * round(share * 100) // 10_000)
    desk = Desk(budget(limit=limit, unit=Unit.TOKENS, at={share: "notify"}, hard=False))
    counter = desk.begin(ask(1))[0].claims[0].counter

    assert desk.state.note(Standing(counter, boundary - 1, 0), NOON_US) == ()
    [crossed] = desk.state.note(Standing(counter, boundary, 0), NOON_US)

    assert crossed.threshold.share == round(share * 100)
    assert desk.state.note(Standing(counter, limit, 0), NOON_US) == ()


def test_a_threshold_tells_once_though_spending_wavers_around_it() -> None:
    desk = Desk(budget(10, at={50: "notify"}))
    counter = desk.begin(ask(1))[0].claims[0].counter

    told = [
        len(desk.state.note(Standing(counter, round(usd * USD), 0), NOON_US)) for usd in (5, 4.9, 5, 4.85, 6)
    ]

    assert told == [1, 0, 0, 0, 0]


def test_each_threshold_tells_once_in_each_window() -> None:
    desk = Desk(budget(limit=7 * USD, at={50: "notify", 80: "notify", 100: "notify"}, hard=False))
    for _ in range(2):
        told = [[one.threshold.share for one in desk.spend(0.7)] for _ in range(12)]

        assert told == [[], [], [], [], [5000], [], [], [8000], [], [10_000], [], []]
        desk.now_us += 24 * HOUR_US


def test_a_threshold_tells_again_after_more_room_was_given_and_used() -> None:
    desk = Desk(budget(10, at={50: "notify"}))
    assert len(desk.spend(5)) == 1
    desk.state.raise_limit(Raise(id="r", budget="all", amount=10 * USD, until_us=NOON_US + HOUR_US))

    assert desk.spend(1) == ()
    assert len(desk.spend(4)) == 1


def test_a_threshold_that_the_end_of_a_raise_brings_is_told_with_the_next_charge() -> None:
    desk = Desk(budget(10, at={50: "notify"}))
    desk.state.raise_limit(Raise(id="r", budget="all", amount=10 * USD, until_us=NOON_US + HOUR_US))
    assert desk.spend(6) == ()
    desk.now_us += HOUR_US

    assert [one.threshold.share for one in desk.spend(1)] == [5000]


# ---- more room


def test_a_raise_gives_room_until_it_ends() -> None:
    desk = Desk(budget(1))
    desk.spend(1)
    desk.state.raise_limit(
        Raise(id="r", budget="all", amount=USD, until_us=NOON_US + HOUR_US, reason="launch", source="ops")
    )

    assert isinstance(desk.decide(ask(1)), Allow)
    desk.now_us += HOUR_US
    assert isinstance(desk.decide(ask(1)), Refuse)
    assert desk.state.raises(desk.now_us) == ()


def test_a_raise_can_be_taken_back() -> None:
    desk = Desk(budget(1))
    desk.state.raise_limit(Raise(id="r", budget="all", amount=USD, until_us=NOON_US + HOUR_US))
    assert isinstance(desk.decide(ask(2)), Allow)

    assert desk.state.lower_limit("r")

    assert isinstance(desk.decide(ask(2)), Refuse)
    assert not desk.state.lower_limit("r")


# ---- max_tokens


def test_forty_long_calls_fit_when_the_policy_may_lower_max_tokens() -> None:
    """25 USD, 128,000 tokens at 25 USD a million each: as they are, seven would fit."""
    desk = Desk(budget(25, lower_max_tokens=True))
    long = ask(3.2, output_cap=128_000)

    let_in = [desk.begin(long)[0] for _ in range(40)]

    assert all(allow.max_tokens is not None and allow.max_tokens >= 1024 for allow in let_in)
    assert sum(allow.claims[0].amount for allow in let_in) <= 25 * USD


def test_forty_long_streams_fit_as_they_are() -> None:
    desk = Desk(budget(25))

    let_in = [desk.begin(ask(3.2, output_cap=128_000, stream=True))[0] for _ in range(40)]

    assert all(allow.max_tokens is None for allow in let_in)


def test_max_tokens_stays_where_the_policy_does_not_say_so() -> None:
    desk = Desk(budget(1))

    assert isinstance(desk.decide(ask(2, output_cap=100_000)), Refuse)


def test_a_lowered_cap_is_for_each_choice() -> None:
    desk = Desk(budget(4, lower_max_tokens=True))

    allow = desk.decide(ask(4, output_cap=64_000, choices=2))

    assert isinstance(allow, Allow)
    assert allow.max_tokens == allow.output_cap // 2
    assert held(allow)[0] <= 4 * USD


# ---- learned holds


def test_a_call_that_cannot_be_cut_holds_what_its_like_cost_where_the_budget_says_so() -> None:
    desk = Desk(budget(10, hold=HoldSize.LEARNED))
    assert held(desk.decide(ask(1, output_cap=1000))) == [USD]  # nothing known yet

    for _ in range(200):
        desk.state.experience.learn("large", "", "", False, 100, 250)

    # 100 tokens are known to within a sixteenth; a quarter of the input's most
    allow = desk.decide(ask(1, output_cap=1000, input_pico=10**12))
    assert held(allow)[0] == pytest.approx(0.1 * USD + 0.25 * USD, rel=1 / 16)


# ---- downgrades


def test_a_budget_used_to_some_share_asks_for_cheaper_models_and_returns_later() -> None:
    desk = Desk(budget(10, at={80: "downgrade"}), ladders=[LADDER])
    desk.spend(7.9)
    assert isinstance(desk.decide(ask(0.1)), Allow)
    desk.spend(0.1)

    cheaper = desk.decide(ask(0.1))

    assert cheaper == Downgrade(("middle", "small"), "threshold", "all")
    assert isinstance(desk.decide(ask(0.1, model="middle", may_downgrade=False)), Allow)
    # Two percent below, not at once below.
    counter = desk.begin(ask(0.1, may_downgrade=False))[0].claims[0].counter
    desk.state.note(Standing(counter, round(7.9 * USD), 0), NOON_US)
    assert isinstance(desk.decide(ask(0.1)), Downgrade)
    desk.state.note(Standing(counter, round(7.7 * USD), 0), NOON_US)
    assert isinstance(desk.decide(ask(0.1)), Allow)


def test_no_model_stands_in_for_itself_and_a_call_that_may_not_is_not_downgraded() -> None:
    ladder = Ladder(
        source=Match.of({"model": "*"}), to=("middle", "small"), never_for=(Match.of({"agent": "judge"}),)
    )
    desk = Desk(budget(1, at={50: "downgrade"}, never_for=(Match.of({"team": "audit"}),)), ladders=[ladder])
    desk.spend(0.5)

    assert desk.decide(ask(0.1, model="middle")) == Downgrade(("small",), "threshold", "all")
    assert isinstance(desk.decide(ask(0.1, agent="judge")), Allow)
    assert isinstance(desk.decide(ask(0.1, team="audit")), Allow)
    assert isinstance(desk.decide(ask(0.1, may_downgrade=False)), Allow)


def test_a_call_too_dear_for_the_room_is_offered_a_cheaper_model_before_it_is_refused() -> None:
    desk = Desk(budget(1, at={80: "downgrade"}), ladders=[LADDER])
    desk.spend(0.5)

    assert desk.decide(ask(0.6)) == Downgrade(("middle", "small"), "no_room", "all")
    assert isinstance(desk.decide(ask(0.6, may_downgrade=False)), Refuse)


# ---- directives


def directive(kind: str, **said: object) -> Directive:
    told = {"id": "d", "kind": kind, "match": {"agent": ["loop"]}, "expires_us": NOON_US + MINUTE_US} | said
    return Directive.of(told)


def test_a_pause_holds_for_those_it_names_until_it_expires() -> None:
    desk = Desk()
    assert isinstance(desk.decide(ask(agent="loop")), Allow)
    desk.state.direct(directive("pause", reason="burning 9 USD a minute"))

    paused = desk.decide(ask(agent="loop"))

    assert isinstance(paused, Refuse)
    assert paused.reason == "paused"
    assert paused.message == (
        "calls of this kind are paused until 2026-11-22T12:01:00Z: burning 9 USD a minute"
    )
    assert isinstance(desk.decide(ask(agent="other")), Allow)
    desk.now_us += MINUTE_US
    assert isinstance(desk.decide(ask(agent="loop")), Allow)


def test_a_cut_ends_running_calls_and_refuses_new_ones_until_it_is_withdrawn() -> None:
    desk = Desk()
    desk.state.direct(directive("cut"))

    assert desk.state.directive_cutting(ask(agent="loop"), desk.now_us) is not None
    assert desk.state.directive_cutting(ask(agent="other"), desk.now_us) is None
    assert isinstance(desk.decide(ask(agent="loop")), Refuse)
    assert desk.state.withdraw("d")
    assert isinstance(desk.decide(ask(agent="loop")), Allow)


def test_a_directive_downgrades_to_its_own_models_or_down_the_ladder() -> None:
    desk = Desk(ladders=[LADDER])
    desk.state.direct(directive("downgrade", match={}, to=["tiny"]))
    assert desk.decide(ask()) == Downgrade(("tiny",), "directive", "d")

    desk.state.direct(directive("downgrade", match={}))
    assert desk.decide(ask()) == Downgrade(("middle", "small"), "directive", "d")


def test_a_directive_downgrades_the_share_it_says_and_the_same_calls_each_time() -> None:
    desk = Desk(ladders=[LADDER])
    desk.state.direct(directive("downgrade", match={}, share=2500))

    first = [isinstance(desk.decide(ask(call_id=f"{n:x}")), Downgrade) for n in range(2000)]

    assert first == [isinstance(desk.decide(ask(call_id=f"{n:x}")), Downgrade) for n in range(2000)]
    assert 0.22 < sum(first) / 2000 < 0.28


def test_a_directive_says_itself_and_is_read_again() -> None:
    said = directive("throttle", per_minute=5, reason="r", source="s", created_us=3)

    assert Directive.of(said.plain()) == said


@pytest.mark.parametrize(
    "wrong",
    [{"id": ""}, {"kind": "explode"}, {"kind": None}, {"match": 3}, {"match": {"modle": ["x"]}},
     {"expires_us": None}, {"kind": "throttle"}, {"share": 0}],
)  # fmt: skip
def test_what_is_no_directive_is_told(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Directive.of(directive("pause").plain() | wrong)
    with pytest.raises(ValueError, match="not a directive"):
        Directive.of({})


# ---- throttles and caps


def test_a_throttle_lets_a_burst_through_and_then_so_much_a_minute() -> None:
    desk = Desk(throttles=[Throttle(name="slow", per_minute=USD, burst=2 * USD)])
    call = ask(1)
    desk.spend(1)
    desk.spend(1)

    waits = desk.decide(call)

    assert isinstance(waits, Throttled)
    assert (waits.reason, waits.rule, waits.retry_after_us) == ("throttled", "slow", MINUTE_US)
    desk.now_us += MINUTE_US
    assert isinstance(desk.decide(call), Allow)


def test_a_throttle_is_corrected_when_the_cost_is_known() -> None:
    desk = Desk(throttles=[Throttle(name="slow", per_minute=USD, burst=USD)])

    desk.end(desk.begin(ask(1)), 0.1)

    waits = desk.decide(ask(1))
    assert isinstance(waits, Throttled)
    assert waits.retry_after_us == MINUTE_US // 10


def test_a_budget_that_throttles_spreads_what_is_left_over_what_is_left_of_the_day() -> None:
    desk = Desk(budget(24, at={50: "throttle"}))
    desk.spend(12)  # twelve hours to go: a dollar an hour

    desk.spend(1 / 60)
    waits = desk.decide(ask(1 / 60))

    assert isinstance(waits, Throttled)
    assert waits.rule == "all"
    assert waits.retry_after_us == pytest.approx(MINUTE_US, rel=0.01)


def test_a_directive_throttles() -> None:
    desk = Desk()
    desk.state.direct(directive("throttle", match={}, per_minute=USD))
    desk.spend(1)

    assert isinstance(desk.decide(ask(1)), Throttled)


def test_a_cap_counts_running_calls_of_each_key() -> None:
    desk = Desk(caps=[ConcurrencyCap(name="few", most=2)])
    running = [desk.begin(ask(key="k")) for _ in range(2)]

    waits = desk.decide(ask(key="k"))

    assert isinstance(waits, Throttled)
    assert waits.reason == "too_many_running"
    assert isinstance(desk.decide(ask(key="other")), Allow)
    desk.end(running[0])
    assert isinstance(desk.decide(ask(key="k")), Allow)


# ---- prices


def test_a_model_without_a_price_is_charged_the_stand_in_or_refused() -> None:
    assert isinstance(Desk(budget(1)).decide(ask(1, priced=False)), Allow)

    refused = Desk(budget(1, refuse_unpriced=True)).decide(ask(1, priced=False))

    assert isinstance(refused, Refuse)
    assert refused.reason == "unpriced_model"
    assert "'large' has no known price" in refused.message


# ---- pacing


def test_pacing_downgrades_more_calls_the_further_spending_runs_ahead() -> None:
    desk = Desk(budget(10, pace=True), ladders=[LADDER])  # noon: half of the day is over
    counter = desk.begin(ask(0.001))[0].claims[0].counter

    def share(usd: float) -> float:
        desk.state.note(Standing(counter, round(usd * USD), 0), NOON_US)
        answers = [desk.decide(ask(0.001, call_id=f"{n:x}")) for n in range(1000)]
        return sum(isinstance(answer, Downgrade) for answer in answers) / 1000

    shares = [share(usd) for usd in (4, 5.1, 5.4, 5.6, 9)]

    assert shares[0] == shares[1] == 0
    assert 0 < shares[2] < shares[3]
    assert shares[4] == 1


def test_a_paced_budget_lasts_until_the_end_of_the_day() -> None:
    """Calls of a dollar, or of a fifth where downgraded: without pacing noon would be the end."""
    desk = Desk(budget(100, pace=True, window="day"), ladders=[LADDER])
    desk.now_us = NOON_US - 12 * HOUR_US
    cheap = 0
    for number in range(200):  # a hundred too many at full price
        desk.now_us = NOON_US - 12 * HOUR_US + number * 24 * HOUR_US // 200
        answer = desk.decide(ask(1, call_id=f"call-{number}"))
        cheap += isinstance(answer, Downgrade)
        desk.spend(0.2 if isinstance(answer, Downgrade) else 1, may_downgrade=False)

    spent = desk.state.standings(desk.now_us)[0].spent
    assert 90 * USD <= spent <= 100 * USD
    assert 100 < cheap < 160


# ---- stores that are elsewhere


def test_a_store_that_may_be_out_of_date_here_is_asked_before_a_call_is_refused() -> None:
    policy = Policy(budgets=[budget(1)])
    state = State(policy, trust_us=1_000_000)
    call = ask(1)
    allow = decide(policy, state, call, NOON_US)
    assert isinstance(allow, Allow)
    state.claimed(allow, NOON_US)

    again = decide(policy, state, call, NOON_US)
    assert isinstance(again, Allow)  # only the store knows
    state.refused(again.claims[0].counter, 0, NOON_US)

    assert isinstance(decide(policy, state, call, NOON_US), Refuse)
    assert isinstance(decide(policy, state, call, NOON_US + 1_000_000), Allow)


def test_a_refusal_by_a_store_tells_how_much_room_there_was() -> None:
    policy = Policy(budgets=[budget(2, each="conversation", window="total")])
    state = State(policy, trust_us=1_000_000)
    call = ask(1, conversation="c")
    allow = decide(policy, state, call, NOON_US)
    assert isinstance(allow, Allow)

    state.refused(allow.claims[0].counter, USD // 4, NOON_US)

    assert held(decide(policy, state, call, NOON_US)) == [USD // 4]


def test_a_lost_store_is_told_as_such() -> None:
    [claim] = Desk(budget(1)).begin(ask(1))[0].claims
    assert isinstance(claim, Claim)

    assert store_lost(claim.counter).reason == "store_lost"


# ---- a new configuration


def test_a_new_policy_keeps_what_was_spent_and_what_running_calls_hold() -> None:
    desk = Desk(budget(10))
    desk.spend(2)
    running = desk.begin(ask(3))

    desk.policy = Policy(budgets=[budget(5)])
    assert isinstance(desk.decide(ask(1)), Refuse)  # 2 spent, 3 held
    desk.end(running, 1)

    assert [(one.spent, one.held) for one in desk.state.standings(desk.now_us)] == [(3 * USD, 0)]
    assert isinstance(desk.decide(ask(2)), Allow)


def test_a_limit_below_what_is_spent_closes_and_a_removed_budget_is_gone() -> None:
    desk = Desk(budget(10))
    desk.spend(2)

    desk.policy = Policy(budgets=[budget(1)])
    assert isinstance(desk.decide(ask(0.1)), Refuse)
    desk.policy = Policy()
    assert held(desk.decide(ask(100))) == []


def test_memory_is_bounded_and_what_runs_is_never_forgotten() -> None:
    policy = Policy(budgets=[budget(1, each="conversation", window="total")])
    state = State(policy, capacity=100)
    desk = Desk()
    desk.policy, desk.state = policy, state
    running = desk.begin(ask(0.5, conversation="first"))

    for number in range(2_000):
        desk.spend(0.1, conversation=f"c{number}")

    assert len(state.standings(NOON_US)) <= 101
    desk.end(running, 0.5)
    assert isinstance(desk.decide(ask(0.5, conversation="first")), Allow)


def test_two_budgets_of_one_name_are_not_a_policy() -> None:
    with pytest.raises(ValueError, match="same name"):
        Policy(budgets=[budget(1), budget(2)])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": 9 * 10**15 + 1}, "limit"),
        ({"each": "modle"}, "each"),
        ({"at": {120: "cut"}}, "at"),
        ({"at": {0: "notify"}}, "at"),
        ({"pace": True, "window": "total"}, "pace"),
        ({"name": ""}, "name"),
        ({"throttle_per_minute": 0}, "throttle"),
    ],
)
def test_a_budget_that_contradicts_itself_is_none(said: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        budget(**said)  # type: ignore[arg-type]
