"""Decision reports: what each verdict was taken from, kept as a ConfigMap beside the ModelCanary. Pure.

Called by `reconcile` and `apply`. A report is the record that `modelcanary run` writes, so that `modelcanary report`
draws both.
"""

import base64
import gzip
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import msgspec

from modelcanary_gate.plan.status import Decided, Run
from modelcanary_gate.record import Record, finite
from modelcanary_gate.vocabulary import Verdict
from modelcanary_operator import names, templates
from modelcanary_operator.api import CONFIG_MAPS, Object
from modelcanary_operator.evidence import Evidence
from modelcanary_operator.find import Found
from modelcanary_operator.manifests import Owner

#: A ConfigMap holds a mebibyte; the rest is for what is said beside the record.
_MOST_BYTES = 900_000
_LEAST_LOOKS = 16
_LONGEST = 4096


def record(run: Run, decided: Decided, verdict: Verdict, found: Found, evidence: Evidence | None, now: float) -> Record:
    """Of a run that is decided. `evidence`: None where the run had none, or the ledger does not answer."""
    about: dict[str, Any] = {
        "run": run.id,
        "command": "operator",
        "baseline": _named(found, run.baseline),
        "candidate": _named(found, run.candidate),
        "name": str(found.resource["metadata"]["name"]),
        "spec": dict(found.resource["spec"]),
        "version": version("modelcanary"),
    }
    if evidence is None or evidence.decision is None:
        missing = run.shadowing_since is not None
        return Record(
            verdict=verdict,
            reason=decided.reason,
            message=decided.message,
            pairs=0,
            labelled=0,
            startedAt=run.created_at,
            endedAt=now,
            notes=["The ledger did not answer when this was written: the evidence is not in it."] if missing else [],
            **about,
        )
    counts = evidence.counts
    named = ("scored", "missing", "duplicate", "conflict", "unmatched")
    made = evidence.recorder.record(
        evidence.decision,
        pairs=counts.pairs,
        labelled=counts.labelled,
        started=evidence.started,
        ended=now,
        counts={name: getattr(counts, name) for name in named}
        | {f"dropped.{reason}": number for reason, number in sorted(counts.dropped.items())},
        **about,
    )
    return replace(made, verdict=verdict, reason=decided.reason, message=decided.message)


def config_map(owner: Owner, decision: str, kept: Record) -> Object:
    """Belongs to the ModelCanary, and goes with it."""
    return {
        "apiVersion": CONFIG_MAPS.api_version,
        "kind": CONFIG_MAPS.kind,
        "metadata": {
            "name": names.report(owner.name, decision),
            "namespace": owner.namespace,
            "labels": {**owner.labels(names.REPORT), names.UID: owner.uid},
            "annotations": {names.DECISION: decision},
            "ownerReferences": [owner.reference()],
        },
        # What `kubectl get -o yaml` shows.
        "data": {
            "run": kept.run,
            "verdict": str(kept.verdict),
            "reason": kept.reason,
            "message": kept.message[:_LONGEST],
            "baseline": kept.baseline,
            "candidate": kept.candidate,
        },
        "binaryData": {names.RECORD_KEY: base64.b64encode(_packed(kept)).decode()},
    }


def _packed(kept: Record) -> bytes:
    """Compressed; with fewer looks where it would not fit, then without what takes the most room."""
    while True:
        # Without a time in it, the same record is the same bytes.
        packed = gzip.compress(msgspec.json.encode(finite(kept)), mtime=0)
        if len(packed) <= _MOST_BYTES:
            return packed
        if len(kept.looks) > _LEAST_LOOKS:
            kept = replace(kept, looks=[*kept.looks[:-1:2], kept.looks[-1]])
        else:
            notes = ["Classes, timeline and specification are left out: they would not fit into a ConfigMap."]
            kept = replace(kept, events=[], classes=[], spec={}, notes=notes)


def _named(found: Found, template: str) -> str:
    """The model's image, as the user wrote it, and the template."""
    saved = found.template(template)
    images = [str(item.get("image", "")) for item in templates.containers(saved)] if saved is not None else []
    return f"{', '.join(images)} (template {template})" if images else f"template {template}"
