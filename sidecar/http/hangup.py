"""Notices that a peer hung up while we are not reading from it.

A paused transport does not poll its socket, so the end of a client that has
sent ahead more than we read would go unseen, and its call would run on. Linux
tells of the hang-up itself (``EPOLLRDHUP``), whatever lies unread before it.
"""

import asyncio
import select
from collections.abc import Callable


class HangupWatch:
    """Calls back when a watched socket's peer closes or resets. Where there is no epoll, it stays silent."""

    __slots__ = ("_callbacks", "_epoll", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._callbacks: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the peer of socket ``fd`` hangs up."""
        if not hasattr(select, "epoll"):
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._ready)
        self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``, which must still be open."""
        if self._callbacks.pop(fd, None) is not None and self._epoll is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Stop watching altogether."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
            self._callbacks.clear()

    def _ready(self) -> None:
        if self._epoll is None:
            return
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            self.forget(fd)
            if callback is not None:
                callback()
