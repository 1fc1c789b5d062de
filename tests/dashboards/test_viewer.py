"""Who looks: a name of trusted proxies alone, told with every question, and nobody sees another's answers."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from collector.domain.access import HEADER
from dashboards import control, data, exports, transport, viewer
from dashboards.data import Question

Visit = Callable[..., AppTest]

TOTALS = Question(
    "totals", (("since", "2026-01-01T00:00:00+00:00"), ("until", "2100-01-01T00:00:00+00:00")), "x"
)


class Headers(dict[str, str]):
    """What a browser's connection brought along."""

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.items() if key.lower().rstrip("-") == name]


class Connection:
    """Stands for `st.context` of one reader."""

    def __init__(self, address: str | None, **headers: str) -> None:
        self.ip_address = address
        self.headers = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        self.timezone = "UTC"
        self.theme = SimpleNamespace(type="light")


@pytest.fixture
def behind_proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[Connection], None]:
    """People sign in at proxies of 10.1.0.0/16 or this machine; makes a connection the current one."""
    monkeypatch.setenv(viewer.SIGN_IN_VARIABLE, "proxy x-forwarded-user")
    monkeypatch.setenv(viewer.PROXIES_VARIABLE, "10.1.0.0/16,127.0.0.1")

    def connect(connection: Connection) -> None:
        monkeypatch.setattr(st, "context", connection)

    return connect


Connect = Callable[[Connection], None]


def test_where_nobody_has_to_sign_in_nobody_is_named() -> None:
    assert viewer.name() == ""


@pytest.mark.parametrize("address", [None, "10.1.2.3", "::ffff:10.1.2.3"])
def test_a_trusted_proxy_says_who_it_is(behind_proxy: Connect, address: str | None) -> None:
    behind_proxy(Connection(address, X_Forwarded_User=" ann@acme.example "))
    assert viewer.name() == "ann@acme.example"


@pytest.mark.parametrize(
    "connection",
    [
        Connection("10.2.0.1", X_Forwarded_User="ann"),
        Connection("evil", X_Forwarded_User="ann"),
        Connection(None),
        Connection(None, X_Forwarded_User=""),
        Connection(None, X_Forwarded_User="ann", X_Forwarded_User_="eve"),
        Connection(None, X_Forwarded_User="ann\nx-bursar-viewer: boss"),
        Connection(None, X_Forwarded_User="a" * 201),
        Connection(None, X_Real_User="ann"),
    ],
    ids=[
        "another address",
        "no address",
        "no header",
        "empty",
        "twice",
        "two lines",
        "long",
        "another header",
    ],
)
def test_from_anywhere_else_nobody_is_signed_in(behind_proxy: Connect, connection: Connection) -> None:
    behind_proxy(connection)
    with pytest.raises(viewer.NotSignedIn):
        viewer.name()


def test_every_question_names_who_looks_and_answers_are_kept_apart(
    collector: Any, behind_proxy: Connect
) -> None:
    collector.book()
    seen: list[str] = []
    collector.viewers = seen
    for who in ("ann", "bob", "ann"):
        behind_proxy(Connection(None, X_Forwarded_User=who))
        data.ask(TOTALS)
        data.ask_all([TOTALS])
        control.standings()
    assert sorted(name for name in seen if name) == ["ann", "bob"]  # ann's second look is answered from hers
    assert collector.control.viewers == {"ann", "bob"}


def test_the_last_good_answer_of_one_is_not_another_s(collector: Any, behind_proxy: Connect) -> None:
    collector.book()
    behind_proxy(Connection(None, X_Forwarded_User="ann"))
    assert data.ask(TOTALS).row["calls"] == 1
    data.forget()
    collector.trouble = "busy"
    assert data.ask(TOTALS).trouble is not None
    behind_proxy(Connection(None, X_Forwarded_User="bob"))
    with pytest.raises(transport.CollectorBusy):
        data.ask(TOTALS)


def test_who_may_not_ask_any_more_is_not_shown_what_was_answered_before(
    collector: Any, behind_proxy: Connect
) -> None:
    collector.book()
    behind_proxy(Connection(None, X_Forwarded_User="ann"))
    data.ask(TOTALS)
    data.forget()
    collector.key = "changed"
    with pytest.raises(transport.NotAllowed):
        data.ask(TOTALS)


def test_a_file_is_made_in_the_name_of_who_was_shown_its_button(
    collector: Any, behind_proxy: Connect
) -> None:
    collector.book()
    collector.viewers = []
    behind_proxy(Connection(None, X_Forwarded_User="ann"))
    make = viewer.bound(lambda: exports.as_csv(["calls"], data.ask(TOTALS).table))
    behind_proxy(Connection(None))  # The browser fetches the file on a connection without a name.
    assert b"1" in make()
    assert collector.viewers == ["ann"]
    with pytest.raises(viewer.NotSignedIn):
        viewer.name()


@pytest.mark.parametrize("page", ["spend", "budgets", "calls", "health"])
def test_without_a_name_no_page_draws_or_asks_anything(
    collector: Any, visit: Visit, behind_proxy: Connect, page: str
) -> None:
    collector.book()
    behind_proxy(Connection("192.0.2.1", X_Forwarded_User="ann"))
    app = visit(page)
    assert "Nobody has signed in" in app.error[0].value
    assert not app.metric
    assert not app.dataframe
    assert not collector.asked


def test_a_page_says_who_has_signed_in(collector: Any, visit: Visit, behind_proxy: Connect) -> None:
    collector.book()
    behind_proxy(Connection(None, X_Forwarded_User="<b>ann"))
    app = visit()
    assert "<b>ann" in [text.value for text in app.text]
    assert app.metric


def test_a_role_that_does_not_reach_a_page_is_told_so(collector: Any, visit: Visit) -> None:
    collector.book()
    collector.key = "another"
    app = visit()
    assert "No figures" in app.error[0].value
    assert "role" in app.error[0].value


def test_who_may_only_look_is_offered_neither_a_raise_nor_a_pause(collector: Any, visit: Visit) -> None:
    collector.control.configures("all")
    collector.control.counts("all")
    collector.control.may_operate = False
    collector.tables["budget_events"] = collector.answer("incidents", {}).slice(0, 0)
    app = visit("budgets")
    app.query_params["budget"] = "all"
    app.run()
    assert any("lets you look" in caption.value for caption in app.caption)
    assert not [button for button in app.button if button.label in ("Pause", "Raise the limit")]


class Person(dict[str, Any]):
    """Stands for `st.user`."""

    is_logged_in = True


def test_by_openid_connect_the_claim_names_somebody_and_an_unverified_address_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(viewer.SIGN_IN_VARIABLE, "oidc email")
    monkeypatch.setattr(st, "user", Person(email="ann@acme.example"))
    assert viewer.name() == "ann@acme.example"
    for person in (
        Person(email="ann@acme.example", email_verified=False),
        Person(),
        Person(email=["ann"]),
        type("Stranger", (Person,), {"is_logged_in": False})(email="ann@acme.example"),
    ):
        monkeypatch.setattr(st, "user", person)
        with pytest.raises(viewer.NotSignedIn):
            viewer.name()


def test_the_header_is_the_one_that_the_answers_are_limited_by() -> None:
    assert HEADER == "x-bursar-viewer"
