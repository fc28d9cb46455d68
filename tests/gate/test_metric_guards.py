"""Guards on a metric of the user's: what they say holds a promotion, what they do not say holds it too."""

import math
from dataclasses import replace

import numpy as np
import pytest

from modelcanary_gate.decision import Decision, Facts, GuardStatus, Metric
from modelcanary_gate.evidence import LabelledPairs, loss_blocks
from modelcanary_gate.gate import Gate
from modelcanary_gate.plan.signals import finding
from modelcanary_gate.scoring import from_losses
from modelcanary_gate.spec import Guard, GuardType, Limit, LimitKind, Model, Spec
from modelcanary_gate.vocabulary import Reason, Verdict

QUERY = 'sum(rate(checkout_total{model="$role"}[5m]))'
LONG = 3600.0


def spec(**limits: Limit) -> Spec:
    guard = Guard("conversions", GuardType.PROMETHEUS, endpoint="main", query=QUERY, **limits)
    return Spec(model=Model(classes=("a", "b")), guards=(guard,))


def fold(gate: Gate, pairs: LabelledPairs) -> None:
    starts = np.arange(0, len(pairs.baseline_loss), 100)
    for block in loss_blocks(gate.plan, pairs, starts, 0, [(0.0, 1.0)] * len(starts)):
        gate.add_loss(block)


def decide(given: Spec, metric: Metric | None, effect: float = -0.05) -> Decision:
    gate = Gate(given)
    random = np.random.default_rng(3)
    base = random.uniform(0.2, 0.6, 6000)
    pairs = from_losses(given, base, np.maximum(0, base + effect + random.normal(0, 0.05, 6000)))
    fold(gate, pairs)
    metrics = {} if metric is None else {"conversions": metric}
    return gate.decide(Facts(elapsed=LONG, pairs=6000, labelled=6000, metrics=metrics))


TIMES = Limit(LimitKind.TIMES_BASELINE, 0.95)
OVER = Limit(LimitKind.OVER_BASELINE, 0.01)
FLAT = Limit(LimitKind.ABSOLUTE, 100.0)


@pytest.mark.parametrize(
    ("limits", "metric", "status"),
    [
        ({"min": TIMES}, Metric(200.0, 191.0), GuardStatus.OK),
        ({"min": TIMES}, Metric(200.0, 189.0), GuardStatus.VETO),
        ({"max": OVER}, Metric(0.10, 0.109), GuardStatus.OK),
        ({"max": OVER}, Metric(0.10, 0.12), GuardStatus.VETO),
        ({"max": FLAT}, Metric(None, 99.0), GuardStatus.OK),
        ({"max": FLAT}, Metric(None, 101.0), GuardStatus.VETO),
        ({"min": TIMES}, Metric(None, 191.0), GuardStatus.MISSING),
        ({"min": TIMES}, Metric(200.0, None), GuardStatus.MISSING),
        ({"min": TIMES}, Metric(math.nan, 1.0), GuardStatus.MISSING),
        ({"max": FLAT}, Metric(1.0, math.inf), GuardStatus.MISSING),
        ({"max": FLAT}, Metric(None, 1.0, "the answer is three series"), GuardStatus.MISSING),
        ({"max": FLAT}, None, GuardStatus.MISSING),
    ],
)
def test_a_promotion_takes_a_value_within_its_limit(
    limits: dict[str, Limit], metric: Metric | None, status: GuardStatus
) -> None:
    decision = decide(spec(**limits), metric)
    (state,) = decision.measures.guards
    assert state.status is status
    expected = {
        GuardStatus.OK: (Verdict.PROMOTE, Reason.CANDIDATE_NO_WORSE),
        GuardStatus.VETO: (Verdict.CONTINUE, Reason.GUARD_VETO),
        GuardStatus.MISSING: (Verdict.CONTINUE, Reason.GUARD_MISSING),
    }
    assert (decision.verdict, decision.reason) == expected[status]
    if status is GuardStatus.MISSING and metric is not None and metric.problem:
        assert metric.problem in decision.message
    if status is GuardStatus.VETO:
        assert "conversions" in decision.message and f"{metric.candidate:g}" in decision.message  # type: ignore[union-attr]


def test_no_metric_keeps_a_worse_model_from_being_rolled_back_or_rolls_one_back() -> None:
    assert decide(spec(min=TIMES), None, effect=0.1).verdict is Verdict.ROLL_BACK
    assert decide(spec(min=TIMES), Metric(200.0, 0.0), effect=-0.05).verdict is Verdict.CONTINUE


def test_a_finding_names_the_classes_that_got_worse_the_worst_first() -> None:
    given = Spec(model=Model(classes=("a", "b", "c")), guards=())
    gate, random = Gate(given), np.random.default_rng(5)
    labels = random.integers(0, 3, 3000)
    base = random.uniform(0.2, 0.6, 3000)
    worse = np.array([0.02, -0.05, 0.3])[labels]
    sure = np.full(3000, 0.9)
    pairs = replace(
        from_losses(given, base, base + worse), label=labels, baseline_confidence=sure, candidate_confidence=sure
    )
    fold(gate, pairs)
    found = finding(gate.decide(Facts(elapsed=LONG, pairs=3000, labelled=3000)))
    assert found.worse == ("c", "a")
    assert found.judged == 3000
    assert float(found.delta) == pytest.approx(float(np.mean(worse)), abs=1e-3)
    assert finding(None).delta == ""
