"""What processes cost, read from /proc: CPU seconds and memory of whole process trees."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """MiB over a process tree; shared pages count once per process in ``resident``."""

    resident: float
    proportional: float


def _fields_after_name(stat: str) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may itself hold spaces and brackets."""
    return stat[stat.rindex(")") + 2 :].split()


def tree(root: int) -> list[int]:
    """``root`` and every process that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(_fields_after_name((entry / "stat").read_text())[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        process = todo.pop()
        found.append(process)
        todo += children.get(process, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """CPU time so far of the trees under ``roots``, all threads.

    The scheduler's nanoseconds where the kernel keeps them (schedstat), else the ticks of stat.
    Threads that already ended are only in the ticks, so the larger of the two counts when they
    differ by more than a tick or two per process.
    """
    fine = coarse = 0.0
    processes = [process for root in roots for process in tree(root)]
    for process in processes:
        folder = PROC / str(process)
        with contextlib.suppress(OSError):
            fields = _fields_after_name((folder / "stat").read_text())
            coarse += (int(fields[11]) + int(fields[12])) * TICK_S
            for thread in (folder / "task").iterdir():
                with contextlib.suppress(OSError):
                    fine += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return fine if fine > coarse - 10 * TICK_S * max(1, len(processes)) else coarse


def memory(roots: Iterable[int]) -> Memory:
    """Resident memory of the trees under ``roots`` now."""
    resident = proportional = 0
    for root in roots:
        for process in tree(root):
            with contextlib.suppress(OSError):
                for line in (PROC / str(process) / "smaps_rollup").read_text().splitlines():
                    if line.startswith("Rss:"):
                        resident += int(line.split()[1])
                    elif line.startswith("Pss:"):
                        proportional += int(line.split()[1])
    return Memory(round(resident / 1024, 1), round(proportional / 1024, 1))


def core_busy_seconds(core: int) -> float:
    """Seconds this CPU has spent on anything at all since the machine came up."""
    for line in (PROC / "stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) * TICK_S
    raise ValueError(f"no CPU {core} on this machine")
