"""Calls of an imaginary company, drawn from what was fitted on real traces.

Eight agents of five teams, on models of three providers and one that nobody has
a price for. Each agent keeps some conversations going; a call is the next turn of
one of them. Sizes come from the fit (``FIT.md``); who does what is made up.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from inference.workload.calls import Attribution, TracedCall
from inference.workload.conversations import Turn, conversation
from inference.workload.fitted import Fit, shipped_fit
from inference.workload.quantiles import Quantiles

MAX_GAP_OVER_MEAN = 10.0
"""Longest silence of an agent, in mean gaps: the traces' rarest gaps would outlast a demonstration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentProfile:
    """One agent, and how it spends."""

    team: str
    agent: str
    kind: str
    """What it does, in :mod:`inference.workload.conversations`."""
    api: str
    models: tuple[tuple[str, float], ...]
    """Models and the part of its conversations that each gets."""
    share: float
    """Its part of all calls."""
    attribution: Attribution = Attribution.HEADERS
    streamed: float = 1.0
    """Part of its calls that stream."""
    open_conversations: int = 4
    """Conversations under way at once."""
    gap_variation: float | None = None
    """Where its burstiness lies among the fitted clients, from 0 to 1; None: bursts of ``completion``."""
    faults: tuple[tuple[str, float], ...] = ()
    """Faults of the provider, and how often each strikes."""
    leaves: float = 0.0
    """Part of its streams that it leaves in the middle."""
    traced: bool = False
    """Whether it sends a trace context."""
    users: int = 0
    """How many users it serves."""


_PROVIDER_TROUBLE = (("rate_limit retry_after=1", 0.010), ("server_error", 0.005))

COMPANY = (
    AgentProfile(
        team="platform", agent="coding-agent", kind="coding", api="anthropic.messages", share=0.26,
        models=(("claude-opus-5", 0.45), ("claude-sonnet-5", 0.55)), streamed=0.6, open_conversations=6,
        gap_variation=0.5, traced=True, leaves=0.01,
        faults=(
            ("rate_limit retry_after=1", 0.008), ("overloaded retry_after=1", 0.008),
            ("stream_error", 0.004),
        ),
    ),
    AgentProfile(
        team="platform", agent="code-completion", kind="completion", api="openai.chat", share=0.16,
        models=(("qwen3-8b", 1.0),), open_conversations=1, leaves=0.06, users=12,
        faults=(("server_error", 0.004), ("missing_usage", 0.01), ("truncated after=4", 0.004)),
    ),
    AgentProfile(
        team="support", agent="support-bot", kind="chat", api="openai.chat", share=0.24,
        models=(("gpt-5.4-mini", 0.9), ("gpt-5.4", 0.1)), streamed=0.9, open_conversations=8, users=60,
        gap_variation=0.4, leaves=0.04, faults=(*_PROVIDER_TROUBLE, ("stream_error", 0.005)),
    ),
    AgentProfile(
        team="research", agent="research-agent", kind="reasoning", api="openai.responses", share=0.08,
        models=(("gpt-5.4", 1.0),), streamed=0.5, open_conversations=4, gap_variation=0.5, traced=True,
        faults=_PROVIDER_TROUBLE,
    ),
    AgentProfile(
        team="research", agent="paper-reader", kind="chat", api="openai.chat", share=0.04,
        models=(("acme-large-2", 1.0),), streamed=0.3, open_conversations=3, gap_variation=0.5,
        faults=_PROVIDER_TROUBLE,
    ),
    AgentProfile(
        team="data", agent="nightly-batch", kind="batch", api="openai.chat", share=0.10,
        models=(("gpt-5-nano", 1.0),), streamed=0.0, open_conversations=1, gap_variation=0.8,
        attribution=Attribution.BODY, faults=(("rate_limit retry_after=1", 0.06), ("server_error", 0.01)),
    ),
    AgentProfile(
        team="search", agent="embedding-indexer", kind="embedding", api="openai.embeddings", share=0.08,
        models=(("text-embedding-3-small", 1.0),), streamed=0.0, open_conversations=1, gap_variation=0.7,
        faults=_PROVIDER_TROUBLE,
    ),
    AgentProfile(
        team="search", agent="answer-writer", kind="chat", api="anthropic.messages", share=0.04,
        models=(("claude-haiku-4-5", 1.0),), streamed=0.7, open_conversations=3, gap_variation=0.5,
        attribution=Attribution.NOTHING, faults=(("overloaded retry_after=1", 0.01),),
    ),
)  # fmt: skip
"""The company; shares sum to 1."""

_ENDS_WITHOUT_ANSWER = (
    "rate_limit",
    "server_error",
    "overloaded",
    "stream_error",
    "truncated",
    "reset",
    "drop",
)


class _Due(NamedTuple):
    at_s: float
    order: int
    source: "_Agent"


def generate(
    *,
    seed: int = 0,
    calls_per_s: float = 8.0,
    company: tuple[AgentProfile, ...] = COMPANY,
    fit: Fit | None = None,
) -> Iterator[TracedCall]:
    """Calls without end, in order of time; the same seed gives the same calls.

    Args:
        seed: of everything random.
        calls_per_s: mean rate; the hour of the day raises and lowers it as fitted.
        company: the agents.
        fit: the fit to draw from; the shipped one by default.
    """
    fit = fit or shipped_fit()
    agents = [
        _Agent(profile, fit, Random(f"{seed}/{profile.team}/{profile.agent}"), calls_per_s)  # noqa: S311
        for profile in company
    ]
    due = [_Due(agent.gap_s(0.0), order, agent) for order, agent in enumerate(agents)]
    heapq.heapify(due)
    while True:
        at_s, order, agent = due[0]
        yield agent.next_call(at_s)
        heapq.heapreplace(due, _Due(at_s + agent.gap_s(at_s), order, agent))


def demonstration(*, seed: int = 0, burst_calls: int = 600, calls_per_s: float = 8.0) -> Iterator[TracedCall]:
    """What ``bursar demo`` replays: a past, as fast as it can be told, then a steady present.

    The first ``burst_calls`` are due at once and the simulator answers them without waiting; then calls
    go on at ``calls_per_s`` and at the models' own pace, without end.
    """
    calls = generate(seed=seed, calls_per_s=calls_per_s)
    began = 0.0
    for number, call in enumerate(calls):
        if number < burst_calls:
            began = call.at_s
            # A stream that is over before its reader can leave would not show what leaving costs.
            yield replace(call, at_s=0.0, instant=call.leaves_after_events is None)
        else:
            yield replace(call, at_s=call.at_s - began)


class _Conversation:
    """One conversation under way."""

    def __init__(self, name: str, model: str, user: str, trace_id: str, turns: Iterator[Turn]) -> None:
        self.name = name
        self.model = model
        self.user = user
        self.trace_id = trace_id
        self.turns = turns
        self.unanswered: Turn | None = None
        """A turn whose call failed, to be tried again."""


class _Agent:
    """Where one agent's calls come from."""

    def __init__(self, profile: AgentProfile, fit: Fit, random: Random, calls_per_s: float) -> None:
        self._profile = profile
        self._fit = fit
        self._random = random
        self._mean_gap_s = 1.0 / (profile.share * calls_per_s)
        self._started = 0
        self._open = [self._begin() for _ in range(profile.open_conversations)]
        gaps = fit["completion.gap_over_mean"]
        self._clipped_mean = _clipped_mean(gaps)

    def gap_s(self, at_s: float) -> float:
        """Time to the next call, seen from ``at_s``."""
        hour = self._fit.hour_of_day[int(at_s // 3600) % 24]
        return self._relative_gap() * self._mean_gap_s / hour

    def next_call(self, at_s: float) -> TracedCall:
        """The next turn of one of the open conversations."""
        random, profile = self._random, self._profile
        place = random.randrange(len(self._open))
        talk, turn = self._next_turn(place)
        stream = profile.api != "openai.embeddings" and random.random() < profile.streamed
        fault = self._fault(stream)
        leaves = stream and not fault and random.random() < profile.leaves
        failed = fault.partition(" ")[0] in _ENDS_WITHOUT_ANSWER
        talk.unanswered = turn if failed else None
        return TracedCall(
            at_s=at_s,
            api=profile.api,
            model=turn.model or talk.model,
            usage=turn.usage,
            stream=stream,
            conversation=talk.name,
            team=profile.team,
            agent=profile.agent + turn.agent_suffix,
            user=talk.user,
            task=f"task-{talk.name}" if profile.kind in ("coding", "reasoning") else "",
            trace_id=talk.trace_id,
            attribution=profile.attribution,
            tools=turn.tools,
            fault=fault,
            leaves_after_events=random.randint(2, 12) if leaves else None,
        )

    def _next_turn(self, place: int) -> tuple[_Conversation, Turn]:
        while True:
            talk = self._open[place]
            turn = talk.unanswered or next(talk.turns, None)
            if turn is not None:
                return talk, turn
            self._open[place] = self._begin()

    def _begin(self) -> _Conversation:
        random, profile = self._random, self._profile
        self._started += 1
        models, weights = zip(*profile.models, strict=True)
        user = f"user-{random.randrange(profile.users):03d}" if profile.users else ""
        return _Conversation(
            name=f"{profile.agent}-{random.getrandbits(32):08x}",
            model=random.choices(models, weights)[0],
            user=user,
            trace_id=f"{random.getrandbits(128) | 1 << 127 | 1 << 64:032x}" if profile.traced else "",
            turns=conversation(profile.kind, self._fit, random),
        )

    def _relative_gap(self) -> float:
        if self._profile.gap_variation is None:
            gap = self._fit["completion.gap_over_mean"].draw(self._random)
            return min(gap, MAX_GAP_OVER_MEAN) / self._clipped_mean
        variation = self._fit["client.gap_variation"].at(self._profile.gap_variation)
        # A gamma law with this coefficient of variation; shape 1 would be a Poisson process.
        shape = 1 / variation**2
        return self._random.gammavariate(shape, 1 / shape)

    def _fault(self, stream: bool) -> str:
        draw = self._random.random()
        for fault, probability in self._profile.faults:
            draw -= probability
            if draw < 0:
                in_stream = fault.startswith(("stream_error", "truncated"))
                return fault if stream or not in_stream else ""
        return ""


def _clipped_mean(gaps: Quantiles) -> float:
    steps = 10_000
    return sum(min(gaps.at((step + 0.5) / steps), MAX_GAP_OVER_MEAN) for step in range(steps)) / steps
