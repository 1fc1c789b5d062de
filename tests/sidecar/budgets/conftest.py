"""Redis servers for tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sidecar.budgets.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_program() -> str:
    """Path of redis-server, or a skip that says how to get it."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (scripts/setup/services.sh test)")
    return program


@pytest.fixture(scope="session")
def shared_redis(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for tests that only empty it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """A server with nothing in it."""
    shared_redis.say("FLUSHALL")
    return shared_redis


@pytest.fixture
def own_redis(redis_program: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may freeze and kill."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()
