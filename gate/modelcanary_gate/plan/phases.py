"""The phases of a ModelCanary and the one table of its transitions.

`planner` and its parts move a status along them; an undeclared transition is an error of ours and raises.
"""

from enum import StrEnum

from modelcanary_gate.errors import GateError


class Phase(StrEnum):
    """A summary for people; what is done next follows from the phase and what is observed."""

    PENDING = "Pending"  # nothing was touched yet
    STALLED = "Stalled"  # nothing was touched, and nothing will be before somebody changes something
    ADOPTING = "Adopting"  # the baseline comes up beside the target and takes over
    SERVING = "Serving"  # the baseline serves; no run is on
    PREPARING = "Preparing"  # a run has begun, its candidate comes up
    SHADOWING = "Shadowing"  # requests are mirrored, evidence grows
    CANARY = "Canary"  # the candidate answers a share of the users
    PROMOTING = "Promoting"  # decided: the baseline takes the candidate's template
    OBSERVING = "Observing"  # promoted: the model before it shadows it for a while, and may still come back
    ROLLING_BACK = "RollingBack"  # decided: the candidate goes
    CLEARING = "Clearing"  # a run ended without a verdict: its candidate goes
    COOLDOWN = "Cooldown"  # the target's template was rejected and is not tried again yet
    SUSPENDED = "Suspended"  # the baseline serves, no run begins
    DELETING = "Deleting"  # the traffic goes back to the target, then all of ours goes


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.PENDING: frozenset({Phase.STALLED, Phase.ADOPTING, Phase.DELETING}),
    Phase.STALLED: frozenset({Phase.PENDING, Phase.DELETING}),
    Phase.ADOPTING: frozenset({Phase.PENDING, Phase.SERVING, Phase.DELETING}),
    Phase.SERVING: frozenset({Phase.PREPARING, Phase.COOLDOWN, Phase.SUSPENDED, Phase.DELETING}),
    Phase.PREPARING: frozenset({Phase.SHADOWING, Phase.ROLLING_BACK, Phase.CLEARING, Phase.DELETING}),
    Phase.SHADOWING: frozenset({Phase.CANARY, Phase.PROMOTING, Phase.ROLLING_BACK, Phase.CLEARING, Phase.DELETING}),
    Phase.CANARY: frozenset({Phase.PROMOTING, Phase.ROLLING_BACK, Phase.CLEARING, Phase.DELETING}),
    Phase.PROMOTING: frozenset({Phase.SERVING, Phase.OBSERVING, Phase.ROLLING_BACK, Phase.DELETING}),
    Phase.OBSERVING: frozenset({Phase.ROLLING_BACK, Phase.CLEARING, Phase.DELETING}),
    Phase.ROLLING_BACK: frozenset({Phase.COOLDOWN, Phase.DELETING}),
    Phase.CLEARING: frozenset({Phase.SERVING, Phase.DELETING}),
    Phase.COOLDOWN: frozenset({Phase.SERVING, Phase.DELETING}),
    Phase.SUSPENDED: frozenset({Phase.SERVING, Phase.DELETING}),
    Phase.DELETING: frozenset(),
}

#: Phases in which a run is on.
RUNNING = frozenset({Phase.PREPARING, Phase.SHADOWING, Phase.CANARY})
#: Phases in which evidence is judged and may end in a roll-back.
JUDGED = RUNNING | {Phase.OBSERVING}
#: Phases in which the baseline serves and the target is held.
ADOPTED = frozenset(Phase) - {Phase.PENDING, Phase.STALLED, Phase.ADOPTING, Phase.DELETING}


class UndeclaredTransition(GateError):
    """The plan went from one phase to another that the table does not allow."""

    def __init__(self, before: Phase, after: Phase) -> None:
        super().__init__(f"{before} does not lead to {after}")


def check(before: Phase, after: Phase) -> Phase:
    """`after`, where the table allows it; a phase always leads to itself."""
    if after is not before and after not in TRANSITIONS[before]:
        raise UndeclaredTransition(before, after)
    return after
