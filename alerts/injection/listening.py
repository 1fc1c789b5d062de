"""Hears the copies that sidecars send, and offers what is new in them to be scored.

A conversation is sent again with every call, so each text is scored once: by a hash of it, of the last so
many. Nothing of a text is kept.
"""

import asyncio
import os
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from alerts.injection.texts import inbound_texts
from collector import logs

SOCKET = "injection.sock"
"""In the folder ``alerts`` of the data directory; sidecars know it by this name."""
TEXTS_KNOWN = 20_000
"""Texts that are recognised when they come again."""

_log = logs.get("alerts.injection")
_head = msgspec.json.Decoder(tuple[str, str, str, str, str, bool]).decode

Offer = Callable[[str, dict[str, str], Sequence[str]], bool]


class Listener(asyncio.DatagramProtocol):
    """Takes datagrams: a head as JSON, a line feed, a request body or the end of one.

    Args:
        offer: takes the call's id, whose it is, and its new texts.
        texts_known: see :data:`TEXTS_KNOWN`.
    """

    def __init__(self, offer: Offer, texts_known: int = TEXTS_KNOWN) -> None:
        self._offer = offer
        self._most = texts_known
        self._known: OrderedDict[int, None] = OrderedDict()
        self._transport: asyncio.BaseTransport | None = None
        self.misunderstood = 0
        """Datagrams that were none of a sidecar's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """One copy."""
        head, _, body = data.partition(b"\n")
        try:
            call_id, _, tenant, team, agent, is_cut = _head(head)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.misunderstood += 1
            return
        named = {"tenant": tenant, "team": team, "agent": agent}
        labels = {name: value for name, value in named.items() if value}
        new = [
            text
            for text in inbound_texts(body, is_cut=is_cut)
            if self._is_new(hash((agent, team, tenant, text)))
        ]
        if new:
            self._offer(call_id, labels, new)

    def error_received(self, exc: Exception) -> None:
        """Nothing is lost but a copy."""

    def close(self) -> None:
        """Hear no more."""
        if self._transport is not None:
            self._transport.close()

    def _is_new(self, text: int) -> bool:
        if text in self._known:
            self._known.move_to_end(text)
            return False
        self._known[text] = None
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return True


def _bind(sock: socket.socket, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # By the folder's number: the name of a socket has room for hardly more than a hundred characters.
        path = Path(f"/proc/self/fd/{number}/{SOCKET}")
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o600)
    finally:
        os.close(number)


async def listen(folder: Path, offer: Offer) -> Listener | None:
    """A listener on the socket in ``folder``; None where there can be none, which is said once."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        _bind(sock, folder)
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(lambda: Listener(offer), sock=sock)
    except OSError as error:
        sock.close()
        _log.error("texts of calls cannot be listened for and are not scored", reason=str(error))
        return None
    return protocol
