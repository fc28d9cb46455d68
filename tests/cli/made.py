"""What tests of files are made from: predictions of made-up models, files of them, and a command's answer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

CLASSES = ("cat", "dog", "eel")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call of the command line left: its exit code and its streams."""

    code: int
    out: str
    err: str

    def complaint(self) -> str:
        """The one line of an error. Fails where there is more, or less, or anything on stdout."""
        assert self.code == 3, (self.code, self.out, self.err)
        assert self.out == ""
        assert self.err.endswith("\n") and self.err.count("\n") == 1, self.err
        assert self.err.startswith("modelcanary: ")
        assert ";" in self.err, "a remedy follows the problem"
        return self.err


Cli = Callable[..., Answer]


@dataclass(frozen=True, slots=True)
class Models:
    """A baseline and a candidate on the same rows: probabilities (n, 3), and the true classes (n,)."""

    baseline: NDArray[np.float64]
    candidate: NDArray[np.float64]
    labels: NDArray[np.int64]

    @property
    def ids(self) -> list[str]:
        return [f"r{row}" for row in range(len(self.labels))]

    @property
    def names(self) -> list[str]:
        return [CLASSES[label] for label in self.labels]


def models(n: int, noise: float, *, seed: int = 1, skill: float = 2.0) -> Models:
    """`noise` is what the candidate's logits have above the baseline's; 0 is an identical one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), labels] += skill
    return Models(softmax(logits), softmax(logits + noise * rng.normal(size=(n, 3))), labels)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.exp(logits)
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def parquet(path: str | Path, **columns: object) -> Path:
    """Writes a file; two-dimensional arrays become lists."""
    ready = {
        name: column.tolist() if isinstance(column, np.ndarray) and column.ndim == 2 else column
        for name, column in columns.items()
    }
    pq.write_table(pa.table(ready), path)
    return Path(path)


def specification(path: str | Path, **spec: object) -> Path:
    document = {
        "apiVersion": "modelcanary.io/v1alpha1",
        "kind": "ModelCanary",
        "metadata": {"name": "pets"},
        "spec": {"model": {"classes": list(CLASSES)}, **spec},
    }
    Path(path).write_text(yaml.safe_dump(document))
    return Path(path)
