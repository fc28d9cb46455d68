"""Records survive being written and read; what is none is refused."""

import json
import math
from pathlib import Path

import pytest

from modelcanary_cli.errors import InputError
from modelcanary_cli.record import read_record, write_record
from modelcanary_gate.record import (
    SCHEMA_VERSION,
    Calibration,
    CalibrationBin,
    ClassRow,
    Event,
    GuardRow,
    Look,
    Record,
    Thresholds,
    finite,
)
from modelcanary_gate.vocabulary import Reason, Verdict

FULL = Record(
    run="fraud-1",
    command="run",
    verdict=Verdict.ROLL_BACK,
    reason=Reason.LOSS_REGRESSION,
    message="worse",
    pairs=200,
    labelled=150,
    baseline="http://127.0.0.1:9000",
    candidate="http://127.0.0.1:9001",
    name="fraud",
    startedAt=1.79e9,
    endedAt=1.79e9 + 60,
    thresholds=Thresholds(2000.0, 200.0, 44.7),
    looks=[
        Look(100, 75, Verdict.CONTINUE, Reason.TOO_FEW_SAMPLES, 1.79e9 + 30, 0.2, -0.1, 0.5, 0.3, 0.006, 3.0, 0.9),
        Look(200, 150, Verdict.ROLL_BACK, Reason.LOSS_REGRESSION, 1.79e9 + 60, 0.3, 0.1, 0.5, 0.3, 0.006, 2e4, 0.1),
    ],
    classes=[ClassRow("legit", 100, 0.1, 0.3, 0.9, 0.8, 0.1, 0.3), ClassRow("fraud", 0)],
    calibration=Calibration([CalibrationBin(100, 0.9, 0.8)], [CalibrationBin(50, 0.7, 0.9)], 0.1, 0.2),
    guards=[GuardRow("errors", "errorRate", "failed", "evidence 1 of 6,000", 0.0, 0.1, "max +0.005")],
    events=[Event("Warning", "look here", 1.79e9, 1), Event("LossRegression", "worse", None, 2)],
    counts={"missing": 3},
    outcomes={"baseline": {"ok": 200}, "candidate": {"ok": 190, "timeout": 10}},
    notes=["a note"],
    spec={"model": {"classes": ["legit", "fraud"]}},
    version="0.1.0",
)


def test_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(FULL, path)
    assert read_record(path) == FULL
    assert json.loads(path.read_text())["schemaVersion"] == SCHEMA_VERSION


def test_numbers_that_json_cannot_hold_become_null(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    look = Look(1, 1, Verdict.CONTINUE, Reason.TOO_FEW_SAMPLES, lower=-math.inf, upper=math.inf, delta=math.nan)
    write_record(Record("r", "run", Verdict.CONTINUE, Reason.TOO_FEW_SAMPLES, "", 1, 1, looks=[look]), path)
    (read,) = read_record(path).looks
    assert (read.lower, read.upper, read.delta) == (None, None, None)
    assert "Infinity" not in path.read_text() and "NaN" not in path.read_text()
    assert finite({"a": [1.0, math.nan]}) == {"a": [1.0, None]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not a decision record"),
        ("apiVersion: x\n", "is not a decision record"),
        ("[]", "is not a decision record"),
        ("{}", "missing required field `schemaVersion`"),
        ('{"schemaVersion": 1}', "missing required field `run`"),
        ('{"schemaVersion": 2}', "schemaVersion 2 is newer than this modelcanary reads (1)"),
    ],
)
def test_what_is_no_record(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_record(path)
    assert said in str(caught.value) and str(path) in str(caught.value)


def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(FULL, path)
    path.write_text(path.read_text().replace('"RollBack"', '"Retreat"'))
    with pytest.raises(InputError, match=r"verdict"):
        read_record(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(InputError, match="cannot be read"):
            read_record(place)
