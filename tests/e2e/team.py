"""A team of a scenario, with a namespace of its own: deploys models, has users, waits for what becomes of it.

Made by `runner`, used by the scenarios. Every wait has a limit, and says what there was instead.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.cluster.target import Target
from tests.e2e import manifests
from tests.e2e.errors import Broken, E2EError, Missed
from tests.e2e.history import History, Seen, dig
from tests.e2e.invariants import broken, moments
from tests.e2e.kube import Cluster, Refused
from tests.e2e.manifests import Users
from tests.e2e.worlds import GOOD, LIGHT, Version, World, version_of

from modelcanary_operator import names
from modelcanary_operator.api import (
    AUTOSCALERS,
    CANARIES,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    PODS,
    REVISIONS,
    SERVICES,
    Kind,
    Object,
)

T = TypeVar("T")
NAMESPACES = Kind("/api/v1", "namespaces", "Namespace")
CONFIG_MAPS = Kind("/api/v1", "configmaps", "ConfigMap")
POLICIES = Kind("/apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
_OURS = (DEPLOYMENTS, SERVICES, REVISIONS, AUTOSCALERS, PODS, CONFIG_MAPS, POLICIES)
ADOPTED, ROLLED, JUDGED = 90.0, 90.0, 150.0  # seconds, on a machine that has much else to do
REACHED = 10.0
_SIDECAR_ADMIN = 18090


@dataclass(frozen=True, slots=True)
class Release:
    """What is installed, as teams need to know it."""

    target: Target
    namespace: str
    images: Mapping[str, str]  # `python`: one with a Python, for light models and users; `mlserver`
    ledger: str  # its URL
    authority: str  # the ledger's, in PEM; empty: it speaks plainly


@dataclass(slots=True)
class Team:
    cluster: Cluster
    history: History
    release: Release
    namespace: str
    seed: int
    world: World = LIGHT
    patience: float = 1.0  # by which all waits are longer
    name: str = "colours"  # of the target, the Service and the ModelCanary
    measured: dict[str, float] = field(default_factory=dict)
    report: Object = field(default_factory=dict)
    ended: int | None = None  # the revision from which on nothing is promised to the users any more

    # --- what the team does

    async def found(self) -> None:
        await self.cluster.create(NAMESPACES, "", manifests.namespace(self.namespace))
        await self.create(CONFIG_MAPS, manifests.scripts(self.release.authority, self.world.files()))
        account = Kind("/api/v1", "serviceaccounts", "ServiceAccount")
        await _patiently(lambda: self.cluster.get(account, self.namespace, "default"), "the namespace's account")

    async def create(self, kind: Kind, body: Object) -> Object:
        return await self.cluster.create(kind, self.namespace, body)

    async def serve(
        self, version: Version = GOOD, *, replicas: int = 1, port: str | int = "http", users: Users | None = None
    ) -> None:
        """The model without us: a Deployment, its Service, and users who get answers."""
        await self.model(version, replicas=replicas, port=port)
        await self.start_users(users or Users())

    async def model(self, version: Version = GOOD, *, replicas: int = 1, port: str | int = "http") -> None:
        """A Deployment and its Service, without users."""
        await self.create(SERVICES, manifests.service(self.name, port))
        await self.create(DEPLOYMENTS, manifests.deployment(self.name, self.template(version), replicas))

    async def start_users(self, users: Users) -> None:
        """Returns when the first of them was answered."""
        image, ledger = self.release.images["python"], self.release.ledger
        pod = manifests.load(self.name, self.world, users, self.namespace, image, ledger, self.seed)
        await self.create(PODS, pod)
        await self.answers(1, 180.0)

    async def adopt(self, more: Mapping[str, Any] | None = None) -> None:
        began = time.monotonic()
        await self.create(CANARIES, manifests.canary(self.name, self.world, more))
        await self.phase("Serving", ADOPTED)
        self.measured["adopted"] = time.monotonic() - began

    async def deploy(self, version: Version, **spec: Any) -> None:
        """As `kubectl set image`, or with `spec` as `helm upgrade`, does it."""
        await self.patch(DEPLOYMENTS, {"spec": {"template": self.template(version), **spec}})

    def template(self, version: Version) -> Object:
        return self.world.template(
            self.name, version, self.release.images["python" if self.world is LIGHT else "mlserver"]
        )

    async def patch(self, kind: Kind, body: Object, name: str = "", subresource: str = "") -> Object:
        """Of the target, the Service or the ModelCanary, by its kind; of another object by its name."""
        return await self.cluster.patch(kind, self.namespace, name or self.name, body, subresource)

    async def annotate(self, verb: str, run: str) -> None:
        await self.patch(CANARIES, {"metadata": {"annotations": {verb: run}}})

    async def edit(self, **spec: Any) -> None:
        await self.patch(CANARIES, {"spec": spec})

    # --- what the team sees

    @property
    def canary(self) -> Object:
        return self.history.get(CANARIES, self.name) or {}

    def status(self, *path: str) -> object:
        return dig(self.canary, "status", *path)

    @property
    def run(self) -> str:
        return str(self.status("run", "id") or "")

    def baseline(self) -> str:
        """The version that the baseline's Deployment has."""
        return version_of(dig(self.history.get(DEPLOYMENTS, names.baseline(self.name)), "spec", "template", "spec"))

    def target(self) -> str:
        return version_of(dig(self.history.get(DEPLOYMENTS, self.name), "spec", "template", "spec"))

    async def until(self, found: Callable[[], T | None], what: str, seconds: float) -> T:
        return await self.history.until(found, what, seconds * self.patience, self._there)

    async def phase(self, wanted: str, seconds: float, *, reason: str | None = None) -> None:
        def reached() -> bool:
            return self.status("phase") == wanted and reason in (None, self.status("reason"))

        await self.until(reached, f"phase {wanted}" + (f" ({reason})" if reason else ""), seconds)

    async def judged(self, wanted: str, seconds: float = JUDGED) -> Seen:
        """The moment of the next decision, which must be `wanted`: Promoting, RollingBack or Clearing."""
        after = max((each.revision for each in self.history.of(CANARIES, self.name)), default=0)

        def decided() -> Seen | None:
            later = [each for each in self.history.of(CANARIES, self.name) if each.revision > after]
            return next((each for each in later if each.status("decided")), None)

        found = await self.until(decided, f"a decision, to be {wanted}", seconds)
        if found.status("phase") != wanted:
            raise Broken(f"{found.status('phase')} and not {wanted}: {found.status('decided')}")
        return found

    async def promoted(self, version: Version) -> None:
        """The next decision promotes, and then the baseline's pods are of that version."""
        moment = await self.judged("Promoting")
        await self.phase("Serving", ROLLED)
        if self.baseline() != version.name:
            raise Broken(f"the baseline has version {self.baseline()!r}, and {version.name!r} was promoted")
        await self.only(version)
        self._acted(moment, DEPLOYMENTS, names.baseline(self.name))

    async def rolled_back(self, reason: str | None = None) -> None:
        moment = await self.judged("RollingBack")
        if reason not in (None, dig(moment.body, "status", "decided", "reason")):
            raise Broken(f"rolled back, and not for {reason}: {moment.status('decided')}")
        await self.phase("Cooldown", ROLLED)
        self._acted(moment, DEPLOYMENTS, names.candidate(self.name))

    def _acted(self, decided: Seen, kind: Kind, name: str) -> None:
        """How long a decision took to be acted on."""
        later = [each for each in self.history.of(kind, name) if each.revision > decided.revision]
        if later:
            self.measured["decided to acted"] = later[0].at - decided.at

    async def only(self, version: Version, seconds: float = ROLLED) -> None:
        """All ready endpoints of the Service are pods of the version."""

        def serving() -> bool:
            found = self.endpoints()
            return bool(found) and set(found.values()) == {version.name}

        await self.until(serving, f"only version {version.name} serves", seconds)

    def endpoints(self) -> dict[str, str]:
        """The Service's ready endpoints: the pod and its version."""
        found = {}
        for piece in self.history.all(ENDPOINT_SLICES):
            if dig(piece, "metadata", "labels", "kubernetes.io/service-name") != self.name:
                continue
            for endpoint in piece.get("endpoints") or []:
                if dig(endpoint, "conditions", "ready"):
                    pod = str(dig(endpoint, "targetRef", "name"))
                    found[pod] = version_of(dig(self.history.get(PODS, pod), "spec"))
        return found

    async def ask_users(self, path: str = "/report") -> Object:
        """The users' report; `/set?rate=50` changes their habits."""
        self.report = await self.cluster.ask(self.namespace, manifests.users_of(self.name), manifests.LOAD_PORT, path)
        return self.report

    async def answers(self, count: int, seconds: float = 60.0) -> None:
        """So many more answers, of whatever version."""
        before: int | None = None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                now = int((await self.ask_users())["answered"])
            except (Refused, E2EError):
                now = 0
            before = now if before is None else before
            if now >= before + count or (before and count == 1):
                return
            await asyncio.sleep(0.3)
        raise Missed(f"not within {seconds:g} s: {count} more answers; the users say {self.report}")

    def pods(self, role: str) -> list[str]:
        """The pods of ours that are ready, of the baseline or the candidate."""
        return [
            str(pod["metadata"]["name"])
            for pod in self.history.all(PODS)
            if dig(pod, "metadata", "labels", names.ROLE) == role
            and dig(pod, "metadata", "labels", names.CANARY) == self.name
            and not pod["metadata"].get("deletionTimestamp")
            and _is_ready(pod)
        ]

    async def break_candidate(self, fault: str) -> None:
        """From now on its light server goes wrong."""
        for pod in self.pods(names.CANDIDATE):
            await self.cluster.ask(self.namespace, pod, 8080, f"/fault/{fault}")

    async def shadowed(self) -> None:
        """Requests are mirrored; how long that took from the candidate's readiness on is measured."""
        await self.phase("Shadowing", ADOPTED)
        (pod, *_) = self.pods(names.CANDIDATE)
        if self.world is LIGHT:
            ready = next(
                each.at for each in self.history.of(PODS, pod) if each.body is not None and _is_ready(each.body)
            )
            first = 0.0
            deadline = time.monotonic() + 30.0
            while not first and time.monotonic() < deadline:
                first = float((await self.cluster.ask(self.namespace, pod, 8080, "/stats"))["first"])
                await asyncio.sleep(0.5)
            self.measured["ready to shadowing"] = first - ready

    async def reached(self, said: Callable[[Seen], bool], weight: float) -> None:
        """Each of the baseline's sidecars follows the weight; how long that took is measured, from the status that said
        so on. What a few users happen to be answered would say it later, and of one sidecar only. A step that is over
        before, because there was no operator meanwhile, is not measured.
        """
        told = await self.until(
            lambda: next((each for each in self.history.of(CANARIES, self.name) if said(each)), None),
            f"a status that says the weight {weight:g}",
            JUDGED,
        )
        left = set(self.pods(names.BASELINE))
        deadline = time.time() + REACHED * self.patience
        while left:
            await asyncio.sleep(0.05)
            asked = sorted(left)
            found = await asyncio.gather(*(self._weight(pod) for pod in asked))
            left -= {pod for pod, follows in zip(asked, found, strict=True) if follows == weight}
            if left and weight and not said(self.history.of(CANARIES, self.name)[-1]):
                return
            if left and time.time() > deadline:
                raise Missed(f"not within {REACHED * self.patience:g} s: the weight {weight:g} at {', '.join(left)}")
        name = "weight to every sidecar" if weight else "roll-back to every sidecar"
        self.measured[name] = max(self.measured.get(name, 0.0), time.time() - told.at)

    async def _weight(self, pod: str) -> float:
        return await self.cluster.metric(self.namespace, pod, _SIDECAR_ADMIN, "modelcanary_sidecar_weight")

    # --- what must hold

    async def idle(self, seconds: float) -> None:
        """Nothing of the scenario's objects is written for so long."""
        await asyncio.sleep(1.0)
        before = len(self.history.seen)
        await asyncio.sleep(seconds)
        written = [each for each in self.history.seen[before:] if each.kind in (CANARIES, DEPLOYMENTS, SERVICES)]
        if written:
            raise Broken(f"an idle operator wrote: {[(each.kind.plural, each.name) for each in written]}")

    async def delete(self, seconds: float = ADOPTED) -> None:
        """The ModelCanary, and nothing of ours is left afterwards."""
        await self.cluster.delete(CANARIES, self.namespace, self.name)
        await self.until(lambda: not self.canary, "the ModelCanary is gone", seconds)
        await self.nothing_left()

    async def nothing_left(self, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            left = []
            for kind in _OURS:
                left += [
                    f"{kind.plural}/{item['metadata']['name']}"
                    for item in await self.cluster.list(kind, self.namespace, f"{names.CANARY}={self.name}")
                ]
            for kind in (DEPLOYMENTS, SERVICES):
                found = await self.cluster.find(kind, self.namespace, self.name)
                if found is not None and names.PREFIX in str(
                    {**found, "metadata": {**found["metadata"], "managedFields": 0}}
                ):
                    left.append(f"{kind.plural}/{self.name} names us still")
            if not left:
                return
            if time.monotonic() > deadline:
                raise Broken(f"{seconds:g} s after the deletion this is left: {', '.join(left)}")
            await asyncio.sleep(0.5)

    async def finish(self) -> None:
        """Zero failed requests, and all that must hold at every moment."""
        report = await self.ask_users()
        problems = broken(self.history, self.name, until=self.ended)
        if report["failed"]:
            problems.insert(0, f"{report['failed']} of {report['sent']} requests failed: {report['failures'][:5]}")
        if not report["answered"]:
            problems.insert(0, "no user was answered")
        if problems:
            raise Broken("; ".join(problems[:8]))

    def _there(self) -> str:
        status = dict(self.canary.get("status") or {})
        status.pop("conditions", None)
        return f"status {status}; endpoints {self.endpoints()}"

    def stays(self, phase: str) -> list[Seen]:
        return moments(self.history, self.name, phase)


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


async def _patiently(read: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            await read()
            return
        except Refused as error:
            if time.monotonic() > deadline:
                raise Missed(f"not within {seconds:g} s: {what}; {error}") from error
            await asyncio.sleep(0.2)
