"""A team's namespace with a model's Deployment and Service, the operator's reconciler, and what users notice."""

from collections.abc import Callable
from typing import Any

from tests.operator.controllers import Controllers
from tests.operator.granted import Granted

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator import names, status_json
from modelcanary_operator.api import CANARIES, DEPLOYMENTS, SERVICES, Api, Object
from modelcanary_operator.caller import Caller
from modelcanary_operator.desk import Desk
from modelcanary_operator.directory import Directory
from modelcanary_operator.errors import ApiError, LedgerRefused, LedgerUnavailable
from modelcanary_operator.ledger_client import Ledger
from modelcanary_operator.metrics import Metrics
from modelcanary_operator.pool import Pool
from modelcanary_operator.post import Outside
from modelcanary_operator.reconcile import Reconciler, Tools
from modelcanary_operator.recorder import Recorder
from modelcanary_operator.settings import Settings, read_settings
from modelcanary_operator.workqueue import Key

KEY = Key("team", "fraud")
SPEC: Object = {
    "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"},
    "service": {"name": "fraud", "port": "http"},
    "model": {"protocol": "oip-v2", "classes": ["no", "yes"]},
    "labels": {"maturity": "0s"},
    "analysis": {"interval": "1s", "minDuration": "1s"},
}


def settings(*more: str) -> Settings:
    return read_settings(["--sidecar-image", "sidecar:1", "--ledger", "http://ledger:8071", *more], {})


def template(image: str = "model:1", **more: Any) -> Object:
    container = {
        "name": "model",
        "image": image,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": "http"}},
        **more,
    }
    return {"metadata": {"labels": {"app": "fraud", "team": "risk"}}, "spec": {"containers": [container]}}


def deployment(image: str = "model:1", replicas: int = 2) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "fraud"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "fraud"}},
            "template": template(image),
        },
    }


def service(target_port: str | int = "http") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "fraud"},
        "spec": {
            "selector": {"app": "fraud"},
            "ports": [{"name": "http", "port": 80, "targetPort": target_port, "protocol": "TCP"}],
        },
    }


def canary(spec: Object | None = None) -> Object:
    return {
        "apiVersion": "modelcanary.io/v1alpha1",
        "kind": "ModelCanary",
        "metadata": {"name": "fraud"},
        "spec": {**SPEC, **(spec or {})},
    }


class Cluster:
    def __init__(self, api: Api, ledger: Ledger, given: Settings | None = None) -> None:
        self.api = api
        self.ledger = ledger
        self.settings = given or settings()
        self.granted = Granted(api)  # the operator's: with its rights, and no others
        self.controllers = Controllers(api)
        self.now = 1_767_225_600.0  # 2026-01-01
        self.probed: list[tuple[str, int]] = []
        self.answers = True
        self.promoted: set[str] = set()
        self.served = False
        self.errors: list[str] = []
        self.working = False  # the operator is at it, not the test
        self.forgetful = False  # every look is another process's
        self.epoch = 0
        self.directory = Directory(self.settings.endpoints_file, Metrics())
        self.caller = Caller()
        self.woken: list[Key] = []
        self.restart()

    def restart(self) -> None:
        """Another process: nothing is remembered."""
        self.epoch += 1

        async def probe(address: str, port: int) -> bool:
            self.probed.append((address, port))
            return self.answers

        metrics, recorder = Metrics(), Recorder(self.granted, "test")
        pool = Pool(metrics)
        outside = Outside(
            directory=self.directory,
            caller=self.caller,
            pool=pool,
            metrics=metrics,
            recorder=recorder,
            wake=self.woken.append,
            wall=lambda: self.now,
            monotonic=lambda: self.now,
        )
        self.metrics, self.pool = metrics, pool
        self.reconciler = Reconciler(
            Tools(
                api=self.granted,
                ledger=self.ledger,
                settings=self.settings,
                epoch=self.epoch,
                recorder=recorder,
                metrics=metrics,
                probe=probe,
                desk=Desk(outside),
                wall=lambda: self.now,
                monotonic=lambda: self.now,
            )
        )

    async def set_up(self, *, target_port: str | int = "http", spec: Object | None = None, replicas: int = 2) -> None:
        await self.api.create(DEPLOYMENTS, "team", deployment(replicas=replicas))
        await self.api.create(SERVICES, "team", service(target_port))
        await self.controllers.settle()
        await self.api.create(CANARIES, "team", canary(spec))
        self.promoted = {"model:1"}

    async def look(self) -> float | None:
        """One reconcile, as a worker does it, and one move of the controllers; None: nothing is to be done soon."""
        if self.forgetful:
            self.restart()
        self.working = True
        try:
            after = await self.reconciler.reconcile(KEY)
        except (ApiError, LedgerUnavailable, LedgerRefused) as error:
            self.errors.append(str(error))
            after = 0.5
        finally:
            self.working = False
        await self.check()
        moved = await self.controllers.tick()
        await self.check()
        if moved or after == 0.0:
            return 0.0
        return after

    async def until(self, done: Callable[[], Any], most: int = 500) -> None:
        """Looks until it holds; time passes where nothing else does."""
        for _ in range(most):
            if await done():
                return
            after = await self.look()
            self.now += min(after, 10.0) if after is not None else 10.0
        raise AssertionError(f"not within {most} looks; {await self.status()}; {self.errors[-3:]}")

    async def settle(self, most: int = 400) -> None:
        """Until the world is at rest: two looks in a row that say to wait for half a minute or more, or to be gone."""
        quiet = 0
        for _ in range(most):
            after = await self.look()
            quiet = quiet + 1 if after is None or after >= 30.0 else 0
            if quiet > 2:
                return
            if after and after < 30.0:
                self.now += after
        raise AssertionError(f"still busy; {await self.status()}; {self.errors[-3:]}")

    async def phase(self, *phases: Phase) -> None:
        async def there() -> bool:
            return (await self.status()).phase in phases

        await self.until(there)

    async def status(self) -> Any:
        found = await self.resource()
        return status_json.read((found or {}).get("status") or {})

    async def resource(self) -> Object | None:
        found = [item for item in await self.api.list(CANARIES, "team") if item["metadata"]["name"] == KEY.name]
        return found[0] if found else None

    async def condition(self, kind: str) -> Object:
        found = await self.resource()
        assert found is not None
        return next(item for item in found["status"]["conditions"] if item["type"] == kind)

    async def push(self, image: str, **more: Any) -> None:
        """What a pipeline does."""
        found = await self.api.get(DEPLOYMENTS, "team", "fraud")
        found["spec"]["template"]["spec"]["containers"][0]["image"] = image
        found["spec"] |= more
        await self.api.replace(DEPLOYMENTS, "team", "fraud", found)

    async def get(self, kind: Any, name: str) -> Object | None:
        found = [item for item in await self.api.list(kind, "team") if item["metadata"]["name"] == name]
        return found[0] if found else None

    async def check(self) -> None:
        """The service is never empty, never has an endpoint that does not answer, or one that nobody promoted."""
        found = await self.get(SERVICES, "fraud")
        if found is None:
            return
        status = await self.status()
        if status.phase is Phase.PROMOTING and status.run is not None:
            self.promoted |= await self._images(status.run.candidate)
        endpoints = await self.controllers.endpoints(found)
        self.served = self.served or bool(endpoints)
        assert endpoints or not self.served, "the service is empty"
        for pod, number in endpoints:
            listening = {
                port["containerPort"]
                for container in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
                for port in container.get("ports") or []
            }
            assert number in listening, f"{pod['metadata']['name']} does not answer on {number}"
            image = pod["spec"]["containers"][-1]["image"]
            assert image in self.promoted, f"users are served by {image}, which nobody promoted"
            assert pod["metadata"]["labels"].get(names.ROLE) != "candidate"

    async def _images(self, template_hash: str) -> set[str]:
        found = await self.get(DEPLOYMENTS, names.candidate("fraud"))
        same = found is not None and found["metadata"]["annotations"][names.TEMPLATE] == template_hash
        return {found["spec"]["template"]["spec"]["containers"][-1]["image"]} if same and found is not None else set()
