from dataclasses import replace

import numpy as np
import pytest

from modelcanary_gate import explain
from modelcanary_gate.decision import Facts, GuardState, GuardStatus, Measures
from modelcanary_gate.evidence import OUTCOME_CODES
from modelcanary_gate.gate import Gate
from modelcanary_gate.spec import GuardType, Labels, Model, Spec
from modelcanary_gate.vocabulary import Outcome, Reason

SPEC = Spec(model=Model(classes=("a", "b")))
NONE = np.zeros((2, len(OUTCOME_CODES)), dtype=np.int64)
GUARD = GuardState("errors", GuardType.ERROR_RATE, GuardStatus.VETO, 0.01, 0.2, "max +0.005", 3.0, 7.6)


def _measures() -> Measures:
    return Gate(SPEC).decide(Facts()).measures


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_sentence(reason: Reason) -> None:
    text = explain.message(SPEC, reason, Facts(pairs=3, labelled=2), _measures(), GUARD, NONE)
    assert text
    assert not text.endswith(".")
    assert "None" not in text and "nan" not in text


def test_names_why_nothing_can_be_scored() -> None:
    outcomes = NONE.copy()
    outcomes[0, OUTCOME_CODES[Outcome.OK]] = 120
    outcomes[1, OUTCOME_CODES[Outcome.UNDECODABLE]] = 118
    outcomes[1, OUTCOME_CODES[Outcome.TIMEOUT]] = 2
    text = explain.message(SPEC, Reason.WAITING_FOR_LABELS, Facts(pairs=120), _measures(), None, outcomes)
    assert text.startswith("118 of 120 answers of the candidate could not be scored: undecodable; not the protocol's")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (45, "45 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (12600, "3.5 h"), (4 * 86400, "4 days")],
)
def test_durations_are_in_one_unit(seconds: float, text: str) -> None:
    assert explain.duration(seconds) == text


@pytest.mark.parametrize(
    ("log_evidence", "text"), [(0.0, "1"), (np.log(12), "12"), (-1000.0, "0"), (1000.0, "over 1e100")]
)
def test_evidence_is_a_factor(log_evidence: float, text: str) -> None:
    assert explain.factor(log_evidence) == text


def test_waiting_names_what_is_waited_for() -> None:
    def text(maturity: float | None) -> str:
        spec = replace(SPEC, labels=Labels(maturity=maturity))
        return explain.message(spec, Reason.WAITING_FOR_MATURITY, Facts(labelled=7), _measures(), None, NONE)

    assert text(0.0) == "7 labelled pairs wait until their block is full"
    assert text(None) == "7 labelled pairs wait until labels of their age are in"


def test_a_retry_says_what_its_threshold_is_made_of() -> None:
    strict = replace(SPEC, analysis=replace(SPEC.analysis, attempt=2))
    measures = Gate(strict).decide(Facts()).measures
    text = explain.message(strict, Reason.EVIDENCE_BELOW_THRESHOLD, Facts(), measures, None, NONE)
    assert "of 800 (4 x 200 for attempt 3)" in text
    assert "attempt" not in explain.message(SPEC, Reason.EVIDENCE_BELOW_THRESHOLD, Facts(), _measures(), None, NONE)


@pytest.mark.parametrize(("reachable", "said"), [(0.2, "reachable margin 20%"), (0.0004, ""), (0.049, ""), (None, "")])
def test_a_reachable_margin_is_said_where_it_is_above_the_one_asked_for(reachable: float | None, said: str) -> None:
    known = {"delta": 0.01, "margin": 0.02, "baseline_loss": 0.4, "promotion_threshold": 5.0}
    measures = replace(_measures(), reachable_margin=reachable, **known)
    text = explain.message(SPEC, Reason.EVIDENCE_BELOW_THRESHOLD, Facts(), measures, None, NONE)
    assert said in text if said else "reachable" not in text
