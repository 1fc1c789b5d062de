"""One call as a trace or a generator states it: what is sent, and what it should cost in tokens."""

from dataclasses import dataclass
from enum import StrEnum

from collector.domain.usage import Usage

APIS = (
    "openai.chat",
    "openai.completions",
    "openai.responses",
    "openai.embeddings",
    "anthropic.messages",
)
"""Dialects in which calls can be replayed, by Bursar's names."""


class Attribution(StrEnum):
    """How a call says whom it is for."""

    HEADERS = "headers"
    """``x-bursar-team``, ``x-bursar-agent``, ``x-bursar-conversation`` and their kin."""
    BODY = "body"
    """The body's own fields: ``user`` and ``metadata``."""
    NOTHING = "nothing"
    """Not at all: only its messages, which extend those of an earlier call, can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedCall:
    """A model call to be made.

    Raises:
        ValueError: ``at_s`` is negative, or ``api`` is none that can be replayed.
    """

    at_s: float
    """When, in seconds from the trace's start."""
    api: str
    """One of :data:`APIS`."""
    model: str
    usage: Usage
    """What the provider will report."""
    stream: bool = False
    conversation: str = ""
    team: str = ""
    agent: str = ""
    user: str = ""
    task: str = ""
    trace_id: str = ""
    """W3C trace id, sent as ``traceparent``: 32 hex digits, or empty."""
    attribution: Attribution = Attribution.HEADERS
    tools: tuple[str, ...] = ()
    """Tools that the model will call, by name."""
    fault: str = ""
    """A fault of the simulator, with its settings, such as ``rate_limit retry_after=2``."""
    leaves_after_events: int | None = None
    """Close the connection after so many stream events; None stays to the end."""
    instant: bool = False
    """Whether the simulator should answer without waiting."""

    def __post_init__(self) -> None:
        if self.at_s < 0:
            raise ValueError(f"a call before its trace began: at_s={self.at_s}")
        if self.api not in APIS:
            raise ValueError(f"no dialect {self.api!r}; known: {', '.join(APIS)}")

    @property
    def lane(self) -> tuple[str, str]:
        """Calls of one lane follow one another; those of different lanes may overlap."""
        return (self.conversation, self.agent)


def api_for(model: str) -> str:
    """The dialect in which ``model`` is usually called."""
    name = model.rpartition("/")[2].lower()
    if name.startswith("claude"):
        return "anthropic.messages"
    return "openai.embeddings" if "embed" in name else "openai.chat"
