"""The token classes of one model call.

Providers count in two ways: OpenAI-like APIs count cached tokens inside the
prompt, Anthropic and Bedrock beside it. ``sidecar/wire`` adds them up, so that
every ``Usage`` means the same thing: the containment of the OTel GenAI
``gen_ai.usage.*`` attributes.
"""

from dataclasses import dataclass
from enum import StrEnum


class UsageGrade(StrEnum):
    """Where token counts came from, best first."""

    REPORTED = "reported"
    """The provider said so."""
    COMPUTED = "computed"
    """Counted with the model's own tokenizer."""
    ESTIMATED = "estimated"
    """Our model of the reply: bytes seen over the bytes a token of this model takes."""
    ASSUMED = "assumed"
    """The hold: nothing of the reply is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that one model call consumed.

    ``cache_read``, ``cache_write`` and audio and image input are parts of
    ``input_tokens``; ``cache_write_1h`` is the part of ``cache_write`` that is kept
    long: an hour (Anthropic, Bedrock) or twelve (OpenAI). Reasoning, audio and image
    output are parts of ``output_tokens``. ``cache_read_audio`` is the part of
    ``cache_read`` that was audio.

    Raises:
        ValueError: a count is negative, or parts exceed their whole.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    cache_write_1h_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    cache_read_audio_input_tokens: int = 0
    web_searches: int = 0
    """Server-side searches, billed by the piece where the price book says so."""

    def __post_init__(self) -> None:
        if self.input_tokens < 0 or self.output_tokens < 0 or self.web_searches < 0:
            raise ValueError(f"negative count in {self}")
        parts = (
            self.cache_read_input_tokens,
            self.cache_write_input_tokens,
            self.cache_write_1h_input_tokens,
            self.reasoning_output_tokens,
            self.audio_input_tokens,
            self.audio_output_tokens,
            self.image_input_tokens,
            self.image_output_tokens,
            self.cache_read_audio_input_tokens,
        )
        if min(parts) < 0:
            raise ValueError(f"negative count in {self}")
        if self.cache_read_input_tokens + self.cache_write_input_tokens > self.input_tokens:
            raise ValueError(f"cached parts exceed input_tokens={self.input_tokens}")
        if self.cache_write_1h_input_tokens > self.cache_write_input_tokens:
            raise ValueError(f"one-hour writes exceed the {self.cache_write_input_tokens} tokens written")
        if self.reasoning_output_tokens > self.output_tokens:
            raise ValueError(f"reasoning exceeds output_tokens={self.output_tokens}")

    @property
    def uncached_input_tokens(self) -> int:
        """Input tokens that neither came from the provider's cache nor went into it."""
        return self.input_tokens - self.cache_read_input_tokens - self.cache_write_input_tokens


NOTHING = Usage()
"""What a call consumed that never reached a model."""
