"""The instructions that hold now: what to mirror, and which users the candidate answers.

The scorer hears them from the ledger and hands them on to the live processes, with the time at which they were heard
(`time.monotonic()`, one clock for all processes of a machine). Pure. It must not know where instructions come from, nor
who asks.
"""

from modelcanary_gate.protocol import Instructions

#: What a sidecar follows that has heard nothing yet: it serves, and mirrors nothing.
NOTHING_HEARD = Instructions(version=0)


class Standing:
    """The last instructions heard, and when.

    A share is no risk to users and holds until it is changed. A weight puts the candidate's answers before users: it
    is a lease from the time at which it was heard, and without news the live processes end it by themselves.
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
