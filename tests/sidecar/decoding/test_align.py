"""The trap of class order: what is declared, what is named, and what cannot be."""

import struct
from dataclasses import replace

import pytest

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.decoding import Reader, ReadingError, Unread

DIGITS = ["zero", "one", "two", "three"]
ALPHABETICAL = sorted(DIGITS)
READING = ModelReading(classes=DIGITS, candidateClasses=ALPHABETICAL)
#: one row in the alphabetical order: one, three, two, zero
BODY = b'{"predictions":[[0.1,0.3,0.2,0.4]]}'


def floats(row: bytes | Unread) -> list[float]:
    assert isinstance(row, bytes), row
    return [2.718281828459045**log for (log,) in struct.iter_unpack("<f", row)]


def read(reading: ModelReading, role: Role, body: bytes) -> list[float]:
    rows = Reader(reading, role, 1 << 20).read(200, b"", body)
    assert isinstance(rows, list)
    return floats(rows[0])


def test_the_candidate_is_read_in_its_own_order() -> None:
    assert read(READING, Role.CANDIDATE, BODY) == pytest.approx([0.4, 0.1, 0.2, 0.3])


def test_the_baseline_is_not() -> None:
    assert read(READING, Role.BASELINE, BODY) == pytest.approx([0.1, 0.3, 0.2, 0.4])


def test_names_in_the_answer_win_over_what_is_declared() -> None:
    named = b'{"data":{"names":["three","two","one","zero"],"ndarray":[[0.3,0.2,0.1,0.4]]}}'
    for role in Role:
        assert read(READING, role, named) == pytest.approx([0.4, 0.1, 0.2, 0.3])


def test_a_binary_score_is_of_the_second_class_of_its_own_model() -> None:
    reading = ModelReading(
        classes=["legit", "fraud"], candidateClasses=["fraud", "legit"], values="binaryScore", task="binary"
    )
    body = b'{"predictions":[0.75]}'
    assert read(reading, Role.BASELINE, body) == pytest.approx([0.25, 0.75])
    assert read(reading, Role.CANDIDATE, body) == pytest.approx([0.75, 0.25])


def test_large_answers_are_aligned_too() -> None:
    classes = [f"c{index:03}" for index in range(500)]
    reading = ModelReading(classes=classes, candidateClasses=classes[::-1], values="logits")
    body = ('{"predictions":[[' + ",".join(str(index / 10) for index in range(500)) + "]]}").encode()
    backwards = read(reading, Role.CANDIDATE, body)
    assert backwards == pytest.approx(read(reading, Role.BASELINE, body)[::-1])
    assert backwards[0] > backwards[1]


def test_changing_names_do_not_fill_the_memory() -> None:
    reader = Reader(READING, Role.BASELINE, 1 << 20)
    for turn in range(100):
        names = ",".join(f'"{name}{turn}"' for name in DIGITS)
        reader.read(200, b"", f'{{"data":{{"names":[{names}],"ndarray":[[0.1,0.3,0.2,0.4]]}}}}'.encode())
    assert len(reader._rows._alignment._seen) <= 16


def test_an_incomplete_set_of_names_is_top_k() -> None:
    named = b'{"data":{"names":["three","two"],"ndarray":[[0.5,0.5]]}}'
    rows = Reader(READING, Role.BASELINE, 1 << 20).read(200, b"", named)
    assert isinstance(rows, list)
    assert isinstance(rows[0], Unread)
    assert rows[0].outcome is Outcome.TOP_K_ONLY


@pytest.mark.parametrize(
    ("reading", "field"),
    [
        (replace(READING, candidateClasses=["zero"]), "model.candidateClasses"),
        (replace(READING, classes=["zero", "zero"], candidateClasses=[]), "model.classes"),
        (ModelReading(), "model.classes"),
        (ModelReading(classes=["a", "b", "c"], task="binary"), "model.classes"),
        (ModelReading(classes=["a", "b", "c"], values="binaryScore"), "model.classes"),
        (ModelReading(classes=["a", "b"], values="percent"), "model.values"),
        (ModelReading(classes=["a", "b"], task="regression"), "model.task"),
        (ModelReading(classes=["a", "b"], protocol="grpc"), "model.protocol"),
        (ModelReading(classes=["a", "b"], protocol="openai"), "model.protocol"),
        (ModelReading(classes=["a", "b"], protocol="custom"), "model.pointer"),
        (ModelReading(classes=["a", "b"], protocol="custom", pointer="p"), "model.pointer"),
        (ModelReading(classes=["a", "b"], protocol="custom", pointer="/~2"), "model.pointer"),
        (ModelReading(classes=["a", "b"], protocol="custom", pointer="jmespath:a["), "model.pointer"),
        (ModelReading(classes=["a", "b"], protocol="custom", pointer="jmespath:later(a)"), "model.pointer"),
        (ModelReading(classes=["a", "b"], protocol="custom", pointer="jmespath:length()"), "model.pointer"),
        (ModelReading(classes=["a", "b"], protocol="custom", pointer="jmespath:" + "(" * 5000), "model.pointer"),
    ],
)
def test_instructions_that_cannot_be_followed_name_their_field(reading: ModelReading, field: str) -> None:
    with pytest.raises(ReadingError, match=field):
        Reader(reading, Role.CANDIDATE, 1 << 20)
