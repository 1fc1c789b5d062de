"""What others spend of shared counters, taken up by this process twice a second or so."""

from collections.abc import Callable, Sequence

from collector.domain.credit import Standing
from collector.domain.policy import Crossed, Slot, State
from sidecar.budgets.store import CreditStore

OnCrossed = Callable[[Sequence[Crossed], bool], None]
"""Told of thresholds that are reached; and whether nobody has told of them before."""


class Hearing:
    """Keeps what is known here in step with the store.

    Args:
        state: what is known.
        store: what it stands at.
        on_crossed: told of thresholds that are reached.
    """

    def __init__(self, state: State, store: CreditStore, on_crossed: OnCrossed) -> None:
        self._state = state
        self._store = store
        self._on_crossed = on_crossed
        self._shares = False
        """Whether others spend from the same counters."""
        self._met: dict[str, Slot] = {}
        """Shared counters that calls met since :meth:`listen` looked last."""
        self._heard: dict[str, tuple[int, int]] = {}
        """What was known then of those met before: spent and held."""

    def meet(self, slots: Sequence[Slot], now_us: int) -> None:
        """A call touches ``slots``: see what is known of those that nobody touched here before."""
        fresh = [slot for slot in slots if not slot.spent]
        if fresh:
            # Somebody else may have spent there, or this sidecar before it was started anew.
            for slot, standing in zip(fresh, self._store.glance([one.counter for one in fresh]), strict=True):
                self._shares = not standing.exact
                if standing.spent:
                    self._note(slot, standing, now_us)
        if self._shares:
            for slot in slots:
                self._met[slot.counter.key] = slot

    def listen(self, now_us: int) -> None:
        """Take up what others spent.

        What a store has refused is refused here too, without asking, until then: others may have ended
        their calls meanwhile. Where nothing new was heard, the store is asked again.
        """
        met, self._met = self._met, {}
        heard, self._heard = self._heard, {}
        for (key, slot), standing in zip(
            met.items(), self._store.glance([slot.counter for slot in met.values()]), strict=True
        ):
            known = self._heard[key] = (standing.spent, standing.held)
            is_news = heard.get(key, known) != known
            if not slot.counter.bucket_us:
                # What we settled ourselves may not have reached the store yet. What the store says less
                # than before was corrected; nothing at all is what it says of a counter it was not asked of.
                less = min(0, standing.spent - slot.heard) if any(known) else 0
                standing = standing._replace(spent=max(standing.spent, slot.spent + less))
            if any(known):
                slot.heard = known[0]
            self._note(slot, standing._replace(exact=is_news), now_us)

    def _note(self, slot: Slot, standing: Standing, now_us: int) -> None:
        is_first = not slot.spent
        if is_first:
            slot.heard = standing.spent
        # Whoever spent up to a threshold has told of it.
        self._on_crossed(self._state.note(standing, now_us), not is_first)
