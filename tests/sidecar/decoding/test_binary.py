"""Open Inference V2 with binary tensors, as Triton and KServe write them, and as a broken server might."""

import gzip
import json
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.decoding import Cause, Reader, Unread

ABC = ModelReading(classes=["a", "b", "c"])
ROWS = [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]
CAP = 4096


def numbers(rows: list[list[float]], datatype: str) -> bytes:
    flat = [x for row in rows for x in row]
    if datatype == "BF16":
        return (np.array(flat, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return np.array(flat, {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}[datatype]).tobytes()


def tensor(name: str, shape: list[int], datatype: str, size: object) -> dict[str, object]:
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


def answer(outputs: list[dict[str, object]], tensors: bytes) -> tuple[bytes, bytes]:
    """Headers and body. Without Content-Type, as KServe answers."""
    head = json.dumps({"model_name": "m", "id": "x", "outputs": outputs}).encode()
    return b"server: uvicorn\r\nInference-Header-Content-Length: %d\r\n" % len(head), head + tensors


def read(headers: bytes, body: bytes, reading: ModelReading = ABC) -> list[bytes | Unread] | Unread:
    return Reader(reading, Role.BASELINE, CAP).read(200, headers, body)


def probabilities(row: bytes | Unread) -> list[float]:
    assert isinstance(row, bytes), row
    return [math.exp(log) for (log,) in struct.iter_unpack("<f", row)]


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_each_floating_datatype(datatype: str) -> None:
    data = numbers(ROWS, datatype)
    rows = read(*answer([tensor("p", [2, 3], datatype, len(data))], data))
    assert isinstance(rows, list), rows
    assert [probabilities(row) for row in rows] == [pytest.approx(row) for row in ROWS]


def test_labels_are_passed_over_and_json_numbers_may_stand_between() -> None:
    labels = struct.pack("<2q", 7, 8)
    data = numbers(ROWS, "FP32")
    said = {"name": "score", "shape": [2, 1], "datatype": "FP32", "data": [0.1, 0.2]}
    headers, body = answer(
        [tensor("predict", [2, 1], "INT64", 16), said, tensor("proba", [2, 3], "FP32", len(data))], labels + data
    )
    rows = read(headers, body)
    assert isinstance(rows, list)
    assert probabilities(rows[1]) == pytest.approx(ROWS[1])
    named = read(headers, body, replace(ABC, output="predict"))
    assert isinstance(named, Unread)
    assert (named.outcome, named.cause) == (Outcome.LABELS_ONLY, Cause.LABELS)


def test_a_compressed_answer_is_inflated_first() -> None:
    data = numbers(ROWS, "FP32")
    headers, body = answer([tensor("p", [2, 3], "FP32", len(data))], data)
    rows = read(headers + b"Content-Encoding: gzip\r\n", gzip.compress(body))
    assert isinstance(rows, list)
    assert probabilities(rows[0]) == pytest.approx(ROWS[0])


def test_tritons_ranked_classes_are_too_few() -> None:
    texts = [b"0.959733:7", b"0.03:1:one"]
    data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    found = read(*answer([tensor("p", [1, 2], "BYTES", len(data))], data))
    assert isinstance(found, Unread)
    assert found.outcome is Outcome.TOP_K_ONLY


def test_nan_is_that_instances_outcome() -> None:
    data = numbers([[math.nan, 0.5, 0.5], ROWS[0]], "FP32")
    rows = read(*answer([tensor("p", [2, 3], "FP32", len(data))], data))
    assert isinstance(rows, list)
    assert isinstance(rows[0], Unread) and rows[0].outcome is Outcome.NON_FINITE
    assert probabilities(rows[1]) == pytest.approx(ROWS[0])


@pytest.mark.parametrize(
    ("outputs", "tensors", "says"),
    [
        ([tensor("p", [1, 3], "FP32", 12)], b"\0" * 8, "12 bytes where 8 are left"),
        ([tensor("p", [1, 3], "FP32", 12)], b"\0" * 16, "4 bytes that belong to no output"),
        ([tensor("p", [1, 3], "FP32", -1)], b"\0" * 12, "-1 bytes"),
        ([tensor("p", [1, 3], "FP32", "12")], b"\0" * 12, "12 bytes where"),
        ([tensor("p", [1, 3], "FP32", 11)], b"\0" * 11, "11 bytes of FP32"),
        ([tensor("p", [2, 3], "FP32", 12)], b"\0" * 12, "[2, 3] with 3"),
        ([tensor("p", [1, 3], "FP32", 0)], b"", "without `data`"),
    ],
)
def test_sizes_that_do_not_add_up(outputs: list[dict[str, object]], tensors: bytes, says: str) -> None:
    found = read(*answer(outputs, tensors))
    assert isinstance(found, Unread)
    assert (found.outcome, found.cause) == (Outcome.UNDECODABLE, Cause.SHAPE)
    assert says in found.message


@pytest.mark.parametrize("length", [b"", b"-1", b"x", b"99999", b"9" * 5000, b"\xb2"])
def test_a_length_that_is_none(length: bytes) -> None:
    found = read(b"Inference-Header-Content-Length: %b\r\n" % length, b'{"outputs":[]}')
    assert isinstance(found, Unread)
    assert (found.outcome, found.cause) == (Outcome.UNDECODABLE, Cause.SHAPE)


@given(st.binary(max_size=60), st.integers(0, 80), st.sampled_from(["FP16", "BF16", "FP32", "INT8", "BYTES", "X"]))
def test_no_bytes_break_a_reader(tensors: bytes, size: int, datatype: str) -> None:
    found = read(*answer([tensor("p", [1, 3], datatype, size)], tensors))
    assert isinstance(found, (list, Unread))
