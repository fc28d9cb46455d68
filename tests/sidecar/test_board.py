"""What the processes of a sidecar tell each other through the memory that they share."""

import os
import struct
import subprocess

import pytest

from modelcanary_sidecar.board import Board
from modelcanary_sidecar.drain import Phase
from modelcanary_sidecar.figures import CELLS, Figures
from modelcanary_sidecar.live import PROGRAM, check_installed


def write(board: Board, worker: int, **values: float) -> None:
    """As that live process does: through the file, little-endian."""
    names = {name.replace(".", "_"): index for index, name in enumerate(CELLS)}
    for name, value in values.items():
        os.pwrite(board.file, struct.pack("<d", value), 64 + 4096 * worker + 8 * names[name])


def test_the_live_processes_have_the_same_cells() -> None:
    check_installed()
    said = subprocess.run([PROGRAM, "--cells"], capture_output=True, text=True, check=True).stdout
    assert said.split() == list(CELLS)


def test_a_place_holds_all_cells() -> None:
    assert 8 * len(CELLS) <= 4096


def test_what_the_live_processes_count_is_exported_as_one() -> None:
    board = Board(3)
    assert board.figures() == Figures()
    for worker in range(3):
        write(board, worker, captured=worker, loop_lag=0.1 * worker, share=0.5 + worker, refused_431=worker)
        write(board, worker, dropped_rate=1, added_2=2, duration=0.006, silence=3 - worker, weight=0.1)
    total = board.figures()
    assert total.captured == 3
    assert total.refused == {"431": 3}
    assert total.dropped == {"rate": 3}
    assert total.requests == 6
    assert total.duration == pytest.approx(0.018)
    assert total.loop_lag == pytest.approx(0.2)
    assert total.silence == 3
    assert total.share == 0.5  # where the least is mirrored
    assert total.weight == 0.1
    assert total.asking == {}


def test_a_stage_is_where_the_live_processes_look_for_it() -> None:
    board = Board(1)
    assert board.stage is Phase.SERVING
    for stage in Phase:
        board.stage = stage
        assert struct.unpack("<Q", os.pread(board.file, 8, 0)) == (stage,)
        assert board.stage is stage
    assert [int(stage) for stage in Phase] == [0, 1, 2, 3, 4]


def test_the_scorers_figures_are_whole_whenever_they_are_read() -> None:
    board = Board(2)
    assert board.scorer_figures() == {}
    for round in range(5):
        figures = {f"pairs:{label}": float(round) for label in range(10 * (5 - round))}
        board.report(figures)
        assert board.scorer_figures() == figures
    assert board.figures() == Figures()
    with pytest.raises(ValueError, match="more than the board holds"):
        board.report({f"{label}": 1.0 for label in range(10_000)})
    assert board.scorer_figures() == figures
