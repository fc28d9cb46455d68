"""Batches as sidecars send them, checked before they are recorded: what is stored can always be scored.

Called by `app`. A fault is the sidecar's; the whole batch is refused, naming the pair.
"""

import math

import numpy as np

from modelcanary_gate.protocol import Answer, PairBatch
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_ledger.errors import LedgerError, Unprocessable

MAX_PAIRS = 10_000
_TOLERANCE = 1e-3  # a log-probability's rounding may take it above 0 by this much
MAX_ID = 1024
MAX_INDEX = 2**31 - 1
_MAX_LATENCY = 1e6  # seconds: no answer was waited for that long


def check_batch(batch: PairBatch, classes: int) -> None:
    """For a run of so many classes. Raises Unprocessable, naming the pair and the field."""
    if len(batch.pairs) > MAX_PAIRS:
        raise Unprocessable(f"{len(batch.pairs)} pairs in one batch", field="pairs", remedy=f"send at most {MAX_PAIRS}")
    size = 4 * classes
    columns: list[bytes] = []
    rows: list[tuple[int, Role]] = []
    for row, pair in enumerate(batch.pairs):
        if len(pair.key) != 16:
            raise _unusable(row, "key", f"the key has {len(pair.key)} bytes", "keys have 16")
        if not 0 < len(pair.id) <= MAX_ID:
            raise _unusable(row, "id", f"the id has {len(pair.id)} characters", f"an id has 1 to {MAX_ID}")
        if not 0 <= pair.index <= MAX_INDEX:
            raise _unusable(row, "index", f"the index is {pair.index}", f"instances count from 0 to {MAX_INDEX}")
        if not math.isfinite(pair.time):
            raise _unusable(row, "time", f"the time is {pair.time}", "send seconds since the epoch")
        for role, answer in ((Role.BASELINE, pair.baseline), (Role.CANDIDATE, pair.candidate)):
            values = answer.log_probabilities
            if answer.outcome is Outcome.OK and values is not None and len(values) == size:
                columns.append(values)
                rows.append((row, role))
            else:
                _check_without(answer, row, role, size)
            if not 0.0 <= answer.latency <= _MAX_LATENCY:
                what = f"the latency is {answer.latency}"
                raise _unusable(row, f"{role}.latency", what, f"send seconds, from 0 to {_MAX_LATENCY:g}")
    flat = np.frombuffer(b"".join(columns), "<f4")
    # NaN compares false, so this finds it too; a class that a model holds for impossible is minus infinity.
    bad = np.flatnonzero(~(flat <= _TOLERANCE))
    if len(bad):
        row, role = rows[int(bad[0]) * 4 // size]
        raise _unusable(
            row,
            f"{role}.log_probabilities",
            f"a log-probability is {float(flat[bad[0]]):g}",
            "answers with such numbers have the outcome nonFinite or notProbabilities",
        )


def _check_without(answer: Answer, row: int, role: Role, size: int) -> None:
    values = answer.log_probabilities
    field = f"{role}.log_probabilities"
    if answer.outcome is not Outcome.OK:
        if values is not None:
            raise _unusable(row, field, f"given with the outcome {answer.outcome}", "leave them out")
        return
    got = 0 if values is None else len(values)
    raise _unusable(row, field, f"{got} bytes", f"{size // 4} classes are {size} bytes of float32")


def _unusable(row: int, field: str, what: str, remedy: str) -> LedgerError:
    return Unprocessable(f"pair {row}: {what}", field=f"pairs[{row}].{field}", row=row, remedy=remedy)
