"""Which conversation a call belongs to: what is enough to join one, and what is not."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stitchers import Stitchers

from collector.domain.stitching import Known, StitchingLimits, Via, recall
from collector.domain.stitching_rules import text_length
from sidecar.wire.hashing import call_mark, fold

SYSTEM = ("system", "You are a careful assistant of the finance team. " * 4)
QUESTION = ("user", "Reconcile the invoices of last month against the bank statement, please.")
ANSWER = ("assistant", "Three invoices have no payment: 1017, 1022 and 1040. Shall I write to them?")
MORE = ("user", "Yes, write to them, and copy me in.")
KEY = ("acme", "vk_1", "ann")

Message = tuple[str, ...]


def hashes_of(*messages: Message) -> list[int]:
    """The rolling hashes of messages: (role, text) or (role, text, marks)."""
    rolling, found = 0, []
    for role, text, *marks in messages:
        rolling = fold(rolling, role, text.encode(), *marks)
        found.append(rolling)
    return found


class Desk:
    """A stitcher, or two that agree, with a call for a word."""

    def __init__(self, limits: StitchingLimits | None = None) -> None:
        self.stitcher: Any = Stitchers(limits)
        self._serial = 0

    def call(
        self, *messages: Message, reply: Message | None = None, scope: tuple[str, ...] = KEY, **how: Any
    ) -> tuple[str, int, Via]:
        """Place a call with ``messages`` and settle it with ``reply``; none when it failed."""
        self._serial += 1
        hashes = hashes_of(*messages)
        response_id = how.pop("response_id", "")
        placement = self.stitcher.place(scope, hashes, f"c{self._serial}", **how)
        last = hashes_of(*messages, reply)[-1] if reply else 0
        self.stitcher.settle(placement, last, response_id)
        return placement.conversation_id, placement.branch, placement.via


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_call_that_goes_on_from_a_reply_of_ours_joins(desk: Desk) -> None:
    assert desk.call(SYSTEM, QUESTION, reply=ANSWER) == ("c1", 0, Via.NEW)
    assert desk.call(SYSTEM, QUESTION, ANSWER, MORE, reply=("assistant", "Done.")) == ("c1", 0, Via.REPLY)


def test_the_same_system_prompt_and_question_of_two_agents_are_two_conversations(desk: Desk) -> None:
    other = ("assistant", "Everything was paid, as far as the statement shows.")
    assert desk.call(SYSTEM, QUESTION, reply=ANSWER)[0] == "c1"
    assert desk.call(SYSTEM, QUESTION, reply=other)[0] == "c2"
    assert desk.call(SYSTEM, QUESTION, ANSWER, MORE)[0] == "c1"
    assert desk.call(SYSTEM, QUESTION, other, MORE)[0] == "c2"


def test_an_opening_with_a_reply_of_somebody_elses_is_a_conversation_of_its_own(desk: Desk) -> None:
    desk.call(SYSTEM, QUESTION, reply=ANSWER)
    theirs = ("assistant", "A reply that this stitcher never saw, of a run beside it.")

    assert desk.call(SYSTEM, QUESTION, theirs, MORE)[0] == "c2"


def test_two_runs_that_say_and_hear_the_same_are_joined_to_neither_while_both_wait(desk: Desk) -> None:
    desk.call(SYSTEM, QUESTION, reply=ANSWER)
    desk.call(SYSTEM, QUESTION, reply=ANSWER)

    assert desk.call(SYSTEM, QUESTION, ANSWER, MORE)[0] == "c3"


def test_one_run_after_the_other_of_the_same_script_are_kept_apart(desk: Desk) -> None:
    last = ("assistant", "The letters are on their way; a copy is in your inbox.")
    for name in ("c1", "c3", "c5"):
        assert desk.call(SYSTEM, QUESTION, reply=ANSWER)[0] == name
        assert desk.call(SYSTEM, QUESTION, ANSWER, MORE, reply=last)[0] == name


@pytest.mark.parametrize("system", [(), (SYSTEM,)])
def test_hi_and_hello_are_not_enough(desk: Desk, system: Sequence[Message]) -> None:
    hi, hello = ("user", "hi"), ("assistant", "Hello! How can I assist you today?")
    desk.call(*system, hi, reply=hello)

    assert desk.call(*system, hi, reply=hello)[0] == "c2"
    assert desk.call(*system, hi, hello, ("user", "what is the time?"))[0] == "c3"


def test_a_tool_calls_id_is_enough_without_any_text(desk: Desk) -> None:
    asked = ("user", "weather?")
    calls = ("assistant", "", call_mark("call_x7Gh2", "weather"))
    found = ("tool", "rain", "call_x7Gh2")
    desk.call(SYSTEM, asked, reply=calls)

    assert desk.call(SYSTEM, asked, calls, found)[0] == "c1"


def test_where_the_system_prompt_stands_apart_the_first_message_is_evidence(desk: Desk) -> None:
    desk.call(QUESTION, reply=("assistant", "OK"), instructions_apart=True)

    assert desk.call(QUESTION, ("assistant", "OK"), MORE, instructions_apart=True)[0] == "c1"
    desk.call(QUESTION, reply=("assistant", "OK"), scope=("other",))
    assert desk.call(QUESTION, ("assistant", "OK"), MORE, scope=("other",))[0] == "c4"


def test_nothing_is_joined_across_scopes(desk: Desk) -> None:
    desk.call(SYSTEM, QUESTION, reply=ANSWER)
    for scope in (("other", "vk_1", "ann"), ("acme", "vk_2", "ann"), ("acme", "vk_1", "bob"), ()):
        assert desk.call(SYSTEM, QUESTION, ANSWER, MORE, scope=scope)[2] is Via.NEW


def test_a_retry_of_an_opening_that_failed_is_the_same_conversation(desk: Desk) -> None:
    desk.call(SYSTEM, QUESTION)
    assert desk.call(SYSTEM, QUESTION, reply=ANSWER) == ("c1", 0, Via.REPEAT)
    assert desk.call(SYSTEM, QUESTION, ANSWER, MORE)[0] == "c1"


def test_a_retry_of_hi_may_be_anybodys(desk: Desk) -> None:
    desk.call(SYSTEM, ("user", "hi"))

    assert desk.call(SYSTEM, ("user", "hi"))[0] == "c2"


def test_another_answer_to_a_later_question_is_a_branch(desk: Desk) -> None:
    desk.call(SYSTEM, QUESTION, reply=ANSWER)
    desk.call(SYSTEM, QUESTION, ANSWER, MORE, reply=("assistant", "Written."))
    asked_again = desk.call(SYSTEM, QUESTION, ANSWER, MORE, reply=("assistant", "Sent."))

    assert asked_again == ("c1", 1, Via.REPEAT)
    assert desk.call(SYSTEM, QUESTION, ANSWER, MORE, ("assistant", "Written."), MORE)[:2] == ("c1", 0)
    assert desk.call(SYSTEM, QUESTION, ANSWER, MORE, ("assistant", "Sent."), MORE)[:2] == ("c1", 1)


def test_sub_agents_that_are_given_the_history_are_branches(desk: Desk) -> None:
    desk.call(SYSTEM, QUESTION, reply=ANSWER)
    branches = [
        desk.call(SYSTEM, QUESTION, ANSWER, ("user", f"Look at invoice {number} alone."))[:2]
        for number in (1017, 1022, 1040)
    ]

    assert branches == [("c1", 0), ("c1", 1), ("c1", 2)]


def test_a_last_message_that_is_changed_when_it_is_sent_again_does_no_harm(desk: Desk) -> None:
    reminder = ("user", "<reminder>The time is 10:07.</reminder>")
    third = ("assistant", "Both letters are written and wait for your signature now.")
    desk.call(SYSTEM, QUESTION, reply=ANSWER)
    desk.call(SYSTEM, QUESTION, ANSWER, MORE, reminder, reply=third)

    assert desk.call(SYSTEM, QUESTION, ANSWER, MORE, third, ("user", "Fine."))[:2] == ("c1", 0)


def test_an_agent_with_words_of_its_own_for_our_replies_is_followed_from_the_second_call_on(
    desk: Desk,
) -> None:
    mine = ("assistant", '{"summary": "three unpaid", "next": "write"}')
    desk.call(SYSTEM, QUESTION, reply=ANSWER)
    desk.call(SYSTEM, QUESTION, mine, MORE, reply=("assistant", "Done"))

    assert desk.call(SYSTEM, QUESTION, mine, MORE, mine, MORE)[0] == "c2"


@pytest.mark.parametrize("dropped", [1, 3])
def test_a_history_whose_beginning_was_changed_is_known_by_its_messages(desk: Desk, dropped: int) -> None:
    said: list[Message] = [SYSTEM]
    for turn in range(6):
        said.append(("user", f"Question {turn}: " + "what of the account of the northern branch? " * 3))
        reply = ("assistant", f"Answer {turn}: " + "it balances, but for one entry in March. " * 4)
        assert desk.call(*said, reply=reply)[0] == "c1"
        said.append(reply)
    moved = [("system", "Another prompt altogether."), *said[dropped:], MORE]

    assert desk.call(*moved)[::2] == ("c1", Via.MOVED)


@pytest.mark.parametrize(("gained", "via"), [(14, Via.MOVED), (15, Via.NEW)])
def test_messages_behind_another_beginning_are_looked_for_among_the_last_sixteen(
    desk: Desk, gained: int, via: Via
) -> None:
    longer = [
        ("assistant", "It balances, but for one entry. " * 9),
        ("user", "Which one would that be? " * 9),
    ]
    desk.call(SYSTEM, QUESTION, reply=ANSWER)
    desk.call(SYSTEM, QUESTION, ANSWER, MORE, *longer)

    assert desk.call(("system", "Another prompt."), *longer, *[("user", "Go on.")] * gained)[2] is via


@pytest.mark.parametrize(("ahead", "found"), [(8, ("c3", 0, Via.REPLY)), (9, ("c4", 0, Via.NEW))])
def test_who_walks_in_the_steps_of_another_is_known_eight_messages_on(
    desk: Desk, ahead: int, found: tuple[str, int, Via]
) -> None:
    opening = [SYSTEM, QUESTION, ANSWER, MORE, QUESTION]
    walked = [*opening, *[("user", f"Step {number}.") for number in range(ahead)]]
    desk.call(*walked, reply=ANSWER)
    desk.call(*opening, reply=ANSWER)
    desk.call(*opening)

    assert desk.call(*walked) == found


def test_messages_that_two_conversations_have_had_move_nobody(desk: Desk) -> None:
    common = [
        ("user", "The standing orders of the house. " * 9),
        ("assistant", "Understood, all of them. " * 9),
    ]
    for name in ("ann", "bob"):
        opening = ("user", f"I am {name} and would like to begin with the ledger of my own department.")
        hello = ("assistant", f"Welcome, {name}; the ledger of your department is open before us.")
        desk.call(SYSTEM, opening, reply=hello)
        desk.call(SYSTEM, opening, hello, *common, MORE)

    assert desk.call(("system", "Other."), *common, MORE)[2] is Via.NEW


def test_an_id_that_the_caller_gives_wins_and_holds_for_what_follows(desk: Desk) -> None:
    desk.call(SYSTEM, QUESTION, reply=ANSWER)
    named = desk.call(SYSTEM, QUESTION, ANSWER, MORE, reply=("assistant", "Done."), explicit_id="talk-9")
    follows = desk.call(SYSTEM, QUESTION, ANSWER, MORE, ("assistant", "Done."), ("user", "Thanks a lot."))

    assert named == ("talk-9", 0, Via.EXPLICIT)
    assert follows[0] == "talk-9"


def test_a_response_that_is_named_leads_to_its_conversation(desk: Desk) -> None:
    desk.call(QUESTION, reply=ANSWER, response_id="resp_1")
    assert desk.call(MORE, previous_response_id="resp_1", response_id="resp_2") == ("c1", 0, Via.RESPONSE)
    assert desk.call(MORE, previous_response_id="resp_2") == ("c1", 0, Via.RESPONSE)
    assert desk.call(MORE, previous_response_id="resp_1") == ("c1", 1, Via.RESPONSE)
    assert desk.call(MORE, previous_response_id="resp_unknown")[2] is Via.NEW
    assert desk.call(MORE)[2] is Via.NEW


def test_a_run_joins_what_nothing_else_is_known_of(desk: Desk) -> None:
    desk.call(SYSTEM, QUESTION, reply=ANSWER, run="trace-1")
    helper = ("system", "You look things up."), ("user", "Find invoice 1017.")

    assert desk.call(*helper, run="trace-1")[::2] == ("c1", Via.RUN)
    assert desk.call(*helper, run="trace-2")[2] is Via.NEW


def test_a_call_without_messages_is_a_conversation_of_its_own(desk: Desk) -> None:
    assert desk.call()[2] is Via.NEW
    assert desk.call()[2] is Via.NEW


def test_what_the_ledger_remembers_is_gone_on_from_after_a_restart(desk: Desk) -> None:
    fresh = Desk()
    recall(
        fresh.stitcher,
        [
            Known(KEY, "kept-1", hashes_of(SYSTEM, QUESTION), hashes_of(SYSTEM, QUESTION, ANSWER)[-1]),
            Known(KEY, "kept-2", hashes_of(SYSTEM, MORE), 0, "resp_7"),
        ],
    )

    assert fresh.call(SYSTEM, QUESTION, ANSWER, MORE)[0] == "kept-1"
    assert fresh.call(MORE, previous_response_id="resp_7")[0] == "kept-2"
    assert fresh.call(SYSTEM, QUESTION)[2] is Via.NEW


def test_memory_is_bounded_and_the_least_lately_heard_of_goes_first() -> None:
    desk = Desk(StitchingLimits(conversations=50, hashes=120, hashes_per_conversation=8))
    noise = random.Random(3)
    for number in range(500):
        said: list[Message] = [SYSTEM, ("user", f"Conversation {number}: " + "tell me of the accounts. " * 3)]
        for _ in range(noise.randint(1, 9)):
            reply = ("assistant", f"{noise.random()} is the balance of the account that you asked of.")
            desk.call(*said, reply=reply)
            said += [reply, ("user", f"And what of account {noise.random()}, which is another one?")]
    stitcher = desk.stitcher

    assert stitcher.conversations <= 50
    assert stitcher.hashes <= 120
    assert stitcher.forgotten >= 450
    in_python = stitcher.in_python
    kept = sum(len(conversation.hashes) for conversation in in_python._recent)
    assert kept == stitcher.hashes
    assert sum(len(scope.index) for scope in in_python._scopes.values()) <= kept


def test_scopes_that_nobody_is_known_of_are_let_go() -> None:
    desk = Desk(StitchingLimits(conversations=10))
    for number in range(100):
        desk.call(SYSTEM, QUESTION, reply=ANSWER, scope=(f"tenant-{number}",))

    assert desk.stitcher.scopes <= 11


@given(
    text=st.binary(max_size=300),
    role=st.sampled_from(["user", "assistant", "tool", "x"]),
    marks=st.text(max_size=20),
)
def test_the_length_of_a_message_is_told_by_its_hashes(text: bytes, role: str, marks: str) -> None:
    before = fold(0, "system", b"anything")
    after = fold(before, role, text, marks)

    assert text_length((after - before * 2_654_435_761) & ((1 << 63) - 1)) == len(text.strip())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=60), st.randoms())
def test_no_order_of_calls_ever_joins_two_who_said_different_things(
    steps: list[tuple[int, bool, bool]], noise: random.Random
) -> None:
    """Six agents with one system prompt, and openings that some of them share, speak in any order."""
    desk = Desk(StitchingLimits(conversations=4, hashes=30, hashes_per_conversation=6))
    said: list[list[Message]] = [
        [SYSTEM, ("user", f"Opening {agent % 3}, as agents of this kind say.")] for agent in range(6)
    ]
    owner: dict[str, int] = {}
    for agent, failed, patient in steps:
        reply = ("assistant", f"{noise.random()} is what {agent} was told, at some length, by the model.")
        name, _, via = desk.call(*said[agent], reply=None if failed else reply)
        if via is Via.REPEAT and len(said[agent]) == 2:
            owner[name] = agent  # A retry of an opening that failed: nobody can tell whose.
        assert owner.setdefault(name, agent) == agent
        if not failed and not patient:
            said[agent] += [reply, ("user", f"{agent} goes on to ask about {noise.random()}.")]
