"""The trained models and the rows kept from training. Called by `__main__`; trained once, then kept."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.cache import built, cache_root, key_of
from demo.environments import SERVERS
from demo.errors import DemoError

TRAINING = SERVERS / "train.py"
PATIENCE = 300.0
NAMES = ("baseline", "shuffled", "better")


@dataclass(frozen=True, slots=True)
class Digits:
    """The rows that no model has seen, and where the models are."""

    place: Path
    rows: NDArray[np.float32]  # (n, 64)
    labels: NDArray[np.int64]  # (n,)
    offline: dict[str, dict[str, float]]  # model -> loss and accuracy on these rows
    probabilities: dict[str, NDArray[np.float64]]  # model -> (n, 10) on these rows

    def model(self, name: str) -> Path:
        return self.place / f"{name}.joblib"


def trained(python: Path, say: Callable[[str], None]) -> Digits:
    """Trains with the given environment's Python unless that was done before."""
    # the environment's folder is named by its pins, so another scikit-learn trains anew
    key = key_of(TRAINING.read_bytes(), python.parent.parent.name)

    def build(partial: Path) -> None:
        say("Training three models on scikit-learn's digits ...")
        try:
            done = subprocess.run(
                [str(python), str(TRAINING), str(partial)],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"training did not end within {PATIENCE:.0f} s; is the machine busy?") from error
        if done.returncode != 0:
            raise DemoError(f"training failed: {done.stderr.strip()[-2000:]}")

    place = built(cache_root() / "models" / f"digits-{key}", build)
    with np.load(place / "held-out.npz") as kept:
        rows, labels = kept["rows"], kept["labels"]
        probabilities = {name: kept[name] for name in NAMES}
    return Digits(place, rows, labels, json.loads((place / "offline.json").read_text()), probabilities)
