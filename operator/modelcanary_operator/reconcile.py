"""One look at one ModelCanary and the one write that follows: observe, decide, plan, apply.

Called by the workers of `main` with a key. What it remembers is a cache: lost, it is read or told again.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from modelcanary_gate.decision import Decision
from modelcanary_gate.errors import SpecError
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.plan.actions import Action, ForgetEvidence, Instruct, KeepReport
from modelcanary_gate.plan.instructing import weight_of
from modelcanary_gate.plan.observed import Observed
from modelcanary_gate.plan.phases import JUDGED, RUNNING, Phase
from modelcanary_gate.plan.planner import plan
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.status import Run, Status
from modelcanary_gate.record import Record
from modelcanary_gate.spec import Spec
from modelcanary_gate.vocabulary import Verdict
from modelcanary_operator import evidence_json, names, reports, status_json
from modelcanary_operator.api import CANARIES, Api, Object
from modelcanary_operator.apply import Applier
from modelcanary_operator.authority import Authority
from modelcanary_operator.clock import Sightings
from modelcanary_operator.conditions import conditions, merge
from modelcanary_operator.desk import Desk
from modelcanary_operator.errors import Conflict, LedgerRefused, LedgerUnavailable, NotFound, OperatorError, Refused
from modelcanary_operator.evidence import Evidence, Summary
from modelcanary_operator.find import Found, find
from modelcanary_operator.ledger_client import Ledger
from modelcanary_operator.manifests import Owner
from modelcanary_operator.metrics import Metrics
from modelcanary_operator.observe import Probe, observe
from modelcanary_operator.recorder import Recorder
from modelcanary_operator.remains import readable
from modelcanary_operator.settings import Settings
from modelcanary_operator.workqueue import Key

_log = logging.getLogger(__name__)
_REPORTED = frozenset({Phase.PROMOTING, Phase.ROLLING_BACK})
_LONGEST_LINE = 300
_DECIDED = frozenset({Phase.PROMOTING, Phase.ROLLING_BACK, Phase.CLEARING})


def _own_version() -> str:
    try:
        return version("modelcanary")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class Tools:
    """What a look needs of the world."""

    api: Api
    ledger: Ledger
    settings: Settings
    epoch: int
    recorder: Recorder
    metrics: Metrics
    probe: Probe
    desk: Desk
    wall: Callable[[], float]  # steady: see `clock`
    monotonic: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Work:
    """What one look acts on."""

    owner: Owner
    found: Found
    status: Status


@dataclass(slots=True)
class Memory:
    """What this process knows of one ModelCanary from its looks before; another process does without."""

    evidence: Evidence | None = None  # of the run that is on
    unkept: str = ""  # the decision whose report the API server refuses
    tried: str = ""  # the decision whose report's name was taken
    refused: str = ""  # what it refuses else, as it was said
    shown: bool = False  # the look before stored the status
    version: str = ""  # of the resource, as it was read or written last
    ledger_refuses: float | None = None  # since when the ledger has taken nothing that it was told


class Reconciler:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._memories: defaultdict[Key, Memory] = defaultdict(Memory)
        self._sightings = Sightings(tools.monotonic)
        self._version = _own_version()
        self._authority = Authority(tools.api, tools.settings.ledger_ca, tools.monotonic)

    def has_seen(self, key: Key, version: str) -> bool:
        """Whether a look knows that version of the resource: then its event is no news."""
        return key in self._memories and self._memories[key].version == version

    async def reconcile(self, key: Key) -> float | None:
        """Seconds until the next look; None when it is gone.

        Raises ApiError, LedgerUnavailable or LedgerRefused: try again later.
        """
        tools = self._tools
        try:
            resource = await tools.api.get(CANARIES, key.namespace, key.name)
        except NotFound:
            self._forget(key)
            return None
        memory = self._memories[key]
        memory.version = resource["metadata"]["resourceVersion"]
        status = status_json.read(resource.get("status") or {})
        try:
            spec = parse_spec(resource.get("spec"))
        except SpecError as error:
            leaving = readable(resource.get("spec")) if resource["metadata"].get("deletionTimestamp") else None
            if leaving is None:
                return await self._invalid(key, resource, status, error)
            spec = leaving
        owner = Owner(key.namespace, key.name, resource["metadata"]["uid"], spec, tools.settings.sidecar)
        # Who has the target is settled once it is adopted.
        rivals = status.phase in (Phase.PENDING, Phase.STALLED)
        reported = status.phase in _REPORTED
        if not rivals and not resource["metadata"].get("deletionTimestamp"):
            await self._authority.keep(owner)
        found = await find(tools.api, tools.ledger, owner, resource, rivals=rivals, reports=reported)
        observed = tools.desk.heard(key, spec, status, await observe(found, owner, tools.probe))
        observed = self._watch(key, observed)
        if status.decided is not None and memory.unkept == status.decided.id:
            observed = replace(observed, reports=(*observed.reports, status.decided.id))
        now = tools.wall()
        decision = await self._decision(key, resource, spec, status, observed, now)
        result = plan(spec, status, observed, decision, now)
        # What is stored may be told; what this look only wants to store may not, before it is.
        due = tools.desk.attend(key, resource, status, result.question)
        summary = self._summary(key, result.status)
        document = self._document(resource, spec, result.status, observed, summary, now)
        # Evidence changes from look to look, and must not keep what is to be done waiting for ever: on a busy machine a
        # look may take as long as it does. So it is stored before an action once, not again and again.
        shown = memory.shown and result.status == status and bool(result.actions)
        memory.shown = False
        if document != (resource.get("status") or {}) and not shown:
            await self._write_status(key, resource, document, status, result.status, now)
            memory.shown = True
            tools.metrics.signals_lost.inc(_lost(status, result.status, observed))
            if result.actions or not _says_the_same(status, result.status):
                return 0.0
        stalled = result.status.stalled or result.status.phase is Phase.STALLED
        tools.metrics.in_phase(key, result.status.phase, stalled=stalled)
        if not result.actions:
            return min(wait for wait in (result.after, due, tools.settings.resync) if wait is not None)
        await self._carry_out(key, resource, Work(owner, found, status), result.actions[0], now)
        return 0.0

    async def _carry_out(self, key: Key, resource: Object, work: Work, action: Action, now: float) -> None:
        """One write."""
        tools, memory = self._tools, self._memories[key]

        async def record() -> Record:
            return await self._record(key, work, now)

        try:
            await Applier(tools.api, tools.ledger, work.owner, work.found, tools.epoch, record).apply(action)
        except (LedgerUnavailable, LedgerRefused):
            if memory.ledger_refuses is None:
                memory.ledger_refuses = tools.monotonic()
            raise
        except (Refused, Conflict) as error:
            if not isinstance(action, KeepReport):
                if isinstance(error, Refused):
                    await self._say_refused(key, resource, action, error, now)
                raise
            if isinstance(error, Conflict) and memory.tried != action.decision:
                memory.tried = action.decision  # ours may have come meanwhile; the next look finds it then
                raise
            # A quota, a permission that is missing, or a name that somebody has taken keeps no candidate alive.
            memory.unkept = action.decision
            await tools.recorder.say(resource, Why.REPORT_NOT_KEPT, str(error), now, warning=True)
            return
        memory.refused = ""
        if isinstance(action, (Instruct, ForgetEvidence)):
            memory.ledger_refuses = None
        tools.metrics.writes.labels(type(action).__name__).inc()
        _log.info("%s/%s: %s", key.namespace, key.name, brief(action))
        await tools.recorder.action(resource, action, now)

    async def _say_refused(self, key: Key, resource: Object, action: Action, error: Refused, now: float) -> None:
        """Once, where its owner looks: the operator's log is not theirs to read."""
        words = f"{type(action).__name__} is tried again until it is allowed; the API server says: {error}"
        memory = self._memories[key]
        if memory.refused != words:
            memory.refused = words
            await self._tools.recorder.say(resource, Why.WRITE_REFUSED, words, now, warning=True)

    def _summary(self, key: Key, status: Status) -> Summary | None:
        """Of the run that is on; None where it was not looked at since this process began."""
        evidence = self._memories[key].evidence
        return evidence.summary() if evidence is not None and status.run and evidence.is_about(status.run) else None

    async def _record(self, key: Key, work: Work, now: float) -> Record:
        """Of the run that is decided. After a restart its evidence is asked for again."""
        spec, status, found = work.owner.spec, work.status, work.found
        run, decided = status.run, status.decided
        if run is None or decided is None:
            raise OperatorError(f"phase {status.phase} without a run that was decided")
        evidence = self._memories[key].evidence
        if evidence is None and run.shadowing_since is not None:
            evidence = Evidence(key.namespace, key.name, run, spec)
            try:
                monotonic = self._tools.monotonic()
                await evidence.look(self._tools.ledger, monotonic, _elapsed(run, now), {}, exposed=_exposed(status))
            except (LedgerUnavailable, LedgerRefused) as error:
                _log.warning("%s/%s: the report of run %s has no evidence: %s", key.namespace, key.name, run.id, error)
        verdict = Verdict.PROMOTE if status.phase is Phase.PROMOTING else Verdict.ROLL_BACK
        return reports.record(run, decided, verdict, found, evidence, now)

    def _watch(self, key: Key, observed: Observed) -> Observed:
        """With how long this process has seen the candidate or the ledger fail: the kubelet's clock may be another."""
        candidate = observed.candidate
        failure = candidate.failure.reason if candidate is not None and candidate.failure is not None else None
        now = self._tools.monotonic()
        since = self._memories[key].ledger_refuses
        refuses = now - since if since is not None else 0.0
        return replace(observed, failing=self._sightings.age(key, failure), ledger_refuses=refuses)

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._authority.forget(key)
        self._tools.desk.forget(key)
        self._sightings.forget(key)
        self._tools.metrics.forget(key)

    async def _decision(
        self, key: Key, resource: Object, spec: Spec, status: Status, observed: Observed, now: float
    ) -> Decision | None:
        """The gate's, of the run that is on. Without a ledger there is none, and nothing is decided."""
        run, memory = status.run, self._memories[key]
        if run is None or status.phase not in JUDGED or observed.standing is None or observed.standing.run != run.id:
            if run is None:
                memory.evidence = None
            return None
        evidence = memory.evidence
        if evidence is None or not evidence.is_of(run, spec):
            evidence = memory.evidence = Evidence(key.namespace, key.name, run, spec)
        # Metrics are limits on a promotion: of what was promoted, they are not asked.
        metrics = self._tools.desk.metrics(key, run.id, spec) if status.phase in RUNNING else {}
        try:
            monotonic, elapsed = self._tools.monotonic(), _elapsed(run, now)
            found = await evidence.look(self._tools.ledger, monotonic, elapsed, metrics, exposed=_exposed(status))
        except (LedgerUnavailable, LedgerRefused) as error:
            # What was decided on the blocks so far holds: it does not depend on when one looks.
            _log.warning("%s/%s: %s", key.namespace, key.name, error)
            return evidence.decision
        if evidence.lost:
            words = f"the ledger has lost the {evidence.lost:,} pairs of run {run.id}, which is measured anew; "
            words += "on a volume (ledger.storage in the chart's values) it would keep them"
            await self._tools.recorder.say(resource, Why.EVIDENCE_LOST, words, now, warning=True)
            evidence.lost = 0
        return found

    def _document(
        self,
        resource: Object,
        spec: Spec | None,
        status: Status,
        observed: Observed,
        summary: Summary | None,
        now: float,
    ) -> Object:
        """All of `.status`."""
        before = resource.get("status") or {}
        generation = int(resource["metadata"].get("generation") or 0)
        found = conditions(spec, status, observed, summary or Summary(), now)
        document: Object = {
            "observedGeneration": generation,
            "operatorVersion": self._version,
            **status_json.write(status),
            "conditions": merge(found, before.get("conditions") or (), generation, now),
        }
        if observed.target is not None:
            # Which of the target's generations this is about: who has changed it can wait for what becomes of that.
            document["target"] = {"observedGeneration": observed.target.generation}
        weight = _weight(spec, status, observed)
        if weight is not None:
            document["weight"] = f"{100 * weight:.4g}"
        shown = before.get("evidence") or {}
        if status.run is not None and (summary is not None or shown.get("run") != status.run.id):
            document["evidence"] = evidence_json.write(status.run.id, summary or Summary())
        elif shown:
            # Of the last run, until there is another; and of this one, until the ledger answers.
            document["evidence"] = shown
        return document

    async def _write_status(
        self, key: Key, resource: Object, document: Object, before: Status, after: Status, now: float
    ) -> None:
        """Compare and swap: the version is that of the resource that was read."""
        body = {**resource, "status": document}
        kept = await self._tools.api.replace(CANARIES, key.namespace, key.name, body, "status")
        self._memories[key].version = kept["metadata"]["resourceVersion"]
        if kept.get("status") != document:
            # Else each look would write it again.
            raise OperatorError("the API server does not keep the whole status: its ModelCanary definition is older")
        self._tools.metrics.writes.labels("Status").inc()
        if after.phase in _DECIDED and before.phase is not after.phase and after.decided is not None:
            self._tools.metrics.decisions.labels(key.namespace, key.name, str(after.phase), after.decided.reason).inc()
        await self._tools.recorder.status(resource, before, after, now)

    async def _invalid(self, key: Key, resource: Object, status: Status, error: SpecError) -> float:
        """Held: what serves goes on serving. One that was never adopted can be deleted."""
        now = self._tools.wall()
        metadata = resource["metadata"]
        if metadata.get("deletionTimestamp") and not status.baseline and names.FINALIZER in metadata["finalizers"]:
            others = [name for name in metadata["finalizers"] if name != names.FINALIZER]
            patch: Object = {"metadata": {"finalizers": others, "resourceVersion": metadata["resourceVersion"]}}
            await self._tools.api.merge(CANARIES, key.namespace, key.name, patch)
            return 0.0
        self._tools.metrics.in_phase(key, status.phase, stalled=True)
        held = replace(status, reason=str(Why.INVALID_SPEC), message=str(error), stalled=True)
        document = self._document(resource, None, held, Observed(name=key.name), None, now)
        if document != (resource.get("status") or {}):
            await self._write_status(key, resource, document, status, held, now)
        return self._tools.settings.resync


def brief(action: Action) -> str:
    """For the log: how answers are read is the specification's, and is there in full."""
    if isinstance(action, Instruct):
        told = action.instructions
        what = f"run {told.run}, share {told.share:g}, weight {told.weight:g}" if told.run else "no run"
        return f"Instruct(version {told.version}, {what})"
    return str(action)[:_LONGEST_LINE]


def _says_the_same(before: Status, after: Status) -> bool:
    """Whether they differ in words alone, such as how much evidence there is by now: another look right after the
    first would find no more than that one did."""
    return replace(after, reason=before.reason, message=before.message, verdict=before.verdict) == before


def _lost(before: Status, after: Status, observed: Observed) -> int:
    """How many that were to be told will not be, because too much waits."""
    kept = {(signal.id, endpoint) for signal in after.signals for endpoint in signal.to}
    told = {(signal.id, endpoint) for signal in before.signals for endpoint in signal.to}
    return len(told - kept - observed.delivered)


def _weight(spec: Spec | None, status: Status, observed: Observed) -> float | None:
    """The share of the users on the candidate, as sidecars are told it; None where nobody is on trial."""
    if spec is None or status.run is None or status.phase is Phase.OBSERVING:
        return None
    if observed.standing is not None:
        return observed.standing.weight if observed.standing.run == status.run.id else 0.0
    # Of those who were told, the ledger knows no more; after a decision it is not guessed.
    return weight_of(spec, status.run) if status.phase in RUNNING else None


def _exposed(status: Status) -> bool:
    """Whether users get the candidate's answers, by a weight or because it was promoted."""
    return status.phase is Phase.OBSERVING or (status.run is not None and status.run.step > 0)


def _elapsed(run: Run, now: float) -> float:
    """Seconds for which it has been mirrored to, by our clock."""
    return max(0.0, now - (run.created_at if run.shadowing_since is None else run.shadowing_since))
