"""Whatever a server writes, a reader returns; and both ways of reading numbers agree with the gate's."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcanary_gate.errors import DataError
from modelcanary_gate.probabilities import log_probabilities
from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.spec import Task, Values
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.decoding import Reader, Unread
from modelcanary_sidecar.decoding import rows as rows_module
from modelcanary_sidecar.decoding.logs import logs_of

KINDS = [
    (values, task)
    for values in Values
    for task in Task
    if not (values is Values.BINARY_SCORE and task is not Task.BINARY)
]
NUMBERS = st.one_of(
    st.floats(0.0, 1.0),
    st.floats(-20.0, 20.0),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, 1.0005, 1.002, -0.0, 5e-324, 1e300, -1e300]),
)


def reading_of(values: Values, task: Task, classes: int) -> ModelReading:
    names = [f"c{index}" for index in range(classes)]
    return ModelReading(classes=names, values=values.value, task=task.value)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Values, Task, int, list[list[float]]]:
    values, task = draw(st.sampled_from(KINDS))
    classes = 2 if task is Task.BINARY else draw(st.integers(2, 6))
    width = 1 if values is Values.BINARY_SCORE else classes
    rows = draw(st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1, max_size=4))
    if values in (Values.PROBABILITIES, Values.LOG_PROBABILITIES) and draw(st.booleans()):
        # Mostly rows that can be used: else only the refusals would be compared.
        rows = [[abs(x) % 1.0 + 1e-9 if np.isfinite(x) else 0.5 for x in row] for row in rows]
        rows = [[x / sum(row) for x in row] for row in rows]
        if values is Values.LOG_PROBABILITIES:
            rows = [[float(np.log(x)) for x in row] for row in rows]
    return values, task, classes, rows


@settings(max_examples=500, deadline=None)
@given(answers())
def test_each_row_is_read_as_the_gate_reads_it(answer: tuple[Values, Task, int, list[list[float]]]) -> None:
    values, task, classes, rows = answer
    reader = Reader(reading_of(values, task, classes), Role.BASELINE, 1 << 20)
    read = reader.read(200, b"", json.dumps({"predictions": rows}).encode())
    assert isinstance(read, list)
    assert len(read) == len(rows)
    for row, found in zip(rows, read, strict=True):
        try:
            with np.errstate(all="ignore"):
                expected = log_probabilities([row], values, task)[0]
        except DataError:
            assert isinstance(found, Unread)
            assert found.outcome in (Outcome.NON_FINITE, Outcome.NOT_PROBABILITIES)
            assert (found.outcome is Outcome.NON_FINITE) == _has_non_finite(row, values)
        else:
            assert isinstance(found, bytes), (found, row)
            with np.errstate(over="ignore"):
                np.testing.assert_allclose(np.frombuffer(found, "<f4"), expected.astype("<f4"), rtol=1e-5, atol=1e-6)


def _has_non_finite(row: list[float], values: Values) -> bool:
    allowed = [-np.inf] if values is Values.LOG_PROBABILITIES else []
    return any(not np.isfinite(x) and x not in allowed for x in row)


def test_a_large_answer_may_mix_both_forms_of_two_classes() -> None:
    reader = Reader(reading_of(Values.LOGITS, Task.BINARY, 2), Role.BASELINE, 1 << 20)
    rows = [[0.5], [0.0, 0.5]] * 300
    read = reader.read(200, b"", json.dumps({"predictions": rows}).encode())
    assert isinstance(read, list)
    for row in read:
        np.testing.assert_allclose(np.frombuffer(row, "<f4"), [-0.974077, -0.474077], rtol=1e-5)


@settings(max_examples=200, deadline=None)
@given(answers())
def test_large_answers_are_read_as_small_ones(answer: tuple[Values, Task, int, list[list[float]]]) -> None:
    values, task, classes, rows = answer
    reader = Reader(reading_of(values, task, classes), Role.BASELINE, 1 << 20)
    body = json.dumps({"predictions": rows}).encode()
    small = reader.read(200, b"", body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "_LARGE", 0)
        with np.errstate(all="ignore"):
            large = reader.read(200, b"", body)
    assert isinstance(small, list)
    assert isinstance(large, list)
    for one, other in zip(small, large, strict=True):
        if isinstance(one, Unread):
            assert one == other
        else:
            assert isinstance(other, bytes)
            np.testing.assert_allclose(np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4"), rtol=1e-5, atol=1e-6)


KEYS = (
    *("predictions", "outputs", "data", "shape", "datatype", "name", "names", "ndarray", "tensor", "values"),
    *("a", "b"),
)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(["a", "b", "FP32", "NaN", "0.9:1"]),
        st.text(max_size=4),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)
READINGS = [
    ModelReading(classes=["a", "b"], protocol=protocol, values=values, output=output, pointer="/data")
    for protocol in ("auto", "kserve-v1", "oip-v2", "seldon", "mlflow", "custom")
    for values in ("probabilities", "logits", "logProbabilities", "binaryScore")
    for output in (None, "data")
]
READERS = [Reader(reading, Role.BASELINE, 1 << 16) for reading in READINGS]


ANSWERS = (
    b'{"predictions":[[0.5,0.5],[NaN,0.5]]}',
    b'{"predictions":[{"b":0.5,"a":0.5}]}',
    b'{"id":"x","outputs":[{"name":"data","shape":[1,2],"datatype":"FP64","data":[0.25,0.75]}]}',
    b'{"data":{"names":["b","a"],"tensor":{"shape":[1,2],"values":[0.25,0.75]}}}',
)


@settings(max_examples=600, deadline=None)
@given(JSON, st.sampled_from(["", "predictions", "outputs", "data"]), st.sampled_from(READERS))
def test_no_json_breaks_a_reader(value: object, key: str, reader: Reader) -> None:
    body = json.dumps({key: value} if key else value).encode()
    check(reader.read(200, b"", body))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"gzip", b"deflate", b"br", b"\xff"]))
def test_no_bytes_break_a_reader(body: bytes, encoding: bytes) -> None:
    check(READERS[0].read(200, b"Content-Encoding: %b\r\n" % encoding, body))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(ANSWERS),
    st.integers(0, 200),
    st.binary(min_size=1, max_size=4),
    st.sampled_from(READERS),
)
def test_no_damage_breaks_a_reader(answer: bytes, at: int, damage: bytes, reader: Reader) -> None:
    check(reader.read(200, b"", answer[:at] + damage + answer[at + len(damage) :]))


def check(found: list[bytes | Unread] | Unread) -> None:
    if isinstance(found, Unread):
        return
    assert found
    for row in found:
        if isinstance(row, bytes):
            logs = np.frombuffer(row, "<f4")
            assert len(logs) == 2
            assert not np.isnan(logs).any()
            assert abs(np.exp(logs.astype(float)).sum() - 1.0) < 2e-3


@given(st.lists(st.floats(0.001, 1.0), min_size=2, max_size=8))
def test_scalar_probabilities_are_divided_by_their_sum(weights: list[float]) -> None:
    total = sum(weights) * 1.0005  # within the tolerance, off on purpose
    logs = logs_of(Values.PROBABILITIES, Task.MULTICLASS)([weight / total for weight in weights])
    assert logs is not None
    packed = struct.pack(f"<{len(logs)}f", *logs)
    assert np.exp(np.frombuffer(packed, "<f4").astype(float)).sum() == pytest.approx(1.0, abs=1e-5)


WORDS = st.sampled_from(["outputs", "predictions", "data", "names", "ndarray", "tensor", "values", "shape"])
WORDS |= st.sampled_from(["datatype", "name", "a", "b", "label", "score", "FP32", "INT64"])
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | WORDS
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4))
V2 = st.fixed_dictionaries(
    {
        "outputs": st.lists(
            st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "datatype", "shape", "data"), JSON))
        )
    }
)


@settings(max_examples=400, deadline=None)
@given(JSON | V2 | st.dictionaries(st.sampled_from(["outputs", "predictions", "data"]), JSON, min_size=1))
def test_whatever_a_model_says_is_read_or_refused(value: object) -> None:
    body = json.dumps(value).encode()
    for values, task in KINDS:
        for protocol in ("auto", "custom"):
            reading = replace(reading_of(values, task, 2), protocol=protocol, pointer="")
            assert isinstance(Reader(reading, Role.CANDIDATE, 1 << 20).read(200, b"", body), list | Unread)
