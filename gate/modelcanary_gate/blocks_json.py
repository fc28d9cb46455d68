"""Blocks of evidence as JSON, and back: what the ledger stores and serves.

Round trips are exact: floats travel as the shortest text that reads back as the same number.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelcanary_gate.calibration import Reliability
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.errors import DataError
from modelcanary_gate.evidence import OUTCOME_CODES, ContrastSums, Coverage, LossBlock, TrafficBlock
from modelcanary_gate.latency import LatencyHistogram
from modelcanary_gate.vocabulary import Role

_MOMENTS = ("b", "c", "bb", "cc", "bc")
_RELIABILITY = ("n", "confidence", "correct", "gapSquares")


def loss_block_to_json(plan: EvidencePlan, block: LossBlock) -> dict[str, Any]:
    return {
        "seq": block.seq,
        "opened": block.opened,
        "closed": block.closed,
        "n": block.n,
        "weight": block.weight,
        "moments": dict(zip(_MOMENTS, block.moments.tolist(), strict=True)),
        "contrasts": block.contrasts.to_json(plan.loss),
        "classes": {
            group: {"n": row[0], "b": row[1], "c": row[2]}
            for group, row in zip(plan.groups, block.classes.T.tolist(), strict=True)
        },
        "confidentErrors": {
            contrast.name: dict(zip(Role, counts, strict=True))
            for contrast, counts in zip(plan.confident_errors, block.confident_errors.T.tolist(), strict=True)
        },
        "reliability": {
            role: dict(
                zip(
                    _RELIABILITY,
                    (part.tolist() for part in (bins.n, bins.confidence, bins.correct, bins.gap_squares)),
                    strict=True,
                )
            )
            for role, bins in zip(Role, block.reliability, strict=True)
        },
        "coverage": {
            role: {"matured": table[0].tolist(), "missing": table[1].tolist()}
            for role, table in zip(Role, (block.coverage.baseline, block.coverage.candidate), strict=True)
        },
    }


def loss_block_from_json(plan: EvidencePlan, data: Mapping[str, Any]) -> LossBlock:
    """Raises DataError where the block was made for another specification."""
    try:
        reliability = [
            Reliability(*(np.array(data["reliability"][role][name], dtype=np.float64) for name in _RELIABILITY))
            for role in Role
        ]
        tables = [
            np.array([data["coverage"][role]["matured"], data["coverage"][role]["missing"]], dtype=np.float64)
            for role in Role
        ]
        classes = [[data["classes"][group][name] for group in plan.groups] for name in ("n", "b", "c")]
        wrong = [[data["confidentErrors"][contrast.name][role] for contrast in plan.confident_errors] for role in Role]
        return LossBlock(
            data["seq"],
            data["opened"],
            data["closed"],
            data["n"],
            data["weight"],
            np.array([data["moments"][name] for name in _MOMENTS], dtype=np.float64),
            ContrastSums.from_json(data["contrasts"], plan.loss),
            np.array(classes, dtype=np.float64),
            np.array(wrong, dtype=np.float64),
            (reliability[0], reliability[1]),
            Coverage(tables[0], tables[1]),
        )
    except KeyError as error:
        raise DataError(f"the block of evidence has no field {error}; it was written by another version") from None


def traffic_block_to_json(plan: EvidencePlan, block: TrafficBlock) -> dict[str, Any]:
    return {
        "seq": block.seq,
        "opened": block.opened,
        "closed": block.closed,
        "n": block.n,
        "contrasts": block.contrasts.to_json(plan.traffic),
        "outcomes": {
            role: {outcome: int(counts[code]) for outcome, code in OUTCOME_CODES.items() if counts[code]}
            for role, counts in zip(Role, block.outcomes, strict=True)
        },
        "latency": {
            role: {str(bucket): count for bucket, count in sorted(histogram.counts.items())}
            for role, histogram in zip(Role, block.latency, strict=True)
        },
    }


def traffic_block_from_json(plan: EvidencePlan, data: Mapping[str, Any]) -> TrafficBlock:
    """Raises DataError where the block was made for another specification."""
    try:
        outcomes = [[data["outcomes"][role].get(outcome, 0) for outcome in OUTCOME_CODES] for role in Role]
        latency = [
            LatencyHistogram({int(bucket): count for bucket, count in data["latency"][role].items()}) for role in Role
        ]
        return TrafficBlock(
            data["seq"],
            data["opened"],
            data["closed"],
            data["n"],
            ContrastSums.from_json(data["contrasts"], plan.traffic),
            np.array(outcomes, dtype=np.int64),
            (latency[0], latency[1]),
        )
    except KeyError as error:
        raise DataError(f"the block of evidence has no field {error}; it was written by another version") from None
