import numpy as np
import pytest

from modelcanary_gate.contrasts import (
    GRID_SIZE,
    MAX_CLASS_GROUPS,
    OTHER_CLASSES,
    EvidencePlan,
    indicator_contrast,
    loss_contrast,
)
from modelcanary_gate.spec import (
    AgreementLimits,
    Analysis,
    Guard,
    GuardType,
    LabelMode,
    Labels,
    Limit,
    LimitKind,
    Loss,
    Margin,
    Model,
    Spec,
)

ALL_GUARDS = (
    Guard("errors", GuardType.ERROR_RATE, max=Limit(LimitKind.OVER_BASELINE, 0.005)),
    Guard("invalid", GuardType.NON_FINITE, max=Limit(LimitKind.ABSOLUTE, 0.0)),
    Guard("overconfident", GuardType.CONFIDENT_ERRORS, max=Limit(LimitKind.TIMES_BASELINE, 1.2)),
    Guard("classes", GuardType.PER_CLASS, margin=Margin(relative=0.1)),
    Guard("p99", GuardType.LATENCY, max=Limit(LimitKind.TIMES_BASELINE, 1.2)),
    Guard("calibration", GuardType.CALIBRATION_ERROR, max=Limit(LimitKind.OVER_BASELINE, 0.02)),
)


def _spec(**changes: object) -> Spec:
    return Spec(**{"model": Model(classes=("a", "b", "c")), **changes})  # type: ignore[arg-type]


def test_no_bet_can_ruin() -> None:
    """The wealth stays positive at the worst value that each contrast can take."""
    plan = EvidencePlan.of(_spec(guards=ALL_GUARDS, analysis=Analysis(margin=Margin(0.05, 0.03))))
    corners = np.array([0.0, plan.bound])
    worst_losses = [(b, c) for b in corners for c in corners]
    for contrast in plan.loss:
        if contrast.limit is None:
            values = [loss_contrast(contrast, np.array([b]), np.array([c]))[0] for b, c in worst_losses]
        else:
            values = [
                indicator_contrast(contrast.limit, np.array([b]), np.array([c]))[0]
                for b in (False, True)
                for c in (False, True)
            ]
        assert (1 + contrast.grid() * min(values)).min() >= 0.05 - 1e-12
        assert min(values) >= -contrast.lowest - 1e-12
    for contrast in plan.traffic:
        assert contrast.limit is not None
        worst = min(
            indicator_contrast(contrast.limit, np.array([b]), np.array([c]))[0]
            for b in (False, True)
            for c in (False, True)
        )
        assert (1 + contrast.grid() * worst).min() > 0


def test_the_bold_end_of_the_grid_is_as_bold_as_the_bound_allows() -> None:
    contrast = EvidencePlan.of(_spec()).loss[0]
    grid = contrast.grid()
    assert len(grid) == GRID_SIZE
    assert grid[0] == pytest.approx(0.002)
    assert grid[-1] == pytest.approx(0.95 / -np.log(1e-4))


def test_nulls_are_what_they_say() -> None:
    rollback, promote = EvidencePlan.of(
        _spec(analysis=Analysis(margin=Margin(0.02, 0.1), rollback_margin=Margin(0.01, 0.2)))
    ).loss[:2]
    b, c = np.array([1.0]), np.array([1.5])
    assert loss_contrast(rollback, b, c)[0] == pytest.approx(1.5 - 1.01 - 0.2)
    assert loss_contrast(promote, b, c)[0] == pytest.approx(1.02 + 0.1 - 1.5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (LimitKind.ABSOLUTE, [0.9, -0.1, 0.9, -0.1]),
        (LimitKind.OVER_BASELINE, [-0.1, -1.1, 0.9, -0.1]),
        (LimitKind.TIMES_BASELINE, [0.9, -0.1, 1.0, 0.0]),
    ],
)
def test_indicators_are_compared_as_their_limit_says(kind: LimitKind, expected: list[float]) -> None:
    baseline = np.array([True, True, False, False])
    candidate = np.array([True, False, True, False])
    assert indicator_contrast(Limit(kind, 0.1), baseline, candidate) == pytest.approx(expected)


def test_agreement_compares_with_its_own_limits() -> None:
    labels = Labels(mode=LabelMode.AGREEMENT, agreement=AgreementLimits(0.5, 0.02))
    rollback, promote = EvidencePlan.of(_spec(labels=labels)).loss[:2]
    assert (rollback.margin, promote.margin) == (Margin(0.0, 0.5), Margin(0.0, 0.02))


def test_many_classes_are_watched_as_a_few_and_the_rest() -> None:
    names = tuple(f"c{i}" for i in range(40))
    plan = EvidencePlan.of(_spec(model=Model(classes=names)))
    assert len(plan.groups) == MAX_CLASS_GROUPS
    assert plan.groups[-1] == OTHER_CLASSES
    assert plan.group_of[14:17] == (14, 15, 15)


def test_a_plan_that_measures_the_same_has_the_same_digest() -> None:
    plan = EvidencePlan.of(_spec())
    assert EvidencePlan.of(_spec(analysis=Analysis(interval=5.0, min_duration=1.0))).digest == plan.digest
    for other in (
        _spec(analysis=Analysis(margin=Margin(0.03))),
        _spec(analysis=Analysis(loss=Loss(clip_epsilon=1e-5))),
        _spec(guards=ALL_GUARDS),
        _spec(model=Model(classes=("b", "a", "c"))),
        _spec(model=Model(classes=("a", "b", "c"), candidate_classes=("c", "b", "a"))),
        _spec(model=Model(classes=("a", "b", "c"), request_patch={"outputs": []})),
        _spec(labels=Labels(maturity=0.0)),
    ):
        assert EvidencePlan.of(other).digest != plan.digest
    assert EvidencePlan.of(_spec(labels=Labels(maturity=60.0))).digest == plan.digest


def test_no_guards_name_is_taken_for_another_contrast() -> None:
    limit = Limit(LimitKind.OVER_BASELINE, 0.01)
    guards = (
        Guard("loss.promote", GuardType.CONFIDENT_ERRORS, max=limit),
        Guard("rare[a]", GuardType.CONFIDENT_ERRORS, max=limit),
        Guard("0.rare", GuardType.CONFIDENT_ERRORS, max=limit),
        Guard("rare", GuardType.PER_CLASS),
        Guard("0.0.rare", GuardType.PER_CLASS),
        Guard("classes", GuardType.PER_CLASS),
    )
    plan = EvidencePlan.of(_spec(guards=guards))
    names = [contrast.name for contrast in (*plan.loss, *plan.traffic)]
    assert len(set(names)) == len(names)


def test_the_bound_includes_the_largest_class_weight() -> None:
    plan = EvidencePlan.of(_spec(analysis=Analysis(loss=Loss(class_weights=(1.0, 3.0, 0.5)))))
    assert plan.bound == pytest.approx(-3 * np.log(1e-4))
