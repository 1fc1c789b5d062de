"""What a browser gets before the page's program has run."""

import asyncio
import gzip
import re
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from dashboards.front import FOR_EVER, Front

FOLDER = Path(st.__file__).parent / "static"
PASSED_ON = 299


async def rest(scope: Any, receive: Any, send: Any) -> None:
    """The application behind it."""
    await send({"type": "http.response.start", "status": PASSED_ON, "headers": []})
    await send({"type": "http.response.body", "body": b"the application"})


def asked(
    path: str, *, method: str = "GET", peer: str = "127.0.0.1"
) -> tuple[int, dict[bytes, bytes], bytes]:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    scope = {"type": "http", "method": method, "path": path, "client": (peer, 1),
             "headers": [(b"accept-encoding", b"gzip, br")]}  # fmt: skip
    asyncio.run(Front(rest, FOLDER, ("calls",))(scope, None, send))  # type: ignore[arg-type]
    return said[0]["status"], dict(said[0]["headers"]), said[1]["body"]


@pytest.mark.parametrize("path", ["/", "/calls"])
def test_a_page_says_what_is_on_its_way_before_any_program_has_run(path: str) -> None:
    status, headers, body = asked(path)
    assert (status, headers[b"cache-control"]) == (200, b"no-cache")
    text = body.decode()
    assert "The figures are on their way." in text
    assert "<title>Bursar</title>" in text
    # All of Streamlit's page is there, the program before all.
    for script in re.findall(r'src="\.(/static/[^"]+)"', (FOLDER / "index.html").read_text()):
        assert script in text
        assert asked(script)[2] == (FOLDER / script[1:]).read_bytes()


def test_files_are_kept_by_browsers_and_pressed_for_those_far_away() -> None:
    script = next(
        f"/{file.relative_to(FOLDER).as_posix()}" for file in (FOLDER / "static" / "js").glob("index.*.js")
    )
    whole = (FOLDER / script[1:]).read_bytes()
    _, near, body = asked(script)
    assert near[b"cache-control"] == FOR_EVER
    assert b"content-encoding" not in near
    assert body == whole
    _, far, body = asked(script, peer="10.0.0.7")
    assert far[b"content-encoding"] == b"gzip"
    assert int(far[b"content-length"]) == len(body) < len(whole) / 2
    assert gzip.decompress(body) == whole


@pytest.mark.parametrize(
    "path",
    ["/_stcore/health", "/static/../index.html", "/static/none.js", "/media/x", "/callsign", "//calls"],
)
def test_all_else_is_the_application_s(path: str) -> None:
    assert asked(path)[0] == PASSED_ON


def test_only_what_is_read_is_answered_here() -> None:
    assert asked("/", method="POST")[0] == PASSED_ON
