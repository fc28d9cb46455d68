"""Sends pairs to the ledger and brings back the instructions: batches when there are pairs, else heartbeats.

The scorer adds pairs and drops; two loops send. A batch is encoded once and sent again, the same bytes under
the same id, until the ledger has it: the ledger records it once. What is dropped travels in batches only,
because a heartbeat that is sent again would count it twice.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from modelcanary_gate.protocol import Heartbeat, Instructions, Pair, References
from modelcanary_sidecar.ledger_client import LedgerClient, LedgerRefused, LedgerUnavailable, encode_batch
from modelcanary_sidecar.pair_buffer import BufferLimits, PairBuffer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    flush: float = 0.5  # the longest that a pair waits for others
    heartbeat: float = 1.0  # during a run, without a batch
    idle: float = 3.0  # without a run: how much later than its beginning a run is heard of
    eager: float = 60.0  # after the start: as during a run, so that a run begins at once
    backoff: float = 0.1  # doubled after each failure
    longest_backoff: float = 5.0


class Sender:
    """`run` it in a task; `hear` is called with each of the ledger's answers and the time it was asked."""

    def __init__(
        self,
        client: LedgerClient,
        sidecar: str,
        hear: Callable[[Instructions, float], None],
        *,
        limits: BufferLimits | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._sidecar = sidecar
        self._hear = hear
        self._pace = pace or Pace()
        self._clock = clock
        self.buffer = PairBuffer(sidecar, limits or BufferLimits())
        self._wake = asyncio.Event()
        self._unsent: tuple[str, int, bytes] | None = None  # run, pairs, body of the batch under way
        self._version = 0
        self._in_run = False
        self._asked = float("-inf")  # when the ledger was last asked something it answered
        self._started = clock()
        self.batches = self.retries = self.heartbeats = 0
        self._unreachable = False

    @property
    def unsent(self) -> int:
        """Pairs that the ledger has not acknowledged."""
        return len(self.buffer) + (self._unsent[1] if self._unsent is not None else 0)

    def add(self, run: str, pair: Pair) -> None:
        self.buffer.add(run, pair)
        if self.buffer.full_batch:
            self._wake.set()

    def drop(self, run: str, reason: str, count: int = 1) -> None:
        self.buffer.drop(run, reason, count)

    async def references(self, after: str) -> References:
        """What language models are to be scored by. Raises LedgerUnavailable or LedgerRefused."""
        return await self._client.references(after)

    async def run(self) -> None:
        """Both loops, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._batches())
            tasks.create_task(self._heartbeats())

    async def flush(self, seconds: float) -> bool:
        """Send all that is left, for at most that long; True if nothing is left. Not while `run` runs."""
        try:
            async with asyncio.timeout(seconds):
                while await self._send_next():
                    continue
        except TimeoutError:
            return False
        return True

    async def _batches(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pace.flush):
                    await self._wake.wait()
            except TimeoutError:
                pass  # what there is by now is sent
            self._wake.clear()
            while await self._send_next() and self.buffer.full_batch:
                continue

    async def _send_next(self) -> bool:
        """One batch, until the ledger has it or refuses it; False if there was none."""
        if self._unsent is None:
            batch = self.buffer.cut()
            if batch is None:
                return False
            self._unsent = (batch.run, len(batch.pairs), encode_batch(batch))
        run, pairs, body = self._unsent
        failures = 0
        while True:
            asked = self._clock()
            try:
                instructions = await self._client.send_batch(body)
            except LedgerUnavailable as error:
                self._failed(error)
                self.retries += 1
                await asyncio.sleep(self._backoff(failures))
                failures += 1
            except LedgerRefused as error:
                logger.warning("%d pairs are lost: %s", pairs, error)
                self._unsent = None
                if pairs:  # counts that were refused are not counted in turn, or this would never end
                    self.buffer.drop(run, "refused", pairs)
                return bool(pairs)
            else:
                self._unsent = None
                self.batches += 1
                self._answered(instructions, asked)
                return True

    async def _heartbeats(self) -> None:
        failures = 0
        while True:
            now = self._clock()
            pace = self._pace
            eager = self._in_run or now < self._started + pace.eager
            due = self._asked + (pace.heartbeat if eager else pace.idle)
            if now < due:
                # No longer than one heartbeat, because a batch's answer may begin a run meanwhile.
                await asyncio.sleep(min(due - now, pace.heartbeat))
                continue
            try:
                instructions = await self._client.send_heartbeat(Heartbeat(self._sidecar, self._version))
            except (LedgerUnavailable, LedgerRefused) as error:
                self._failed(error)
                await asyncio.sleep(min(self._backoff(failures), pace.heartbeat))
                failures += 1
            else:
                failures = 0
                self.heartbeats += 1
                self._answered(instructions, now)

    def _answered(self, instructions: Instructions, asked: float) -> None:
        if self._unreachable:
            self._unreachable = False
            logger.warning("the ledger answers again")
        self._asked = max(self._asked, asked)
        self._version = instructions.version
        self._in_run = bool(instructions.run)
        self._hear(instructions, asked)

    def _failed(self, error: Exception) -> None:
        """Logged once per outage: what is lost in it is counted."""
        if not self._unreachable:
            self._unreachable = True
            logger.warning("%s; trying again", error)

    def _backoff(self, failures: int) -> float:
        """With jitter, so that all sidecars do not come back to a restarted ledger at once."""
        longest = min(self._pace.longest_backoff, self._pace.backoff * 2.0 ** min(failures, 20))
        return longest * random.uniform(0.5, 1.0)
