"""Requests and what turns out to be true of them: drawn from `truth`, or rows of a file. Called by `load`."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e.workloads.truth import CLASSES, FEATURES, probabilities


@dataclass(frozen=True, slots=True)
class Request:
    body: bytes
    labels: list[str]  # of each instance


class World(Protocol):
    classes: Sequence[str]

    def request(self, name: str, chance: random.Random, rows: int) -> Request: ...


class Drawn:
    """Numbers at random, and labels as likely as `truth` has them."""

    classes: Sequence[str] = CLASSES

    def request(self, name: str, chance: random.Random, rows: int) -> Request:
        made = [[round(chance.gauss(0.0, 1.0), 3) for _ in range(FEATURES)] for _ in range(rows)]
        labels = [chance.choices(CLASSES, probabilities(row, 0.0))[0] for row in made]
        return Request(_infer(name, made), labels)


class Kept:
    """Rows of real data with their labels, over and over."""

    def __init__(self, path: Path) -> None:
        kept = json.loads(path.read_text())
        self._rows, self._labels = kept["rows"], [str(label) for label in kept["labels"]]
        self.classes: Sequence[str] = sorted(set(self._labels))

    def request(self, name: str, chance: random.Random, rows: int) -> Request:
        picked = [chance.randrange(len(self._rows)) for _ in range(rows)]
        return Request(_infer(name, [self._rows[at] for at in picked]), [self._labels[at] for at in picked])


def world(rows: str) -> World:
    return Kept(Path(rows)) if rows else Drawn()


def _infer(name: str, rows: list[list[float]]) -> bytes:
    data = [value for row in rows for value in row]
    tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}
    return json.dumps({"id": name, "inputs": [tensor]}).encode()
