"""What an embedding does not see: two texts that stand close and ask for different answers.

Sentence vectors put "enable it" beside "disable it" and "order 4471" beside "order 4417" (opposites at
similarity 0.83 to 0.9997 in nine encoders). So two texts may share an answer only if they come to the same,
mark for mark, once everything is evened out that makes no difference; or, where that is allowed, if they are
said in so different words that nobody changed one on purpose, and no number, name or opposite is among them.

    marks      numbers, identifiers, quotations, symbols and words, in their order
    wording    what the words of a sentence come to
    lexicon    words that say the same, and words that turn a sentence round
    languages  which language a text is in
    verdict    whether two texts may share an answer; if not, why
"""

from sidecar.cache.guards.verdict import Told, Verdict, judge, told_by

__all__ = ["Told", "Verdict", "judge", "told_by"]
