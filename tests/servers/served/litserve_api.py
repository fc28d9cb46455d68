"""A LitServe server: `python litserve_api.py MODEL PORT`."""

import sys
from typing import Any

import joblib
import litserve
import numpy as np


class Digits(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def setup(self, device: str) -> None:
        self._model = joblib.load(self._path)

    def decode_request(self, request: dict[str, Any]) -> Any:
        return np.asarray(request["rows"])

    def predict(self, x: Any) -> Any:
        return self._model.predict_proba(x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"output": {"probabilities": output.tolist()}, "version": 3}


if __name__ == "__main__":
    litserve.LitServer(Digits(sys.argv[1]), accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False
    )
