"""How many calls may run at once."""

from collections.abc import Awaitable

from sidecar.books import Books
from sidecar.call import Call, Onward, Reply
from sidecar.errors import Overloaded


class Limit:
    """Turns away what would be one call too many; running ones are not touched."""

    def __init__(self, books: Books, most: int) -> None:
        self._books = books
        self._most = most

    def __call__(self, call: Call, onward: Onward) -> Awaitable[Reply]:
        """Go onward if there is room."""
        if self._books.running > self._most:
            raise Overloaded(f"{self._most} calls are running; try again in a moment", code="too_many_calls")
        return onward(call)
