"""What `status` and `report --list` say of a resource as it is, without a cluster."""

import io
import re
from dataclasses import replace
from typing import Any

from rich.console import Console

from modelcanary_cli.cluster.drawing import draw, table_of
from modelcanary_cli.cluster.following import what_follows
from modelcanary_cli.cluster.look import Picture, picture_of
from modelcanary_cli.cluster.reports import Kept
from modelcanary_cli.report import _list
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.status import Run, Status
from modelcanary_operator import status_json

NOW = 1_767_229_200.0  # 2026-01-01T01:00:00Z
SPEC = {
    "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"},
    "service": {"name": "fraud", "port": "http"},
    "model": {"protocol": "oip-v2", "classes": ["no", "yes"]},
}


def picture(status: Status, **metadata: Any) -> Picture:
    named = {"name": "fraud", "namespace": "team", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z"}
    written = {"observedGeneration": 2, **status_json.write(status)}
    return picture_of({"metadata": {**named, **metadata}, "spec": SPEC, "status": written})


def drawn(what: Any) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(what)
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_an_operator_that_is_away_is_no_next_step() -> None:
    serving = picture(Status(Phase.SERVING, "Serving", "the baseline serves", baseline="a"))
    assert "begins a run" in what_follows(serving, NOW)
    assert "begins a run" in what_follows(replace(serving, operator=NOW - 30), NOW)
    assert "No operator has been at work for 10 min" in what_follows(replace(serving, operator=NOW - 600), NOW)


def test_what_is_being_deleted_says_so_before_the_operator_does() -> None:
    deleted = picture(Status(Phase.SERVING, "Serving", "x", baseline="a"), deletionTimestamp="2026-01-01T00:57:00Z")
    assert "being deleted" in what_follows(deleted, NOW)
    assert "deleted 3 min ago; its finalizer keeps it" in drawn(draw(deleted, NOW))
    assert "Serving, deleted" in drawn(table_of([deleted], NOW, namespaces=False))


def test_a_retry_says_why_its_threshold_is_higher() -> None:
    run = Run("fraud-b-1", "a", "b", "d", NOW - 60, attempt=2, shadowing_since=NOW - 50)
    shown = drawn(draw(picture(Status(Phase.SHADOWING, "Shadowing", "x", baseline="a", run=run)), NOW))
    assert "attempt 3: a promotion needs 4 times the evidence" in shown


def test_a_list_of_reports_cuts_nothing(capsys: Any) -> None:
    image = "registry.example/" + "team/" * 20 + "fraud@sha256:" + "0" * 64
    _list([Kept("c", "d", "fraud-49ab05b8-6b02bd58", "RollBack", "LossRegression", f"{image}\x1b[2J", NOW, "")])
    heads, row = capsys.readouterr().out.splitlines()
    assert image in row and "\x1b" not in row
    assert row.index(image) == heads.index("CANDIDATE")
    assert re.split(r"  +", heads) == ["RUN", "VERDICT", "REASON", "AGE", "CANDIDATE"]
