"""One broker and one ledger for all tests, each of which has a topic, a folder and a model of its own."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.cli.broker import Broker
from tests.cli.broker import broker as started
from tests.cli.follow.world import World
from tests.cli.recorded import ledger


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with started(tmp_path_factory.mktemp("kafka")) as found:
        yield found


@pytest.fixture(scope="session")
def ledger_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ledger(tmp_path_factory.mktemp("ledger")) as url:
        yield url


@pytest.fixture
def world(ledger_url: str, tmp_path: Path) -> Iterator[World]:
    """What a test made is not followed in the next."""
    with httpx.Client(base_url=ledger_url, timeout=60) as client:
        made = World(ledger_url, client, tmp_path)
        yield made
        for canary in made.canaries:
            canary.sources = []
            canary.begin()
