"""Saves a model for `mlflow models serve`: `python mlflow_model.py MODEL OUT`.

The answer's shape follows the request's parameter `shape`, so that one server shows what MLflow makes of each.
"""

import sys
from typing import Any

import joblib
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import infer_signature


class Digits(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def load_context(self, context: Any) -> None:
        self._model = joblib.load(context.artifacts["model"])

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        probabilities = self._model.predict_proba(np.asarray(model_input))
        shape = (params or {}).get("shape", "array")
        if shape == "labels":
            return probabilities.argmax(1)
        # Columns in another order than the model's: only their names say which is which.
        frame = pd.DataFrame(probabilities[:, ::-1], columns=[str(digit) for digit in range(9, -1, -1)])
        if shape == "frame":
            return frame
        if shape == "columns":
            return {name: frame[name].to_numpy() for name in frame}
        if shape == "nan":
            probabilities[0, 0] = np.nan
        return probabilities


def main() -> None:
    model, out = sys.argv[1:]
    rows = np.zeros((2, 64))
    mlflow.pyfunc.save_model(
        out,
        python_model=Digits(),
        artifacts={"model": model},
        signature=infer_signature(rows, np.zeros((2, 10)), params={"shape": "array"}),
        pip_requirements=[],
    )


if __name__ == "__main__":
    main()
