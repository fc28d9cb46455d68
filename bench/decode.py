"""What it costs to read a model's answer, in microseconds of one core: `python bench/decode.py`.

Per response and shape: bytes to float32 log-probabilities, with everything that is checked on the way. Per
pair: both answers of one request, from the captured bytes to the encoded batch, without the network.
"""

import array
import gzip
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace

from modelcanary_gate.protocol import Instructions, ModelReading
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.decoding import Reader
from modelcanary_sidecar.ledger_client import encode_batch
from modelcanary_sidecar.pair_buffer import BufferLimits, PairBuffer
from modelcanary_sidecar.pairing import KeyMint, Pairing

ROUNDS = 9
SHAPES = ((1, 10), (32, 10), (1, 1000))


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


def main() -> None:
    print(f"{'answer':>10} {'bytes':>8} " + " ".join(f"{kind:>14}" for kind in ("probabilities", "logits")))
    for instances, classes in SHAPES:
        names = [f"class {index}" for index in range(classes)]
        calls = max(20, 20_000 // (instances * classes))
        for protocol, body in bodies(instances, classes, names).items():
            costs = []
            for values in ("probabilities", "logits"):
                reader = Reader(ModelReading(classes=names, values=values), Role.BASELINE, 1 << 20)
                read = reader.read(200, b"", body)
                if not isinstance(read, list) or not all(isinstance(row, bytes) for row in read):
                    raise SystemExit(f"{protocol} {instances}x{classes} is not read: {read}")
                costs.append(microseconds(lambda: reader.read(200, b"", body), calls))  # noqa: B023
            shape = f"{instances}x{classes}"
            print(f"{protocol + ' ' + shape:>10} {len(body):8} " + " ".join(f"{cost:14.1f}" for cost in costs))
    print()
    for instances, classes in SHAPES:
        names = [f"class {index}" for index in range(classes)]
        calls = max(20, 20_000 // (instances * classes))
        for name, (reading, headers, body) in others(instances, classes, names).items():
            reader = Reader(reading, Role.BASELINE, 1 << 20)
            read = reader.read(200, headers, body)
            if not isinstance(read, list) or not all(isinstance(row, bytes) for row in read):
                raise SystemExit(f"{name} {instances}x{classes} is not read: {read}")
            cost = microseconds(lambda: reader.read(200, headers, body), calls)  # noqa: B023
            print(f"{name + f' {instances}x{classes}':>16} {len(body):8} {cost:14.1f}")
    print()
    for instances, classes in SHAPES:
        names = [f"class {index}" for index in range(classes)]
        left = bodies(instances, classes, names)["V2"]
        right = bodies(instances, classes, names, seed=2)["V1"]
        instructions = Instructions(1, "run", share=1.0, model=ModelReading(classes=names))
        pairing = Pairing(instructions, KeyMint(), lambda role, unread: None)
        answer = LiveAnswer(None, 200, 0.1, b"content-type: application/json\r\n", left)
        captured = Captured("id", False, 1.7e9, "run", b"POST", b"/p", b"host: a\r\n", b"{}", answer)
        candidate = LiveAnswer(None, 200, 0.1, b"content-type: application/json\r\n", right)
        buffer = PairBuffer("sidecar", BufferLimits())

        def pair() -> None:
            for one in pairing.pairs(captured, "id", candidate):  # noqa: B023
                if one.candidate.outcome is not Outcome.OK:
                    raise SystemExit(f"not read: {one}")
                buffer.add("run", one)  # noqa: B023
            if buffer.full_batch:  # noqa: B023
                batch = buffer.cut()  # noqa: B023
                if batch is not None:
                    encode_batch(batch)

        cost = microseconds(pair, max(20, 20_000 // (instances * classes)))
        print(f"{instances}x{classes}: {cost:.1f} per request, {cost / instances:.1f} per pair")


if __name__ == "__main__":
    main()
