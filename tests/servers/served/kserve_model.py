"""KServe's Python server with a model that answers V1 and V2, the latter in binary where the request asks for it.

Started by `tests.servers.start` inside KServe's environment: `python kserve_model.py --model FILE --http_port PORT`.
"""

import argparse
from typing import Any

import joblib
import kserve.model_server
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class LoopbackRest(kserve.model_server.RESTServer):  # type: ignore[misc]
    """KServe listens on every address and has no setting for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.host = "127.0.0.1"


class Digits(Model):  # type: ignore[misc]
    def __init__(self, path: str) -> None:
        super().__init__("digits")
        self._model = joblib.load(path)
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        if not isinstance(payload, InferRequest):
            rows = payload["instances"]
            probabilities = self._model.predict_proba(rows)
            if payload.get("answer") == "labels":
                return {"predictions": probabilities.argmax(1).tolist()}
            if payload.get("answer") == "mappings":
                labels = probabilities.argmax(1)
                return {
                    "predictions": [
                        {"label": int(label), "scores": row.tolist()}
                        for label, row in zip(labels, probabilities, strict=True)
                    ]
                }
            return {"predictions": probabilities.tolist()}
        probabilities = self._model.predict_proba(payload.inputs[0].as_numpy())
        binary = bool((payload.parameters or {}).get("binary_data_output"))
        if binary:
            probabilities = probabilities.astype("float32")
        output = InferOutput("probabilities", list(probabilities.shape), "FP32" if binary else "FP64")
        output.set_data_from_numpy(probabilities, binary_data=binary)
        return InferResponse(
            payload.id or generate_uuid(), self.name, infer_outputs=[output], use_binary_outputs=binary
        )


def main() -> None:
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser], conflict_handler="resolve")
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    kserve.model_server.RESTServer = LoopbackRest
    ModelServer(http_port=arguments.http_port, enable_grpc=False, workers=1).start([Digits(arguments.model)])


if __name__ == "__main__":
    main()
