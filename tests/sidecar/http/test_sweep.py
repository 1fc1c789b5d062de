"""The one timer behind all deadlines: it checks everybody, and holds nobody up."""

import asyncio
import time

from sidecar.http.sweep import CHECKED_AT_ONCE, Sweep


class Member:
    """Counts how often it was checked, and may end when it is."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.checked = 0
        self.ends: list[Member] = []

    def check(self, now_ns: int) -> None:
        self.checked += 1
        for other in self.ends:
            self.sweep.discard(other)


def crowd(size: int) -> tuple[Sweep, list[Member]]:
    """A sweep of so many members, each 20 ms."""
    sweep = Sweep(asyncio.get_running_loop(), time.monotonic_ns, 0.02)
    members = [Member(sweep) for _ in range(size)]
    for member in members:
        sweep.add(member)
    return sweep, members


async def checked(members: list[Member], *, times: int) -> None:
    """Wait until each was checked so often."""
    async with asyncio.timeout(5):
        while min(member.checked for member in members) < times:
            await asyncio.sleep(0.002)


async def test_of_many_all_are_checked_some_at_a_time() -> None:
    _, members = crowd(3 * CHECKED_AT_ONCE + 1)
    most, before = 0, 0
    async with asyncio.timeout(5):
        while before < len(members):
            await asyncio.sleep(0)
            now = sum(member.checked for member in members)
            most, before = max(most, now - before), now
    assert most == CHECKED_AT_ONCE
    assert {member.checked for member in members} == {1}
    await checked(members, times=2)


async def test_who_has_left_meanwhile_is_not_checked_and_who_came_is_next_time() -> None:
    sweep, members = crowd(2 * CHECKED_AT_ONCE)
    for member in members:
        member.ends = [other for other in members if other is not member]
    newcomer = Member(sweep)
    members[0].ends.append(newcomer)
    async with asyncio.timeout(5):
        while not any(member.checked for member in members):
            await asyncio.sleep(0)
        (left,) = [member for member in members if member.checked]
        sweep.add(newcomer)
        left.ends = []
        await checked([left, newcomer], times=2)
    assert sum(member.checked for member in members) == left.checked
