"""What it costs to read a model's answer, in microseconds of one core: `make bench-decode`, which writes it down.

Per response and shape: bytes to float32 log-probabilities, with everything that is checked on the way. Per
pair: both answers of one request, from the captured bytes to the encoded batch, without the network.
"""

import array
import gzip
import json
import platform
import random
import time
from collections.abc import Callable
from dataclasses import replace

from bench.sections import keep

from modelcanary_gate.protocol import Instructions, ModelReading
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.decoding import Reader
from modelcanary_sidecar.ledger_client import encode_batch
from modelcanary_sidecar.pair_buffer import BufferLimits, PairBuffer
from modelcanary_sidecar.pairing import KeyMint, Pairing

ROUNDS = 9
SHAPES = ((1, 10), (32, 10), (1, 1000))
PAIR = "V2 and V1, to a batch"


def microseconds(work: Callable[[], object], calls: int) -> float:
    """The best of several rounds, in time of this process: other work on the machine only ever adds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(calls):
            work()
        best = min(best, time.process_time() - start)
    return best / calls * 1e6


def rows(instances: int, classes: int, seed: int) -> list[list[float]]:
    source = random.Random(seed)
    weights = [[source.random() for _ in range(classes)] for _ in range(instances)]
    return [[weight / sum(row) for weight in row] for row in weights]


def bodies(instances: int, classes: int, names: list[str], seed: int = 1) -> dict[str, bytes]:
    table = rows(instances, classes, seed)
    output = {
        "name": "predict_proba",
        "shape": [instances, classes],
        "datatype": "FP64",
        "data": [number for row in table for number in row],
    }
    shapes: dict[str, object] = {
        "V2": {"model_name": "m", "model_version": "1", "id": "req-42", "outputs": [output]},
        "V1": {"predictions": table},
        "Seldon": {"data": {"names": names[::-1], "ndarray": table}, "meta": {"puid": "p"}},
        "MLflow": {"predictions": [dict(zip(names, row, strict=True)) for row in table]},
    }
    return {name: json.dumps(shape).encode() for name, shape in shapes.items()}


def others(instances: int, classes: int, names: list[str]) -> dict[str, tuple[ModelReading, bytes, bytes]]:
    """Answers that are read by more than their body: how, headers and body."""
    table = rows(instances, classes, 1)
    custom = json.dumps({"results": [{"scores": row} for row in table], "version": 3}).encode()
    numbers = array.array("f", [number for row in table for number in row]).tobytes()
    sized = {"binary_data_size": len(numbers)}
    output = {"name": "predict_proba", "shape": [instances, classes], "datatype": "FP32", "parameters": sized}
    head = json.dumps({"model_name": "m", "model_version": "1", "id": "req-42", "outputs": [output]}).encode()
    plain = bodies(instances, classes, names)["V2"]
    reading = ModelReading(classes=names)
    expression = replace(reading, protocol="custom", pointer="jmespath:results[*].scores")
    pointer = replace(reading, protocol="custom", pointer="/results")
    return {
        "pointer": (replace(pointer, output="scores"), b"", custom),
        "JMESPath": (expression, b"", custom),
        "binary": (reading, b"Inference-Header-Content-Length: %d\r\n" % len(head), head + numbers),
        "gzip V2": (reading, b"Content-Encoding: gzip\r\n", gzip.compress(plain)),
    }


def reading_cost(name: str, reading: ModelReading, headers: bytes, body: bytes, calls: int) -> float:
    reader = Reader(reading, Role.BASELINE, 1 << 20)
    read = reader.read(200, headers, body)
    if not isinstance(read, list) or not all(isinstance(row, bytes) for row in read):
        raise SystemExit(f"{name} is not read: {read}")
    return microseconds(lambda: reader.read(200, headers, body), calls)


def pair_cost(instances: int, classes: int, names: list[str], calls: int) -> float:
    left = bodies(instances, classes, names)["V2"]
    right = bodies(instances, classes, names, seed=2)["V1"]
    instructions = Instructions(1, "run", share=1.0, model=ModelReading(classes=names))
    pairing = Pairing(instructions, KeyMint(), lambda role, unread: None)
    answer = LiveAnswer(None, 200, 0.1, b"content-type: application/json\r\n", left)
    captured = Captured("id", False, 1.7e9, "run", b"POST", b"/p", b"host: a\r\n", b"{}", answer)
    candidate = LiveAnswer(None, 200, 0.1, b"content-type: application/json\r\n", right)
    buffer = PairBuffer("sidecar", BufferLimits())

    def pair() -> None:
        for one in pairing.pairs([(captured, "id", candidate)]):
            if one.candidate.outcome is not Outcome.OK:
                raise SystemExit(f"not read: {one}")
            buffer.add("run", one)
        if buffer.full_batch:
            batch = buffer.cut()
            if batch is not None:
                encode_batch(batch)

    return microseconds(pair, calls)


def measured() -> dict[str, list[float]]:
    """Microseconds by what is read, one per shape."""
    found: dict[str, list[float]] = {}
    for instances, classes in SHAPES:
        names = [f"class {index}" for index in range(classes)]
        calls = max(20, 20_000 // (instances * classes))
        plain = {
            name: (ModelReading(classes=names), b"", body) for name, body in bodies(instances, classes, names).items()
        }
        logits = {"V2, logits": (ModelReading(classes=names, values="logits"), b"", plain["V2"][2])}
        for name, case in (plain | logits | others(instances, classes, names)).items():
            found.setdefault(name, []).append(reading_cost(name, *case, calls))
        found.setdefault(PAIR, []).append(pair_cost(instances, classes, names, calls))
    return found


def main() -> None:
    shapes = [f"{instances}×{classes}" for instances, classes in SHAPES]
    lines = [f"| | {' | '.join(shapes)} |", "|---|" + "---|" * len(shapes)]
    lines += [f"| {name} | {' | '.join(f'{cost:.1f}' for cost in costs)} |" for name, costs in measured().items()]
    text = f"""## Reading an answer

`make bench-decode`: microseconds of one core (the best of {ROUNDS} rounds, of the process's own time) from an answer's
bytes to float32 log-probabilities with all that is checked on the way, by instances × classes; the goal is 25 for
an answer of 1×10. The last row is a request's two answers, from their bytes to the encoded batch. {platform.machine()}.

"""
    print("\n".join(lines))
    keep("decode", text + "\n".join(lines))


if __name__ == "__main__":
    main()
