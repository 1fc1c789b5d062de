"""Who may look at what: people who sign in see the tenants of their role, and may act if it says so.

A viewer is named by the dashboard, which knows who signed in, and limited where the answers are made: in
the read API and on the control plane. Whoever asks without naming a viewer is a program of the operator's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

HEADER = "x-bursar-viewer"
"""Names the person for whom a question is asked; only believed of whoever may ask anything."""

EVERY_TENANT = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What some people may see and do."""

    users: tuple[str, ...]
    """Names as they sign in, such as ``ann@acme.example``; ``*`` in one stands for any text."""
    tenants: tuple[str, ...] = (EVERY_TENANT,)
    """Whose calls they see; ``*`` alone for everybody's."""
    operate: bool = False
    """Whether they may raise and pause the budgets of these tenants."""

    def names(self, user: str) -> bool:
        """Whether it is for this person; letters count alike in either case, as mail addresses do."""
        return any(fnmatchcase(user.lower(), pattern.lower()) for pattern in self.users)


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Somebody who looks, and how far."""

    name: str = ""
    """Empty for a program of the operator's."""
    tenants: frozenset[str] | None = None
    """``None`` for everybody's."""
    operate: bool = True

    @property
    def sees_all(self) -> bool:
        """Whether nothing is kept from them."""
        return self.tenants is None

    def sees(self, tenant: str) -> bool:
        """Whether what belongs to ``tenant`` is for them; what belongs to none is for those who see all."""
        return self.tenants is None or tenant in self.tenants


OPERATOR = Viewer()


class NoRole(Exception):
    """Nobody gave this person a role."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name[:200]!r} has no role; `access.roles` in the configuration gives one")


def viewer_of(name: str, roles: Sequence[Role]) -> Viewer:
    """What somebody may see: by the first role that names them; everything where there are no roles.

    Args:
        name: as they signed in; empty when no viewer was named.
        roles: in the configuration's order.

    Raises:
        NoRole: there are roles, and none is for them.
    """
    if not name:
        return OPERATOR
    if not roles:
        return Viewer(name=name)
    for role in roles:
        if role.names(name):
            everybody = EVERY_TENANT in role.tenants
            return Viewer(
                name=name, tenants=None if everybody else frozenset(role.tenants), operate=role.operate
            )
    raise NoRole(name)


def allowed(asked: Iterable[str], viewer: Viewer) -> tuple[str, ...] | None:
    """The tenants that an answer may be about: those asked for, or all of the viewer's.

    ``None`` when nothing limits it. Empty when none of those asked for is the viewer's.
    """
    wanted = tuple(asked)
    if viewer.tenants is None:
        return wanted or None
    if not wanted:
        return tuple(sorted(viewer.tenants))
    return tuple(tenant for tenant in wanted if tenant in viewer.tenants)
