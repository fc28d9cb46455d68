"""Decision reports in the cluster: the ConfigMaps that the operator keeps. Called by `report`; knows no drawing."""

import base64
import binascii
import gzip
from dataclasses import dataclass
from datetime import datetime

from modelcanary_cli.cluster.api import Cluster
from modelcanary_cli.cluster.errors import NotFoundError
from modelcanary_cli.cluster.look import read_canary
from modelcanary_cli.errors import InputError
from modelcanary_cli.record import decode_record
from modelcanary_gate.record import Record
from modelcanary_operator import names
from modelcanary_operator.api import CONFIG_MAPS, Object


@dataclass(frozen=True, slots=True)
class Kept:
    """One report, unread."""

    name: str  # the ConfigMap's
    decision: str
    run: str
    verdict: str
    reason: str
    candidate: str
    since: float
    packed: str

    def read(self) -> Record:
        """Raises InputError naming the ConfigMap."""
        try:
            content = gzip.decompress(base64.b64decode(self.packed, validate=True))
        except (binascii.Error, OSError, EOFError, ValueError) as error:
            where = f"ConfigMap {self.name}"
            raise InputError(where, f"holds no decision record: {error}", "choose another with --run") from error
        return decode_record(content, f"ConfigMap {self.name}")


def kept_reports(cluster: Cluster, namespace: str, name: str) -> list[Kept]:
    """The latest first. Raises RefusedError where there is no such ModelCanary either."""
    found = cluster.list(CONFIG_MAPS, namespace, {names.CANARY: name, names.ROLE: names.REPORT})
    if not found:
        read_canary(cluster, namespace, name)
        raise NotFoundError(f"{name} has no decision reports; they are kept from its first verdict on")
    return sorted((_kept(item) for item in found), key=lambda report: (report.since, report.decision), reverse=True)


def choose(reports: list[Kept], run: str | None) -> Kept:
    """The latest, or the latest of a run: by its id, the end of it, or the decision's id."""
    if run is None:
        return reports[0]
    fitting = [item for item in reports if run in (item.run, item.decision) or item.run.endswith(f"-{run}")]
    if not fitting:
        there = ", ".join(item.run for item in reports)
        raise NotFoundError(f"no report of run {run} is kept; there are those of {there}")
    return fitting[0]


def _kept(item: Object) -> Kept:
    metadata, data = item["metadata"], item.get("data") or {}
    return Kept(
        name=metadata["name"],
        decision=(metadata.get("annotations") or {}).get(names.DECISION, ""),
        run=data.get("run", ""),
        verdict=data.get("verdict", ""),
        reason=data.get("reason", ""),
        candidate=data.get("candidate", ""),
        since=datetime.fromisoformat(metadata["creationTimestamp"]).timestamp(),
        packed=(item.get("binaryData") or {}).get(names.RECORD_KEY, ""),
    )
