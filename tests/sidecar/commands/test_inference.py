"""What `bursar inference` says when there is nothing it could start."""

import pytest


@pytest.fixture(autouse=True)
def no_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this process stay as they are."""
    monkeypatch.setattr("sidecar.commands.inference.started", lambda *args, **how: None)


def test_that_no_server_is_configured_is_said_with_what_to_do(bursar):
    ran = bursar("inference")

    assert ran.code == 2
    assert ran.err == "no server is configured: write one under inference.servers, or try --tiny\n"


def test_an_unknown_server_is_told_with_those_there_are(bursar, tmp_path):
    (tmp_path / "bursar.yaml").write_text("inference: {servers: {one: {model: m}, two: {model: m}}}\n")

    assert bursar("inference", "three").err == "no such server: three; there are: one, two\n"
