"""What sidecars are told in each phase, compared with what they are told now.

Called by the parts of the plan. A ledger that does not answer cannot be told anything; who must go on nevertheless
does, because a canary weight ends by itself where no news comes.
"""

import math
from dataclasses import replace

from modelcanary_gate.parse import to_reading
from modelcanary_gate.plan.actions import Instruct
from modelcanary_gate.plan.context import Context
from modelcanary_gate.plan.status import Run
from modelcanary_gate.protocol import Instructions
from modelcanary_gate.spec import Spec

#: Versions of one generation of the specification: a ledger that has another generation's is told again, because the
#: specification goes with the instructions.
_VERSIONS = 1000


def _next_version(context: Context, standing: Instructions) -> int:
    generation, number = divmod(standing.version + 1, _VERSIONS)
    same = generation == context.observed.generation
    return standing.version + 1 if same and number else context.observed.generation * _VERSIONS + 1


def mirroring(context: Context, run: Run) -> Instructions:
    """Mirror to the candidate; it answers as many users as the run's canary step says."""
    spec = context.spec
    return Instructions(
        version=0,
        run=run.id,
        candidate=context.observed.candidate_url,
        share=spec.mirror.share,
        weight=weight(context, run),
        grace=spec.canary.candidate_grace,
        idHeader=spec.labels.id_header,
        model=to_reading(spec),
        mirror=spec.mirror.limits,
        observing=run.observing_since is not None,
    )


def weight(context: Context, run: Run) -> float:
    return weight_of(context.spec, run)


def weight_of(spec: Spec, run: Run) -> float:
    """The share of the users at the run's step; 0 in shadow."""
    steps = spec.canary.steps
    return steps[min(run.step, len(steps)) - 1] if run.step and steps else 0.0


def candidate_replicas(context: Context, at_weight: float) -> int:
    """As many as the larger of the mirrored share and the weight needs, or what the user wrote."""
    wanted = context.spec.candidate.replicas
    if wanted is not None:
        return wanted
    baseline = context.observed.baseline.replicas if context.observed.baseline is not None else 0
    share = max(context.spec.mirror.share, at_weight)
    return max(1, math.ceil((baseline or context.status.replicas) * share - 1e-9))


def mirror(context: Context, run: Run) -> Instruct | None:
    """None where sidecars are told so already, or the ledger does not answer."""
    standing = context.observed.standing
    if standing is None:
        return None
    wanted = replace(mirroring(context, run), version=standing.version)
    if wanted == standing and standing.version // _VERSIONS == context.observed.generation:
        return None
    return Instruct(replace(wanted, version=_next_version(context, standing)))


def idle(context: Context) -> Instruct | None:
    """Mirror nothing, go on serving. None where that is so, or the ledger does not answer.

    Labels come before and after a run too: the ledger hears of a model once it is adopted, and of who may send its
    labels and where they are read whenever the specification has changed. Of one that is being deleted it hears nothing
    new.
    """
    standing, spec = context.observed.standing, context.spec
    if standing is None:
        return None
    told = context.observed.deleting or standing.version // _VERSIONS == context.observed.generation
    if not standing.run and told:
        return None
    return Instruct(
        Instructions(version=_next_version(context, standing), idHeader=spec.labels.id_header, model=to_reading(spec))
    )
