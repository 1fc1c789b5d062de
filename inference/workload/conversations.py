"""The turns of one conversation, by what the agent does.

Each kind is a generator of turns: the prompt grows as the fit says, and what the
provider's cache can give follows from the turn before.
"""

from collections.abc import Iterator
from math import sqrt
from random import Random
from statistics import NormalDist
from typing import NamedTuple

from collector.domain.usage import Usage
from inference.workload.fitted import Fit

CONTEXT_TOKENS = 950_000
"""Where a coding agent must compact, whatever the fit says."""
COMPACTION_SIZES = (0, 50_000, 100_000, 150_000, 200_000)
"""Sizes of prompts from which compaction has a likelihood of its own, in tokens."""
ANTHROPIC_BLOCK = 64
OPENAI_STEP = 128
OPENAI_MINIMUM = 1024
SUBAGENT_PER_CALL = 0.015
"""How often a call is followed by a sub-agent's whole run; assumed."""
EMBEDDING_LIMIT = 8191

_NORMAL = NormalDist()
_CODING_TOOLS = ("read_file", "edit_file", "run_command", "search")
_RESEARCH_TOOLS = ("web_search", "open_page", "take_note")


class Turn(NamedTuple):
    """One call of a conversation, without its time."""

    usage: Usage
    tools: tuple[str, ...] = ()
    agent_suffix: str = ""
    """Of a sub-agent."""
    model: str = ""
    """Another than the conversation's; empty for that."""


def conversation(kind: str, fit: Fit, random: Random) -> Iterator[Turn]:
    """The turns of one conversation of this kind.

    Raises:
        KeyError: there is no such kind.
    """
    return _KINDS[kind](fit, random)


def _coding(fit: Fit, random: Random) -> Iterator[Turn]:
    # A Gaussian copula: each keeps its own law, and long sessions begin small, as in the trace.
    correlation = fit.shares["coding.rank_correlation_of_calls_and_first_prompt"]
    length = random.gauss(0.0, 1.0)
    size = correlation * length + sqrt(1 - correlation**2) * random.gauss(0.0, 1.0)
    calls = max(1, round(fit["coding.calls"].at(_NORMAL.cdf(length))))
    first = max(1, round(fit["coding.first_prompt_tokens"].at(_NORMAL.cdf(size))))
    for turn in _coding_lane(fit, random, calls, first):
        yield turn
        if random.random() < SUBAGENT_PER_CALL:
            sub_calls = fit["coding.subagent_calls"].draw_whole(random, 1)
            sub_first = fit["coding.subagent_first_prompt_tokens"].draw_whole(random, 1)
            for sub_turn in _coding_lane(fit, random, sub_calls, sub_first):
                yield sub_turn._replace(agent_suffix="/explore", model="claude-haiku-4-5")


def _coding_lane(fit: Fit, random: Random, calls: int, prompt: int) -> Iterator[Turn]:
    known = 0
    for _ in range(calls):
        read = min(known, prompt) // ANTHROPIC_BLOCK * ANTHROPIC_BLOCK
        write = prompt // ANTHROPIC_BLOCK * ANTHROPIC_BLOCK - read
        tool = random.random() < fit.shares["coding.tool_call"]
        yield Turn(
            Usage(
                input_tokens=prompt,
                output_tokens=fit["coding.output_tokens"].draw_whole(random, 1),
                cache_read_input_tokens=read,
                cache_write_input_tokens=write,
            ),
            tools=(random.choice(_CODING_TOOLS),) if tool else (),
        )
        if prompt > CONTEXT_TOKENS or random.random() < _compaction(fit, prompt):
            kept = fit["coding.compacted_to_share"].draw(random)
            known = 0  # a summary begins the prompt anew
            prompt = max(1, round(prompt * min(kept, 0.9)))
        else:
            known = round(prompt * fit["coding.known_share"].draw(random))
            prompt += fit["coding.growth_tokens"].draw_whole(random)


def _compaction(fit: Fit, prompt: int) -> float:
    """How likely the next prompt is a summary of this one."""
    size = max(size for size in COMPACTION_SIZES if size <= prompt)
    return fit.shares[f"coding.compaction_from_{size}"]


def _chat(fit: Fit, random: Random) -> Iterator[Turn]:
    turns = 1
    while random.random() < fit.shares["chat.continued"]:
        turns += 1
    # Drawn together and sorted: each length keeps the fitted law, and prompts still grow.
    prompts = sorted(fit["chat.input_tokens"].draw_whole(random, 1) for _ in range(turns))
    for turn, prompt in enumerate(prompts):
        # What is known comes from this conversation or another that began alike, so it has a law of its own.
        known = round(prompt * fit["chat.known_share_continued"].draw(random)) if turn else 0
        yield Turn(
            Usage(
                input_tokens=prompt,
                output_tokens=fit["chat.output_tokens"].draw_whole(random, 1),
                cache_read_input_tokens=_openai_cached(known),
            )
        )


def _completion(fit: Fit, random: Random) -> Iterator[Turn]:
    yield Turn(
        Usage(
            input_tokens=fit["completion.input_tokens"].draw_whole(random, 1),
            output_tokens=fit["completion.output_tokens"].draw_whole(random, 1),
        )
    )


def _reasoning(fit: Fit, random: Random) -> Iterator[Turn]:
    prompt = fit["reasoning.input_tokens"].draw_whole(random, 1)
    known = 0
    for _ in range(random.randint(2, 8)):
        output = fit["reasoning.output_tokens"].draw_whole(random, 1)
        reasoning = min(output, round(output * fit["reasoning.share"].draw(random)))
        tool = random.random() < 0.5
        yield Turn(
            Usage(
                input_tokens=prompt,
                output_tokens=output,
                cache_read_input_tokens=_openai_cached(known),
                reasoning_output_tokens=reasoning,
            ),
            tools=(random.choice(_RESEARCH_TOOLS),) if tool else (),
        )
        known = prompt
        # What the agent found is read next, with what it said itself.
        prompt += output - reasoning + fit["reasoning.input_tokens"].draw_whole(random, 1)


def _batch(fit: Fit, random: Random) -> Iterator[Turn]:
    yield Turn(
        Usage(
            input_tokens=fit["batch.input_tokens"].draw_whole(random, 1),
            output_tokens=fit["batch.output_tokens"].draw_whole(random, 1),
        )
    )


def _embedding(fit: Fit, random: Random) -> Iterator[Turn]:
    yield Turn(Usage(input_tokens=min(EMBEDDING_LIMIT, fit["chat.input_tokens"].draw_whole(random, 1))))


def _openai_cached(known: int) -> int:
    """Tokens that OpenAI's own cache gives for a prefix of ``known`` tokens."""
    return known // OPENAI_STEP * OPENAI_STEP if known >= OPENAI_MINIMUM else 0


_KINDS = {
    "coding": _coding,
    "chat": _chat,
    "completion": _completion,
    "reasoning": _reasoning,
    "batch": _batch,
    "embedding": _embedding,
}
