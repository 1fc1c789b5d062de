"""Providers' usage blocks as one kind of ``Usage``; their shapes are in ``usage_shapes``."""

from typing import Final

from collector.domain.usage import Usage
from sidecar.wire.usage_shapes import MOST_TOKENS, SHAPES, Block, Counts, Doubts, Shape, Tree, count

_TOTALS: Final = frozenset({"input_tokens", "output_tokens"})


def read_usage(block: Block, *, hidden_thinking: bool = False) -> tuple[Usage | None, tuple[str, ...]]:
    """The usage a block reports, and what had to be corrected or dropped in it.

    Args:
        block: the provider's usage object, or a body that keeps the counts at its top.
        hidden_thinking: what the total has beyond its two parts was thinking
            (Google's OpenAI-like endpoint).
    """
    doubts = Doubts()
    shape = _shape_of(block)
    if shape is None:
        return None, ()
    counts: Counts = {}
    if not _gather(block, shape.tree, counts, {}, doubts):
        return None, tuple(
            doubts.flags
        )  # Half a usage is none: an estimate of the whole is nearer the truth.
    if shape.adjust is not None:
        shape.adjust(block, counts, doubts)
    if hidden_thinking:
        _add_hidden_thinking(block, counts, doubts)
    if shape.cache_beside_input:
        cached = counts.get("cache_read_input_tokens", 0) + counts.get("cache_write_input_tokens", 0)
        counts["input_tokens"] = counts.get("input_tokens", 0) + cached
    if _TOTALS.isdisjoint(counts):
        return None, tuple(doubts.flags)
    return _usage(counts, doubts), tuple(doubts.flags)


def _shape_of(block: Block) -> Shape | None:
    for shape in SHAPES:
        if not shape.marks.isdisjoint(block):
            return shape
    return None


def _add_hidden_thinking(block: Block, counts: Counts, doubts: Doubts) -> None:
    total = count(block.get("total_tokens"), doubts) or 0
    hidden = total - counts.get("input_tokens", 0) - counts.get("output_tokens", 0)
    if hidden > 0:
        counts["output_tokens"] = counts.get("output_tokens", 0) + hidden
        counts["reasoning_output_tokens"] = counts.get("reasoning_output_tokens", 0) + hidden


def _usage(counts: Counts, doubts: Doubts) -> Usage:
    try:
        return Usage(**counts)
    except ValueError:
        # Azure's Grok reports more cached tokens than prompt tokens, MiniMax more reasoning
        # than completion: the whole is what is billed, so the parts give way.
        doubts.add("parts_exceed_whole")
    whole, made = counts.get("input_tokens", 0), counts.get("output_tokens", 0)
    fitted = dict(counts)
    read = fitted["cache_read_input_tokens"] = min(counts.get("cache_read_input_tokens", 0), whole)
    written = fitted["cache_write_input_tokens"] = min(
        counts.get("cache_write_input_tokens", 0), whole - read
    )
    for name, limit in (
        ("cache_write_1h_input_tokens", written),
        ("cache_read_audio_input_tokens", read),
        ("audio_input_tokens", whole),
        ("image_input_tokens", whole),
        ("reasoning_output_tokens", made),
        ("audio_output_tokens", made),
        ("image_output_tokens", made),
    ):
        fitted[name] = min(counts.get(name, 0), limit)
    return Usage(**fitted)


def _gather(block: Block, tree: Tree, counts: Counts, ranks: dict[str, int], doubts: Doubts) -> bool:
    """Collect into ``counts`` what ``tree`` knows of ``block``; false when a total cannot be believed."""
    sound = True
    for key, value in block.items():
        place = tree.get(key)
        if place is None or value is None:
            continue
        if place.__class__ is dict:
            if value.__class__ is dict:
                sound &= _gather(value, place, counts, ranks, doubts)
            continue
        name, rank = place
        if ranks.get(name, rank) < rank:
            continue
        number = value if type(value) is int and 0 <= value <= MOST_TOKENS else count(value, doubts)
        if number is not None:
            counts[name] = number
            ranks[name] = rank
        elif name in _TOTALS:
            sound = False
    return sound
