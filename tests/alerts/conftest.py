"""Fixtures for tests of alerting."""

from collections.abc import Iterator

import pytest
from support.alerting import Sink, webhook


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A webhook that remembers what it was sent."""
    with webhook() as found:
        yield found
