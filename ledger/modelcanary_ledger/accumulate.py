"""The open block of a stream: slices of pairs are added to it, and it is cut where the rule says.

Called by `run`. Where blocks are cut depends on the pairs' own times alone, so it does not matter in how many
slices, or when, the pairs were added.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.calibration import Reliability
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.evidence import (
    OUTCOME_CODES,
    BlockRule,
    ContrastSums,
    Coverage,
    LossBlock,
    TrafficBlock,
)
from modelcanary_gate.latency import LatencyHistogram

Floats = NDArray[np.float64]
Block = TypeVar("Block", LossBlock, TrafficBlock)

RULE = BlockRule()


def empty_loss(plan: EvidencePlan, seq: int) -> LossBlock:
    return LossBlock(
        seq,
        0.0,
        0.0,
        0,
        0.0,
        np.zeros(5),
        ContrastSums.empty(len(plan.loss)),
        np.zeros((3, len(plan.groups))),
        np.zeros((2, len(plan.confident_errors))),
        (Reliability.empty(), Reliability.empty()),
        Coverage.empty(plan),
    )


def empty_traffic(plan: EvidencePlan, seq: int) -> TrafficBlock:
    return TrafficBlock(
        seq,
        0.0,
        0.0,
        0,
        ContrastSums.empty(len(plan.traffic)),
        np.zeros((2, len(OUTCOME_CODES)), dtype=np.int64),
        (LatencyHistogram(), LatencyHistogram()),
    )


def cuts(n: int, opened: float, clock: Floats, started: float, rule: BlockRule = RULE) -> list[int]:
    """Rows (exclusive ends) at which blocks are closed, where the open one has `n` pairs since `opened`.

    `clock`, (rows,), never falls. Agrees with `rule.due` asked after each row.
    """
    ends: list[int] = []
    start = 0
    while (at := start + max(rule.minimum - n, 1) - 1) < len(clock):
        since = opened if n else float(clock[start])
        tail = clock[at:]
        due = tail - since >= np.maximum(rule.seconds, (tail - started) * rule.fraction)
        first = int(due.argmax())
        if not due[first]:
            break
        start, n = at + first + 1, 0
        ends.append(start)
    return ends


class Accumulator(Generic[Block]):
    """One stream's open block, and the blocks cut since they were last taken."""

    def __init__(self, block: Block, opened: float, clock: float, empty: Callable[[int], Block]) -> None:
        self.block: Block = block
        self.opened = opened  # by the clock that cuts
        self.clock = clock
        self._empty: Callable[[int], Block] = empty
        self.closed: list[Block] = []

    def add(self, times: Floats, clock: Floats, started: float, make: Callable[[slice, float, float], Block]) -> None:
        """Adds rows whose requests came at `times`; `make(rows, opened, closed)` sums a slice of them."""
        if not len(clock):
            return
        clock = np.maximum.accumulate(np.maximum(clock, self.clock))
        start = 0
        for end in (*cuts(self.block.n, self.opened, clock, started), len(clock)):
            if start == end:
                break
            if self.block.n == 0:
                self.opened = float(clock[start])
            rows = slice(start, end)
            part = make(rows, float(times[rows].min()), float(times[rows].max()))
            self.block = self._merged(part)
            if end < len(clock) or self._cut_at_end(clock, started):
                self.closed.append(self.block)
                self.block = self._empty(self.block.seq + 1)
            start = end
        self.clock = float(clock[-1])

    def _cut_at_end(self, clock: Floats, started: float) -> bool:
        now = float(clock[-1])
        return RULE.due(self.block.n, now - self.opened, now - started)

    def _merged(self, part: Block) -> Block:
        part = replace(part, seq=self.block.seq)
        if self.block.n:
            return self.block + part
        if isinstance(part, LossBlock):  # coverage may have come before the first label
            return replace(part, coverage=part.coverage + self.block.coverage)
        return part
