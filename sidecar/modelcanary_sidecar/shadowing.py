"""The live process's side of mirroring: has the candidate asked for what users were answered, and hands both on.

`live` makes one and has it follow the instructions. A copy that goes out as the request came is sent from here, because
another process would have to be woken twice for each request: that cost more than all else about a pair. What has
to be read first (`requestPatch`) goes to the scorer without the candidate's answer, and is asked there. It must not
read bodies, neither of requests nor of answers: that could hold users up.
"""

import asyncio

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar.asking import Asking, Item
from modelcanary_sidecar.capture import Captured, LiveAnswer, copied
from modelcanary_sidecar.channel import LiveEnd
from modelcanary_sidecar.figures import Drop
from modelcanary_sidecar.live_state import LiveState
from modelcanary_sidecar.settings import Address

_POLL = 0.025
#: At the end, for the candidate to answer what it was asked.
FINISH: float = 5.0


def as_it_came(captured: Captured, prefix: bytes, _: Instructions) -> tuple[bytes, bytes]:
    return copied(captured, prefix, captured.headers, captured.body)


class Shadowing:
    """`state` is set before anything is taken."""

    state: LiveState

    def __init__(self, tasks: asyncio.TaskGroup, scorer: LiveEnd, baseline: Address, workers: int) -> None:
        self._tasks = tasks
        self._scorer = scorer
        self._timeout = 0.0
        self._asking = Asking(baseline, self._answered, self._scored, self._lost, as_it_came, workers)

    def take(self, captured: Captured) -> bool:
        """Of a user who has been answered; whether it was taken. What comes of it later is counted here."""
        if captured.candidate is None and self._asking.asks:
            item = captured, captured.id
            reason = self._asking.ask(item)
            if reason is not None:
                self._lost(item, reason)
            return True
        return self._scorer.offer(captured)

    def _answered(self, item: Item, answer: LiveAnswer) -> None:
        captured, _ = item
        captured.candidate = answer
        if not self._scorer.offer(captured):
            self.state.lost(1)

    def _scored(self, item: Item) -> None:
        """Never: what has a scoring copy has a patch, and is asked by the scorer."""

    def _lost(self, item: Item, reason: str) -> None:
        self.state.figures.drop(Drop(reason))

    # -- what the instructions say

    def follow(self, instructions: Instructions) -> None:
        self._timeout = instructions.mirror.timeout
        if instructions.model.requestPatch is None:
            self._asking.follow(instructions, self._tasks)
        else:
            self._asking.stop()

    def end_run(self) -> None:
        """What the candidate has not answered by now counts for the run that ends, as dropped."""
        self._asking.stop()

    async def finish(self) -> None:
        """At the end of the process: until the candidate has answered, or its time is up."""
        try:
            async with asyncio.timeout(min(self._timeout, FINISH)):
                while self._asking.pending:
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            pass
        self._asking.stop()

    # -- now and then

    def sweep(self) -> None:
        """Whether there is use in capturing more, and what is exported."""
        state = self.state
        state.candidate_full = self._asking.full(0.25 if state.candidate_full else 0.75)
        state.figures.asking = self._asking.figures() if self._asking.asks else {}
