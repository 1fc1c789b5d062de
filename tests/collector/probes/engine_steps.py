"""An engine whose every step is known: what charges are held against."""

import random
from dataclasses import dataclass, field

FIXED_S, PROMPT_S, OUTPUT_S = 0.008, 0.00006, 0.0004
"""A step, a prompt token in it, a sequence in it: continuous batching on one small GPU."""
SHAPES = {"P": (900, 4), "D": (20, 160)}
"""Tokens in and out: class P has the engine read, class D has it write."""
STEP_TOKENS = 2048


@dataclass
class Step:
    at_s: float
    seconds: float
    prompt: dict[str, int]
    output: dict[str, int]
    sequences: dict[str, int]

    @property
    def expected_s(self) -> float:
        return FIXED_S + PROMPT_S * sum(self.prompt.values()) + OUTPUT_S * sum(self.output.values())


@dataclass
class Request:
    kind: str
    started_s: float
    prompt: int
    output: int
    first_token_s: float = 0.0
    ended_s: float = 0.0
    to_compute: int = 0
    to_say: int = 0


@dataclass
class Run:
    steps: list[Step] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def share(self, kind: str) -> float:
        """The class's share of engine time: its tokens' own, and of each step's fixed part by sequence."""
        own = 0.0
        for step in self.steps:
            variable = PROMPT_S * step.prompt[kind] + OUTPUT_S * step.output[kind]
            fixed = FIXED_S * step.sequences[kind] / sum(step.sequences.values())
            own += step.seconds * (variable + fixed) / step.expected_s
        return own / sum(step.seconds for step in self.steps)


def simulate(rng: random.Random, clients: dict[str, int], seconds: float, think_s: float = 0.25) -> Run:
    """Closed loops of clients that think for a while between two requests."""
    run, now = Run(), 0.0
    waiting = [(rng.uniform(0, think_s), kind) for kind, count in clients.items() for _ in range(count)]
    running: list[Request] = []
    while now < seconds:
        for ready_at, kind in [one for one in waiting if one[0] <= now]:
            prompt, output = (round(part * rng.uniform(0.5, 1.5)) + 1 for part in SHAPES[kind])
            running.append(Request(kind, now, prompt, output, to_compute=prompt, to_say=output))
            waiting.remove((ready_at, kind))
        if not running:
            now += 0.005
            continue
        step = Step(now, 0.0, *({"P": 0, "D": 0} for _ in range(3)))
        budget = STEP_TOKENS
        for one in running:
            done = min(one.to_compute, budget)
            budget -= done
            one.to_compute -= done
            step.prompt[one.kind] += done
            step.sequences[one.kind] += 1
            if not one.to_compute:
                one.to_say -= 1
                step.output[one.kind] += 1
        step.seconds = step.expected_s * rng.uniform(0.9, 1.1)
        now += step.seconds
        run.steps.append(step)
        for one in running:
            if not one.to_compute and not one.first_token_s:
                one.first_token_s = now
            if not one.to_say:
                one.ended_s = now
                run.requests.append(one)
                waiting.append((now + rng.expovariate(1 / think_s), one.kind))
        running = [one for one in running if one.to_say]
    return run
