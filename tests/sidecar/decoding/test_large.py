"""Large answers, and many at once: what is read is what each would give alone, row by row."""

import json
import random
import sys
from collections.abc import Callable

import numpy as np
import pytest

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.vocabulary import Role
from modelcanary_sidecar.decoding import Reader, Unread
from modelcanary_sidecar.decoding import rows as rows_module
from modelcanary_sidecar.decoding.rows import Row

CLASSES = 1000
NAMES = [f"c{index}" for index in range(CLASSES)]
READING = ModelReading(classes=NAMES, candidateClasses=NAMES[::-1])
Read = list[Row] | Unread


def probabilities(seed: int) -> list[object]:
    weights = [random.Random(seed * CLASSES + index).random() for index in range(CLASSES)]
    return [weight / sum(weights) for weight in weights]


def replaced(values: dict[int, object]) -> list[object]:
    return [values.get(index, value) for index, value in enumerate(probabilities(0))]


def body(*rows: object) -> bytes:
    return json.dumps({"predictions": rows}).encode()


def same(found: Read, expected: Read) -> bool:
    if isinstance(found, Unread) or isinstance(expected, Unread):
        return found == expected
    return len(found) == len(expected) and all(
        one == other
        if isinstance(one, Unread) or isinstance(other, Unread)
        else np.allclose(np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4"), rtol=1e-6, atol=1e-6)
        for one, other in zip(found, expected, strict=True)
    )


@pytest.fixture
def row_by_row(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Read]:
    def read(body: bytes) -> Read:
        with monkeypatch.context() as patch:
            patch.setattr(rows_module, "_LARGE", sys.maxsize)
            return Reader(READING, Role.BASELINE, 1 << 20).read(200, b"", body)

    return read


def nested(depth: int) -> object:
    value: object = 0.5
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "row",
    [
        probabilities(1),
        [1.0, *[0] * (CLASSES - 1)],
        [1, *[0] * (CLASSES - 1)],  # labels
        [0.0] * CLASSES,
        replaced({3: 0}),
        replaced({0: True}),
        replaced({0: 1.5}),
        replaced({2: -0.5}),
        replaced({CLASSES - 1: None}),
        replaced({7: float("nan")}),
        replaced({7: float("inf")}),
        replaced({1: "0.123456"}),  # nine bytes in msgpack, as a float
        replaced({1: 2**63 + 5}),  # the same
        replaced({1: 10**400}),
        replaced({1: float("nan"), 2: "\ud800"}),
        replaced({1: [0.5]}),
        replaced({1: {"a": 0.5}}),
        replaced({1: nested(200)}),
        probabilities(1)[1:],
        [*probabilities(1), 0.0],
    ],
)
def test_a_large_row_is_read_as_a_small_one(row_by_row: Callable[[bytes], Read], row: list[object]) -> None:
    for answer in (body(row), body(row, probabilities(2)), body(probabilities(2), row)):
        found = Reader(READING, Role.BASELINE, 1 << 20).read(200, b"", answer)
        assert same(found, row_by_row(answer))


def test_answers_that_are_read_together_are_each_read_as_if_alone() -> None:
    readers = {role: Reader(READING, role, 1 << 20) for role in Role}
    bodies = [
        body(probabilities(1)),
        body(probabilities(2), probabilities(3), probabilities(4)),
        body(dict(zip(NAMES[5:] + NAMES[:5], probabilities(5), strict=True))),
        b"<html>",
        body([0.5, 0.5]),
        body(probabilities(6), replaced({0: None})),
        body(probabilities(7)),
    ]
    for some in (bodies, bodies[:3]):  # with what is wrong by itself, and with nothing that is
        asked = [(role, body) for body in some for role in Role]
        together = readers[Role.BASELINE].finish([readers[role].begin(200, b"", body) for role, body in asked])
        alone = [readers[role].read(200, b"", body) for role, body in asked]
        assert together == alone, "to the last bit"
    assert together[0] != together[1], "the candidate has an order of classes of its own"


def test_one_that_cannot_be_used_is_no_other_ones_business() -> None:
    reader = Reader(READING, Role.BASELINE, 1 << 20)
    bodies = [body(probabilities(1)), body(replaced({0: 1.5})), body(probabilities(2))]
    first, bad, last = reader.finish([reader.begin(200, b"", one) for one in bodies])
    assert (first, last) == tuple(reader.read(200, b"", one) for one in (bodies[0], bodies[2]))
    assert isinstance(bad, list)
    assert isinstance(bad[0], Unread)
    assert "sum to" in bad[0].message


def test_one_number_for_two_classes_and_two_of_them_are_read_together() -> None:
    reader = Reader(ModelReading(classes=["a", "b"], values="logits", task="binary"), Role.BASELINE, 1 << 20)
    bodies = [body(*[[0.5]] * 400), body(*[[0.0, 0.5]] * 200)]
    one, two = reader.finish([reader.begin(200, b"", some) for some in bodies])
    assert isinstance(one, list)
    assert isinstance(two, list)
    assert (len(one), len(two)) == (400, 200)
    for row in (*one, *two):
        assert isinstance(row, bytes)
        np.testing.assert_allclose(np.frombuffer(row, "<f4"), [-0.974077, -0.474077], rtol=1e-5)
