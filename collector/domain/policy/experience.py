"""How long replies turn out to be, and how much of a prompt is cheap: learned from calls that ended.

For each model, agent and api there is a histogram of output tokens. The hold that 99 in 100 calls
stay below is its ``ceil((n + 1) * 0.99)``-th smallest value: the finite-sample correction of split
conformal prediction (Vovk et al. 2005), so with fewer than 99 calls there is no such value, and a wider group
is asked: the model on this api, then nothing. The share of misses aimed at is itself steered by the misses
seen (adaptive conformal inference, Gibbs and Candès 2021), so that the promise holds when calls grow longer.

Everything is an integer: the same calls in the same order give the same holds, histograms of two
processes can be added, and a ledger can be read in to start with.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

MISSES_PPM = 10_000
"""Share of calls that may outgrow their learned hold: one in a hundred."""
PPM = 1_000_000
_GAIN = 512
"""How slowly the aim follows the misses: one weighs as much as 99 hits, and six in a row say unknown."""
_HIT, _MISS = MISSES_PPM // _GAIN, (MISSES_PPM - PPM) // _GAIN
_LEAST_AIM, _MOST_AIM = -MISSES_PPM, 2 * MISSES_PPM
MEMORY = 4096
"""Calls remembered for each group; when there are more, all weigh half."""
_WELL_KNOWN = 512
"""From so many calls on those that are no surprise are counted ..."""
_AT_ONCE = 16
"""... so many together, which takes a third of the time."""
_PROMISED_FROM = 99
_TYPICAL_FROM = 10
"""Calls before the median means something."""


class Expected(NamedTuple):
    """What calls like this one turned out to be."""

    output_typical: int
    """Half of them wrote no more, in tokens."""
    output_high: int | None
    """99 in 100 wrote no more; None while too few are known."""
    input_high: int | None
    """What 99 in 100 paid for their input at most, in thousandths of the upper bound asked for."""


NOTHING_KNOWN = Expected(0, None, None)


class Histogram:
    """How often which size was seen, to within a sixteenth; sizes are whole numbers of 0 and more."""

    __slots__ = ("_waiting", "aim", "counts", "due", "high", "total", "typical")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self._waiting: list[int] = []
        """Sizes that bore out what was promised, and are counted together."""
        self.total = 0
        self.aim = MISSES_PPM
        """The share of misses that is aimed at now, in millionths; below 0 nothing is promised."""
        self.due = 0
        """Calls until what is promised is brought up to date."""
        self.typical = 0
        self.high: int | None = None

    def learn(self, size: int) -> None:
        """Note one size. Where much is known, one that is no surprise waits to be counted with others."""
        high = self.high
        if high is not None and size <= high and self.total > _WELL_KNOWN:
            waiting = self._waiting
            waiting.append(size)
            if len(waiting) >= _AT_ONCE:
                self.count()
            return
        self.count()
        self._learn(size)

    def count(self) -> None:
        """Count what waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        # As if each had been learned alone: hits raise the aim, up to its end, in whatever order.
        aim = self.aim + _HIT * len(waiting)
        self.aim = _MOST_AIM if aim > _MOST_AIM else aim
        counts = self.counts
        for size in waiting:
            if size < 32:  # as _place says
                place = size if size > 0 else 0
            else:
                shift = size.bit_length() - 5
                place = 16 * shift + (size >> shift)
            counts[place] = counts.get(place, 0) + 1
        self.total += len(waiting)
        if self.total > MEMORY:
            self._halve()
        self.due -= len(waiting)
        if self.due <= 0:
            self.estimate()

    def _learn(self, size: int) -> None:
        missed = self.high is not None and size > self.high
        total = self.total + 1
        if total > _PROMISED_FROM:
            aim = self.aim + (_MISS if missed else _HIT)
            self.aim = _LEAST_AIM if aim < _LEAST_AIM else _MOST_AIM if aim > _MOST_AIM else aim
        place = _place(size)
        counts = self.counts
        counts[place] = counts.get(place, 0) + 1
        self.total = total
        if total > MEMORY:
            self._halve()
        # The order changes little once much is known, so it is looked at more rarely.
        self.due -= 1
        if missed or self.due <= 0:
            self.estimate()

    def estimate(self) -> None:
        """Bring what is promised up to date."""
        total, counts = self.total, self.counts
        self.due = 0 if total < 2 * _PROMISED_FROM else total // 32
        places = sorted(counts)
        self.typical = 0
        if total >= _TYPICAL_FROM:
            below, half = 0, (total + 1) // 2
            for place in places:
                below += counts[place]
                if below >= half:
                    self.typical = _upper(place)
                    break
        self.high = None
        above = total - -(-(total + 1) * (PPM - self.aim) // PPM)
        if self.aim > 0 and above >= 0:  # from the top, where it is near
            for place in reversed(places):
                above -= counts[place]
                if above < 0:
                    self.high = _upper(place)
                    break

    def add(self, other: "Histogram") -> None:
        """Take in what another process has seen."""
        self.count()
        other.count()
        both = self.total + other.total
        if both:
            self.aim = (self.aim * self.total + other.aim * other.total) // both
        for place, count in other.counts.items():
            self.counts[place] = self.counts.get(place, 0) + count
        self.total = both
        while self.total > MEMORY:
            self._halve()
        self.estimate()

    def _halve(self) -> None:
        # From the longest down, carrying what is lost in rounding: no quantile falls by it.
        halved, owed = {}, 0
        for place in sorted(self.counts, reverse=True):
            weight = self.counts[place] + owed
            kept = (weight + 1) // 2
            owed = weight - 2 * kept
            if kept:
                halved[place] = kept
        self.counts = halved
        self.total = sum(halved.values())


def _place(size: int) -> int:
    if size < 32:
        return max(size, 0)
    shift = size.bit_length() - 5
    return 16 * shift + (size >> shift)


def _upper(place: int) -> int:
    """The largest size at a place."""
    if place < 32:
        return place
    shift = (place - 16) // 16
    return ((place - 16 * shift + 1) << shift) - 1


Group = tuple[str, str, str, bool]
"""Model, agent, api, and whether the call goes on a conversation; an empty agent means all of them."""


class Experience:
    """What is known of every group; bounded, the groups not seen for longest are forgotten."""

    __slots__ = ("_capacity", "_groups")

    def __init__(self, capacity: int = 512) -> None:
        self._capacity = capacity
        self._groups: OrderedDict[Group, tuple[Histogram, Histogram]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._groups)

    def learn(
        self,
        model: str,
        agent: str,
        api: str,
        continues: bool,
        output_tokens: int,
        input_permille: int | None = None,
    ) -> None:
        """Note a call that ended by itself; one that was cut or broke off says nothing of its length.

        Args:
            model: as the call asked for it, after any downgrade.
            agent: empty where nobody said.
            api: the dialect.
            continues: whether it went on a conversation.
            output_tokens: over all choices.
            input_permille: what its input cost, in thousandths of ``Ask.input_pico``, where both are known.
        """
        self._learn((model, "", api, continues), output_tokens, input_permille)
        if agent:
            self._learn((model, agent, api, continues), output_tokens, input_permille)

    def expected(self, model: str, agent: str, api: str, continues: bool) -> Expected:
        """What to expect of a call; each figure from the narrowest group that knows it."""
        groups = self._groups
        wide = groups.get((model, "", api, continues))
        if wide is None:
            return NOTHING_KNOWN
        outputs, inputs = wide
        typical, high, input_high = outputs.typical, outputs.high, inputs.high
        narrow = groups.get((model, agent, api, continues)) if agent else None
        if narrow is not None:
            outputs, inputs = narrow
            if outputs.typical:
                typical = outputs.typical
            if outputs.high is not None:
                high = outputs.high
            if inputs.high is not None:
                input_high = inputs.high
        return tuple.__new__(Expected, (typical, high, input_high))

    def _learn(self, group: Group, output_tokens: int, input_permille: int | None) -> None:
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = (Histogram(), Histogram())
            if len(self._groups) > self._capacity:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(group)
        found[0].learn(output_tokens)
        if input_permille is not None:
            found[1].learn(input_permille)

    # -- keeping and handing over

    def plain(self) -> list[Any]:
        """As JSON knows it; :meth:`merge` reads it again."""
        for outputs, inputs in self._groups.values():
            outputs.count()
            inputs.count()
        return [
            [*group, *(part for kept in pair for part in (kept.aim, sorted(kept.counts.items())))]
            for group, pair in self._groups.items()
        ]

    def merge(self, plain: Iterable[Any]) -> None:
        """Add what :meth:`plain` of another wrote.

        Raises:
            ValueError: it is something else.
        """
        for row in plain:
            try:
                model, agent, api, continues, *kept = row
                pair = (_histogram(kept[0], kept[1]), _histogram(kept[2], kept[3]))
            except (TypeError, IndexError, ValueError) as error:
                raise ValueError(f"not a row of experience: {error}") from error
            group = (str(model), str(agent), str(api), bool(continues))
            own = self._groups.setdefault(group, (Histogram(), Histogram()))
            own[0].add(pair[0])
            own[1].add(pair[1])
        while len(self._groups) > self._capacity:
            self._groups.popitem(last=False)


def _histogram(aim: Any, counts: Any) -> Histogram:
    made = Histogram()
    made.aim = min(max(int(aim), _LEAST_AIM), _MOST_AIM)
    for place, count in counts:
        if not 0 <= int(place) < 2048 or int(count) <= 0:
            raise ValueError(f"{place}: {count} is not a count")
        made.counts[int(place)] = int(count)
    made.total = sum(made.counts.values())
    return made
