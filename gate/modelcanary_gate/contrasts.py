"""What is bet on: each contrast is a number per pair whose mean is at most 0 while its null hypothesis holds.

A contrast `x` is bounded below by `-lowest`, so that `1 + λx` stays positive on its grid of bets. The plan of
a specification is the list of its contrasts; `evidence` sums their log-wealth, `eprocess` folds the sums.

Betting on bounded means: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting",
JRSS-B 86(1), 2024, section 4. A relative margin stays a linear contrast, so the baseline's loss need not be known.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.losses import loss_bound
from modelcanary_gate.spec import Guard, GuardType, LabelMode, Limit, LimitKind, Margin, Spec

Floats = NDArray[np.float64]

#: Bets per contrast, from careful to bold; a mixture of them needs no tuning to the size of the effect.
GRID_SIZE = 16
_SMALLEST_BET = 0.002
#: The boldest bet keeps this share of the way to ruin.
_BOLDNESS = 0.95
#: A limit of zero would allow an infinite bet; one violation then multiplies the wealth by 20 at the most.
_TIGHTEST = 0.05
#: Classes that are watched by name; beyond, the last group holds the rest.
MAX_CLASS_GROUPS = 16
OTHER_CLASSES = "(others)"


class Kind(StrEnum):
    LOSS_ROLLBACK = "lossRollback"  # c − (1 + r)·b − a
    LOSS_PROMOTE = "lossPromote"  # (1 + r)·b + a − c
    CLASS = "class"  # as LOSS_ROLLBACK, of one class of labels
    CONFIDENT_ERRORS = "confidentErrors"  # of indicators, as the limit says
    ERROR_RATE = "errorRate"
    NON_FINITE = "nonFinite"


#: These are known as soon as both models have answered; the others need the label.
TRAFFIC_KINDS = frozenset({Kind.ERROR_RATE, Kind.NON_FINITE})


@dataclass(frozen=True, slots=True)
class Contrast:
    """One contrast: how it is computed, and how low it can go."""

    name: str  # the key of its sums in a block: begins with the kind, so that no guard's name can be another's
    kind: Kind
    lowest: float  # x ≥ −lowest
    margin: Margin = Margin()
    limit: Limit | None = None
    threshold: float = 0.0
    group: int = -1
    guard: str | None = None  # the guard it belongs to; None: the loss itself

    def grid(self) -> Floats:
        """The bets λ, (GRID_SIZE,), in 1/units of x."""
        return np.geomspace(_SMALLEST_BET, _BOLDNESS / self.lowest, GRID_SIZE)

    def prior(self) -> Floats:
        """How the stake is split over the bets, (GRID_SIZE,), with the sum 1.

        A regression worth a roll-back is large against its noise, so the bold bets get more there: a stake as large as
        the bet. Promotions prove that a small difference is none, at any size of bet.
        """
        grid = self.grid()
        stake = np.ones(GRID_SIZE) if self.kind is Kind.LOSS_PROMOTE else grid
        return np.asarray(stake / stake.sum())


@dataclass(frozen=True)
class EvidencePlan:
    """What is measured of each pair. Two specifications with one digest measure the same."""

    bound: float  # L: the largest loss, nats
    groups: tuple[str, ...]  # of classes
    group_of: tuple[int, ...]  # class index → group
    loss: tuple[Contrast, ...]  # of matured, labelled pairs; the first two are the loss's own
    traffic: tuple[Contrast, ...]  # of all answered pairs
    digest: str

    @classmethod
    def of(cls, spec: Spec) -> "EvidencePlan":
        bound = loss_bound(spec.analysis.loss.clip_epsilon, spec.analysis.loss.class_weights)
        groups, group_of = _class_groups(spec.model.classes)
        rollback, promote = _margins(spec)
        loss = [_rollback_contrast(rollback, bound), _promote_contrast(promote, bound)]
        traffic: list[Contrast] = []
        for guard in spec.guards:
            for contrast in _guard_contrasts(guard, bound, groups):
                (traffic if contrast.kind in TRAFFIC_KINDS else loss).append(contrast)
        measured = {
            "model": asdict(spec.model),  # how answers are read, too: misread ones are other evidence
            "loss": asdict(spec.analysis.loss),
            "mode": spec.labels.mode,
            # A pair counts when its label comes, or when it is mature: going over would count it twice, or never.
            "at once": spec.labels.mode is LabelMode.FEEDBACK and spec.labels.maturity == 0,
            "bets": [GRID_SIZE, _SMALLEST_BET, _BOLDNESS],
            "contrasts": [asdict(contrast) for contrast in (*loss, *traffic)],
        }
        digest = hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:16]
        return cls(bound, groups, group_of, tuple(loss), tuple(traffic), digest)

    @cached_property
    def loss_grids(self) -> tuple[Floats, ...]:
        return tuple(contrast.grid() for contrast in self.loss)

    @cached_property
    def confident_errors(self) -> tuple[Contrast, ...]:
        """Those whose errors a block counts per role, beside the contrast between the roles."""
        return tuple(contrast for contrast in self.loss if contrast.kind is Kind.CONFIDENT_ERRORS)

    @cached_property
    def traffic_grids(self) -> tuple[Floats, ...]:
        return tuple(contrast.grid() for contrast in self.traffic)


def _margins(spec: Spec) -> tuple[Margin, Margin]:
    """(roll back, promote). Label-free, the baseline's own entropy is `b`, so a limit on KL is absolute."""
    if spec.labels.mode is LabelMode.AGREEMENT and spec.labels.agreement is not None:
        limits = spec.labels.agreement
        return Margin(absolute=limits.rollback_above), Margin(absolute=limits.promote_below or 0.0)
    return spec.analysis.rollback_margin, spec.analysis.margin


def _rollback_contrast(margin: Margin, bound: float) -> Contrast:
    return Contrast("loss.rollback", Kind.LOSS_ROLLBACK, (1 + margin.relative) * bound + margin.absolute, margin)


def _promote_contrast(margin: Margin, bound: float) -> Contrast:
    return Contrast("loss.promote", Kind.LOSS_PROMOTE, bound, margin)


def _guard_contrasts(guard: Guard, bound: float, groups: tuple[str, ...]) -> list[Contrast]:
    """The contrasts of a guard that can roll back by itself; the other guards only veto, and have none."""
    if guard.type is GuardType.PER_CLASS:
        lowest = (1 + guard.margin.relative) * bound + guard.margin.absolute
        return [
            Contrast(
                f"{Kind.CLASS}.{index}.{guard.name}", Kind.CLASS, lowest, guard.margin, group=index, guard=guard.name
            )
            for index in range(len(groups))
        ]
    kinds = {
        GuardType.ERROR_RATE: Kind.ERROR_RATE,
        GuardType.NON_FINITE: Kind.NON_FINITE,
        GuardType.CONFIDENT_ERRORS: Kind.CONFIDENT_ERRORS,
    }
    kind = kinds.get(guard.type)
    if kind is None or guard.max is None:
        return []
    lowest = max(_lowest_indicator(guard.max), _TIGHTEST)
    return [
        Contrast(f"{kind}.{guard.name}", kind, lowest, limit=guard.max, threshold=guard.threshold, guard=guard.name)
    ]


def _lowest_indicator(limit: Limit) -> float:
    match limit.kind:
        case LimitKind.ABSOLUTE:
            return limit.value
        case LimitKind.OVER_BASELINE:
            return 1 + limit.value
        case LimitKind.TIMES_BASELINE:
            return limit.value


def _class_groups(classes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if len(classes) <= MAX_CLASS_GROUPS:
        return classes, tuple(range(len(classes)))
    named = MAX_CLASS_GROUPS - 1
    return (*classes[:named], OTHER_CLASSES), tuple(min(index, named) for index in range(len(classes)))


def loss_contrast(contrast: Contrast, baseline: Floats, candidate: Floats) -> Floats:
    """x of a contrast of losses, (n,), nats, from both models' clipped losses."""
    scaled = (1 + contrast.margin.relative) * baseline + contrast.margin.absolute
    return scaled - candidate if contrast.kind is Kind.LOSS_PROMOTE else candidate - scaled


def indicator_contrast(limit: Limit, baseline: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> Floats:
    """x of a contrast of indicators, (n,): how far the candidate is beyond its limit."""
    over = candidate.astype(np.float64)
    match limit.kind:
        case LimitKind.ABSOLUTE:
            return over - limit.value
        case LimitKind.OVER_BASELINE:
            return over - baseline - limit.value
        case LimitKind.TIMES_BASELINE:
            return over - limit.value * baseline
