import gzip
import json

import pytest

from modelcanary_sidecar.asked import id_in, instances

CAP = 10_000


def v2(rows: int, **more: object) -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": [0.0] * 4 * rows}], **more}


def binary(head: object, tensors: bytes) -> tuple[bytes, bytes]:
    text = json.dumps(head).encode()
    return b"Inference-Header-Content-Length: %d\r\n" % len(text), text + tensors


@pytest.mark.parametrize(
    ("request_body", "count"),
    [
        ({"instances": [[1, 2], [3, 4], [5, 6]]}, 3),
        (v2(2), 2),
        ({"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}, None),  # no batch axis
        ({"inputs": [[1, 2], [3, 4]]}, 2),  # MLflow
        ({"inputs": {"x": [1, 2]}}, None),
        ({"dataframe_split": {"columns": ["a"], "data": [[1], [2], [3], [4]]}}, 4),
        ({"dataframe_records": [{"a": 1}, {"a": 2}]}, 2),
        ({"data": {"ndarray": [[1], [2], [3]]}}, 3),
        ({"data": {"tensor": {"shape": [2, 1], "values": [1, 2]}}}, 2),
        ({"data": {"tensor": {"shape": [2], "values": [1, 2]}}}, None),
        ([[1, 2], [3, 4]], 2),
        (
            {"inputs": [{"name": "x", "shape": [1_000_000_000, 1], "datatype": "FP32", "data": []}]},
            None,
        ),  # said, not sent
        ({"instances": []}, None),
        ({"instances": 3}, None),
        (7, None),
        ({"inputs": [{"shape": ["a", 2]}]}, None),
    ],
)
def test_instances(request_body: object, count: int | None) -> None:
    assert instances(b"", json.dumps(request_body).encode(), CAP) == count


def test_of_binary_and_compressed_requests_too() -> None:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    headers, body = binary({"id": "req-7", "inputs": [tensor]}, b"\xff" * 16)
    assert instances(headers, body, CAP) == 2
    assert id_in(headers, body, CAP) == "req-7"
    packed = gzip.compress(json.dumps(v2(3, id="req-8")).encode())
    assert instances(b"content-encoding: gzip\r\n", packed, CAP) == 3
    assert id_in(b"content-encoding: gzip\r\n", packed, CAP) == "req-8"


@pytest.mark.parametrize("headers", [b"content-encoding: br\r\n", b"inference-header-content-length: 99\r\n"])
def test_what_cannot_be_read_has_neither(headers: bytes) -> None:
    body = b'{"id":"a","instances":[1,2]}'
    assert (id_in(headers, body, CAP), instances(headers, body, CAP)) == (None, None)
