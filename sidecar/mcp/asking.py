"""Asks the sidecar on behalf of one agent, with that agent's own key and names."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

TIMEOUT_S: Final = 10.0
MOST_ANSWER: Final = 1 << 20
"""Bytes; an agent has a handful of budgets."""


class SidecarUnavailable(Exception):
    """The sidecar cannot be asked, or does not answer as it should; the message is for the agent."""


class Rejected(Exception):
    """The sidecar understood and said no; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Where the sidecar is, and who asks.

    Raises:
        ValueError: the address is not one.
    """

    url: str
    key: str = ""
    """The agent's virtual key; empty where there are none."""
    names: Mapping[str, str] = field(default_factory=dict)
    """``agent``, ``conversation`` and so on, sent as ``x-bursar-*`` headers."""
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError(f"{self.url!r} is not an http(s) address without user and password")

    def get(self, path: str) -> dict[str, Any]:
        """The object at ``path``.

        Raises:
            SidecarUnavailable: nobody answered, or not as a sidecar does.
            Rejected: the sidecar refused.
        """
        return self._exchange("GET", path, None)

    def post(self, path: str, content: Mapping[str, object]) -> dict[str, Any]:
        """The answer to ``content``, an empty object where there is none; raises as :meth:`get`."""
        return self._exchange("POST", path, json.dumps(content).encode())

    def _exchange(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        try:
            status, answer = self._ask(method, path, body)
        except ssl.SSLError as error:
            raise SidecarUnavailable(f"{self.url} has no certificate that can be trusted: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise SidecarUnavailable(
                f"the sidecar at {self.url} does not answer ({str(error) or type(error).__name__}); "
                "start it with `bursar up`, or say where it is with --url or BURSAR_URL"
            ) from error
        return read_answer(self.url, path, status, answer)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        # No redirects and no proxies: the key goes to this address and nowhere else.
        parts = urlsplit(self.url)
        maker = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = maker(parts.hostname or "", parts.port, timeout=self.timeout_s)
        try:
            connection.request(method, parts.path.rstrip("/") + path, body, self._headers(body))
            reply = connection.getresponse()
            return reply.status, reply.read(MOST_ANSWER + 1)
        finally:
            connection.close()

    def _headers(self, body: bytes | None) -> dict[str, str]:
        headers = {f"x-bursar-{name}": value for name, value in self.names.items() if value}
        headers["accept"] = "application/json"
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        if body is not None:
            headers["content-type"] = "application/json"
        return headers


def read_answer(url: str, path: str, status: int, body: bytes) -> dict[str, Any]:
    """The object in an answer.

    Raises:
        SidecarUnavailable: it is not a sidecar's.
        Rejected: the sidecar refused.
    """
    if len(body) > MOST_ANSWER:
        raise SidecarUnavailable(f"{url}{path} answers with more than {MOST_ANSWER} bytes")
    try:
        content = json.loads(body) if body.strip() else {}
    except ValueError:
        content = None
    if status >= 400:
        error = content.get("error") if isinstance(content, dict) else None
        said = error.get("message") if isinstance(error, dict) else error
        if status == 404 and not said:
            raise SidecarUnavailable(f"{url} has no {path}: is it a sidecar, and of this version?")
        raise Rejected(f"the sidecar says {status}: {said or body[:200].decode('utf-8', 'replace').strip()}")
    if status >= 300 or not isinstance(content, dict):
        raise SidecarUnavailable(f"{url}{path} does not answer as a sidecar does (status {status})")
    return content
