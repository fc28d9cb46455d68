"""A model's deploy whose operator may call endpoints: a receiver, and whatever else a test lists."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import Cluster, settings
from tests.operator.receiver import Receiver

Story = Callable[[Cluster, FakeApi, FakeLedger, Receiver], Awaitable[None]]


def play(tmp_path: Path, story: Story, spec: dict[str, Any], endpoints: dict[str, Any] | None = None) -> None:
    """`endpoints` name a URL, or their path on the one receiver; without any, there is a webhook `log`."""

    async def run() -> None:
        async with Receiver() as receiver:
            listed = endpoints or {"log": {"type": "webhook", "url": "/log"}}
            written = {
                name: {**each, "url": (receiver.url if each["url"].startswith("/") else "") + each["url"]}
                for name, each in listed.items()
            }
            file = tmp_path / "endpoints.yaml"
            file.write_text(yaml.safe_dump(written))
            api, ledger = FakeApi(), FakeLedger()
            cluster = Cluster(api, ledger, settings("--endpoints-file", str(file)))
            async with cluster.caller, calling(cluster):
                await cluster.set_up(spec=spec)
                await cluster.settle()
                await story(cluster, api, ledger, receiver)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def calling(cluster: Cluster) -> AsyncIterator[None]:
    """Workers for calls; `restart` gives them up, as the end of a process does."""
    running: list[asyncio.Task[None]] = []
    restart = cluster.restart

    def begin() -> None:
        for task in running:
            task.cancel()
        running[:] = [asyncio.create_task(cluster.pool.run())]

    def again() -> None:
        restart()
        begin()

    cluster.restart = again  # type: ignore[method-assign]
    begin()
    yield
    for task in running:
        task.cancel()


async def until(cluster: Cluster, done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Looks, and gives calls the time to come back."""
    async with asyncio.timeout(seconds):
        while not done():
            after = await cluster.look()
            cluster.now += min(after or 0.0, 5.0)
            await asyncio.sleep(0.01)


def told(receiver: Receiver, path: str = "/log") -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in receiver.requests if request.path == path]


def events(receiver: Receiver, path: str = "/log") -> list[str]:
    return [event["type"].removeprefix("io.modelcanary.") for event in told(receiver, path)]
