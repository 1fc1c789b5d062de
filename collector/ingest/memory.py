"""What the process needs no longer, back to the system."""

import ctypes
from contextlib import suppress
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_DONTNEED = 4
_LEAST_BYTES = 1 << 20
"""Of smaller libraries there is little to give back."""


def give_back_memory() -> None:
    """Let go of what the last batches needed, which glibc alone keeps, and of code that is not in use.

    Half of the code of the large libraries is touched by their start alone. It stays in the system's
    cache, from where the pages that are needed come back by themselves.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for start, size in _code():
            libc.madvise(start, size, _DONTNEED)


def _code() -> list[tuple[int, int]]:
    """Where code of large libraries lies, which nobody has written to, and how long it is."""
    found = []
    for line in _MAPS.read_text().splitlines():
        fields = line.split()
        if fields[1] == "r-xp" and ".so" in fields[-1]:
            start, end = (int(address, 16) for address in fields[0].split("-"))
            if end - start >= _LEAST_BYTES:
                found.append((start, end - start))
    return found
