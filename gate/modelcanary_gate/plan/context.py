"""What every part of the plan is given, and the three answers that it can give: go, act, stay.

Made by `planner` for one look.
"""

from dataclasses import dataclass, replace
from typing import Any

from modelcanary_gate.decision import Decision
from modelcanary_gate.plan.actions import Action
from modelcanary_gate.plan.blockers import name_taken
from modelcanary_gate.plan.observed import Observed
from modelcanary_gate.plan.phases import Phase, check
from modelcanary_gate.plan.status import Signal, Status
from modelcanary_gate.spec import Spec


@dataclass(frozen=True, slots=True)
class Plan:
    """The status that is to be, and what to do under it.

    Where `status` differs from what is stored, it is written first, and nothing else is done before the next look:
    the compare-and-swap of the status comes before every side effect. Of the actions, the first is applied before the
    next look.
    """

    status: Status
    actions: tuple[Action, ...] = ()
    question: Signal | None = None  # what webhooks are asked before it can go on; answers are observed
    after: float | None = None  # seconds until the next look, when nothing happens before; None: when something does


@dataclass(frozen=True, slots=True)
class Context:
    spec: Spec
    status: Status
    observed: Observed
    decision: Decision | None
    now: float

    def go(self, phase: Phase, reason: str, message: str, **changes: Any) -> Plan:
        """On to another phase."""
        check(self.status.phase, phase)
        replicas = self.observed.baseline.replicas if self.observed.baseline is not None else 0
        changes.setdefault("replicas", replicas or self.status.replicas)
        changes.setdefault("handover_since", None)
        status = replace(self.status, phase=phase, reason=str(reason), message=message, stalled=False, **changes)
        return Plan(status, after=0.0)

    def act(self, *actions: Action) -> Plan:
        """Do something, and look again."""
        return Plan(self.status, actions, after=0.0)

    def stay(
        self, reason: str, message: str, after: float | None = None, *, stalled: bool = False, **changes: Any
    ) -> Plan:
        """Wait: for an event, or `after` seconds."""
        status = replace(self.status, reason=str(reason), message=message, stalled=stalled, **changes)
        return Plan(status, after=after)

    def make(self, *actions: Action) -> Plan:
        """Do something that makes an object of ours; wait where its name is taken."""
        taken = name_taken(self.observed)
        if taken is not None:
            return self.stay(taken.reason, taken.message, 30.0, stalled=True)
        return self.act(*actions)

    def since(self, then: float) -> float:
        """Seconds; a clock that was set back counts as none."""
        return max(0.0, self.now - then)
