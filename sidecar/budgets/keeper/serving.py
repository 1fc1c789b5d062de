"""The wire of a Redis, as far as our own client speaks it."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import hiredis

from sidecar.budgets.keeper.scripting import Scripts
from sidecar.budgets.keeper.values import Values, WrongCommand

MOST_BUFFERED = 64 << 20
"""Replies that a client leaves unread; one that leaves more is let go."""


class Store:
    """Values, scripts, and those who listen for what is announced."""

    def __init__(self, run_id: str, values: Values | None = None) -> None:
        self.run_id = run_id
        """Another one says that everything before it is lost."""
        self.values = values or Values()
        self.scripts = Scripts(self.values)
        self.clients: set[Client] = set()

    def answer(self, words: Sequence[bytes], client: "Client") -> bytes:
        """The reply to one command, as it goes over the wire."""
        name = words[0].upper()
        try:
            if name == b"EVALSHA" or name == b"EVAL":
                return packed(self._run(name, words))
            if name in (b"PING", b"SELECT", b"INFO", b"SCRIPT", b"SUBSCRIBE", b"PUBLISH"):
                return self._about_itself(name, words, client)
            return packed(self.values.do(name, words[1:]))
        except (WrongCommand, IndexError, ValueError) as error:
            said = str(error)
            return b"-%s\r\n" % (said if said[:3].isupper() else f"ERR {said}").encode()

    def _run(self, name: bytes, words: Sequence[bytes]) -> Any:
        sha = words[1]
        if name == b"EVAL":
            found = self.scripts.sha_of(words[1])
            if found is None:
                raise WrongCommand("NOPERM only the scripts of this version are run here")
            sha = found
        count = 3 + int(words[2])
        return self.scripts.run(sha, words[3:count], words[count:])

    def _about_itself(self, name: bytes, words: Sequence[bytes], client: "Client") -> bytes:
        if name == b"PING":
            return b"+PONG\r\n"
        if name == b"SELECT":
            return b"+OK\r\n"
        if name == b"INFO":
            return packed(f"run_id:{self.run_id}\r\nmaxmemory_policy:noeviction\r\n".encode())
        if name == b"SCRIPT":
            found = self.scripts.sha_of(words[2])
            if found is None:
                raise WrongCommand("NOPERM only the scripts of this version are run here")
            return packed(found)
        if name == b"SUBSCRIBE":
            client.channels.add(words[1])
            return packed([b"subscribe", words[1], len(client.channels)])
        heard = [other for other in self.clients if words[1] in other.channels]
        for other in heard:
            other.write(packed([b"message", words[1], words[2]]))
        return packed(len(heard))


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self.channels: set[bytes] = set()

    def write(self, data: bytes) -> None:
        """Send ``data``, to a client that reads."""
        transport = self._transport
        if transport is not None:
            transport.write(data)
            if transport.get_write_buffer_size() > MOST_BUFFERED:
                transport.abort()

    def close(self) -> None:
        """Let it go."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast(asyncio.Transport, transport)
        self._store.clients.add(self)

    def data_received(self, data: bytes) -> None:
        """Answer what has come."""
        replies = []
        try:
            self._reader.feed(data)
            while (words := self._reader.gets()) is not False:
                if not isinstance(words, list) or not words or not all(type(one) is bytes for one in words):
                    raise hiredis.ProtocolError("a command is a list of words")
                replies.append(self._store.answer(words, self))
        except hiredis.ProtocolError:
            if self._transport is not None:
                self._transport.abort()
        if replies:
            self.write(b"".join(replies))

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        self._transport = None
        self._store.clients.discard(self)


def packed(answer: Any) -> bytes:
    """``answer`` in the words of the protocol."""
    if answer is None:
        return b"$-1\r\n"
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, bytes):
        return b"$%d\r\n%s\r\n" % (len(answer), answer)
    return b"*%d\r\n%s" % (len(answer), b"".join([packed(item) for item in answer]))
