from dataclasses import replace
from typing import Any

import pytest
from tests.operator.harness import SPEC

from modelcanary_gate.decision import Facts
from modelcanary_gate.gate import Gate
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.plan.observed import Baseline, Candidate, Observed, Target
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.status import Rejected, Run, Status
from modelcanary_gate.protocol import Instructions, LabelSource, SourceReport
from modelcanary_gate.unscored import Unscored
from modelcanary_gate.vocabulary import Outcome, Role, SourceKind
from modelcanary_operator.conditions import conditions, merge
from modelcanary_operator.evidence import Summary

PARSED = parse_spec(SPEC)
BASELINE = Baseline("1", "A", 2, 2, True, True)


def target(template: str) -> Target:
    return Target("1", template, 0, 0, 0, False, True, "A")


def found(
    status: Status, *, summary: Summary | None = None, now: float = 0.0, **observed: Any
) -> dict[str, bool | None]:
    facts = Observed(name="fraud", **{"baseline": BASELINE, "target": target("A"), **observed})
    return {item.type: item.status for item in conditions(PARSED, status, facts, summary or Summary(), now)}


@pytest.mark.parametrize("phase", list(Phase))
def test_each_phase_has_all_conditions_and_a_reason(phase: Phase) -> None:
    status = Status() if phase is Phase.PENDING else Status(phase=phase, reason="Word")
    listed = conditions(PARSED, status, Observed(name="fraud"), Summary(), 0.0)
    assert [item.type for item in listed] == [
        *("Ready", "Reconciling", "Stalled", "Promoted", "RolledBack", "CandidateAvailable"),
        *("MirrorHealthy", "LabelsAvailable", "LabelsBiased"),
    ]
    assert all(item["reason"] for item in merge(listed, (), 1, 0.0))


def test_promoted_is_unknown_while_a_run_is_on() -> None:
    run = Run("r", "A", "B", "d", 0.0)
    assert found(Status(phase=Phase.SERVING, baseline="A"))["Promoted"] is True
    for phase in (Phase.PREPARING, Phase.SHADOWING, Phase.CANARY, Phase.PROMOTING):
        assert found(Status(phase=phase, baseline="A", run=run), target=target("B"))["Promoted"] is None
    rejected = found(Status(phase=Phase.COOLDOWN, baseline="A", reason="LossRegression"), target=target("B"))
    assert (rejected["Promoted"], rejected["RolledBack"]) == (False, True)
    # Pushed in the cooldown of another: nobody has judged it.
    judged = Rejected("B", "r", 0.0, 1, "LossRegression", "worse")
    cooling = Status(phase=Phase.COOLDOWN, baseline="A", reason="DrainingTarget", rejected=judged)
    fresh = found(cooling, target=target("C"))
    assert (fresh["Promoted"], fresh["RolledBack"]) == (None, None)
    again = found(cooling, target=target("B"))
    assert (again["Promoted"], again["RolledBack"]) == (False, True)
    # Pushed a moment ago, and not looked at yet by a run.
    assert found(Status(phase=Phase.SERVING, baseline="A"), target=target("B"))["Promoted"] is None


def test_ready_is_about_what_serves() -> None:
    assert found(Status(phase=Phase.SHADOWING, run=Run("r", "A", "B", "d", 0.0)))["Ready"] is True
    assert found(Status(phase=Phase.SERVING), baseline=None)["Ready"] is False
    assert found(Status(phase=Phase.ADOPTING))["Ready"] is False
    stalled = found(Status(phase=Phase.SERVING, stalled=True))
    assert (stalled["Ready"], stalled["Stalled"], stalled["Reconciling"]) == (False, True, False)


def test_no_mirrored_traffic_is_seen() -> None:
    status = Status(phase=Phase.SHADOWING, run=Run("r", "A", "B", "d", 0.0, shadowing_since=100.0))
    told: Any = {"standing": Instructions(version=1), "candidate": Candidate("1", "B", "r", 2, 1, False)}
    assert found(status, now=150.0, **told)["MirrorHealthy"] is None
    assert found(status, now=300.0, **told)["MirrorHealthy"] is False
    assert found(status, now=300.0, summary=Summary(pairs=1), **told)["MirrorHealthy"] is True
    assert found(status, now=300.0, candidate=None, standing=None)["MirrorHealthy"] is None
    assert found(status, now=300.0, **told)["LabelsAvailable"] is False
    assert found(status, now=300.0, summary=Summary(pairs=1, labelled=1), **told)["LabelsAvailable"] is True
    assert found(status, **told)["CandidateAvailable"] is True


def test_answers_that_cannot_be_scored_are_a_reason_of_their_own() -> None:
    status = Status(phase=Phase.SHADOWING, run=Run("r", "A", "B", "d", 0.0, shadowing_since=100.0))
    facts = Observed(name="fraud", baseline=BASELINE, target=target("A"), standing=Instructions(version=1))
    unscored = Unscored(Role.BASELINE, Outcome.LABELS_ONLY, 90, 100)
    for summary, reason, said in (
        (Summary(pairs=100, unscored=unscored), "LabelsOnly", "90 of 100 answers of the baseline could not be scored"),
        (Summary(unfollowed=7), "ModelUnreadable", "7 requests were not mirrored"),
    ):
        listed = {item.type: item for item in conditions(PARSED, status, facts, summary, 150.0)}
        mirror = listed["MirrorHealthy"]
        assert (mirror.status, str(mirror.reason)) == (False, reason)
        assert said in mirror.message


def test_biased_labels_and_contradictions_are_said() -> None:
    status = Status(phase=Phase.SHADOWING, run=Run("r", "A", "B", "d", 0.0, shadowing_since=100.0))
    facts = Observed(name="fraud", baseline=BASELINE, target=target("A"), standing=Instructions(version=1))

    def told(summary: Summary) -> dict[str, Any]:
        return {item.type: item for item in conditions(PARSED, status, facts, summary, 150.0)}

    measures = Gate(PARSED).decide(Facts()).measures
    assert told(Summary(labelled=9, measures=measures))["LabelsBiased"].status is None
    judged = replace(measures, judged=400)
    assert told(Summary(labelled=9, measures=judged))["LabelsBiased"].status is False
    biased = told(Summary(labelled=9, measures=replace(judged, biased="fraud")))["LabelsBiased"]
    assert (biased.status, str(biased.reason)) == (True, "LabelsBiased")
    assert "'fraud'" in biased.message
    words = told(Summary(labelled=9, conflicts=3, disputed="billing"))["LabelsAvailable"].message
    assert words.endswith("; others contradict 3 of the pairs' labels, most often those of sender 'billing'")


def test_the_time_of_a_condition_is_that_of_its_last_change() -> None:
    listed = conditions(PARSED, Status(phase=Phase.SERVING), Observed(name="fraud"), Summary(), 0.0)
    first = merge(listed, (), 1, 0.0)
    again = merge(listed, first, 2, 1000.0)
    assert [item["lastTransitionTime"] for item in again] == [item["lastTransitionTime"] for item in first]
    assert {item["observedGeneration"] for item in again} == {2}
    other = conditions(PARSED, Status(phase=Phase.STALLED, stalled=True), Observed(name="fraud"), Summary(), 0.0)
    changed = {item["type"]: item["lastTransitionTime"] for item in merge(other, first, 2, 1000.0)}
    assert changed["Stalled"] == "1970-01-01T00:16:40Z"


class TestSources:
    TOPIC = LabelSource(SourceKind.KAFKA, "main", "outcomes")
    SPEC = parse_spec(
        {
            **SPEC,
            "labels": {
                "sources": [
                    {"files": {"endpoint": "lake", "path": "labels"}},
                    {"kafka": {"endpoint": "main", "topic": "outcomes"}},
                ]
            },
        }
    )
    FOLDER = SourceReport("team", "fraud", LabelSource(SourceKind.FILES, "lake", "labels"))

    def seen(self, *reports: SourceReport, run: str = "r", up: bool = True) -> tuple[bool | None, str, str]:
        standing = Instructions(version=1, run=run) if up else None
        facts = Observed(name="fraud", standing=standing, sources=reports)
        listed = conditions(self.SPEC, Status(), facts, Summary(), 0.0)
        (found,) = [item for item in listed if item.type == "SourcesHealthy"]
        return found.status, found.reason, found.message

    def test_all_are_read(self) -> None:
        topic = SourceReport("team", "fraud", self.TOPIC, labels=7, lag=3)
        assert self.seen(self.FOLDER, topic) == (True, "SourcesRead", "2 sources of labels are read")
        topic = SourceReport("team", "fraud", self.TOPIC, poisoned=1)
        assert self.seen(self.FOLDER, topic)[2].startswith("2 sources of labels are read; what is no label in them is")

    def test_one_fails(self) -> None:
        topic = SourceReport("team", "fraud", self.TOPIC, "no broker; check")
        assert self.seen(self.FOLDER, topic) == (False, "SourceFails", "spec.labels.sources[1]: no broker; check")

    def test_nobody_reads_one(self) -> None:
        status, reason, message = self.seen(self.FOLDER)
        assert (status, reason) == (False, "SourceUnread")
        assert message.startswith("spec.labels.sources[1]: nobody reads it; ")
        assert self.seen(run="")[0] is None, "before a run there is nothing to label"

    def test_the_ledger_is_away(self) -> None:
        assert self.seen(up=False)[:2] == (None, "LedgerUnavailable")
