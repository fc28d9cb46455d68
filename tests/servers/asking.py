"""Requests to a server as a sidecar sends them, and what its decoders make of the raw answer."""

import http.client
import json
import math
import struct
from collections.abc import Mapping
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.vocabulary import Role
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.decoding import Reader, Unread
from modelcanary_sidecar.mirrored import copy_of

CLASSES = [str(digit) for digit in range(10)]
READING = ModelReading(classes=CLASSES)
JSON = "Content-Type: application/json\r\n"
CAP = 1 << 20


def ask(
    url: str, path: str, body: object, headers: str = JSON, patch: Mapping[str, object] | None = None
) -> LiveAnswer:
    """Sent as the mirrored copy is, and taken as it comes: nothing is inflated or decoded on the way."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    nothing = LiveAnswer(None, 200, 0.0, b"", b"")
    lines = f"Host: model\r\n{headers}".encode()
    captured = Captured("id", False, 0.0, "run", b"POST", path.encode(), lines, raw, nothing)
    copy = copy_of(captured, b"", patch, CAP)
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    connection.connect()
    connection.sock.sendall(b"".join(copy))
    answer = http.client.HTTPResponse(connection.sock, method="POST")
    answer.begin()
    taken = answer.read()
    found = "".join(f"{name}: {value}\r\n" for name, value in answer.getheaders())
    answer.close()
    connection.close()
    return LiveAnswer(None, answer.status, 0.1, found.encode("latin-1"), taken)


def read(
    answer: LiveAnswer, reading: ModelReading = READING, role: Role = Role.BASELINE
) -> list[bytes | Unread] | Unread:
    return Reader(reading, role, CAP).read(answer.status, answer.headers, answer.body)


def probabilities(answer: LiveAnswer, reading: ModelReading = READING) -> NDArray[np.float64]:
    rows = read(answer, reading)
    assert isinstance(rows, list), (rows, answer)
    found = []
    for row in rows:
        assert isinstance(row, bytes), (row, answer)
        found.append([math.exp(log) for (log,) in struct.iter_unpack("<f", row)])
    return np.array(found)


def unread(answer: LiveAnswer, reading: ModelReading = READING) -> Unread:
    """Why the answer, or its first instance, has no probabilities."""
    found = read(answer, reading)
    first = found[0] if isinstance(found, list) else found
    assert isinstance(first, Unread), answer
    return first


def v1(rows: NDArray[np.float32], **more: object) -> dict[str, object]:
    return {"instances": rows.tolist(), **more}


def v2(rows: NDArray[np.float32], **more: object) -> dict[str, object]:
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    return {"id": "req-42", "inputs": [tensor], **more}


def v2_binary(rows: NDArray[np.float32], **more: object) -> tuple[bytes, str]:
    """Body and headers."""
    data = rows.astype("<f4").tobytes()
    size = {"binary_data_size": len(data)}
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP32", "parameters": size}
    head = json.dumps({"id": "req-42", "inputs": [tensor], **more}).encode()
    length = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return head + data, f"Content-Type: application/octet-stream\r\n{length}"
