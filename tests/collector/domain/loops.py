"""Agents that run in circles, of several shapes, and agents that only look like it; made from a seed."""

import random
from collections.abc import Iterator

from collector.domain.runaway import Step
from sidecar.wire.hashing import call_digest, told_two_ways

TOOLS = ("search", "read_file", "run_tests", "fetch", "edit")


class Agent:
    """Makes the steps of one conversation; every step costs what its context and its reply come to."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.context = self.random.choice((2_000, 8_000, 30_000))
        self.grows = self.random.choice((150, 600, 1_500))
        self.state = self.random.getrandbits(40)

    def words(self, count: int = 6) -> str:
        return " ".join(f"w{self.random.getrandbits(40):x}" for _ in range(count))

    def step(
        self,
        call: str = "",
        arguments: str = "",
        said: str = "",
        *,
        role: str = "tool",
        reply: str = "",
        errors: int = 0,
        same_request: bool = False,
        grows: bool = True,
    ) -> Step:
        if not same_request:
            self.state += 1
            self.context += self.grows if grows else 0
        return Step(
            calls=(call_digest(call, arguments.encode()),) if call else (),
            reply=told_two_ways(reply.encode()) if reply else 0,
            role=role,
            said=told_two_ways(said.encode()),
            errors=errors,
            state=self.state,
            input_tokens=self.context,
            cost_pico=self.context * 300_000 + 400 * 1_200_000,
        )

    def work(self, steps: int) -> Iterator[Step]:
        """Ordinary steps: another call, another result, now and then an error or the same test run."""
        for number in range(steps):
            tool = self.random.choice(TOOLS)
            said = self.words(40)
            if self.random.random() < 0.1:
                yield self.step("run_tests", "{}", f"{self.random.randint(1, 9)} failed\n{said}")
            elif number and self.random.random() < 0.1:
                yield self.step(tool, f'{{"q":"{self.words()}"}}', "Error: no such file", errors=1)
            else:
                yield self.step(tool, f'{{"path":"{self.words(2)}"}}', said)


def the_same_again(agent: Agent) -> Iterator[Step]:
    while True:
        yield agent.step("search", '{"q":"weather in Paris"}', "no results")


def another_counter_each_time(agent: Agent) -> Iterator[Step]:
    number = 0
    while True:
        number += 1
        yield agent.step("fetch", f'{{"url":"/job","try":{number}}}', f"503 at 10:{number % 60:02d}: busy")


def other_words_same_answer(agent: Agent) -> Iterator[Step]:
    while True:
        yield agent.step("search", f'{{"q":"{agent.words()}"}}', "Your query returned no results.")


def round_and_round(agent: Agent) -> Iterator[Step]:
    size = agent.random.randint(2, 5)
    steps = [(agent.random.choice(TOOLS), agent.words(3), agent.words(20)) for _ in range(size)]
    while True:
        for tool, arguments, said in steps:
            yield agent.step(tool, arguments, said)


def failing_edits(agent: Agent) -> Iterator[Step]:
    edit = agent.words(30)
    while True:
        yield agent.step("edit", f'{{"new":"{edit}"}}', "Error: old_string was not found", errors=1)
        yield agent.step("read_file", '{"path":"a.py"}', "the same file as before")


def talking_to_itself(agent: Agent) -> Iterator[Step]:
    while True:
        yield agent.step(role="user", said="Please continue.", reply="I will now continue with the task.")


def the_same_request_again(agent: Agent) -> Iterator[Step]:
    agent.state += 1
    while True:
        yield agent.step(role="user", said="Go on.", reply=agent.words(30), same_request=True)


def two_agents_thanking_each_other(agent: Agent) -> Iterator[Step]:
    while True:
        yield agent.step(role="user", said="Thank you, over to you.", reply="You are welcome, over to you.")
        yield agent.step(role="user", said="You are welcome, over to you.", reply="Thank you, over to you.")


def watching_a_log(agent: Agent) -> Iterator[Step]:
    while True:
        yield agent.step("read_log", '{"tail":50}', agent.words(40))


SHAPES = (
    the_same_again,
    another_counter_each_time,
    other_words_same_answer,
    round_and_round,
    failing_edits,
    talking_to_itself,
    the_same_request_again,
    two_agents_thanking_each_other,
    watching_a_log,
)


def ordinary(agent: Agent) -> Iterator[Step]:
    """Conversations that get somewhere, with what looks like a loop at first."""
    yield agent.step("search", "{}", agent.words(), role="user")
    yield from agent.work(agent.random.randint(3, 120))
    match agent.random.randrange(6):
        case 0:  # Page after page.
            for page in range(agent.random.randint(5, 60)):
                yield agent.step("list", f'{{"page":{page}}}', agent.words(40))
        case 1:  # Waits for a build.
            for minute in range(agent.random.randint(1, 4)):
                yield agent.step("build_status", "{}", f"running for {minute} minutes")
        case 2:  # A person says the same now and then.
            for _ in range(agent.random.randint(2, 6)):
                yield agent.step(role="user", said="go on", reply=agent.words(30))
                yield from agent.work(agent.random.randint(1, 6))
        case 3:  # Edits and tests, until it works.
            for failing in range(agent.random.randint(3, 25), 0, -1):
                yield agent.step("edit", agent.words(10), "done")
                yield agent.step("run_tests", "{}", f"{failing} failed: {agent.words(10)}")
        case 4:  # Answers of a canned model.
            for _ in range(agent.random.randint(2, 30)):
                yield agent.step(role="user", said=agent.words(), reply="I cannot help with that.")
        case _:
            yield from agent.work(30)
