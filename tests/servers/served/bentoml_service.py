"""A BentoML service: `bentoml serve bentoml_service:Digits`, with the model's file in DIGITS_MODEL."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service  # type: ignore[untyped-decorator]
class Digits:
    def __init__(self) -> None:
        self._model = joblib.load(os.environ["DIGITS_MODEL"])

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        probabilities: np.ndarray = self._model.predict_proba(rows)  # type: ignore[type-arg]
        return probabilities

    @bentoml.api  # type: ignore[untyped-decorator]
    def classify(self, rows: np.ndarray) -> dict[str, object]:  # type: ignore[type-arg]
        probabilities = self._model.predict_proba(rows)
        scores = [{str(digit): float(p) for digit, p in enumerate(row)} for row in probabilities]
        return {
            "results": [{"top": int(row.argmax()), "scores": s} for row, s in zip(probabilities, scores, strict=True)]
        }
