"""Texts that stand close and ask for different answers are never held for the same question."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cache.guards import judge, told_by
from sidecar.cache.guards.lexicon import OPPOSITES, SAME


def likeness(one: str, other: str) -> str:
    verdict, back = judge(told_by(one), told_by(other)), judge(told_by(other), told_by(one))
    assert verdict == back
    return verdict.likeness


def reason(one: str, other: str) -> str:
    return judge(told_by(one), told_by(other)).reason


APART = {
    "numbers": [
        ("Where is order 4471?", "Where is order 4417?"),
        ("What is 5! divided by 2?", "What is 5 divided by 2?"),
        ("Convert 10 km to miles", "Convert 100 km to miles"),
        ("Is 1.5 mg a safe dose?", "Is 15 mg a safe dose?"),
        ("What happened in 1989?", "What happened in 1998?"),
        ("Summarise our Q1 results", "Summarise our Q2 results"),
        ("What is 12 - 3?", "What is 12 + 3?"),
        ("Is x < 5 true?", "Is x > 5 true?"),
        ("Send three reminders", "Send four reminders"),
        ("Transfer $50 to savings", "Transfer $500 to savings"),
        ("Transfer $50 to savings", "Transfer €50 to savings"),
        ("Give me 20% off", "Give me 20 off"),
        ("Wake me at 7:30", "Wake me at 7:50"),
        ("Change the limit from 5 to 10", "Change the limit from 10 to 5"),
        ("Is the temperature -5 degrees?", "Is the temperature 5 degrees?"),
        ("Who came first in the race?", "Who came second in the race?"),
        ("Is 2024-01-02 a holiday?", "Is 2024-02-01 a holiday?"),
        ("Refund half of it", "Refund all of it"),
        ("Set the price to 1,000", "Set the price to 1.000"),
        ("What's 10% of 50?", "What's 50% of 10?"),
        ("Show the top 5 results", "Show the bottom 5 results"),
        ("What is 2^3?", "What is 2*3?"),
    ],
    "opposites": [
        ("How do I enable two-factor login?", "How do I disable two-factor login?"),
        ("What must be done before the launch?", "What must be done after the launch?"),
        ("Is the drug safe in pregnancy?", "Is the drug not safe in pregnancy?"),
        ("Can I return an opened item?", "Can't I return an opened item?"),
        ("Please approve the request", "Please reject the request"),
        ("List users with a subscription", "List users without a subscription"),
        ("Show the first entry", "Show the last entry"),
        ("Is it legal to record calls?", "Is it illegal to record calls?"),
        ("Sort the rows ascending", "Sort the rows descending"),
        ("Lock the account of the user", "Unlock the account of the user"),
        ("What was the price of the ticket?", "What is the price of the ticket?"),
        ("What did she say?", "What will she say?"),
        ("Turn on the alarm", "Turn off the alarm"),
        ("Increase the budget", "Decrease the budget"),
        ("Which plan is the cheapest?", "Which plan is the dearest?"),
        ("Should I always save the file?", "Should I never save the file?"),
        ("How was the meeting yesterday?", "How was the meeting today?"),
        ("Are all tests passing?", "Are some tests passing?"),
        ("The patient has a history of fits", "The patient has no history of fits"),
        ("How many days until May?", "How many days since May?"),
        ("What is a good score?", "What is the best score?"),
        ("Delete all files except logs", "Delete all files including logs"),
        ("How do I start the server?", "How do I restart the server?"),
    ],
    "names": [
        ("What is the capital of Australia?", "What is the capital of Austria?"),
        ("Book a table for Anna", "Book a table for Hannah"),
        ("What are the symptoms of hypothyroidism?", "What are the symptoms of hyperthyroidism?"),
        ("Translate this to French", "Translate this to German"),
        ("How do I install Java?", "How do I install JavaScript?"),
        ("Is it cold in turkey?", "Is it cold in Turkey?"),
        ("What does US stand for?", "What does us stand for?"),
        ("What is the wire?", "What is The Wire?"),
        ("is paris bigger than berlin", "is berlin bigger than paris"),
        ("flights from oslo to rome", "flights to oslo from rome"),
        ("What is my name?", "What is your name?"),
        ("Delete the file", "Delete the files"),
        ("How do I get paid?", "How do we get paid?"),
        ("Who killed Bill?", "Who did Bill kill?"),
        ("Is John older than Mary?", "Is Mary older than John?"),
        ("Convert miles to kilometers", "Convert kilometers to miles"),
        ("What is the top of the page?", "What is the best of the page?"),
        ("Does she like him?", "Does he like her?"),
        ("When does the shop open?", "Where does the shop open?"),
        ("How do you ship orders?", "How do I ship orders?"),
        ("How do I contact you?", "How do you contact me?"),
        ("Who wrote the book about Kant?", "Who wrote the book by Kant?"),
    ],
    "identifiers": [
        ("What does `get_user` do?", "What does `get_users` do?"),
        ("Open src/app/main.py", "Open src/app/main.ts"),
        ("Mail bob@example.com", "Mail rob@example.com"),
        ("Is v1.2.3 out?", "Is v1.3.2 out?"),
        ("Explain error E1042", "Explain error E1024"),
        ("What is C++?", "What is C#?"),
        ("What is C++?", "What is C?"),
        ("Deploy build 7f3a", "Deploy build 7f3b"),
        ("Fetch https://a.example/x", "Fetch https://a.example/y"),
        ('Translate "good night"', 'Translate "good day"'),
        ("Call INV-2041", "Call INV-2014"),
        ("Evaluate a*b", "Evaluate a/b"),
        ("grep --include foo", "grep --exclude foo"),
    ],
    "units": [
        ("Is 5 kg heavy?", "Is 5 lb heavy?"),
        ("Set a timer for 10 minutes", "Set a timer for 10 seconds"),
        ("It costs 5 dollars", "It costs 5 euros"),
        ("Is 30°C warm?", "Is 30°F warm?"),
        ("How far is 3 km?", "How far is 3 miles?"),
        ("Allocate 4GB", "Allocate 4MB"),
        ("What is the monthly fee?", "What is the yearly fee?"),
    ],
    "languages": [
        ("How do I reset my password?", "¿Cómo restablezco mi contraseña?"),
        ("What is a hotel?", "Was ist ein Hotel?"),
        ("Что такое банк?", "What is a bank?"),
        ("今天天气怎么样？", "今天天气怎样？"),
    ],
}


@pytest.mark.parametrize("kind", APART)
def test_pairs_of_the_adversarial_kinds_never_share_an_answer(kind: str) -> None:
    served = [pair for pair in APART[kind] if likeness(*pair) != "apart"]
    assert served == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my password?", "how can I reset my password"),
        ("How do I reset my password?", "What is the best way to reset my password?"),
        ("How do I reset my password?", "Please tell me how to reset my password!"),
        ("What's the capital of France?", "What is the capital of France"),
        ("Is 5kg heavy?", "Is 5 kilograms heavy?"),
        ("Is $1,000 a lot?", "Is 1000 dollars a lot?"),
        ("What are the best laptops?", "Which are the best laptops?"),
        ("I don't get it", "I do not get it"),
        ("What colour is the sky?", "What color is the sky?"),
        ("difference between tea and coffee", "difference between coffee and tea"),
        ("What are some good films?", "What are the best movies?"),
        ("Which laptop I should buy?", "Which laptop should I buy?"),
    ],
)
def test_what_is_asked_in_almost_the_same_words_is_the_same(one: str, other: str) -> None:
    assert likeness(one, other) == "same"


def test_the_reason_names_the_guard() -> None:
    assert reason("Where is order 4471?", "Where is order 4417?") == "numbers"
    assert reason("Enable the alarm", "Disable the alarm") == "opposites"
    assert reason("Enabling alarms", "Disabling alarms") == "opposites"
    assert reason("What is in Australia?", "What is in Austria?") == "names"
    assert reason("a dog bites a man", "a man bites a dog") == "order"
    assert reason("Explain E1042", "Explain E1024") == "identifiers"
    assert reason("Что такое банк?", "What is a bank?") == "language"
    assert reason("Why are databases used?", "How are databases used?") == "opposites"
    assert reason("Bake a cake", "Bake a pie") == "words"


def test_one_word_in_the_place_of_another_is_another_question_however_long_the_text() -> None:
    long = "please write a short friendly reminder that the red cotton curtains for the hall arrive soon"
    assert likeness(long, long.replace("red", "blue")) == "apart"
    assert likeness(long, long.replace("red cotton", "blue wool")) == "apart"


def test_what_is_said_in_other_words_is_told_from_the_same() -> None:
    one = (
        "Datasets provide a means to access and distribute data for vision, audio and language applications."
    )
    other = "Datasets are a platform to access and share data for vision, audio, and language tasks."
    assert likeness(one, other) == "rephrased"
    assert likeness(one, other.replace("share", "never share")) == "apart"
    assert likeness(one, other.replace("audio", "3 audio")) == "apart"


THINGS = "order refund ticket account invoice customer report project meeting price room flight song"
WORDS = st.sampled_from(THINGS.split())
SENTENCES = st.lists(WORDS, min_size=2, max_size=9)


@given(st.text(max_size=300))
def test_any_text_can_be_read_and_is_itself(text: str) -> None:
    told = told_by(text)
    assert judge(told, told).likeness == ("same" if told.marks else "apart")


@given(SENTENCES, st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 9))
def test_another_number_anywhere_keeps_two_texts_apart(
    words: list[str], one: int, other: int, place: int
) -> None:
    said = [*words[:place], str(one), *words[place:]]
    asked = [*words[:place], str(other), *words[place:]]
    assert (likeness(" ".join(said), " ".join(asked)) == "same") == (one == other)
    assert likeness(" ".join(said), " ".join(words)) == "apart"


@given(SENTENCES, st.sampled_from(sorted(OPPOSITES)), st.data(), st.integers(0, 9))
def test_an_opposite_anywhere_keeps_two_texts_apart(
    words: list[str], word: str, data: st.DataObject, place: int
) -> None:
    against = data.draw(st.sampled_from(sorted(OPPOSITES[word])))
    said, asked = ([*words[:place], part, *words[place:]] for part in (word, against))
    assert likeness(" ".join(said), " ".join(asked)) == "apart"


@given(SENTENCES, st.sampled_from(["not", "never", "without", "except", "only"]), st.integers(0, 9))
def test_a_negation_more_keeps_two_texts_apart(words: list[str], negation: str, place: int) -> None:
    assert likeness(" ".join(words), " ".join([*words[:place], negation, *words[place:]])) == "apart"


@given(SENTENCES, st.text(string.ascii_lowercase, min_size=3, max_size=9), st.integers(0, 9))
def test_a_name_more_keeps_two_texts_apart(words: list[str], name: str, place: int) -> None:
    told = " ".join([*words[:place], name.capitalize(), *words[place:]])
    assert likeness(told, " ".join(words)) == "apart" or name in ("the", "please", "really", "ever")


@given(SENTENCES)
def test_another_order_of_the_same_words_keeps_two_texts_apart(words: list[str]) -> None:
    turned = words[1:] + words[:1]
    assert (likeness(" ".join(words), " ".join(turned)) == "same") == (words == turned)


@given(SENTENCES, st.sampled_from(["", "?", "!", " .", "  ?\n"]), st.booleans())
def test_punctuation_space_and_capitals_at_the_start_make_no_difference(
    words: list[str], end: str, is_capital: bool
) -> None:
    text = " ".join(words)
    written = "  ".join(words) + end
    assert likeness(text, written.capitalize() if is_capital else written) == "same"


def test_words_that_say_the_same_are_in_one_group_and_turn_nothing_round() -> None:
    for word, stands in SAME.items():
        assert SAME[stands] == stands
        assert word not in OPPOSITES.get(stands, ()) and stands not in OPPOSITES.get(word, ())
