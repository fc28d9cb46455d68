"""From captured requests to pairs: what the scorer process does, but for being a process.

It takes what the live processes captured, has the candidate asked (`asking`), decodes both answers, hands the pairs to
the sender, and follows the instructions that the sender brings back, of which the live processes hear here.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar.asking import Asking, Item
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.channel import Dropped, News, ScorerEnd
from modelcanary_sidecar.decoding import ReadingError
from modelcanary_sidecar.errors import FrameError
from modelcanary_sidecar.instructions import Standing
from modelcanary_sidecar.llm import Desk, generates
from modelcanary_sidecar.mirrored import copy_of
from modelcanary_sidecar.pairing import Answered, KeyMint, Pairing
from modelcanary_sidecar.sender import Sender
from modelcanary_sidecar.settings import Address
from modelcanary_sidecar.tally import Tally

logger = logging.getLogger(__name__)

_TICK = 0.25  # each is a wake-up of its own
_NEWS_EVERY = 1.0
_POLL = 0.025  # at the end
#: Captured requests, about, taken from one live process before the loop does something else.
_AT_A_TIME = 128
#: At the end: for the candidate to answer, and again for the ledger to take what is left.
_FLUSH_TIME = 5.0


def _copy(captured: Captured, prefix: bytes, instructions: Instructions) -> tuple[bytes, bytes]:
    return copy_of(captured, prefix, instructions.model.requestPatch, instructions.mirror.maxBodyBytes)


class Mirror:
    """One for all live processes of a sidecar. `run` ends after `stop`, when what was captured is answered."""

    def __init__(
        self,
        sender: Sender,
        ends: Sequence[ScorerEnd],
        standing: Standing,
        tally: Tally,
        baseline: Address,
        report: Callable[[Mapping[str, float]], None],
    ) -> None:
        """`report` is told each second what is counted, by name."""
        self._sender = sender
        self._ends = ends
        self._standing = standing
        self._tally = tally
        self._report = report
        self._keys = KeyMint()
        self._pairing: Pairing | None = None
        self._asking = Asking(baseline, self._answered, self._compare, self._lost, _copy)
        self._desk = Desk(baseline, self._keys, tally, sender.add, self._drop, sender.references)
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._shedding = False
        self._told = float("-inf")
        self._heard = True  # by every live process, what was told last

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for end in self._ends:
            loop.add_reader(end.fileno(), self._readable, end)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            sending = tasks.create_task(self._sender.run())
            parent = os.getppid()
            while not self._stopping.is_set() and os.getppid() == parent:
                self._tick()
                await asyncio.sleep(_TICK)
            for end in self._ends:
                loop.remove_reader(end.fileno())
                self._readable(end, at_a_time=100_000)  # what was captured before the live path ended
            await self._let_finish()
            sending.cancel()
            self._asking.stop()
            self._desk.stop()
        self._tasks = None
        if not await self._sender.flush(_FLUSH_TIME):
            logger.warning("%d pairs are lost: the ledger did not take them in time", self._sender.unsent)

    async def _let_finish(self) -> None:
        """Until the models have answered what they were asked, or their time is up."""
        limit = min(self._standing.instructions.mirror.timeout, _FLUSH_TIME)
        try:
            async with asyncio.timeout(limit + 4 * _POLL):
                while self._asking.pending or self._desk.pending:
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            return

    # what the live processes send

    def _readable(self, end: ScorerEnd, at_a_time: int = _AT_A_TIME) -> None:
        taken = 0
        while taken < at_a_time:
            taken += 1
            try:
                message = end.receive()
            except FrameError as error:
                logger.error("a message from the live process is lost: %s", error)
                self._drop(self._standing.run, "frame")
                continue
            if message is None:
                return
            if isinstance(message, Dropped):
                for reason, count in message.counts.items():
                    self._sender.drop(message.run, reason, count)
            else:
                taken += len(message)
                self._take(message)

    def _take(self, message: Sequence[Captured]) -> None:
        """What has both answers is paired together."""
        answered: list[Answered] = []
        for captured in message:
            id = self._wanted(captured)
            if id is None:
                continue
            item = captured, id
            if self._asking.scores and self._pairing is not None and self._pairing.lacks_probabilities(captured):
                self._lost(item, self._asking.score(item))
            elif captured.candidate is not None:
                answered.append((captured, id, captured.candidate))
            else:
                self._compare(item)
        if answered:
            self._pair(answered)

    def _wanted(self, captured: Captured) -> str | None:
        """The id of one that is to be a pair; what becomes of others is done."""
        run = captured.run
        if run != self._standing.run:
            self._drop(run, "runEnded")
        elif self._desk.open:
            self._desk.take(captured)
        elif self._pairing is None:
            self._drop(run, "instructions")
        else:
            id = self._pairing.id_of(captured)
            if id is None:
                self._drop(run, "bodyId")
            return id
        return None

    def _compare(self, item: Item) -> None:
        """Both answers are needed: the candidate's may be there already."""
        captured, id = item
        if captured.candidate is not None:
            self._pair([(captured, id, captured.candidate)])
        else:
            self._lost(item, self._asking.ask(item))

    def _lost(self, item: Item, reason: str | None) -> None:
        if reason is not None:
            self._drop(item[0].run, reason)

    def _drop(self, run: str, reason: str) -> None:
        self._tally.dropped(reason)
        self._sender.drop(run, reason)

    # what the candidate says

    def _answered(self, item: Item, answer: LiveAnswer) -> None:
        self._pair([(*item, answer)])

    def _pair(self, answered: Sequence[Answered]) -> None:
        """All captured for one run."""
        run = answered[0][0].run
        if self._pairing is None or run != self._standing.run:
            for _ in answered:
                self._drop(run, "runEnded")
            return
        pairs = self._pairing.pairs(answered)
        self._tally.pairs(pairs)
        for pair in pairs:
            self._sender.add(run, pair)

    # what the ledger says

    def hear(self, instructions: Instructions, asked: float) -> None:
        """The ledger's answer; `asked` is when it was asked, so that a lease never outlasts what was meant."""
        before = self._standing.instructions
        if self._standing.hear(instructions, asked):
            if (before.run, before.model, before.mirror, before.share, before.observing) != (
                instructions.run,
                instructions.model,
                instructions.mirror,
                instructions.share,
                instructions.observing,
            ):
                self._pairing = self._make_pairing(instructions)
            if self._tasks is not None:
                self._asking.follow(instructions, self._tasks)
                self._desk.follow(instructions, self._tasks)
            self._tell()

    def _make_pairing(self, instructions: Instructions) -> Pairing | None:
        if not instructions.run or generates(instructions):
            return None
        try:
            return Pairing(instructions, self._keys, self._tally.unread)
        except ReadingError as error:
            logger.error("run %s is not mirrored: %s", instructions.run, error)
            return None

    # what the live processes hear

    def _tick(self) -> None:
        shedding = self._is_shedding()
        if shedding != self._shedding or time.monotonic() >= self._told + _NEWS_EVERY:
            self._shedding = shedding
            self._tell()

    def _is_shedding(self) -> bool:
        """No use in capturing more: with some room between yes and no, so that it does not flutter."""
        return self._asking.full(0.25 if self._shedding else 0.75)

    def _tell(self) -> None:
        self._told = time.monotonic()
        sender = self._sender
        gauges = {
            **self._asking.figures(),
            **self._desk.gauges(),
            "unsent_pairs": float(len(sender.buffer)),
            "unsent_bytes": float(sender.buffer.bytes),
            "batches_total": float(sender.batches),
            "batch_retries_total": float(sender.retries),
            "heartbeats_total": float(sender.heartbeats),
        }
        self._report(self._tally.figures(gauges))
        news = News(self._standing.instructions, self._standing.heard, self._shedding)
        told = [end.tell(news) for end in self._ends]
        if not all(told) and self._heard:
            logger.error("a live process cannot be told the instructions, and may mirror nothing: no room for them")
        self._heard = all(told)
