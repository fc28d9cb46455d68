"""A cluster with one model, small enough to interrupt at every step: Deployments, a Service, the resource, the ledger.

Each object has a version that grows with each change; a write that names another version is refused, as the API server
does it. `tick` is the controllers' next move. `check` is what must hold at every moment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar

import pytest

from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.decision import Decision, Facts
from modelcanary_gate.gate import Gate
from modelcanary_gate.plan import actions as do
from modelcanary_gate.plan.observed import (
    Autoscaler,
    Baseline,
    Candidate,
    Confirmation,
    Failure,
    Observed,
    Policies,
    Service,
    Target,
    Verbs,
)
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.planner import plan
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.status import Rejected, Status
from modelcanary_gate.protocol import Instructions
from modelcanary_gate.spec import Model, ServiceRef, Spec, TargetRef
from modelcanary_gate.vocabulary import Reason, Verdict

SPEC = Spec(
    model=Model(classes=("a", "b")),
    target=TargetRef("apps/v1", "Deployment", "fraud"),
    service=ServiceRef("fraud", "http"),
)
UID = "uid-1"


@cache
def _digest(classes: tuple[str, ...]) -> str:
    return EvidencePlan.of(replace(SPEC, model=Model(classes=classes))).digest


@cache
def _no_evidence(classes: tuple[str, ...]) -> Decision:
    return Gate(replace(SPEC, model=Model(classes=classes))).decide(Facts())


class Refused(Exception):
    """409 or 404: the write had no effect."""


@dataclass
class Workload:
    """A Deployment and its pods: (template, ready) of each."""

    template: str
    replicas: int
    pods: list[tuple[str, bool]] = field(default_factory=list)
    paused: bool = False
    held: str = ""
    uid: str = ""
    run: str = ""
    active: str = ""  # the template of the newest ReplicaSet
    refreshed: str = ""
    version: int = 1

    def tick(self) -> bool:
        if not self.paused:
            self.active = self.template
        for index, (template, ready) in enumerate(self.pods):
            if (
                not ready
                and not template.startswith("broken")
                and not (template.startswith("scarce") and self.uid and not self.run)
            ):
                self.pods[index] = (template, True)
                return True
        current = [pod for pod in self.pods if pod[0] == self.active]
        ready = sum(pod[1] for pod in self.pods)
        others = [pod for pod in self.pods if pod[0] != self.active]
        if len(self.pods) > self.replicas and [pod for pod in others if not pod[1]]:
            self.pods.remove(next(pod for pod in others if not pod[1]))
            return True
        if len(self.pods) > self.replicas and (ready > self.replicas or self.replicas == 0):
            self.pods.remove(others[0] if others else self.pods[-1])
            return True
        wanted = self.replicas if others else self.replicas - len(current)
        if len(current) < self.replicas and wanted > 0 and len(self.pods) <= self.replicas and self.active:
            if self.paused and len(self.pods) >= self.replicas:
                return False
            self.pods.append((self.active, False))
            return True
        return False

    @property
    def ready(self) -> int:
        return sum(ready for template, ready in self.pods if template == self.template)

    @property
    def settled(self) -> bool:
        if self.paused:
            return False
        return len(self.pods) == self.replicas and all(pod == (self.template, True) for pod in self.pods)


@dataclass
class Port:
    narrowed: bool = False
    numeric: bool = False
    redirected: bool = False
    version: int = 1


Item = TypeVar("Item", Workload, Port)


class World:
    def __init__(self, spec: Spec = SPEC, *, numeric: bool = False, replicas: int = 2) -> None:
        self.now = 1_000_000.0
        self.spec = spec
        self.status = Status()
        self.exists = True
        self.finalizer = False
        self.deleting = False
        self.deleted_at = 0.0
        self.version = 1
        self.verbs = Verbs()
        self.target: Workload | None = Workload("A", replicas, [("A", True)] * replicas, active="A")
        self.baseline: Workload | None = None
        self.candidate: Workload | None = None
        self.candidate_service = False
        self.service: Port | None = Port(numeric=numeric)
        self.revisions: set[str] = set()
        self.rejections: dict[str, Rejected] = {}
        self.ledger = Instructions(version=0)
        self.ledger_up = True
        self.autoscaler = ""
        self.autoscaler_copy = ""
        self.keda = False
        self.keda_paused = False
        #: the user's NetworkPolicies, as a version of them; and ours beside them
        self.policy = 0
        self.policies = {"baseline": 0, "candidate": 0}
        self.policy_versions = {"baseline": 0, "candidate": 0}
        self.verdicts: dict[str, Verdict] = {}
        self.reports: list[str] = []
        self.deaf: set[str] = set()  # endpoints that acknowledge nothing
        self.sent: list[tuple[str, str, str]] = []  # event, id, endpoint
        self.acknowledged: set[tuple[str, str]] = set()
        self.confirmations: dict[str, Confirmation] = {}
        self.endpoint_problem = ""
        # for the oracle
        self.promoted = ["A"]
        self.narrowed_at = 0.0
        self.promotions: list[str] = []
        self.writes = 0
        self.sidecars_rolled = 0
        self.refresh = ""
        self.harmed = False  # the user took the baseline away: what happens to users then is not ours

    # --- what users do

    def push(self, template: str) -> None:
        assert self.target is not None
        self.target.template = template
        self.target.version += 1

    def wipe(self) -> None:
        """The resource is deleted without its finalizer's work and made again, or its status is lost."""
        self.status = Status()
        self.version += 1

    # --- what the operator sees

    def observe(self) -> Observed:
        target, baseline, candidate, service = self.target, self.baseline, self.candidate, self.service
        failure = None
        if candidate is not None and candidate.template == "broken-crash" and candidate.pods:
            failure = Failure(Why.CRASH_LOOPING, "exit code 1, again and again", self.now - 30, restarts=5)
        return Observed(
            name="fraud",
            deleting=self.deleting,
            deleted_at=self.deleted_at,
            finalizer=self.finalizer,
            target=None
            if target is None
            else Target(
                str(target.version),
                target.template,
                target.replicas,
                len(target.pods),
                target.ready,
                target.settled,
                target.paused,
                target.held,
            ),
            service=None
            if service is None
            else Service(str(service.version), True, True, service.numeric, service.redirected, service.narrowed),
            baseline=None
            if baseline is None
            else Baseline(
                str(baseline.version),
                baseline.template,
                baseline.replicas,
                baseline.ready,
                baseline.settled,
                baseline.uid == UID,
                answering=any(ready for _, ready in baseline.pods),
                failure=self._short(baseline),
                overdue="no progress" if baseline.template.startswith("scarce") and not baseline.settled else "",
                refreshed=baseline.refreshed,
            ),
            candidate=None
            if candidate is None
            else Candidate(
                str(candidate.version),
                candidate.template,
                candidate.run,
                candidate.replicas,
                candidate.ready,
                candidate.settled,
                failure=failure,
            ),
            candidate_service=self.candidate_service,
            candidate_url="http://fraud-candidate:80",
            candidate_pods=len(candidate.pods) if candidate is not None else 0,
            autoscaler=Autoscaler(
                self.autoscaler,
                keda=self.keda,
                copied=self.autoscaler_copy == self.autoscaler,
                paused=self.keda_paused,
            )
            if self.autoscaler
            else None,
            autoscaler_copy=bool(self.autoscaler_copy),
            baseline_policies=self._policies("baseline"),
            candidate_policies=self._policies("candidate"),
            revisions=frozenset(self.revisions),
            rejections=dict(self.rejections),
            standing=self.ledger if self.ledger_up else None,
            measured=_digest(self.spec.model.classes),
            verbs=self.verbs,
            refresh=self.refresh,
            reports=tuple(self.reports),
            endpoint_problem=self.endpoint_problem,
            confirmations=self.confirmations,
            delivered=frozenset(self.acknowledged),
        )

    def _policies(self, role: str) -> Policies:
        there, wanted = self.policies[role], self.policy
        return Policies(
            present={role: str(self.policy_versions[role])} if there else {},
            stale=(role,) if wanted and there != wanted else (),
            spare=(role,) if there and not wanted else (),
        )

    def _short(self, workload: Workload) -> Failure | None:
        """Templates whose names begin with `scarce` find room for one pod more than there is."""
        short = workload.template.startswith("scarce") and any(not ready for _, ready in workload.pods)
        return Failure(Why.UNSCHEDULABLE, "0/1 nodes are available", self.now) if short else None

    def decision(self) -> Decision | None:
        run = self.status.run
        if run is None or not self.ledger_up or self.ledger.run != run.id:
            return None
        verdict = self.verdicts.get(run.candidate, Verdict.CONTINUE)
        reasons = {Verdict.PROMOTE: Reason.CANDIDATE_NO_WORSE, Verdict.ROLL_BACK: Reason.LOSS_REGRESSION}
        blank = _no_evidence(self.spec.model.classes)
        return replace(blank, verdict=verdict, reason=reasons.get(verdict, blank.reason))

    # --- what the operator does

    def put_status(self, status: Status, version: int) -> None:
        if version != self.version or not self.exists:
            raise Refused("status")
        if status.phase is Phase.PROMOTING and self.status.phase is not Phase.PROMOTING and status.run is not None:
            self.promoted.append(status.run.candidate)
        self.status = status
        self.version += 1
        self.writes += 1

    def apply(self, action: do.Action) -> None:
        self.writes += 1
        match action:
            case do.AddFinalizer():
                self.finalizer = True
            case do.RemoveFinalizer(_):
                self.finalizer = False
                self.exists = not self.deleting
            case do.SaveRevision(template):
                target = self._held(self.target, None)
                if target.template != template:
                    raise Refused("the target has another template")
                self.revisions.add(template)
            case do.DeleteRevision(template):
                self.revisions.discard(template)
                self.rejections.pop(template, None)
            case do.NoteRejection(rejected):
                if rejected.template not in self.revisions:
                    raise Refused("no such revision")
                self.rejections[rejected.template] = rejected
            case do.HoldTarget(version, template):
                target = self._held(self.target, version)
                target.paused, target.held = True, template
            case do.ScaleTarget(version, replicas):
                target = self._held(self.target, version)
                if self.spec.adoption.service == "Managed" and any(ready for _, ready in target.pods):
                    drained = self.service is not None and self.service.narrowed
                    assert drained and self.now - self.narrowed_at >= 15.0, "pods end while they get connections"
                target.replicas = replicas
            case do.RestoreTemplate(version, template):
                if template not in self.revisions:
                    raise Refused("no such revision")
                self._held(self.target, version).template = template
            case do.ReleaseTarget(version, replicas):
                target = self._held(self.target, version)
                target.paused, target.replicas = False, replicas
            case do.ForgetTarget(version):
                self._held(self.target, version).held = ""
            case do.ApplyBaseline(template, replicas, version):
                self._apply_baseline(template, replicas, version)
            case do.ScaleBaseline(version, replicas):
                self._held(self.baseline, version).replicas = replicas
            case do.DeleteBaseline(version):
                self._held(self.baseline, version)
                self.baseline = None
            case do.ApplyCandidate(run, template, replicas, version):
                if template not in self.revisions:
                    raise Refused("no such revision")
                if version is None:
                    if self.candidate is not None:
                        raise Refused("it is there")
                    self.candidate = Workload(template, replicas, uid=UID, run=run)
                else:
                    found = self._held(self.candidate, version)
                    found.template, found.replicas, found.run = template, replicas, run
            case do.DeleteCandidate(version):
                self._held(self.candidate, version)
                self.candidate = None
            case do.ApplyCandidateService(_):
                self.candidate_service = True
            case do.DeleteCandidateService():
                self.candidate_service = False
            case do.NarrowSelector(version):
                self._held(self.service, version).narrowed = True
                self.narrowed_at = self.now
            case do.RestoreSelector(version):
                self._held(self.service, version).narrowed = False
            case do.RedirectPort(version):
                self._held(self.service, version).redirected = True
            case do.RestorePort(version):
                self._held(self.service, version).redirected = False
            case do.CopyAutoscaler(name):
                self.autoscaler_copy = name
            case do.DeleteAutoscaler():
                self.autoscaler_copy = ""
            case do.KeepReport(decision):
                if decision in self.reports:
                    raise Refused("it is there")
                assert self.candidate is None or not self.ledger_up or not self.ledger.run, "users may still be on it"
                self.reports.append(decision)
            case do.DeleteReport(decision):
                self.reports = [report for report in self.reports if report != decision]
            case do.RemoveVerb(verb, run, _):
                if getattr(self.verbs, verb) != run:
                    raise Refused("the resource has changed since")
                self.verbs = replace(self.verbs, **{verb: ""})
            case do.PauseAutoscaler(_, _):
                self.keda_paused = True
            case do.ResumeAutoscaler(_, _):
                self.keda_paused = False
            case do.ApplyPolicy(name, version):
                self._put_policy(name, version, self.policy)
            case do.DeletePolicy(name, version):
                self._put_policy(name, version, 0)
            case do.ForgetEvidence():
                if not self.ledger_up:
                    raise Refused("the ledger does not answer")
                self.ledger = Instructions(version=0)
            case do.Instruct(instructions):
                if not self.ledger_up:
                    raise Refused("the ledger does not answer")
                self.ledger = instructions

    def _put_policy(self, name: str, version: str | None, content: int) -> None:
        there = str(self.policy_versions[name]) if self.policies[name] else None
        if there != version:
            raise Refused("it has changed since")
        self.policies[name] = content
        self.policy_versions[name] += 1

    def _held(self, item: Item | None, version: str | None) -> Item:
        """The object, about to be changed, if it is as it was observed."""
        if item is None or (version is not None and str(item.version) != version):
            raise Refused("it has changed since")
        item.version += 1
        return item

    def _apply_baseline(self, template: str, replicas: int | None, version: str | None) -> None:
        if template not in self.revisions:
            raise Refused("no such revision")
        if version is None:
            if self.baseline is not None:
                raise Refused("it is there")
            self.baseline = Workload(template, replicas or 1, uid=UID, refreshed=self.refresh)
            return
        found = self._held(self.baseline, version)
        if self.refresh not in ("", found.refreshed):
            found.refreshed = self.refresh
            self.sidecars_rolled += 1
        if found.template != template:
            decided = self.status.decided
            self.promotions.append(f"{decided.id if decided else '?'} {template}")
        found.template, found.uid = template, UID
        found.replicas = replicas or found.replicas

    # --- what is told

    def deliver(self) -> None:
        """Sends what is stored; what is acknowledged is not sent again."""
        for signal in self.status.signals:
            for endpoint in signal.to:
                if endpoint not in self.deaf and (signal.id, endpoint) not in self.acknowledged:
                    self.sent.append((signal.event, signal.id, endpoint))
                    self.acknowledged.add((signal.id, endpoint))

    # --- time

    def tick(self) -> bool:
        """The controllers' next move; False when there is none."""
        for workload in (self.target, self.baseline, self.candidate):
            if workload is not None and workload.tick():
                workload.version += 1
                return True
        if self.keda and not self.keda_paused and self.target is not None and not self.target.replicas:
            self.target.replicas = 1
            self.target.version += 1
            return True
        return False

    # --- what must hold

    def endpoints(self) -> list[tuple[str, bool]]:
        """The template of each ready endpoint, and whether it answers on the service's port."""
        service = self.service
        if service is None:
            return []
        found = [(template, True) for template, ready in (self.baseline.pods if self.baseline else []) if ready]
        if not service.narrowed and self.target is not None:
            found += [(template, not service.redirected) for template, ready in self.target.pods if ready]
        return found

    def check(self) -> None:
        endpoints = self.endpoints()
        if not self.harmed and self.service is not None:
            assert endpoints, "the service is empty"
        assert all(answers for _, answers in endpoints), "an endpoint does not answer on the port"
        strangers = {template for template, _ in endpoints}.difference(self.promoted)
        assert not strangers, f"users are served by {strangers}, which nobody promoted"
        assert len(self.promotions) == len(set(self.promotions)), f"promoted twice: {self.promotions}"
        if self.candidate is not None and self.candidate.pods and self.policy:
            assert self.policies["candidate"], "pods of the candidate without the policies of the model"
        if not self.exists and self.spec.deletion == "RestoreTarget":
            assert self.baseline is None and self.candidate is None and not self.candidate_service
            assert not self.revisions and not self.autoscaler_copy and not self.keda_paused
            assert not any(self.policies.values())
            assert self.target is None or (not self.target.held and not self.target.paused)
            assert self.service is None or not (self.service.narrowed or self.service.redirected)

    def summary(self) -> dict[str, object]:
        """Where it all ended, without what depends on when."""

        def of(workload: Workload | None) -> object:
            if workload is None:
                return None
            return (workload.template, workload.replicas, workload.paused, workload.held, sorted(workload.pods))

        status = self.status
        return {
            "phase": status.phase if self.exists else "gone",
            "reason": status.reason if self.exists else "",
            "baseline": status.baseline if self.exists else "",
            "rejected": status.rejected and (status.rejected.template, status.rejected.attempts),
            "workloads": [of(self.target), of(self.baseline), of(self.candidate)],
            "service": self.service and (self.service.narrowed, self.service.redirected),
            "rest": (self.candidate_service, sorted(self.revisions), bool(self.ledger.run), self.autoscaler_copy),
            "neighbours": (self.keda_paused, self.policies["baseline"], self.policies["candidate"]),
            "noted": sorted((found.template, found.attempts, found.retried) for found in self.rejections.values()),
        }


Fault = str  # "before" | "late" | "stale" | "tick"


class Operator:
    """The loop around the plan, without a memory but for writes that were held up."""

    def __init__(self, world: World, faults: dict[int, Fault] | None = None) -> None:
        self.world = world
        self.faults = faults or {}
        self.steps = 0
        self._late: list[tuple[int, Callable[[], None]]] = []
        self._last: tuple[Observed, Status, int] | None = None

    def step(self) -> bool:
        """One look; False when there is nothing to do but to wait."""
        world = self.world
        self.steps += 1
        fault = self.faults.get(self.steps, "")
        for due, write in [*self._late]:
            if due <= self.steps:
                self._late.remove((due, write))
                self._try(write)
        world.deliver()
        fresh = (world.observe(), world.status, world.version)
        observed, status, version = self._last if fault == "stale" and self._last is not None else fresh
        self._last = fresh
        if not world.exists:
            return bool(self._late)
        result = plan(world.spec, status, observed, world.decision(), world.now)
        if result.status != status:
            self._write(fault, lambda: world.put_status(result.status, version))
            return True
        if result.actions:
            action = result.actions[0]
            self._write(fault, lambda: world.apply(action))
            return True
        if fault == "stale":
            return True
        if world.tick():
            return True
        if result.after is not None and result.after < 60.0:
            world.now += max(result.after, 0.01)
            return result.after < 60.0
        return False

    def _write(self, fault: Fault, write: Callable[[], None]) -> None:
        """ "before": it never happens. "late": its sender was frozen, and another went on meanwhile."""
        if fault.startswith("late"):
            self._late.append((self.steps + int(fault.removeprefix("late")), write))
        elif fault != "before":
            self._try(write)
        if fault == "tick":
            self.world.tick()

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Refused:
            return
        self.world.check()

    def settle(self, most: int = 400, *, idle: int = 12) -> None:
        """Until nothing changes any more; waiting runs (`Continue`) count as still."""
        quiet = 0
        while quiet < idle:
            assert self.steps < most, f"still busy after {most} steps: {self.world.status}"
            before = self.world.writes
            busy = self.step()
            self.world.check()
            if not busy and not self._late:
                return
            quiet = quiet + 1 if self.world.writes == before and not self.world.tick() and not self._late else 0
            self.world.check()


@pytest.fixture(scope="session")
def new_world() -> type[World]:
    return World


@pytest.fixture(scope="session")
def new_operator() -> type[Operator]:
    return Operator
