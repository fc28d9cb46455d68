"""Seldon Core's Python wrapper around a model: `python seldon_model.py MODEL PORT`.

Its own command listens on every address; this is the same application under the same gunicorn, on the loopback.
"""

import sys
from typing import Any

import joblib
from seldon_core.gunicorn_utils import StandaloneApplication
from seldon_core.metrics import SeldonMetrics
from seldon_core.wrapper import get_rest_microservice

#: Not the model's order: the answer's names say which column is which.
NAMES = [str(digit) for digit in range(9, -1, -1)]


class Digits:
    def __init__(self, path: str) -> None:
        self._model = joblib.load(path)

    def predict(self, rows: Any, names: Any, meta: Any = None) -> Any:
        return self._model.predict_proba(rows)[:, ::-1]

    def class_names(self) -> list[str]:
        return NAMES


def main() -> None:
    app = get_rest_microservice(Digits(sys.argv[1]), SeldonMetrics())
    StandaloneApplication(app, {"bind": f"127.0.0.1:{sys.argv[2]}", "workers": 1, "threads": 1}).run()


if __name__ == "__main__":
    main()
