"""Trains the demo's three models on scikit-learn's digits and writes them with the rows kept from them.

Run by `demo.models` inside a model server's environment, so that the version of scikit-learn that writes the
models is the one that reads them: `python train.py OUT_DIR`.
"""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

SEED = 0


def logistic() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1))


def main() -> None:
    out = Path(sys.argv[1])
    rng = np.random.default_rng(SEED)
    rows, digits = load_digits(return_X_y=True)
    train_x, held_x, train_y, held_y = train_test_split(rows, digits, test_size=0.5, random_state=SEED, stratify=digits)
    # The regression that nobody means to ship: a fifth of the training labels are permuted among themselves.
    shuffled = train_y.copy()
    chosen = rng.choice(len(shuffled), size=len(shuffled) // 5, replace=False)
    shuffled[chosen] = rng.permutation(shuffled[chosen])

    models = {
        "baseline": logistic().fit(train_x, train_y),
        "shuffled": logistic().fit(train_x, shuffled),
        "better": CalibratedClassifierCV(SVC(C=10, gamma=0.001), method="temperature", ensemble=False).fit(
            train_x, train_y
        ),
    }
    held, kept = {}, {}
    for name, model in models.items():
        joblib.dump(model, out / f"{name}.joblib")
        kept[name] = probabilities = model.predict_proba(held_x)
        held[name] = {
            "loss": float(log_loss(held_y, probabilities)),
            "accuracy": float(np.mean(probabilities.argmax(1) == held_y)),
        }
    np.savez(out / "held-out.npz", rows=held_x.astype(np.float32), labels=held_y.astype(np.int64), **kept)
    (out / "offline.json").write_text(json.dumps(held, indent=2))


if __name__ == "__main__":
    main()
