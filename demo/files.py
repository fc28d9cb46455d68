"""What each model answers on the kept rows, as files for `modelcanary evaluate` and `replay`.

Called by `__main__`; the README's examples use these files.
"""

import json
from pathlib import Path

from demo.models import Digits

CLASSES = range(10)


def write_predictions(digits: Digits, out: Path) -> None:
    """One CSV per model, the labels in another, and one file of pairs."""
    for model, rows in digits.probabilities.items():
        head = ",".join(["id", *(f"p_{digit}" for digit in CLASSES)])
        lines = [",".join([f"row-{i}", *(f"{p:.6g}" for p in row)]) for i, row in enumerate(rows)]
        (out / f"{model}.csv").write_text("\n".join([head, *lines]) + "\n")
    labels = [f"row-{i},{label}" for i, label in enumerate(digits.labels)]
    (out / "labels.csv").write_text("\n".join(["id,label", *labels]) + "\n")
    baseline, candidate = digits.probabilities["baseline"], digits.probabilities["shuffled"]
    with open(out / "pairs.ndjson", "w") as file:
        for i, label in enumerate(digits.labels):
            pair = {"id": f"row-{i}", "label": int(label)}
            lists = {"baseline": baseline[i].tolist(), "candidate": candidate[i].tolist()}
            file.write(json.dumps(pair | lists) + "\n")
