"""The models that are asked for pairs in a run: the candidate, and the baseline once more where that is asked for.

`mirror` has one, lets it follow the instructions and offers it captured requests: those whose copy has to be read to be
made, as a live process asks for all others. It must not know what an answer means, but for whether it is one, nor how a
copy is made.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from modelcanary_gate.protocol import Instructions
from modelcanary_gate.spec import ProtocolName
from modelcanary_sidecar.breaker import BreakerState
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.settings import Address
from modelcanary_sidecar.shadow import Shadow, ShadowLimits, Shed

logger = logging.getLogger(__name__)

#: The baseline answers users: a scoring copy takes no more of it than this many requests at a time.
_SCORING_CONNECTIONS = 4

#: A captured request, and the id that its labels will come with.
Item = tuple[Captured, str]

#: The copy that a model is sent, head and body, whose paths begin with the prefix.
Copy = Callable[[Captured, bytes, Instructions], tuple[bytes, bytes]]

#: Why a request has no scoring copy that could be read; without one there is nothing to compare.
SCORING_COPY = "scoringCopy"
NO_CANDIDATE = "noCandidate"


class Asking:
    """`on_answer` hears the candidate's answers, `on_scored` of requests with the baseline's second answer in place
    of its first, `on_lost` of those that come to nothing, with the reason."""

    def __init__(
        self,
        baseline: Address,
        on_answer: Callable[[Item, LiveAnswer], None],
        on_scored: Callable[[Item], None],
        on_lost: Callable[[Item, str], None],
        copy: Copy,
    ) -> None:
        self._address = baseline
        self._on_answer, self._on_scored, self._on_lost = on_answer, on_scored, on_lost
        self._copy = copy
        self._instructions = Instructions(version=0)
        self._candidate: Shadow[Item] | None = None
        self._baseline: Shadow[Item] | None = None
        self._prefix = b""

    def follow(self, instructions: Instructions, tasks: asyncio.TaskGroup) -> None:
        """Makes the pools anew where they are to be others than now."""
        before = self._instructions
        same = (before.run, before.candidate, before.mirror) == (
            instructions.run,
            instructions.candidate,
            instructions.mirror,
        )
        if same:
            self._instructions = instructions
            return
        self.stop()
        self._instructions = instructions
        if not instructions.run or not instructions.candidate or instructions.model.protocol == ProtocolName.OPENAI:
            return
        self._candidate = self._pool_for_candidate(instructions)
        if instructions.mirror.scoringCopy:
            limits = replace(self._limits(), connections=_SCORING_CONNECTIONS)
            self._baseline = Shadow(self._address.host, self._address.port, limits, self._scored, self._unscored)
        for pool in self._pools():
            tasks.create_task(pool.run())

    def stop(self) -> None:
        """Sheds all that waits or is in flight; until it follows instructions again, nobody is asked."""
        for pool in self._pools():
            pool.stop()
        self._candidate = self._baseline = None
        self._instructions = Instructions(version=0)

    @property
    def scores(self) -> bool:
        """Whether the baseline is asked once more, where it did not say all."""
        return self._baseline is not None

    def score(self, item: Item) -> str | None:
        """Ask the baseline once more; or the reason why not."""
        if self._baseline is None:
            return SCORING_COPY
        return SCORING_COPY if self._offer(self._baseline, item, b"") else None

    def ask(self, item: Item) -> str | None:
        """Ask the candidate; or the reason why not."""
        if self._candidate is None:
            return NO_CANDIDATE
        return self._offer(self._candidate, item, self._prefix)

    def _offer(self, pool: Shadow[Item], item: Item, prefix: bytes) -> Shed | None:
        captured = item[0]
        baseline = captured.baseline
        head, body = self._copy(captured, prefix, self._instructions)
        beside = len(captured.headers) + len(baseline.headers) + len(baseline.body)
        if body is not captured.body:  # it was patched
            beside += len(captured.body)
        return pool.offer(item, head, body, beside)

    def _scored(self, item: Item, answer: LiveAnswer) -> None:
        """A second call that fails says nothing about the answer that the user got: nothing is recorded."""
        captured, id = item
        if answer.failure is not None or answer.status >= 400:
            self._on_lost(item, SCORING_COPY)
        else:
            first = captured.baseline  # its latency is what the user waited
            self._on_scored((replace(captured, baseline=replace(answer, latency=first.latency)), id))

    def _unscored(self, item: Item, _: Shed) -> None:
        self._on_lost(item, SCORING_COPY)

    def _pool_for_candidate(self, instructions: Instructions) -> Shadow[Item] | None:
        found = candidate_of(instructions)
        if found is None:
            return None
        host, port, self._prefix = found
        return Shadow(host, port, self._limits(), self._on_answer, self._on_lost)

    # what is exported, and decides whether more is captured

    def _pools(self) -> list[Shadow[Item]]:
        return [pool for pool in (self._candidate, self._baseline) if pool is not None]

    @property
    def pending(self) -> int:
        """What is still to be answered."""
        return sum(pool.queued + pool.in_flight for pool in self._pools())

    def full(self, share: float) -> bool:
        """Whether a queue is filled beyond the share of what it holds, or a breaker is open."""
        limit = ShadowLimits().queue * share
        return any(pool.queued > limit or pool.breaker() is BreakerState.OPEN for pool in self._pools())

    def figures(self) -> dict[str, float]:
        candidate, baseline = self._candidate, self._baseline
        breaker = candidate.breaker() if candidate is not None else None
        return {
            **{f"breaker:{state}": float(state is breaker) for state in BreakerState},
            "queue": float(candidate.queued if candidate else 0),
            "held_bytes": float(candidate.held if candidate else 0),
            "in_flight": float(candidate.in_flight if candidate else 0),
            "connections": float(candidate.connections if candidate else 0),
            "scoring_queue": float(baseline.queued if baseline else 0),
            "scoring_in_flight": float(baseline.in_flight if baseline else 0),
        }

    def _limits(self) -> ShadowLimits:
        mirror = self._instructions.mirror
        return ShadowLimits(mirror.timeout, mirror.maxInFlight, mirror.maxBodyBytes)


def candidate_of(instructions: Instructions) -> tuple[str, int, bytes] | None:
    """Host, port, and what its paths begin with."""
    try:
        parts = urlsplit(instructions.candidate or "")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        parts, host, port = urlsplit(""), None, 0
    if parts.scheme != "http" or not host:
        logger.error("run %s is not mirrored: the candidate %r is not http", instructions.run, instructions.candidate)
        return None
    return host, port, parts.path.rstrip("/").encode()
