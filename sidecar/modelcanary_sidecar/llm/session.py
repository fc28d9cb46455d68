"""One run of a language model: from captured requests and references to pairs with the losses of both models.

`desk` makes one for each run's instructions. All of it is off the live path, in the scorer process: a bounded queue of
texts to score, a few at a time, no faster than the budget of tokens lets them.
"""

import asyncio
import math
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from modelcanary_gate.protocol import Answer, Instructions, Pair, References
from modelcanary_gate.spec import LossPer
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.decoding.unreadable import Unread
from modelcanary_sidecar.errors import SidecarError
from modelcanary_sidecar.llm.budget import Budget
from modelcanary_sidecar.llm.memory import Kept, Memory, text_size
from modelcanary_sidecar.llm.prompt import Unfit, answer_of, prompt_of
from modelcanary_sidecar.llm.server import Asking, Result, Score, Server
from modelcanary_sidecar.pairing import KeyMint
from modelcanary_sidecar.shadow import Shadow, Shed
from modelcanary_sidecar.tally import Tally

#: Texts that wait to be scored, and those that are scored at one time.
_QUEUE = 256
_QUEUE_BYTES = 8 << 20
_AT_A_TIME = 4
_POLL = 1.0
_BYTES_PER_TOKEN = 4  # before a text is scored, about

#: Why a text is not scored, beyond `Unfit` and the pools' own reasons.
BUDGET, FULL, FORGOTTEN = "tokenBudget", "scoringQueue", "promptForgotten"

#: From a cursor to the references that came since; raises SidecarError.
Fetch = Callable[[str], Awaitable[References]]


@dataclass(frozen=True, slots=True)
class _Job:
    kept: Kept
    reference: str

    @property
    def size(self) -> int:
        return self.kept.prompt.size + text_size(self.reference)


class Session:
    """`servers` and `pools` are by role. `run` it in a task; it ends after `stop`."""

    def __init__(
        self,
        instructions: Instructions,
        servers: Mapping[Role, Server],
        pools: list[Shadow[Asking]],
        keys: KeyMint,
        tally: Tally,
        emit: Callable[[str, Pair], None],
        drop: Callable[[str, str], None],
        fetch: Fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = instructions.run
        self._cap = instructions.mirror.maxBodyBytes
        self._per_byte = instructions.model.lossPer == LossPer.BYTE
        self._labelled = instructions.model.references
        self._servers = servers
        self._pools = pools
        self._keys, self._tally = keys, tally
        self._emit, self._drop, self._fetch = emit, drop, fetch
        self._clock = clock
        self._budget = Budget(instructions.mirror.maxTokensPerSecond, clock())
        self._memory = Memory()
        self._queue: asyncio.Queue[_Job] = asyncio.Queue(_QUEUE)
        self._queued_bytes = 0
        self._busy = 0
        self._waits = False
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for pool in self._pools:
                tasks.create_task(pool.run())
            loops = [tasks.create_task(self._work()) for _ in range(_AT_A_TIME)]
            if self._labelled:
                loops.append(tasks.create_task(self._hear()))
            await self._stopping.wait()
            for loop in loops:
                loop.cancel()
            for pool in self._pools:
                pool.stop()
        while not self._queue.empty():
            self._dequeued(self._queue.get_nowait())
            self._drop(self._run, Shed.STOPPED)

    def stop(self) -> None:
        self._stopping.set()

    @property
    def busy(self) -> int:
        """Texts that are being scored."""
        return self._busy

    def gauges(self) -> dict[str, float]:
        figures = {
            "texts_queued": float(self._queue.qsize()),
            "queued_bytes": float(self._queued_bytes),
            "prompts": float(len(self._memory)),
            "prompt_bytes": float(self._memory.bytes),
        }
        return figures | {f"scores:{role}": float(server.capable) for role, server in self._servers.items()}

    # what comes in

    def take(self, captured: Captured) -> None:
        prompt = prompt_of(captured, self._cap)
        if isinstance(prompt, Unfit):
            self._drop(self._run, prompt)
            return
        kept = Kept(captured.id, captured.time, prompt)
        if not self._labelled:
            reference = answer_of(captured, self._cap)
            if isinstance(reference, Unfit):
                self._drop(self._run, reference)
            else:
                self._enqueue(_Job(kept, reference))
            return
        early = self._memory.take_early(captured.id)
        if early is not None:
            self._enqueue(_Job(kept, early))
            return
        for _ in range(self._memory.keep(kept)):
            self._drop(self._run, FORGOTTEN)

    async def _hear(self) -> None:
        """References, as the ledger has them. That it cannot be reached is told by those who send pairs."""
        after = ""
        while True:
            try:
                news = await self._fetch(after)
            except SidecarError:
                await asyncio.sleep(_POLL)
                continue
            for reference in news.references:
                kept = self._memory.take(reference.id)
                if kept is None:
                    # Of one whose prompt is in another pod nothing is lost; which those are is not known here.
                    lost = self._memory.keep_early(reference.id, reference.text, self._clock())
                    self._tally.count("references_forgotten_total", lost)
                else:
                    self._enqueue(_Job(kept, reference.text))
            after = news.next
            if not news.references:
                await asyncio.sleep(_POLL)

    def _enqueue(self, job: _Job) -> None:
        if self._queue.full() or self._queued_bytes + job.size > _QUEUE_BYTES:
            self._drop(self._run, BUDGET if self._waits else FULL)
            return
        self._queue.put_nowait(job)
        self._queued_bytes += job.size

    def _dequeued(self, job: _Job) -> _Job:
        self._queued_bytes -= job.size
        return job

    # what is made of it

    async def _work(self) -> None:
        while True:
            job = self._dequeued(await self._queue.get())
            while (wait := self._budget.wait(self._clock())) > 0.0:
                self._waits = True
                await asyncio.sleep(wait)
            self._waits = False
            self._busy += 1
            try:
                await self._score(job)
            finally:
                self._busy -= 1

    async def _score(self, job: _Job) -> None:
        estimate = (len(job.kept.prompt.asked) + len(job.reference.encode())) / _BYTES_PER_TOKEN
        self._budget.spend(estimate)
        baseline, candidate = await asyncio.gather(
            *(self._servers[role].score(job.kept.prompt, job.reference) for role in Role)
        )
        spent = max(baseline.spent, candidate.spent)
        self._budget.spend(spent - estimate)
        self._tally.count("scored_tokens_total", spent)
        for result in (baseline, candidate):
            if isinstance(result.said, Shed):
                self._drop(self._run, result.said)
                return
        scale = self._scale(job.reference, baseline, candidate)
        pair = Pair(
            self._keys.mint(job.kept.time),
            job.kept.id,
            0,
            job.kept.time,
            self._answer(Role.BASELINE, baseline, scale),
            self._answer(Role.CANDIDATE, candidate, scale),
        )
        self._tally.pairs([pair])
        self._emit(self._run, pair)

    def _scale(self, reference: str, *results: Result) -> float:
        """From nats of the whole reference to the loss. It is one for both models, or their losses were no pair."""
        if self._per_byte:
            return 1.0 / (math.log(2.0) * len(reference.encode()))
        counts = [result.said.tokens for result in results if isinstance(result.said, Score)]
        if len(set(counts)) > 1:
            self._tally.count("tokenizers_differ_total")
        return 1.0 / counts[0] if counts else 0.0

    def _answer(self, role: Role, result: Result, scale: float) -> Answer:
        said = result.said
        if isinstance(said, Score):
            return Answer(Outcome.OK, result.latency, struct.pack("<f", -said.loss * scale))
        if isinstance(said, Unread):
            self._tally.unread(role, said)
            return Answer(said.outcome, result.latency)
        raise TypeError(f"a {type(said).__name__} makes no answer")


def settle(asking: Asking, answer: LiveAnswer | Shed) -> None:
    """What pools call: whoever asked may have been cancelled since."""
    if not asking.done():
        asking.set_result(answer)
