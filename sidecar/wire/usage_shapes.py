"""Where each family of providers keeps its token counts.

Each family of blocks is a :class:`Shape`: a table that says under which names each
token class is kept, and whether cached tokens are counted inside the input (OpenAI,
Gemini, most others) or beside it (Anthropic, Bedrock). What does not fit a table
is a short function beside it. Numbers are believed only when they can be true:
see :func:`count`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Block = Mapping[str, Any]
Counts = dict[str, int]
"""Fields of ``Usage`` that a block speaks of."""

MOST_TOKENS: Final = 100_000_000
"""More than any call can use: ten times the largest context window sold."""


@dataclass(slots=True)
class Doubts:
    """What could not be believed, by name; the same doubt is named once."""

    flags: list[str] = field(default_factory=list)

    def add(self, flag: str) -> None:
        """Remember ``flag``."""
        if flag not in self.flags:
            self.flags.append(flag)


def count(value: object, doubts: Doubts) -> int | None:
    """``value`` as a token count, ``None`` when it cannot be one.

    Cohere writes counts as floats; a whole float is a count. Text, negative and
    impossibly large numbers are dropped, never repaired: a wrong number that looks
    right is worse than an estimate.
    """
    if value is None:
        return None
    if type(value) is not int:
        if type(value) is not float or value != value or value in (float("inf"), float("-inf")):
            doubts.add("not_a_number")
            return None
        if value != int(value):
            doubts.add("not_an_integer")
        value = int(-(-value // 1))
    if value < 0:
        doubts.add("negative")
        return None
    if value > MOST_TOKENS:
        doubts.add("implausible")
        return None
    return value


Path = tuple[str, ...]


def _paths(*names: str) -> tuple[Path, ...]:
    return tuple(tuple(name.split(".")) for name in names)


Tree = dict[str, Any]
"""Key of a block -> where it belongs and its rank among alternatives, or the tree of an inner object."""


class Shape:
    """Where one family of usage blocks keeps each token class; of alternatives the first there speaks."""

    __slots__ = ("adjust", "cache_beside_input", "marks", "tree")

    def __init__(
        self,
        *,
        marks: frozenset[str],
        input: tuple[Path, ...],
        output: tuple[Path, ...],
        parts: Mapping[str, tuple[Path, ...]] | None = None,
        cache_beside_input: bool = False,
        adjust: Callable[[Block, Counts, Doubts], None] | None = None,
    ) -> None:
        """Lay the paths out as one tree.

        Args:
            marks: keys by which a block of this family is known; one is enough.
            input: where the input tokens are.
            output: where the output tokens are.
            parts: where the parts of these are, by field of ``Usage``.
            cache_beside_input: cached tokens are counted beside the input, not in it.
            adjust: rules that no table holds.
        """
        self.marks = marks
        self.cache_beside_input = cache_beside_input
        self.adjust = adjust
        self.tree: Tree = {}
        for name, paths in {"input_tokens": input, "output_tokens": output, **(parts or {})}.items():
            for rank, (*outer, key) in enumerate(paths):
                tree = self.tree
                for step in outer:
                    tree = tree.setdefault(step, {})
                tree[key] = (name, rank)


def _members(block: Block, *names: str) -> Iterable[Block]:
    for name in names:
        members = block.get(name)
        if isinstance(members, list):
            yield from (member for member in members if isinstance(member, dict))


def _xai_searches(block: Block, counts: Counts, doubts: Doubts) -> None:
    """xAI counts what its own tools did, each kind apart; a search of X costs what one of the web costs:
    https://docs.x.ai/developers/pricing
    """
    tools = block.get("server_side_tool_usage_details")
    if isinstance(tools, dict) and "web_searches" not in counts:
        kinds = [count(tools.get(kind), doubts) or 0 for kind in ("web_search_calls", "x_search_calls")]
        counts["web_searches"] = sum(kinds)


def _chat_rules(block: Block, counts: Counts, doubts: Doubts) -> None:
    _xai_searches(block, counts, doubts)
    total = count(block.get("total_tokens"), doubts)
    if total is None:
        return
    said = counts.get("output_tokens", 0)
    if "input_tokens" not in counts:  # Voyage and some rerankers say only the total.
        counts["input_tokens"] = max(0, total - said)
    reasoning = counts.get("reasoning_output_tokens", 0)
    if reasoning and total == counts["input_tokens"] + said + reasoning:
        # xAI counts reasoning beside the completion: the total proves it.
        counts["output_tokens"] = said + reasoning


def _perplexity_rules(block: Block, counts: Counts, doubts: Doubts) -> None:
    # Deep research bills reasoning tokens of their own, outside completion and total.
    reasoning = count(block.get("reasoning_tokens"), doubts)
    if reasoning:
        counts["reasoning_output_tokens"] = reasoning
        counts["output_tokens"] = counts.get("output_tokens", 0) + reasoning


def _anthropic_rules(block: Block, counts: Counts, doubts: Doubts) -> None:
    if "cache_write_input_tokens" not in counts and isinstance(block.get("cache_creation"), dict):
        kinds = (count(value, doubts) for value in block["cache_creation"].values())
        counts["cache_write_input_tokens"] = sum(value or 0 for value in kinds)
    for turn in _members(block, "iterations"):
        if turn.get("type") == "compaction":
            _add_compaction(turn, counts, doubts)


_COMPACTED: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_input_tokens",
    "cache_creation_input_tokens": "cache_write_input_tokens",
}


def _add_compaction(turn: Block, counts: Counts, doubts: Doubts) -> None:
    """What the server used to sum a context up: alone among its turns it is not in the block's own counts.

    Source: ``BetaUsage.iterations`` in anthropic's SDK.
    """
    for theirs, ours in _COMPACTED.items():
        counts[ours] = counts.get(ours, 0) + (count(turn.get(theirs), doubts) or 0)
    kinds = turn.get("cache_creation")
    if isinstance(kinds, dict):
        kept = count(kinds.get("ephemeral_1h_input_tokens"), doubts) or 0
        counts["cache_write_1h_input_tokens"] = counts.get("cache_write_1h_input_tokens", 0) + kept


def _converse_rules(block: Block, counts: Counts, doubts: Doubts) -> None:
    for detail in _members(block, "cacheDetails"):
        if detail.get("ttl") == "1h":
            one_hour = count(detail.get("inputTokens"), doubts) or 0
            counts["cache_write_1h_input_tokens"] = counts.get("cache_write_1h_input_tokens", 0) + one_hour


_GEMINI_MODALITIES: Final = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image"}
"""Pages of documents are billed as images (ai.google.dev/gemini-api/docs/document-processing)."""


def _gemini_rules(block: Block, counts: Counts, doubts: Doubts) -> None:
    """Thinking is counted beside the candidates, tool prompts beside the prompt."""
    tools = count(block.get("toolUsePromptTokenCount"), doubts) or 0
    thoughts = counts.get("reasoning_output_tokens", 0)
    if "output_tokens" not in counts:
        total = count(block.get("totalTokenCount"), doubts) or 0
        counts["output_tokens"] = max(0, total - counts.get("input_tokens", 0) - tools - thoughts)
    counts["input_tokens"] = counts.get("input_tokens", 0) + tools
    counts["output_tokens"] += thoughts
    sides = (
        ("input", ("promptTokensDetails", "promptTokenDetails", "toolUsePromptTokensDetails")),
        ("output", ("candidatesTokensDetails", "responseTokensDetails")),
    )
    for side, names in sides:
        for detail in _members(block, *names):
            modality = _GEMINI_MODALITIES.get(str(detail.get("modality")))
            if modality:
                name = f"{modality}_{side}_tokens"
                counts[name] = counts.get(name, 0) + (count(detail.get("tokenCount"), doubts) or 0)
    for detail in _members(block, "cacheTokensDetails"):
        if detail.get("modality") == "AUDIO":
            counts["cache_read_audio_input_tokens"] = count(detail.get("tokenCount"), doubts) or 0


def _cohere_rules(block: Block, counts: Counts, doubts: Doubts) -> None:
    billed = block.get("billed_units")
    images = count(billed.get("image_tokens"), doubts) if isinstance(billed, dict) else None
    if images and not isinstance(block.get("tokens"), dict):
        counts["image_input_tokens"] = images
        counts["input_tokens"] = counts.get("input_tokens", 0) + images


def _titan_rules(block: Block, counts: Counts, doubts: Doubts) -> None:
    results = (count(result.get("tokenCount"), doubts) for result in _members(block, "results"))
    counts.setdefault("output_tokens", sum(value or 0 for value in results))


_DETAIL_PARTS: Final = {
    "cache_read_audio_input_tokens": ("input.cached_tokens_details.audio_tokens",),
    "audio_input_tokens": ("input.audio_tokens",),
    "audio_output_tokens": ("output.audio_tokens",),
    "image_input_tokens": ("input.image_tokens",),
    "image_output_tokens": ("output.image_tokens",),
    "cache_write_input_tokens": (
        "input.cache_write_tokens",
        "input.cache_creation_tokens",
        "input.cache_creation_input_tokens",  # Qwen on DashScope, Perplexity's agents
    ),
    # OpenAI sells 30 minutes and 12 hours, a dearer class: the one that stands for what is kept long.
    "cache_write_1h_input_tokens": ("input.cache_write_tokens_details.ttl_12h_tokens",),
    "reasoning_output_tokens": ("output.reasoning_tokens",),
}


def _details(
    input_names: tuple[str, ...], output_names: tuple[str, ...], **more: str
) -> dict[str, tuple[Path, ...]]:
    """The parts that OpenAI keeps in its two detail objects, under the names these go by."""
    parts: dict[str, list[str]] = {}
    for part, places in _DETAIL_PARTS.items():
        for place in places:
            side, _, rest = place.partition(".")
            names = input_names if side == "input" else output_names
            parts.setdefault(part, []).extend(f"{name}.{rest}" for name in names)
    for part, names_of in more.items():
        parts.setdefault(part, []).extend(names_of.split())
    return {part: _paths(*places) for part, places in parts.items()}


_PROMPT = _details(
    ("prompt_tokens_details",),
    ("completion_tokens_details",),
    # Together and Hugging Face keep the count outside; DeepSeek has had both. Mistral's
    # num_cached_tokens is left out: it is charged at the full input price.
    cache_read_input_tokens=(
        "prompt_tokens_details.cached_tokens prompt_cache_hit_tokens cached_tokens cache_read_input_tokens"
    ),
    cache_write_input_tokens="cache_creation_input_tokens",
    reasoning_output_tokens="reasoning_tokens",  # SGLang, of its completion_tokens
    # litellm's names for what Anthropic says and OpenAI has no word for.
    cache_write_1h_input_tokens="prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens",
    web_searches="server_tool_use.web_search_requests prompt_tokens_details.web_search_requests",
)

SHAPES: Final = (
    Shape(  # Perplexity
        marks=frozenset({"num_search_queries", "citation_tokens"}),
        input=_paths("prompt_tokens"),
        output=_paths("completion_tokens"),
        parts={"web_searches": _paths("num_search_queries")},
        adjust=_perplexity_rules,
    ),
    Shape(  # OpenAI chat, completions and embeddings, and all who copied them
        marks=frozenset({"prompt_tokens", "completion_tokens"}),
        input=_paths("prompt_tokens"),
        output=_paths("completion_tokens"),
        parts=_PROMPT,
        adjust=_chat_rules,
    ),
    Shape(  # Anthropic
        marks=frozenset(
            {"cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "server_tool_use"}
        ),
        input=_paths("input_tokens"),
        output=_paths("output_tokens"),
        parts={
            "cache_read_input_tokens": _paths("cache_read_input_tokens"),
            "cache_write_input_tokens": _paths("cache_creation_input_tokens"),
            "cache_write_1h_input_tokens": _paths("cache_creation.ephemeral_1h_input_tokens"),
            "reasoning_output_tokens": _paths("output_tokens_details.thinking_tokens"),
            "web_searches": _paths("server_tool_use.web_search_requests"),
        },
        cache_beside_input=True,
        adjust=_anthropic_rules,
    ),
    Shape(  # OpenAI responses, transcriptions, images; Anthropic without a cache looks the same
        marks=frozenset({"input_tokens", "output_tokens"}),
        input=_paths("input_tokens"),
        output=_paths("output_tokens"),
        parts=_details(
            ("input_tokens_details", "input_token_details"),
            ("output_tokens_details", "output_token_details"),
            cache_read_input_tokens=(
                "input_tokens_details.cached_tokens input_token_details.cached_tokens"
                " input_tokens_details.cache_read_input_tokens"
                " prompt_tokens_details.cached_tokens"  # DashScope, in its own dialect
            ),
            cache_write_input_tokens="prompt_tokens_details.cache_creation_input_tokens",
            reasoning_output_tokens="output_tokens_details.thinking_tokens",
        ),
        adjust=_xai_searches,
    ),
    Shape(  # Gemini
        marks=frozenset(
            {"promptTokenCount", "candidatesTokenCount", "totalTokenCount", "thoughtsTokenCount"}
        ),
        input=_paths("promptTokenCount"),
        output=_paths("candidatesTokenCount", "responseTokenCount"),
        parts={
            "cache_read_input_tokens": _paths("cachedContentTokenCount"),
            "reasoning_output_tokens": _paths("thoughtsTokenCount"),
        },
        adjust=_gemini_rules,
    ),
    Shape(  # Bedrock Converse, Amazon Nova
        marks=frozenset({"inputTokens", "outputTokens"}),
        input=_paths("inputTokens"),
        output=_paths("outputTokens"),
        parts={
            "cache_read_input_tokens": _paths("cacheReadInputTokens", "cacheReadInputTokenCount"),
            "cache_write_input_tokens": _paths("cacheWriteInputTokens", "cacheWriteInputTokenCount"),
        },
        cache_beside_input=True,
        adjust=_converse_rules,
    ),
    Shape(  # Bedrock's own metrics of an invocation: last chunk of a stream, or headers
        marks=frozenset({"inputTokenCount", "outputTokenCount"}),
        input=_paths("inputTokenCount"),
        output=_paths("outputTokenCount"),
        parts={
            "cache_read_input_tokens": _paths("cacheReadInputTokenCount"),
            "cache_write_input_tokens": _paths("cacheWriteInputTokenCount"),
        },
        cache_beside_input=True,
    ),
    Shape(  # Cohere: "tokens" is what the model read, "billed_units" leaves out its own templates
        marks=frozenset({"tokens", "billed_units"}),
        input=_paths("tokens.input_tokens", "billed_units.input_tokens"),
        output=_paths("tokens.output_tokens", "billed_units.output_tokens"),
        parts={"cache_read_input_tokens": _paths("cached_tokens")},
        adjust=_cohere_rules,
    ),
    Shape(  # Llama on Bedrock
        marks=frozenset({"prompt_token_count", "generation_token_count"}),
        input=_paths("prompt_token_count"),
        output=_paths("generation_token_count"),
    ),
    Shape(  # Titan on Bedrock
        marks=frozenset({"inputTextTokenCount"}),
        input=_paths("inputTextTokenCount"),
        output=_paths("totalOutputTextTokenCount"),
        adjust=_titan_rules,
    ),
    Shape(  # Ollama
        marks=frozenset({"prompt_eval_count", "eval_count"}),
        input=_paths("prompt_eval_count"),
        output=_paths("eval_count"),
    ),
    Shape(  # Voyage: nothing but a total
        marks=frozenset({"total_tokens"}),
        input=(),
        output=(),
        adjust=_chat_rules,
    ),
)
