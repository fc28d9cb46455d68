"""What is asked and answered: requests and answers of the Open Inference Protocol, of a size to choose."""

import json
import random
from pathlib import Path

PATH = "/v2/models/fraud/infer"
CLASSES = 10
ANSWER_BYTES = 1024
_ID = "@" * 16  # the load generator writes an id in its place


def request(body_bytes: int) -> bytes:
    source = random.Random(body_bytes)
    values: list[float] = []
    while len(body := _body(values)) < body_bytes:
        values += [round(source.gauss(0, 1), 15) for _ in range(1 + (body_bytes - len(body)) // 40)]
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: fraud.ml.svc.cluster.local:8080\r\nUser-Agent: python-httpx/0.28\r\n"
        "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nContent-Type: application/json\r\n"
        f"X-Request-Id: {_ID}\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _body(values: list[float]) -> bytes:
    tensor = {"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values}
    return json.dumps({"inputs": [tensor]}).encode()


def answer(seed: int, classes: int = CLASSES) -> bytes:
    """Probabilities, and as much else as makes an answer's usual size."""
    weights = [random.Random(seed * classes + index).random() for index in range(classes)]
    data = [weight / sum(weights) for weight in weights]
    output = {"name": "probabilities", "shape": [1, classes], "datatype": "FP32", "data": data}
    told = {"model_name": "fraud", "model_version": "7", "outputs": [output], "parameters": {"trace": ""}}
    missing = ANSWER_BYTES - len(json.dumps(told))
    told["parameters"] = {"trace": "x" * max(0, missing)}
    return json.dumps(told).encode()


def write(folder: Path, body_bytes: int) -> Path:
    """The request's file; answers lie beside it, see `answer_file`."""
    path = folder / f"request-{body_bytes}"
    path.write_bytes(request(body_bytes))
    return path


def answer_file(folder: Path, role: str, classes: int = CLASSES) -> Path:
    path = folder / f"{role}-{classes}.json"
    path.write_bytes(answer(1 if role == "baseline" else 2, classes))
    return path
