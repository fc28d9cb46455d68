"""The instructions that hold now: what to mirror, and which users the candidate answers.

The scorer hears them from the ledger and hands them on to the live process; both keep a `Standing`. Pure: it
is told what was heard and when, and takes `now` (`time.monotonic()`, one clock for all processes of a
machine). It must not know where instructions come from, nor who asks.
"""

from modelcanary_gate.protocol import Instructions

#: What a sidecar follows that has heard nothing yet: it serves, and mirrors nothing.
NOTHING_HEARD = Instructions(version=0)


class Standing:
    """The last instructions heard, and for how long what they grant holds.

    A share is no risk to users and holds until it is changed. A weight puts the candidate's answers before
    users: it is a lease, and without news it ends by itself, wherever the sidecar was cut off.
    """

    __slots__ = ("heard", "instructions")

    def __init__(self) -> None:
        self.instructions = NOTHING_HEARD
        self.heard = float("-inf")

    def hear(self, instructions: Instructions, answered: float) -> bool:
        """Take what the ledger answered at `answered`; True if it differs from what held before.

        An answer that was overtaken by a later one is left aside. A lower version is followed: a ledger that
        lost its state, and was told again, counts from one.
        """
        if answered < self.heard:
            return False
        self.heard = answered
        if instructions == self.instructions:
            return False
        self.instructions = instructions
        return True

    @property
    def run(self) -> str:
        return self.instructions.run

    def share(self) -> float:
        """Of the requests, to be mirrored; 0 without a run or a candidate."""
        instructions = self.instructions
        return instructions.share if instructions.run and instructions.candidate else 0.0

    def weight(self, now: float) -> float:
        """Of the users, to be answered by the candidate; 0 once the lease has run out."""
        instructions = self.instructions
        if not instructions.weight or now >= self.heard + instructions.lease:
            return 0.0
        return instructions.weight if instructions.run and instructions.candidate else 0.0

    def lease_ends(self) -> float:
        """The time at which a weight ends without news."""
        return self.heard + self.instructions.lease
