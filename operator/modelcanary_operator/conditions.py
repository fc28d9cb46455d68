"""The conditions of a ModelCanary: they are its API, the phase is a summary for people. Pure; called by `reconcile`.

`Ready`, `Reconciling` and `Stalled` as other tools read them (kstatus); the rest are ours. `Promoted` is Unknown while
a run is on, so that who waits for it does not get the last run's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelcanary_gate.plan.observed import Observed
from modelcanary_gate.plan.phases import ADOPTED, JUDGED, RUNNING, Phase
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.status import Status
from modelcanary_gate.spec import LabelMode, Spec
from modelcanary_gate.vocabulary import Reason
from modelcanary_operator.api import Object
from modelcanary_operator.evidence import Summary
from modelcanary_operator.status_json import moment

#: So long into a run without a pair, mirroring is said not to work.
_PATIENCE = 120.0
_UNDER_WAY = frozenset(
    {
        Phase.PENDING,
        Phase.ADOPTING,
        Phase.PREPARING,
        Phase.PROMOTING,
        Phase.ROLLING_BACK,
        Phase.CLEARING,
        Phase.DELETING,
    }
)


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: bool | None  # None: Unknown
    reason: str
    message: str


def conditions(spec: Spec | None, status: Status, observed: Observed, summary: Summary, now: float) -> list[Condition]:
    """All of them, in the order in which they are shown."""
    reason, message = status.reason or Why.ADOPTING, status.message
    serves = status.phase in ADOPTED and observed.baseline is not None and observed.baseline.ready > 0
    found = [
        Condition("Ready", serves and not status.stalled, reason, message),
        Condition("Reconciling", status.phase in _UNDER_WAY and not status.stalled, reason, message),
        Condition("Stalled", status.stalled or status.phase is Phase.STALLED, reason, message),
        _promoted(status, observed, reason),
        _rolled_back(status, observed),
        _candidate(status, observed),
    ]
    if spec is not None:
        found += [
            _mirror(status, observed, summary, now),
            _labels(spec, status, summary),
            _biased(spec, status, summary),
        ]
        if spec.labels.sources:
            found.append(_sources(spec, observed))
    return found


def _promoted(status: Status, observed: Observed, reason: str) -> Condition:
    if status.phase in RUNNING or status.phase is Phase.PROMOTING:
        return Condition("Promoted", None, status.reason, status.message)
    if status.phase is Phase.COOLDOWN:
        return Condition("Promoted", *_cooldown(status, observed, rejected=False))
    served = observed.target is not None and observed.target.template == status.baseline
    if status.phase in ADOPTED and served:
        return Condition("Promoted", True, Why.PROMOTED, f"template {status.baseline} serves")
    return Condition("Promoted", None, reason, status.message)


def _rolled_back(status: Status, observed: Observed) -> Condition:
    if status.phase is Phase.COOLDOWN:
        return Condition("RolledBack", *_cooldown(status, observed, rejected=True))
    if status.phase in RUNNING or status.phase in (Phase.ROLLING_BACK, Phase.PROMOTING):
        return Condition("RolledBack", None, status.reason, status.message)
    return Condition("RolledBack", False, Why.SERVING, "no template was rejected that the target has now")


def _cooldown(status: Status, observed: Observed, *, rejected: bool) -> tuple[bool | None, str, str]:
    """What a cooldown says of the template that the target has now, which may be another than the rejected one."""
    known, target = status.rejected, observed.target
    if known is None:
        return rejected, status.reason, status.message
    if target is not None and target.template != known.template:
        return None, status.reason, f"template {target.template} was not tried yet"
    return rejected, known.reason, known.message


def _candidate(status: Status, observed: Observed) -> Condition:
    candidate = observed.candidate
    if status.phase not in JUDGED:
        return Condition("CandidateAvailable", None, Why.NO_RUN, "no run is on")
    if candidate is not None and candidate.ready > 0:
        words = f"{candidate.ready} of {candidate.replicas} pods are ready"
        return Condition("CandidateAvailable", True, Why.CANDIDATE_READY, words)
    failure = candidate.failure if candidate is not None else None
    if failure is not None:
        return Condition("CandidateAvailable", False, failure.reason, failure.message)
    return Condition("CandidateAvailable", False, Why.WAITING_FOR_CANDIDATE, "no pod is ready")


def _mirror(status: Status, observed: Observed, summary: Summary, now: float) -> Condition:
    run = status.run
    if run is None or run.shadowing_since is None or status.phase not in JUDGED:
        return Condition("MirrorHealthy", None, Why.NO_RUN, "nothing is mirrored")
    if observed.standing is None:
        return Condition("MirrorHealthy", None, Why.LEDGER_UNAVAILABLE, "the ledger does not answer")
    if summary.unscored is not None:
        return Condition("MirrorHealthy", False, summary.unscored.reason, summary.unscored.message)
    if summary.pairs:
        return Condition("MirrorHealthy", True, Why.PAIRS_COME, "requests are mirrored and recorded")
    if summary.unfollowed:
        words = (
            f"{summary.unfollowed} requests were not mirrored: sidecars cannot read answers as spec.model says; "
            "their logs name the field"
        )
        return Condition("MirrorHealthy", False, Why.MODEL_UNREADABLE, words)
    late = now - run.shadowing_since > _PATIENCE
    words = "no request was mirrored: is there traffic on spec.model.paths?"
    return Condition("MirrorHealthy", False if late else None, Why.NO_PAIRS, words)


def _labels(spec: Spec, status: Status, summary: Summary) -> Condition:
    if spec.labels.mode is LabelMode.AGREEMENT or status.phase not in JUDGED:
        return Condition("LabelsAvailable", None, Why.NO_RUN, "no label is waited for")
    if summary.labelled:
        words = "labels come and match pairs"
        if summary.conflicts:
            words += f"; others contradict {summary.conflicts} of the pairs' labels"
            words += f", most often those of sender {summary.disputed!r}" if summary.disputed else ""
        return Condition("LabelsAvailable", True, Why.LABELS_COME, words)
    return Condition("LabelsAvailable", False, Why.NO_LABELS, "no label of this run has come")


def _sources(spec: Spec, observed: Observed) -> Condition:
    """The first that is not read, as it stands in the resource. Nothing is counted here: it would never stand still."""
    if observed.standing is None:
        return Condition("SourcesHealthy", None, Why.LEDGER_UNAVAILABLE, "the ledger does not answer")
    if observed.sources is None:
        return Condition("SourcesHealthy", None, Why.LEDGER_UNAVAILABLE, "the ledger does not say who reads them")
    reports = {report.source: report for report in observed.sources}
    for index, source in enumerate(spec.labels.sources):
        place, report = f"spec.labels.sources[{index}]", reports.get(source)
        if report is None:
            words = f"{place}: nobody reads it; from the first run on, modelcanary-labels does"
            return Condition("SourcesHealthy", None if not observed.standing.run else False, Why.SOURCE_UNREAD, words)
        if report.problem:
            return Condition("SourcesHealthy", False, Why.SOURCE_FAILS, f"{place}: {report.problem}")
    words = f"{len(spec.labels.sources)} sources of labels are read"
    if any(report.poisoned for report in reports.values()):
        words += "; what is no label in them is counted, and modelcanary-labels logs where it stands"
    return Condition("SourcesHealthy", True, Why.SOURCES_READ, words)


def _biased(spec: Spec, status: Status, summary: Summary) -> Condition:
    """Whether the labels that count are of all classes alike; where they are not, the loss decides nothing."""
    if spec.labels.mode is LabelMode.AGREEMENT or status.phase not in JUDGED:
        return Condition("LabelsBiased", None, Why.NO_RUN, "no label is waited for")
    measures = summary.measures
    if measures is None or not measures.judged:
        return Condition("LabelsBiased", None, Why.NO_LABELS, "no labelled pair is mature yet")
    if measures.biased:
        words = f"labels are missing at another rate where {measures.biased!r} is predicted"
        return Condition("LabelsBiased", True, Reason.LABELS_BIASED, words)
    return Condition("LabelsBiased", False, Why.LABELS_EVEN, "labels come alike for all predicted classes")


def merge(found: Sequence[Condition], before: Sequence[Object], generation: int, now: float) -> list[Object]:
    """As the API has them; the time of a condition is that of its last change of status."""
    old = {item.get("type"): item for item in before}
    result = []
    for condition in found:
        status = {True: "True", False: "False", None: "Unknown"}[condition.status]
        last = old.get(condition.type) or {}
        same = last.get("status") == status and last.get("lastTransitionTime")
        result.append(
            {
                "type": condition.type,
                "status": status,
                "reason": str(condition.reason),
                "message": condition.message[:4096],
                "observedGeneration": generation,
                "lastTransitionTime": last["lastTransitionTime"] if same else moment(now)[:19] + "Z",
            }
        )
    return result
