"""Roles: the first that names somebody counts, and what belongs to no tenant is for those who see all."""

import pytest

from collector.domain.access import OPERATOR, NoRole, Role, Viewer, allowed, viewer_of

FINANCE = Role(users=("*@finance.example",), operate=True)
ANN = Role(users=("ann@acme.example",), tenants=("acme", "acme-labs"), operate=True)
ACME = Role(users=("*@acme.example",), tenants=("acme",))
ROLES = (FINANCE, ANN, ACME)


def test_the_first_role_that_names_somebody_counts() -> None:
    assert viewer_of("ann@acme.example", ROLES).tenants == {"acme", "acme-labs"}
    assert viewer_of("ann@acme.example", (ACME, ANN)).tenants == {"acme"}
    assert not viewer_of("bob@acme.example", ROLES).operate
    assert viewer_of("Cy@Finance.example", ROLES).sees_all  # mail addresses count alike in either case


def test_somebody_without_a_role_sees_nothing() -> None:
    with pytest.raises(NoRole, match=r"'eve@acme\.example\.evil' has no role"):
        viewer_of("eve@acme.example.evil", ROLES)


def test_without_roles_or_without_a_name_nothing_is_kept_back() -> None:
    assert viewer_of("anybody", ()).sees_all
    assert viewer_of("", ROLES) == OPERATOR


def test_what_belongs_to_no_tenant_is_for_those_who_see_all() -> None:
    bob = viewer_of("bob@acme.example", ROLES)
    assert [bob.sees(tenant) for tenant in ("acme", "acme-labs", "")] == [True, False, False]
    assert OPERATOR.sees("")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [((), ("a", "b")), (("b",), ("b",)), (("b", "c"), ("b",)), (("c",), ()), (("",), ())],
)
def test_of_the_tenants_asked_for_only_the_viewers_own_are_left(
    asked: tuple[str, ...], answered: tuple[str, ...]
) -> None:
    assert allowed(asked, Viewer(name="x", tenants=frozenset({"a", "b"}))) == answered


def test_nothing_limits_those_who_see_all() -> None:
    assert allowed((), OPERATOR) is None
    assert allowed(("c",), OPERATOR) == ("c",)
