"""The Mann-Whitney rule, calibrated: the z that an equal candidate on split traffic exceeds in 0.1% of the runs.

Called by `__main__`. A quantile so far out takes more runs than the rest of the table, and this rule needs nothing
but block means, so it has runs of its own.
"""

import zlib

import numpy as np
from bench.gates import pools, rules, streams
from bench.gates.scenarios import PAIRS
from bench.gates.sums import BLOCK

#: the rate of false roll-backs at which rules are compared
RATE = 0.001
PART = 250


def plan(scale: float) -> list[tuple[str, str, int]]:
    """(pool, stream, part) of PART runs each."""
    parts = max(4, round(6000 * scale / PART))
    return [(name, "independent", part) for name in ("cov", "digits", "heavy") for part in range(parts)]


def highest(work: tuple[str, str, int]) -> tuple[str, str, list[float]]:
    """The highest z of each run."""
    name, stream_name, part = work
    pool = pools.load(name)
    draw = (streams.bursts if stream_name == "bursts" else streams.independent)(pool)
    rng = np.random.default_rng([part, zlib.crc32(f"{name} {stream_name}".encode())])
    answered = pool.candidates["equal"]
    found = []
    for _ in range(PART):
        candidate = answered[draw(rng, PAIRS)].reshape(1, -1, BLOCK).mean(axis=2)
        baseline = pool.baseline[draw(rng, PAIRS)].reshape(1, -1, BLOCK).mean(axis=2)
        found.append(float(rules.mann_whitney(candidate, baseline).max()))
    return name, stream_name, found


def thresholds(several: list[tuple[str, str, list[float]]]) -> dict[tuple[str, str], float]:
    """(pool, stream) → z."""
    every: dict[tuple[str, str], list[float]] = {}
    for name, stream, found in several:
        every.setdefault((name, stream), []).extend(found)
    return {key: float(np.quantile(found, 1 - RATE)) for key, found in every.items()}
