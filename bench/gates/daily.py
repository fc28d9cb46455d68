"""A daily mix: by night the candidate is another one, so to speak, than by day.

Of two candidates of a pool, the share of the one in the traffic swings between 0 and 1 over the day, from a phase
that is drawn for each run. 'equal or better' (equal, −5%) is never worse: the null of a gate that looks for
regressions within the run. 'better or worse' (+5%, −5%) is equal over each whole day: the null of a gate that tests
the run as a whole. Called by the scenarios.
"""

import numpy as np
from bench.gates.pools import Pool
from bench.gates.streams import Rows, Stream

#: labelled pairs in a day: a run has five days
DAY = 20_000
PARTS = {"equal or better": ("equal", "-5%"), "better or worse": ("+5%", "-5%")}


def doubled(pool: Pool, mix: str) -> Pool:
    """The pool twice over: first as answered by the one candidate, then as answered by the other."""
    answers = np.concatenate([pool.candidates[candidate] for candidate in PARTS[mix]])
    return Pool(pool.name, np.tile(pool.label, 2), np.tile(pool.baseline, 2), {"both": answers})


def stream(pool: Pool, *, day: int = DAY) -> Stream:
    """Rows of the doubled pool."""
    size = len(pool.baseline)

    def draw(rng: np.random.Generator, pairs: int) -> Rows:
        turn = np.arange(pairs) / day + rng.random()
        second = rng.random(pairs) < 0.5 + 0.5 * np.sin(2 * np.pi * turn)
        return (rng.integers(0, size, pairs) + size * second).astype(np.int32)

    return draw
