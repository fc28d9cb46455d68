"""`.status` to and from the plan's `Status`, losing nothing that the plan needs.

Called by `reconcile`. What an operator of another version wrote and this one does not know reads as nothing known: the
plan then finds in the cluster where it was.
"""

import json
from datetime import UTC, datetime

from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.status import Decided, Ended, Finding, Rejected, Run, Signal, Status
from modelcanary_operator.api import Object


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _optional(text: str | None) -> float | None:
    return None if text is None else seconds(text)


def read(written: Object) -> Status:
    try:
        return _read(written)
    except (KeyError, TypeError, ValueError):
        return Status()


def _read(written: Object) -> Status:
    if not written.get("phase"):
        return Status()
    baseline = written.get("baseline") or {}
    decided, rejected, last = written.get("decided"), written.get("rejected"), written.get("last")
    return Status(
        phase=Phase(written["phase"]),
        reason=written.get("reason", ""),
        message=written.get("message", ""),
        stalled=any(item["type"] == "Stalled" and item["status"] == "True" for item in written.get("conditions") or ()),
        verdict=written.get("verdict", ""),
        baseline=baseline.get("template", ""),
        replicas=baseline.get("replicas", 0),
        run=_read_run(written["run"]) if written.get("run") else None,
        decided=Decided(
            decided["id"], decided["reason"], decided["message"], _read_finding(decided.get("evidence") or {})
        )
        if decided
        else None,
        rejected=_read_rejected(rejected) if rejected else None,
        last=Ended(last["run"], last["decision"], last["reason"], seconds(last["at"])) if last else None,
        signals=tuple(_read_signal(signal) for signal in written.get("signals") or ()),
        handover_since=_optional(written.get("handoverSince")),
    )


def _read_finding(found: Object) -> Finding:
    return Finding(
        judged=found.get("judged", 0),
        delta=found.get("delta", ""),
        lower=found.get("lower", ""),
        upper=found.get("upper", ""),
        baseline_loss=found.get("baselineLoss", ""),
        worse=tuple(found.get("worse") or ()),
        guards=tuple(found.get("guards") or ()),
    )


def write_finding(finding: Finding) -> Object:
    """What a decision was made from; what is not known is left out."""
    result: Object = {
        "judged": finding.judged,
        "delta": finding.delta,
        "lower": finding.lower,
        "upper": finding.upper,
        "baselineLoss": finding.baseline_loss,
        "worse": list(finding.worse),
        "guards": list(finding.guards),
    }
    return {name: value for name, value in result.items() if value}


def _read_signal(signal: Object) -> Signal:
    return Signal(
        id=signal["id"],
        event=signal["event"],
        at=seconds(signal["at"]),
        reason=signal["reason"],
        message=signal["message"],
        to=tuple(signal["to"]),
        run=signal.get("run", ""),
        baseline=signal.get("baselineTemplate", ""),
        candidate=signal.get("candidateTemplate", ""),
        finding=_read_finding(signal.get("evidence") or {}),
    )


def _write_signal(signal: Signal) -> Object:
    result: Object = {
        "id": signal.id,
        "event": signal.event,
        "at": moment(signal.at),
        "reason": signal.reason,
        "message": signal.message,
        "to": list(signal.to),
        "run": signal.run,
        "baselineTemplate": signal.baseline,
        "candidateTemplate": signal.candidate,
        "evidence": write_finding(signal.finding),
    }
    return {name: value for name, value in result.items() if value or name in ("reason", "message")}


def _read_rejected(rejected: Object) -> Rejected:
    return Rejected(
        template=rejected["template"],
        run=rejected["run"],
        at=seconds(rejected["at"]),
        attempts=rejected["attempts"],
        reason=rejected["reason"],
        message=rejected["message"],
        retried=rejected.get("retried", False),
    )


def read_note(text: str) -> Rejected | None:
    """A rejection as it is noted beside its template; None where there is none that can be read."""
    try:
        return _read_rejected(json.loads(text)) if text else None
    except (KeyError, TypeError, ValueError):
        return None


def write_note(rejected: Rejected) -> str:
    return json.dumps(_write_rejected(rejected), sort_keys=True)


def _read_run(run: Object) -> Run:
    return Run(
        id=run["id"],
        baseline=run["baselineTemplate"],
        candidate=run["candidateTemplate"],
        digest=run["measured"],
        created_at=seconds(run["startedAt"]),
        attempt=run.get("attempt", 0),
        shadowing_since=_optional(run.get("shadowingSince")),
        step=run.get("step", 0),
        step_since=_optional(run.get("stepSince")),
        told=tuple(run.get("told") or ()),
        observing_since=_optional(run.get("observingSince")),
    )


def write(status: Status) -> Object:
    """The plan's part of `.status`; `conditions` adds what is for people and other tools."""
    result: Object = {"phase": str(status.phase), "reason": status.reason, "message": status.message[:4096]}
    if status.verdict:
        result["verdict"] = status.verdict
    if status.baseline:
        result["baseline"] = {"template": status.baseline, "replicas": status.replicas}
    if status.run is not None:
        result["run"] = _write_run(status.run)
    if status.decided is not None:
        decided = status.decided
        result["decided"] = {"id": decided.id, "reason": decided.reason, "message": decided.message[:4096]}
        found = write_finding(decided.finding)
        if found:
            result["decided"]["evidence"] = found
    if status.rejected is not None:
        result["rejected"] = _write_rejected(status.rejected)
    if status.last is not None:
        last = status.last
        result["last"] = {"run": last.run, "decision": last.decision, "reason": last.reason, "at": moment(last.at)}
    if status.handover_since is not None:
        result["handoverSince"] = moment(status.handover_since)
    if status.signals:
        result["signals"] = [_write_signal(signal) for signal in status.signals]
    return result


def _write_rejected(rejected: Rejected) -> Object:
    return {
        "template": rejected.template,
        "run": rejected.run,
        "at": moment(rejected.at),
        "attempts": rejected.attempts,
        "reason": rejected.reason,
        "message": rejected.message[:4096],
        "retried": rejected.retried,
    }


def _write_run(run: Run) -> Object:
    result: Object = {
        "id": run.id,
        "baselineTemplate": run.baseline,
        "candidateTemplate": run.candidate,
        "measured": run.digest,
        "startedAt": moment(run.created_at),
        "attempt": run.attempt,
        "step": run.step,
    }
    if run.shadowing_since is not None:
        result["shadowingSince"] = moment(run.shadowing_since)
    if run.step_since is not None:
        result["stepSince"] = moment(run.step_since)
    if run.told:
        result["told"] = list(run.told)
    if run.observing_since is not None:
        result["observingSince"] = moment(run.observing_since)
    return result
