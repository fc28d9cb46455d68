"""The candidate's model server: KServe's own Python server with a scikit-learn model behind it.

Started by `demo.servers` inside KServe's environment: `python kserve_digits.py --model FILE --name NAME
--http_port PORT`. It knows nothing of ModelCanary.
"""

import argparse
import asyncio
from typing import Any

import joblib
import kserve.model_server
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class LoopbackRest(kserve.model_server.RESTServer):  # type: ignore[misc]
    """KServe listens on every address and has no setting for it; a demo should listen on this machine only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.host = "127.0.0.1"


class SklearnModel(Model):  # type: ignore[misc]
    """Answers the class probabilities, in the order of the model's `classes_`."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._path = path
        self.load()

    def load(self) -> bool:
        self._model = joblib.load(self._path)
        self.ready = True
        return self.ready

    async def predict(
        self, payload: InferRequest, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        rows = payload.inputs[0].as_numpy()
        # Off the event loop, as a user's server would do it: a slow model must not stall the readiness probe.
        probabilities = await asyncio.to_thread(self._model.predict_proba, rows)
        output = InferOutput("probabilities", list(probabilities.shape), "FP64")
        output.set_data_from_numpy(probabilities, binary_data=False)
        return InferResponse(payload.id or generate_uuid(), self.name, infer_outputs=[output])


def main() -> None:
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser], conflict_handler="resolve")
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    kserve.model_server.RESTServer = LoopbackRest
    ModelServer(http_port=arguments.http_port, enable_grpc=False, workers=1).start(
        [SklearnModel(arguments.name, arguments.model)]
    )


if __name__ == "__main__":
    main()
