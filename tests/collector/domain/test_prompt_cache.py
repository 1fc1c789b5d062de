"""Planted breaks of a prompt cache are named rightly, and ordinary growth breaks nothing."""

import random
from collections.abc import Callable, Sequence

import pytest

from collector.domain.prompt_cache import ADVICE, Cause, _before, breaks
from collector.domain.stitching_rules import BITS, CHAIN, WORD, text_length
from collector.domain.turns import Turn, messages_of
from tests.collector.domain.planted import Talk

KINDS = ("automatic", "marked")
SEEDS = range(100, 116)


def clock(talk: Talk) -> None:
    talk.system = "At 10:15:00 " + talk.system
    talk.grow(1)
    talk.system = talk.system.replace("10:15:00", "10:16:31")


def system(talk: Talk) -> None:
    talk.system = talk.system.replace("careful", "very careful indeed")


def tool_order(talk: Talk) -> None:
    talk.tools.reverse()


def tools(talk: Talk) -> None:
    talk.tools.append(b'{"name":"write"}')


def history(talk: Talk) -> None:
    role, text = talk.messages[2]
    talk.messages[2] = role, b"(shortened) " + text[:20]


def window(talk: Talk) -> None:
    del talk.messages[:2]


def model(talk: Talk) -> None:
    talk.model = "other"


def downgrade(talk: Talk) -> None:
    talk.model, talk.downgraded_from = "small", "big"


def upstream(talk: Talk) -> None:
    talk.upstream = "two"


def lapsed(talk: Talk) -> None:
    talk.now_s += 400


PLANTS: list[tuple[Callable[[Talk], None], Cause]] = [
    (clock, Cause.CLOCK),
    (system, Cause.SYSTEM),
    (tool_order, Cause.TOOL_ORDER),
    (tools, Cause.TOOLS),
    (history, Cause.HISTORY),
    (window, Cause.HISTORY),
    (model, Cause.MODEL),
    (downgrade, Cause.DOWNGRADE),
    (upstream, Cause.UPSTREAM),
    (lapsed, Cause.LAPSED),
]


@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_growth_breaks_nothing(kind: str) -> None:
    for seed in SEEDS:
        talk = Talk(seed, kind)
        talk.grow(talk.random.randint(4, 25))

        assert breaks(talk.turns) == []


@pytest.mark.parametrize("kind", KINDS)
def test_planted_breaks_are_named_rightly(kind: str) -> None:
    right, wrong = 0, []
    for plant, cause in PLANTS:
        for seed in SEEDS:
            talk = Talk(seed, kind)
            talk.grow(talk.random.randint(5, 12))
            plant(talk)
            broken_at = f"{seed}-{len(talk.turns)}"
            talk.grow(5)

            found = {one.call_id: one for one in breaks(talk.turns)}

            if broken_at in found and found[broken_at].cause is cause:
                right += 1
            else:
                wrong.append((plant.__name__, seed, found.get(broken_at)))
            others = [one for one in found if one != broken_at and plant is not clock]
            assert not others, (plant.__name__, seed, found)

    assert right / (right + len(wrong)) >= 0.95, wrong[:5]


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_in_the_system_prompt_breaks_every_call_after_the_first(kind: str) -> None:
    talk = Talk(3, kind, clock=True)
    talk.grow(12)
    cached = [turn for turn in talk.turns[:-1] if turn.input_tokens >= 1200]

    found = breaks(talk.turns)

    assert {one.cause for one in found} == {Cause.CLOCK}
    assert {one.block for one in found} == {"system"}
    assert len(found) >= len(cached) - 1


def test_a_break_costs_what_was_paid_beyond_the_price_of_reading() -> None:
    talk = Talk(5, "marked")
    talk.grow(6)
    before = talk.turns[-1]
    talk.tools.reverse()
    talk.grow(1)

    (broken,) = breaks(talk.turns)

    held = before.cache_read_tokens + before.cache_write_tokens
    assert broken.lost_tokens == held
    assert broken.cost_pico == held * (3_750_000 - 300_000)
    assert (broken.after, broken.block) == (before.call_id, "tools")


def test_a_fork_that_drops_what_came_after_breaks_nothing() -> None:
    talk = Talk(6)
    talk.grow(8)
    del talk.messages[6:]
    talk.say("Let us do something else instead.")
    talk.call()

    assert breaks(talk.turns) == []


def test_calls_beside_each_other_break_nothing() -> None:
    talk = Talk(7)
    talk.grow(6)
    start = talk.turns[-1].started_us
    talk.turns[-1] = talk.turns[-1]._replace(ended_us=start + 60_000_000)
    talk.say("And meanwhile?")
    turn = talk.call(cache_read_tokens=talk.turns[-2].input_tokens // 128 * 128)

    assert turn.started_us < start + 60_000_000
    assert breaks(talk.turns) == []


def test_a_provider_without_a_cache_breaks_nothing() -> None:
    talk = Talk(8)
    talk.grow(10)
    same = [
        turn._replace(rates=turn.rates._replace(cache_read=turn.rates.input), cache_read_tokens=0)
        for turn in talk.turns
    ]

    assert breaks(same) == []


def test_every_cause_comes_with_advice() -> None:
    assert set(ADVICE) == set(Cause)


def histories(seed: int, many: int) -> list[list[int]]:
    """Digests of requests that grow, are cut, reordered and rewritten, and say the same again."""
    chance = random.Random(seed)
    pool = [chance.getrandbits(32) * WORD + chance.choice((0, 5, 90, 4000)) & BITS for _ in range(12)]
    history = [pool[0]]
    found = []
    for _ in range(many):
        match chance.randrange(6):
            case 0:
                history = history[: chance.randint(1, len(history))]
            case 1:
                history = chance.sample(history, len(history))
            case 2:
                place = chance.randrange(len(history))
                history = [*history[:place], chance.choice(pool), *history[place + 1 :]]
            case _:
                history = history + chance.choices(pool, k=chance.randint(0, 3))
        found.append(history)
    return found


def rolled(digests: Sequence[int]) -> list[int]:
    """Hashes after each message, as records have them."""
    hashes, rolling = [], 0
    for digest in digests:
        rolling = (rolling * CHAIN + digest) & BITS
        hashes.append(rolling)
    return hashes


def shared(own: Sequence[int], theirs: Sequence[int]) -> int:
    """Bytes of messages that are the same from the beginning on, or stand anywhere behind that."""
    common = 0
    while common < min(len(own), len(theirs)) and own[common] == theirs[common]:
        common += 1
    alike = [*own[:common], *(digest for digest in own[common:] if digest in theirs[common:])]
    return sum(text_length(digest) or 40 for digest in alike)


@pytest.mark.parametrize("seed", range(20))
def test_a_call_is_compared_with_the_latest_of_those_that_it_shares_most_with(seed: int) -> None:
    found = histories(seed, 30)
    read = [messages_of(rolled(digests)) for digests in found]
    assert [one.own for one in read] == found
    seen: list[tuple[Turn, object]] = []
    for place, digests in enumerate(found):
        best = max(range(place), key=lambda at: (shared(digests, found[at]), at), default=None)
        before = _before(Turn(str(place), started_us=place), read[place], seen)  # type: ignore[arg-type]

        if best is None or not shared(digests, found[best]):
            assert before is None
        else:
            assert before is not None
            assert (before[0].call_id, before[2].shared) == (str(best), shared(digests, found[best]))
        seen.append((Turn(str(place), ended_us=place), read[place]))


@pytest.mark.parametrize("seed", range(20))
def test_only_the_new_messages_of_a_request_that_goes_on_are_read(seed: int) -> None:
    hashes = [rolled(digests) for digests in histories(seed, 30)]
    known, told = hashes[0], messages_of(hashes[0])

    for request in hashes[1:]:
        told = messages_of(request, known, told)
        known = request
        assert told == messages_of(request)
