"""Files of pairs that cannot be used: one line that names the row or the column, and the remedy."""

from typing import Any

import pytest
from tests.cli.made import Cli, models, parquet, specification

N = 50
MADE = models(N, 0.5)
LISTS: dict[str, Any] = {
    "id": MADE.ids,
    "baseline": MADE.baseline.tolist(),
    "candidate": MADE.candidate.tolist(),
    "label": MADE.names,
    "ts": [1.79e9 + row for row in range(N)],
}
LOSSES: dict[str, Any] = {"baseline_loss": [0.5] * N, "candidate_loss": [0.5] * N}


def changed(columns: dict[str, Any], name: str, row: int, value: object) -> dict[str, Any]:
    column = list(columns[name])
    column[row - 1] = value
    return {**columns, name: column}


def without(*names: str) -> dict[str, Any]:
    return {name: column for name, column in LISTS.items() if name not in names}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (without("baseline", "candidate"), "has no column 'baseline' (the baseline's probabilities; or baseline_loss"),
        (without("baseline"), "has no column 'baseline'"),
        (without("candidate"), "has no column 'candidate'"),
        (without("label"), "has no column 'label' (what turned out to be true)"),
        ({"baseline_loss": [0.5] * N}, "has no column 'candidate_loss' (loss of each pair, in nats)"),
        (
            changed(LISTS, "candidate", 7, [0.5, 0.4, 0.3]),
            "row 7, column 'candidate': the probabilities sum to 1.2, 0.2 above 1",
        ),
        (changed(LISTS, "baseline", 7, [1.1, -0.1, 0.0]), "row 7, column 'baseline': a probability is -0.1, below 0"),
        (changed(LISTS, "baseline", 7, [0.5, float("nan"), 0.5]), "row 7, column 'baseline': a probability is nan"),
        (changed(LISTS, "candidate", 7, [0.5, 0.5]), "row 7: candidate has 2 numbers, row 1 has 3"),
        (changed(LISTS, "candidate", 7, None), "row 7: candidate is missing"),
        (changed(LISTS, "ts", 7, None), "row 7: ts is missing"),
        (changed(LISTS, "ts", 7, float("nan")), "row 7: ts is nan"),
        ({**LISTS, "ts": ["noon"] * N}, "column 'ts' holds text that is not a time, for example 'noon'"),
        ({**LISTS, "run": [None, *"x" * (N - 1)]}, "row 1: run is missing"),
        (changed(LISTS, "id", 7, "r3"), "row 7: the id 'r3' comes twice"),
        (changed(LOSSES, "candidate_loss", 7, -0.5), "row 7: the candidate's loss is -0.5"),
        (changed(LOSSES, "baseline_loss", 7, float("nan")), "row 7: the baseline's loss is not a number"),
        ({**LOSSES, "baseline_loss": ["x"] * N}, "row 1: baseline_loss is 'x'"),
        (
            {**LISTS, "candidate": [[*p, 0.0] for p in LISTS["candidate"]]},
            "has 4 numbers per row, and there are 3 classes",
        ),
    ],
)
def test_what_is_wrong_with_pairs_is_named(cli: Cli, columns: dict[str, Any], said: str) -> None:
    parquet("p.parquet", **columns)
    for more in ([], ["--json"]):
        complaint = cli("replay", "p.parquet", *(["--classes", "cat,dog,eel"] if "label" in columns else []), *more)
        assert complaint.complaint().startswith(f"modelcanary: p.parquet: {said}")


def test_labels_outside_the_classes(cli: Cli) -> None:
    parquet("p.parquet", **changed(LISTS, "label", 7, "fox"))
    said = "row 7: the label 'fox' is none of the classes cat, dog, eel"
    assert said in cli("replay", "p.parquet", "--classes", "cat,dog,eel").complaint()
    parquet("p.parquet", **LOSSES, label=changed(LISTS, "label", 7, "fox")["label"])
    assert said in cli("replay", "p.parquet", "--spec", specification("s.yaml")).complaint()


def test_a_clock_that_is_not_there(cli: Cli) -> None:
    parquet("p.parquet", **without("ts"))
    assert "has no column 'ts', which --timed needs" in cli("replay", "p.parquet", "--timed").complaint()


def test_losses_need_no_classes_but_use_them(cli: Cli) -> None:
    parquet("p.parquet", **LOSSES, label=MADE.names)
    assert cli("replay", "p.parquet").code == 0
    guard = {"name": "each", "type": "perClass", "margin": "10%"}
    assert cli("replay", "p.parquet", "--spec", specification("s.yaml", guards=[guard])).code == 0
