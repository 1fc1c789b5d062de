"""A running sidecar follows its configuration, whatever is in the file for a while."""

import asyncio
from collections.abc import Callable

import pytest

from sidecar import reload
from sidecar.config import load_config


class FakeSidecar:
    """What `follow` uses of one."""

    def __init__(self, config):
        self.config = config
        self.valid = 1.0
        self.metrics = self

    def set_gauge(self, name, labels, value):
        assert name == "bursar_config_valid"
        self.valid = value

    def reconfigure(self, config):
        if config.tags == {"a": "fails"}:
            raise ZeroDivisionError
        self.config = config


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("broken", [b"# caf\xe9\n", b"tags: &a [*a]\n", b"tags: {a: fails}\n", b"tags: [\n"])
async def test_a_file_that_cannot_be_used_leaves_the_old_configuration_and_is_followed_on(
    tmp_path, monkeypatch, broken
):
    monkeypatch.setattr(reload, "LOOK_EVERY_S", 0.005)
    path = tmp_path / "bursar.yaml"
    path.write_text("tags: {a: first}\n")
    sidecar = FakeSidecar(load_config(path))
    following = asyncio.create_task(reload.follow(sidecar, path))
    await asyncio.sleep(0.02)

    path.write_bytes(broken)
    await until(lambda: sidecar.valid == 0)
    assert sidecar.config.tags == {"a": "first"}

    path.write_text("tags: {a: the second}\n")
    await until(lambda: sidecar.valid == 1)
    assert sidecar.config.tags == {"a": "the second"}
    following.cancel()


async def test_a_file_that_the_environment_names_is_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(reload, "LOOK_EVERY_S", 0.005)
    path = tmp_path / "elsewhere.yaml"
    path.write_text("tags: {a: first}\n")
    monkeypatch.setenv("BURSAR_CONFIG", str(path))
    sidecar = FakeSidecar(load_config())
    assert sidecar.config.tags == {"a": "first"}
    following = asyncio.create_task(reload.follow(sidecar, None))
    await asyncio.sleep(0.02)

    path.write_text("tags: {a: the second}\n")
    await until(lambda: sidecar.config.tags == {"a": "the second"})
    following.cancel()
