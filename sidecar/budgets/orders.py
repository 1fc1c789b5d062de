"""What operators and alerts ask for, for a while: directives and raises, brought into force and out of it."""

from collections.abc import Callable
from typing import Any, Protocol

from collector.domain.policy import Directive, DirectiveKind, Raise, State
from collector.domain.policy.wording import amount_text, time_text
from collector.logs import get
from sidecar.budgets.directives import Directives
from sidecar.budgets.memories import Memories
from sidecar.budgets.telling import plain_raise, raise_of

log = get("bursar.budgets")


class Said(Protocol):
    """Writes down that a rule did something: rule, action, detail."""

    def __call__(self, rule: str, action: str, detail: str) -> None:
        """Write it down."""


class Orders:
    """Directives and raises in force, here and wherever else budgets are shared.

    Args:
        state: what decisions are made by.
        board: keeps what was asked for, perhaps with other sidecars.
        memories: remembers it over a restart.
        now_us: the time that expiries speak of.
        said: writes each change down.
        on_cut: ends the running calls that a new directive is for.
    """

    def __init__(
        self,
        state: State,
        board: Directives,
        memories: Memories,
        *,
        now_us: Callable[[], int],
        said: Said,
        on_cut: Callable[[Directive], None],
    ) -> None:
        self._state = state
        self._board = board
        self._memories = memories
        self._now_us = now_us
        self._said = said
        self._on_cut = on_cut
        self._followed = -1
        self._about: dict[str, str] = {}
        """Budgets that directives in force are about, by the directive's id; of those asked for here."""
        self.directed = False
        """Whether any directive is in force."""

    @property
    def changed(self) -> bool:
        """Whether there is something to :meth:`follow`; costs next to nothing to ask."""
        return self._board.version != self._followed

    async def start(self) -> None:
        """Take up what was in force before the restart, and what others share."""
        for item in self._memories.board():
            try:
                self._board.add(item, is_recalled=True)
            except ValueError:
                continue  # It has expired meanwhile.
        await self._board.start()
        self.follow()

    async def close(self) -> None:
        """Share no more."""
        await self._board.close()

    @property
    def followed(self) -> int:
        """Changes whenever something comes into force or out of it."""
        return self._followed

    def add_directive(self, directive: Directive, *, tell: bool = True, budget: str = "") -> None:
        """Put a directive in force, here at once and soon wherever else budgets are shared.

        ``tell``: write it down; whoever does so himself says no. ``budget``: which one it is about.

        Raises:
            ValueError: it has expired, or there are too many.
        """
        self._board.add({**directive.plain(), "what": "directive"})
        self.follow()
        if not tell:
            return
        until = time_text(directive.expires_us)
        said = f"until {until}, by {directive.source}: {directive.reason}"
        if budget:
            self._about[directive.id] = budget
        self._said(budget or directive.id, directive.kind.value, said)

    def add_raise(self, more: Raise) -> None:
        """Give a budget more room for a while.

        Raises:
            ValueError: it is over, or there are too many.
        """
        self._board.add({**plain_raise(more), "what": "raise", "expires_us": more.until_us})
        self.follow()
        amount = amount_text(self._state.policy.by_name[more.budget].unit, more.amount)
        said = f"{amount} more until {time_text(more.until_us)}, by {more.source}: {more.reason}"
        self._said(more.budget, "raise", said)

    def remove(self, name: str, by: str = "") -> bool:
        """Take a directive or a raise back before it expires; whether there was one."""
        raised = {more.id: more.budget for more in self._state.raises(self._now_us())}
        budget = self._about.get(name) or raised.get(name)
        found = self._board.remove(name)
        self.follow()
        if found:
            what = [name] if budget else []
            self._said(budget or name, "withdrawn", " ".join([*what, f"by {by}"] if by else what))
        return found

    def follow(self) -> None:
        """Bring what is in force up to date with the board."""
        if not self.changed:
            return
        state, now = self._state, self._now_us()
        self._followed = self._board.version
        wanted = {item["id"]: item for item in self._board.active(now)}
        self._about = {name: budget for name, budget in self._about.items() if name in wanted}
        known: dict[str, Directive | Raise] = {}
        known |= {directive.id: directive for directive in state.directives(now)}
        known |= {more.id: more for more in state.raises(now)}
        for name, old in known.items():
            if name not in wanted:
                _ = state.lower_limit(name) if isinstance(old, Raise) else state.withdraw(name)
        for name, item in wanted.items():
            one = read_order(item)
            if one is None or known.get(name) == one:
                continue
            if isinstance(one, Raise):
                state.raise_limit(one)
                continue
            state.direct(one)
            if one.kind is DirectiveKind.CUT:
                self._on_cut(one)
        self.directed = bool(state.directives(now))
        self._memories.keep_board(list(wanted.values()))


def read_order(item: dict[str, Any]) -> Directive | Raise | None:
    """What stands on the board; None when it cannot be read."""
    try:
        return raise_of(item) if item.get("what") == "raise" else Directive.of(item)
    except (KeyError, TypeError, ValueError) as error:
        log.error("a directive cannot be read", id=str(item.get("id")), reason=str(error))
        return None
