"""What the process needs no longer, back to the system."""

import ctypes
import os
from contextlib import suppress

_DONTNEED = 4
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LEAST_BYTES = 256 << 10
"""Of smaller libraries there is little to give back."""

_LOADED, _WRITABLE = 1, 2


class _Segment(ctypes.Structure):
    """How a part of a file lies in memory: ``Elf64_Phdr`` in elf.h."""

    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("physical", ctypes.c_uint64),
        ("in_file", ctypes.c_uint64),
        ("in_memory", ctypes.c_uint64),
        ("alignment", ctypes.c_uint64),
    )


class _Library(ctypes.Structure):
    """What the loader tells of a library: ``struct dl_phdr_info`` in link.h."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("segments", ctypes.POINTER(_Segment)),
        ("count", ctypes.c_uint16),
    )


_Told = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Library), ctypes.c_size_t, ctypes.c_void_p)


def give_back_memory() -> None:
    """Let go of what the last batches needed, which glibc alone keeps, and of what files say anyway.

    Half of the code of the large libraries, and nearly all of their tables of names, is touched by their
    start alone. It stays in the system's cache, from where the pages that are needed come back by themselves.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for start, size in _as_in_their_files(libc):
            libc.madvise(start, size, _DONTNEED)


def _as_in_their_files(libc: ctypes.CDLL) -> list[tuple[int, int]]:
    """Where code and constants of large libraries lie that nobody can have written to, and how long they are.

    What the loader itself fills in, and protects thereafter, is a part of the writable segments.
    """
    found = []

    def look(library: "ctypes._Pointer[_Library]", _size: int, _data: int | None) -> int:
        told = library.contents
        for place in range(told.count):
            segment = told.segments[place]
            if segment.kind == _LOADED and not segment.flags & _WRITABLE:
                start = -(-(told.base + segment.address) // _PAGE) * _PAGE
                end = (told.base + segment.address + segment.in_memory) // _PAGE * _PAGE
                if end - start >= _LEAST_BYTES:
                    found.append((start, end - start))
        return 0

    if ctypes.sizeof(ctypes.c_void_p) == ctypes.sizeof(ctypes.c_uint64):
        libc.dl_iterate_phdr(_Told(look), None)
    return found
