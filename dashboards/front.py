"""What a browser gets before the page's program has run: Streamlit's own files, and something to look at.

A first visit takes 130 of those files. Streamlit opens each anew, which is most of what its server does for a
visit; here they are read once. The page itself is empty until half a megabyte of program has been read: it
says at once what is on its way, in the reader's own light or dark.
"""

import gzip
import ipaddress
import mimetypes
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

ROOT = '<div id="root"></div>'
TITLE = "<title>Streamlit</title>"
FOR_EVER = b"public, immutable, max-age=31536000"
"""The names of these files change with what is in them."""
WORTH_PRESSING = 1024
MOST_FILES = 2048

SOON = """<div id="root"><style>
  #soon { font: 15px system-ui, sans-serif; color: #17212b; background: #fff; position: fixed; inset: 0;
          padding: 18px 17px }
  #soon b { color: #0a6b8a; font-size: 20px }
  #soon p { margin: 34px 4vw 0; color: #55606c }
  #soon div { margin: 18px 4vw 0; display: grid; gap: 16px;
              grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)) }
  #soon i { height: 96px; border-radius: 8px; border: 1px solid #d9e0e6; background: #f2f5f7 }
  @media (prefers-color-scheme: dark) {
    #soon { color: #e6edf3; background: #10171e }
    #soon b { color: #2c9cc0 }
    #soon p { color: #b6c0ca }
    #soon i { border-color: #2f3d4a; background: #1b252f }
  }
</style><div id="soon"><b>Bursar</b><p role="status">The figures are on their way.</p>
<div aria-hidden="true"><i></i><i></i><i></i><i></i></div></div></div>"""


class Front:
    """Answers for Streamlit's own files and for the page; all else is the application's.

    Args:
        app: what comes after.
        folder: where Streamlit keeps its files.
        pages: the places in the address that are views, such as ``calls``.
    """

    def __init__(self, app: Application, folder: Path, pages: tuple[str, ...]) -> None:
        self._app = app
        self._folder = folder
        self._pages = frozenset(f"/{page}" for page in ("", *pages))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        answer = self._answer(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if answer is None:
            await self._app(scope, receive, send)
            return
        headers, body = answer
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Scope) -> tuple[list[tuple[bytes, bytes]], bytes] | None:
        path = str(scope["path"])
        if path in self._pages:
            kind, keep, body = "text/html; charset=utf-8", b"no-cache", self._page
        elif path in self._files:
            kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
            keep, body = FOR_EVER, self._read(path)
        else:
            return None
        headers = [(b"content-type", kind.encode()), (b"cache-control", keep), (b"vary", b"accept-encoding")]
        if is_far(scope) and accepts_gzip(scope) and len(body) > WORTH_PRESSING and not is_pressed(path):
            body = pressed(body)
            headers.append((b"content-encoding", b"gzip"))
        return [*headers, (b"content-length", str(len(body)).encode())], body

    @cached_property
    def _files(self) -> dict[str, Path]:
        found = {
            f"/static/{file.relative_to(self._folder / 'static').as_posix()}": file
            for file in (self._folder / "static").rglob("*")
            if file.is_file()
        }
        return found if len(found) <= MOST_FILES else {}

    @cached_property
    def _page(self) -> bytes:
        text = (self._folder / "index.html").read_text()
        return text.replace(ROOT, SOON, 1).replace(TITLE, "<title>Bursar</title>", 1).encode()

    def _read(self, path: str) -> bytes:
        return read(self._files[path])


@lru_cache(maxsize=256)
def read(file: Path) -> bytes:
    """What is in a file that does not change."""
    return file.read_bytes()


@lru_cache(maxsize=256)
def pressed(body: bytes) -> bytes:
    """The same, smaller."""
    return gzip.compress(body, 6, mtime=0)


def is_pressed(path: str) -> bool:
    """Whether a file gains nothing by being pressed."""
    return path.endswith((".woff2", ".woff", ".png", ".gif", ".jpg"))


def is_far(scope: Scope) -> bool:
    """Whether the way to who asks is slower than pressing: another machine, or one we do not know of."""
    try:
        return not ipaddress.ip_address((scope.get("client") or ("",))[0]).is_loopback
    except ValueError:
        return True


def accepts_gzip(scope: Scope) -> bool:
    """Whether who asks can read what is pressed."""
    return any(name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"])
