"""The chart, installed as its users install it.

Called by `__main__`, and by the scenarios that upgrade it and take it away.
"""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.target import Own, Target
from tests.e2e.errors import E2EError
from tests.e2e.kube import Cluster
from tests.e2e.team import CONFIG_MAPS, Release

from modelcanary_operator.api import Kind

NAME = NAMESPACE = "modelcanary"
CHART = Path(__file__).parents[2] / "charts" / "modelcanary"
_SECONDS = 180.0
_USER = 65532  # of the images


async def helm(target: Target, *arguments: str) -> str:
    # Longer than helm's own limit: ended in the middle of an upgrade, it would refuse the next.
    return await command(target, ["helm", *arguments], seconds=_SECONDS + 60.0)


async def command(target: Target, arguments: Sequence[str], *, seconds: float = _SECONDS) -> str:
    """What a program of the cluster's users says. Raises E2EError with it where it fails."""
    process = await asyncio.create_subprocess_exec(
        *target.command(arguments),
        env={**os.environ, **target.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            text, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise E2EError(f"{' '.join(arguments[:4])} … took more than {seconds:.0f} s") from error
    if process.returncode:
        raise E2EError(f"{' '.join(arguments)} failed:\n{text.decode(errors='replace').strip()[-3000:]}")
    return text.decode(errors="replace")


async def storage(cluster: Cluster, target: Target) -> None:
    """A volume for the ledger's claim, on a node of the project's own: it has nothing that makes volumes."""
    if not isinstance(target, Own):
        return
    folder = target.node.places.state / "volumes" / "ledger"
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, _USER, _USER)
    spec = {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(folder)},
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": NAMESPACE, "name": "state-modelcanary-ledger-0"},
    }
    kind = Kind("/api/v1", "persistentvolumes", "PersistentVolume")
    await cluster.create(kind, "", {"metadata": {"name": "modelcanary-ledger"}, "spec": spec})


async def install(target: Target, *values: Mapping[str, object]) -> None:
    """`helm upgrade --install … --wait`: returns when operator and ledger are ready."""
    written = [f"--set-json={name}={json.dumps(value)}" for each in values for name, value in each.items()]
    await helm(
        *(target, "upgrade", "--install", NAME, str(CHART), "--namespace", NAMESPACE, "--create-namespace"),
        *("--wait", "--timeout", f"{_SECONDS:.0f}s", *written),
    )


async def release(cluster: Cluster, target: Target, images: Mapping[str, str]) -> Release:
    """What is installed."""
    bundle = await cluster.find(CONFIG_MAPS, NAMESPACE, "modelcanary-ca")
    authority = (bundle or {}).get("data", {}).get("ca.crt", "")
    scheme = "https" if authority else "http"
    return Release(target, NAMESPACE, images, f"{scheme}://modelcanary-ledger.{NAMESPACE}.svc:8071", authority)
