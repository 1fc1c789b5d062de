"""Pace and habits of each simulated model.

The paces are round figures of the size that providers publish; nothing is
measured by them. Any other model name is served too, with the defaults.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """How one family of models behaves."""

    pattern: str
    """Shell pattern of its names."""
    owner: str = "simulated"
    first_token_s: float = 0.35
    token_gap_s: float = 0.012
    typical_output_tokens: int = 160
    """Length of a reply to which nobody set one, on average."""
    reasoning_share: float = 0.0
    """Part of the output that is reasoning, when the model reasons unasked."""
    context_tokens: int = 1_000_000
    cache_minimum_tokens: int = 1024
    embedding_dimensions: int = 1536


PROFILES = (
    ModelProfile(
        pattern="gpt-5*-nano*", owner="openai", first_token_s=0.25, token_gap_s=0.006, reasoning_share=0.4
    ),
    ModelProfile(
        pattern="gpt-5*-mini*", owner="openai", first_token_s=0.4, token_gap_s=0.008, reasoning_share=0.4
    ),
    ModelProfile(pattern="gpt-5*", owner="openai", first_token_s=0.9, token_gap_s=0.014, reasoning_share=0.5),
    ModelProfile(
        pattern="o[134]*", owner="openai", first_token_s=1.2, token_gap_s=0.012, reasoning_share=0.6
    ),
    ModelProfile(
        pattern="gpt-4*", owner="openai", first_token_s=0.4, token_gap_s=0.012, context_tokens=128_000
    ),
    ModelProfile(
        pattern="text-embedding-3-large*", owner="openai", first_token_s=0.08, embedding_dimensions=3072
    ),
    ModelProfile(pattern="text-embedding*", owner="openai", first_token_s=0.05),
    ModelProfile(pattern="claude-haiku*", owner="anthropic", first_token_s=0.35, token_gap_s=0.007),
    ModelProfile(pattern="claude-opus*", owner="anthropic", first_token_s=1.1, token_gap_s=0.018),
    ModelProfile(pattern="claude*", owner="anthropic", first_token_s=0.7, token_gap_s=0.013),
    ModelProfile(
        pattern="deepseek-r1*", owner="vllm", first_token_s=0.6, token_gap_s=0.02, reasoning_share=0.7
    ),
    ModelProfile(pattern="qwen*", owner="vllm", first_token_s=0.12, token_gap_s=0.01, context_tokens=131_072),
)

DEFAULT = ModelProfile(pattern="*")

LISTED = (
    "gpt-5.4",
    "gpt-5.4-mini",
    "gpt-5-nano",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "claude-opus-5",
    "claude-sonnet-5",
    "claude-haiku-4-5",
    "qwen3-8b",
)
"""What ``GET /v1/models`` answers."""


def profile_of(model: str) -> ModelProfile:
    """The profile that fits ``model`` first; a provider prefix such as ``openai/`` does not matter."""
    name = model.rpartition("/")[2]
    return next((profile for profile in PROFILES if fnmatchcase(name, profile.pattern)), DEFAULT)
