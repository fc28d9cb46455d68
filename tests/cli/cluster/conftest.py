"""A real API server with a canary on it, brought to each state by the operator's own reconciler, and the command line.

There are no controllers and no nodes: the test plays them. The command line runs in the same process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from tests.cli.made import Answer, Cli
from tests.operator.conftest import RealApi, namespace, real_api
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import Cluster

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.kube import Kube, configuration

__all__ = ["namespace", "real_api"]
T = TypeVar("T")


@dataclass(slots=True)
class Played:
    """The cluster as it goes on: `until` and `push` are the operator's and the user's doing."""

    real: RealApi
    cli: Cli
    loop: asyncio.AbstractEventLoop
    api: Kube
    ledger: FakeLedger = field(default_factory=FakeLedger)
    cluster: Cluster = field(init=False)

    def __post_init__(self) -> None:
        import time

        self.cluster = Cluster(self.api, self.ledger)
        self.cluster.now = time.time()

    def do(self, story: Awaitable[T]) -> T:
        return self.loop.run_until_complete(story)

    def serve(self, **spec: Any) -> None:
        self.do(self.cluster.set_up(spec=spec))
        self.do(self.cluster.phase(Phase.SERVING))
        self.do(self.cluster.settle())

    def push(self, image: str, *phases: Phase) -> None:
        self.do(self.cluster.push(image))
        self.do(self.cluster.phase(*phases))

    def call(self, *arguments: object) -> Answer:
        return self.cli(*arguments, "-n", "team", "--kubeconfig", self.real.kubeconfig)


@pytest.fixture
def played(real_api: RealApi, namespace: str, cli: Callable[..., Answer]) -> Iterator[Played]:
    loop = asyncio.new_event_loop()

    async def begin() -> Kube:
        return await Kube(await configuration(real_api.kubeconfig), Bucket(10_000, 10_000)).__aenter__()

    api = loop.run_until_complete(begin())
    yield Played(real_api, cli, loop, api)
    loop.run_until_complete(api.__aexit__(None, None, None))
    loop.close()
