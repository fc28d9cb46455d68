"""Kills: a part of the release, as the machine or the kernel would, at moments that the seed chooses.

Called by `__main__` for the group of scenarios that bear it, and by scenarios of their own.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.errors import E2EError
from tests.e2e.kube import Cluster

from modelcanary_operator.api import PODS

_PAUSES = (20.0, 60.0)  # seconds between two kills


async def kill(cluster: Cluster, namespace: str, app: str) -> int:
    """SIGKILL for all processes of an app's pods; how many pods. The pods themselves go too, so that none backs off."""
    killed = 0
    for pod in await cluster.list(PODS, namespace, f"app.kubernetes.io/component={app}"):
        for process in processes_of(pod["metadata"]["uid"]):
            os.kill(process, signal.SIGKILL)
        # In a cluster whose processes are elsewhere, this is as near as one comes.
        await cluster.delete(PODS, namespace, pod["metadata"]["name"], gracePeriodSeconds=0)
        killed += 1
    return killed


def processes_of(uid: str) -> list[int]:
    """Of a pod, by the cgroup that is named after it; none where the nodes are other machines."""
    names = (uid, uid.replace("-", "_"))
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if (
                any(name in path.read_text() for name in names)
                and (path.parent / "cmdline").read_bytes()[:6] != b"/pause"
            ):
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has ended
    return found


@asynccontextmanager
async def killing(
    cluster: Cluster, namespace: str, app: str, seed: int, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Again and again while the block runs."""
    chance = random.Random(seed)

    async def again() -> None:
        while True:
            await asyncio.sleep(chance.uniform(*_PAUSES))
            try:
                pods = await kill(cluster, namespace, app)
                say(f"killed the {app} ({pods} pods)")
            except E2EError as error:
                say(f"the {app} could not be killed: {error}")

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def back(cluster: Cluster, namespace: str, app: str, seconds: float = 120.0) -> None:
    """A pod of it is ready again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pods = await cluster.list(PODS, namespace, f"app.kubernetes.io/component={app}")
        conditions = [each for pod in pods for each in (pod.get("status") or {}).get("conditions") or []]
        if any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
            return
        await asyncio.sleep(0.5)
    raise E2EError(f"no pod of the {app} is ready again after {seconds:g} s")
