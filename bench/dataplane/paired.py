"""Whether a failing shadow is felt by users: latency in every fault against the sidecar's own without mirror.

`make bench-dataplane-paired`. A round is: without mirror, a fault, without mirror, the next fault, and so on to without
mirror. Each fault is compared with the two slices beside it, so that what drifts cancels; each slice without mirror
likewise with its neighbours of the same kind, which shows what the machine can resolve. Of the rounds' ratios: the
Hodges-Lehmann estimate and its interval by signed ranks, which outliers do not move.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from statistics import NormalDist, mean

from bench.dataplane import report
from bench.dataplane.cells import SIDECAR, Cell
from bench.dataplane.measuring import Bench
from bench.dataplane.processes import Stage

SECONDS = 3.0  # of a slice
_PLAIN = Cell(SIDECAR)
_LIMITS = {"p50": 1.01, "p90": 1.01, "p99": 1.03}
_CONTROL = "none, against itself"
Compared = dict[str, dict[str, list[float]]]  # by fault and quantile: ratio, low, high


def measure(
    bench: Bench, faults: Sequence[str], rounds: int, seconds: float, held: Callable[[], AbstractContextManager[None]]
) -> Compared:
    """`held`: entered for each round."""
    logs: dict[str, dict[str, list[float]]] = {
        fault: {quantile: [] for quantile in _LIMITS} for fault in (*faults, _CONTROL)
    }
    with Stage() as stage:
        plain = bench.subject(stage, _PLAIN)
        faulty = [bench.subject(stage, replace(_PLAIN, mirror_pct=100, shadow=fault)) for fault in faults]
        for number in range(rounds):
            turn = faulty[number % len(faulty) :] + faulty[: number % len(faulty)]
            start = len(plain.rounds)
            with held():
                bench.slice(plain, seconds, number)
                for subject in turn:
                    bench.slice(subject, seconds, number)
                    bench.slice(plain, seconds, number)
            for quantile in _LIMITS:
                own = [values[quantile] for values in plain.rounds[start:]]
                for place, subject in enumerate(turn):
                    beside = math.sqrt(own[place] * own[place + 1])
                    logs[str(subject.cell.shadow)][quantile].append(math.log(subject.rounds[-1][quantile] / beside))
                middle = 1 + number % (len(own) - 2)
                beside = math.sqrt(own[middle - 1] * own[middle + 1])
                logs[_CONTROL][quantile].append(math.log(own[middle] / beside))
            print(f"round {number + 1} of {rounds}: " + ", ".join(f"{value:.0f}" for value in own), flush=True)
    return {
        fault: {quantile: [math.exp(value) for value in estimate(values)] for quantile, values in by.items()}
        for fault, by in logs.items()
    }


def estimate(values: Sequence[float], level: float = 0.9) -> tuple[float, float, float]:
    """Hodges-Lehmann and its interval, by the normal approximation of the signed-rank statistic."""
    n = len(values)
    walsh = sorted((values[i] + values[j]) / 2 for i in range(n) for j in range(i, n))
    count = len(walsh)
    spread = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    low = max(0, math.floor(count / 2 - spread))
    middle = mean((walsh[(count - 1) // 2], walsh[count // 2]))
    return middle, walsh[low], walsh[count - 1 - low]


def section(compared: Compared, rounds: int, seconds: float, where: str) -> str:
    rows = []
    for fault, quantiles in compared.items():
        texts = [f"{ratio:.3f} [{low:.3f}, {high:.3f}]" for ratio, low, high in quantiles.values()]
        missed = [name for name, limit in _LIMITS.items() if quantiles[name][0] > limit]
        verdict = "" if fault == _CONTROL else f"**{', '.join(missed)} missed**" if missed else "met"
        rows.append((fault, *texts, verdict))
    return f"""## Users and a failing shadow

`make bench-dataplane-paired`: {where}
1,000 requests/s, a model of 2 ms, everything mirrored to a shadow that fails, against the same without mirror in
the slices of {seconds:.1f} s before and after, in {rounds} rounds; ratios of the users' latency with 90%
intervals. The last row is the measure against itself. Goals: p50 and p90 within 1%, p99 within 3%.

{report.table(("shadow", "p50", "p90", "p99", ""), rows)}
"""
