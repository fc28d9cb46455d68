"""What the operator needs while nothing happens: 100 ModelCanaries, each adopted, on a real API server.

`make bench-operator` runs it. The API server and etcd are real, and so is the ledger; controllers and nodes are played,
a namespace for each model. One operator adopts them all; then another process, lists
everything, settles, and is watched for longer than the time after which each is looked at again. It must write nothing.

Never at real-time priority: etcd and the API server would leave the machine nothing.

Writes its part of bench/RESULTS.md, unless --no-record. Exit code 1 if something is written, or more is needed than
150 MB or 2% of a core.
"""

import argparse
import asyncio
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.sections import keep
from tests.cluster.control_plane import ControlPlane, light
from tests.cluster.places import Places
from tests.crds.schema import definition
from tests.operator.controllers import Controllers
from tests.operator.harness import canary, deployment, service
from tests.operator.processes import process
from tests.operator.relay import Relay

from modelcanary_operator.api import CANARIES, DEPLOYMENTS, SERVICES
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.kube import Kube, configuration

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_MOST_MEMORY, _MOST_CORE = 150.0, 2.0
_TICKS = 100.0  # of the system's clock a second


def command(plane: ControlPlane, ledger: int, sidecar: int, metrics: int, *more: str) -> list[str]:
    given = [
        *(sys.executable, "-m", "modelcanary_operator", "--kubeconfig", str(plane.kubeconfig)),
        *("--sidecar-image", "sidecar:1", "--ledger", f"http://127.0.0.1:{ledger}", "--own-namespace", "default"),
        *("--listen", f"127.0.0.1:{metrics}", "--sidecar-port", str(sidecar), *more),
    ]
    return plane.network.inside(given)


class Fleet:
    """The models of `count` teams."""

    def __init__(self, api: Kube, count: int) -> None:
        self._api = api
        self.namespaces = [f"team-{number}" for number in range(count)]
        self.controllers = [Controllers(api, name, pod_ip="127.0.0.1") for name in self.namespaces]

    async def set_up(self, plane: ControlPlane) -> None:
        client = plane.client()
        for name in self.namespaces:
            client.expect("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
            account = {"metadata": {"name": "default"}}
            client.request("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account)
            await self._api.create(DEPLOYMENTS, name, deployment(replicas=1))
            await self._api.create(SERVICES, name, service())
        client.close()
        await asyncio.gather(*(each.settle() for each in self.controllers))
        for name in self.namespaces:
            await self._api.create(CANARIES, name, canary())

    async def adopted(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        left = dict(zip(self.namespaces, self.controllers, strict=True))
        while left and time.monotonic() < deadline:
            for name, controllers in [*left.items()]:
                moved = await controllers.tick()
                (found,) = await self._api.list(CANARIES, name)
                if not moved and (found.get("status") or {}).get("phase") == "Serving":
                    del left[name]
            print(f"{len(self.namespaces) - len(left)} of {len(self.namespaces)} are adopted", flush=True)
        if left:
            raise SystemExit(f"not adopted within {patience:g} s: {', '.join(left)}")

    async def versions(self) -> dict[str, str]:
        """Of all that the operator may write, besides its Lease."""
        found = {}
        for name in self.namespaces:
            for kind in (CANARIES, DEPLOYMENTS, SERVICES):
                for item in await self._api.list(kind, name):
                    found[f"{kind.plural} {name}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
        return found


def used(pid: int) -> tuple[float, float]:
    """Seconds of a processor, and MB that are its own."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
    return (int(fields[11]) + int(fields[12])) / _TICKS, own / 1000.0


async def measure(plane: ControlPlane, folder: Path, count: int, resync: float) -> dict[str, Any]:
    network = plane.network
    ledger, sidecar, metrics = (network.port(usual) for usual in (8071, 18080, 8072))
    client = plane.client()
    client.expect("POST", _CRDS, definition())
    deadline = time.monotonic() + 60
    while client.request("GET", "/apis/modelcanary.io/v1alpha1/modelcanaries")[0] != 200:
        if time.monotonic() > deadline:
            raise SystemExit("the API server does not serve the resource")
        await asyncio.sleep(0.2)
    client.close()
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(network, plane.address))
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(plane.kubeconfig.read_text().replace(plane.server, f"https://127.0.0.1:{relay.port}"))
        listening = network.inside([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(sidecar)])
        stack.enter_context(process(listening, folder / "sidecars.log"))
        kept = ["--listen", f"127.0.0.1:{ledger}", "--state", str(folder / "ledger")]
        running = network.inside([sys.executable, "-m", "modelcanary_ledger", *kept])
        stack.enter_context(process(running, folder / "ledger.log"))
        api = await stack_api(kubeconfig)
        async with api:
            fleet = Fleet(api, count)
            await fleet.set_up(plane)
            began = time.monotonic()
            print("set up", flush=True)
            with process(command(plane, ledger, sidecar, metrics, "--rate", "400"), folder / "first.log"):
                await fleet.adopted(1800.0)
            took = time.monotonic() - began
            seconds, own = 1.1 * resync, ("--resync", f"{resync:g}")
            with process(command(plane, ledger, sidecar, metrics, *own), folder / "operator.log") as operator:
                await asyncio.sleep(60.0)
                before, (busy, _) = await fleet.versions(), used(operator.pid)
                await asyncio.sleep(seconds)
                after, (busy_after, memory) = await fleet.versions(), used(operator.pid)
    written = sorted(name for name, version in after.items() if before.get(name) != version)
    return {"adopting": took, "core": 100.0 * (busy_after - busy) / seconds, "memory": memory, "written": written}


async def stack_api(kubeconfig: Path) -> Kube:
    return Kube(await configuration(kubeconfig), Bucket(10_000, 10_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--canaries", type=int, default=100)
    parser.add_argument("--resync", type=float, default=300.0, help="as the operator's; it is watched a tenth longer")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelcanary-bench-") as name, light(Places.of_environment()) as plane:
        found = asyncio.run(measure(plane, Path(name), given.canaries, given.resync))
    text = (
        f"## The operator at rest\n\n`make bench-operator`, {platform.machine()}, Python {platform.python_version()}: "
        f"{given.canaries} ModelCanaries, each adopted, on a real API server; watched {1.1 * given.resync:.0f} s, in "
        f"which each is looked at again (`--resync {given.resync:g}`; 300 as shipped).\n\n"
        "| | measured | limit |\n|---|---|---|\n"
        f"| of a core | {found['core']:.2f}% | {_MOST_CORE:g}% |\n"
        f"| memory of its own | {found['memory']:.0f} MB | {_MOST_MEMORY:g} MB |\n"
        f"| objects written | {len(found['written'])} | 0 |\n"
    )
    print(text, *found["written"][:10], sep="\n")
    if not given.no_record:
        keep("operator", text)
    sys.exit(bool(found["written"]) or found["core"] > _MOST_CORE or found["memory"] > _MOST_MEMORY)


if __name__ == "__main__":
    main()
