"""Processes that belong together start in their order, and the first is not held up by the others."""

import asyncio
import os
import sys

from support.ports import free_port

from collector.settings import Address
from sidecar.commands.supervise import Part, Supervisor

LISTENS = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
LOOKS = """
import os, pathlib, socket, sys, time
try:
    socket.create_connection(("127.0.0.1", {port})).close()
    found = "it listens"
except OSError:
    found = "nobody listens"
until, usual = time.monotonic() + 30, os.getpriority(os.PRIO_PROCESS, os.getppid())
while os.getpriority(os.PRIO_PROCESS, 0) == usual and time.monotonic() < until:
    time.sleep(0.02)
part = pathlib.Path(sys.argv[1]).with_suffix(".part")
part.write_text(found + ", niceness " + str(os.getpriority(os.PRIO_PROCESS, 0)))
part.rename(sys.argv[1])
time.sleep(60)
"""


async def test_a_part_is_started_once_the_one_before_it_listens(tmp_path, monkeypatch):
    monkeypatch.setattr("sidecar.commands.supervise.HEAD_START_S", 30)
    port, found = free_port(), tmp_path / "found"
    niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)
    supervisor = Supervisor(
        [
            Part(
                "first", [sys.executable, "-c", LISTENS.format(port=port)], listens=Address("127.0.0.1", port)
            ),
            Part("second", [sys.executable, "-c", LOOKS.format(port=port), str(found)], niceness=niceness),
        ]
    )
    await supervisor.start()
    try:
        async with asyncio.timeout(30):
            while not found.exists():
                await asyncio.sleep(0.02)
    finally:
        await supervisor.stop()
    assert found.read_text() == f"it listens, niceness {niceness}"


async def test_a_part_that_never_listens_holds_the_others_up_for_a_moment_only(tmp_path, monkeypatch):
    monkeypatch.setattr("sidecar.commands.supervise.HEAD_START_S", 0.05)
    silent = Part("first", ["sleep", "60"], listens=Address("127.0.0.1", free_port()))
    supervisor = Supervisor([silent, second := Part("second", ["sleep", "60"])])
    await supervisor.start()
    assert second.process is not None
    await supervisor.stop()
