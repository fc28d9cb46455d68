"""Files of predictions that cannot be used: one line that names the row or the column, and the remedy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.cli.made import Cli, models, parquet, specification

N = 50
MADE = models(N, 0.5)
GOOD: dict[str, Any] = {"id": MADE.ids, "probabilities": MADE.candidate.tolist(), "label": MADE.names}


def changed(name: str, row: int, value: object) -> dict[str, Any]:
    """The good columns with another value in one row (counted from 1)."""
    column = list(GOOD[name])
    column[row - 1] = value
    return {**GOOD, name: column}


def without(*names: str) -> dict[str, Any]:
    return {name: column for name, column in GOOD.items() if name not in names}


def refusal(cli: Cli, columns: dict[str, Any], *more: object, file: str = "c.parquet") -> str:
    """What is said of a candidate's file with these columns."""
    if not Path("b.parquet").exists():
        parquet("b.parquet", **GOOD)
    if columns:
        parquet(file, **columns)
    complaint = cli("evaluate", "--baseline", "b.parquet", "--candidate", file, *more).complaint()
    assert complaint.startswith(f"modelcanary: {file}: ") or more, complaint
    return complaint


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (without("id"), "has no column 'id' (which row is which); its columns are 'probabilities', 'label'"),
        (without("probabilities"), "has no column 'probabilities'"),
        (changed("id", 7, "r3"), "row 7: the id 'r3' is also in row 4"),
        (changed("id", 7, None), "row 7: id is missing"),
        (
            changed("probabilities", 7, [0.5, 0.4, 0.3]),
            "row 7, column 'probabilities': the probabilities sum to 1.2, 0.2 above 1",
        ),
        (
            changed("probabilities", 7, [0.2, 0.2, 0.2]),
            "row 7, column 'probabilities': the probabilities sum to 0.6, 0.4 below 1",
        ),
        (
            changed("probabilities", 7, [1.1, -0.1, 0.0]),
            "row 7, column 'probabilities': a probability is -0.1, below 0",
        ),
        (changed("probabilities", 7, [0.5, float("nan"), 0.5]), "row 7, column 'probabilities': a probability is nan"),
        (changed("probabilities", 7, [0.5, None, 0.5]), "row 7, column 'probabilities': a probability is nan"),
        (changed("probabilities", 7, [0.5, float("inf"), 0.5]), "row 7, column 'probabilities': a probability is inf"),
        (changed("probabilities", 7, [0.5, 0.5]), "row 7: probabilities has 2 numbers, row 1 has 3"),
        (changed("probabilities", 7, None), "row 7: probabilities is missing"),
        ({**GOOD, "probabilities": [[]] * N}, "row 1: probabilities has 0 numbers"),
        ({**GOOD, "probabilities": [["0.5", "0.5", "0"]] * N}, "column 'probabilities' holds lists of text"),
        ({**GOOD, "probabilities": [True] * N}, "column 'probabilities' holds true and false"),
        (
            {**GOOD, "probabilities": [[*p, 0.0] for p in GOOD["probabilities"]]},
            "has 4 numbers per row, and there are 3 classes",
        ),
        ({**GOOD, "probabilities": [0.5] * N}, "has 1 number per row, and there are 3 classes"),
        ({**GOOD, "logits": GOOD["probabilities"]}, "has predictions in several forms (probabilities, logits)"),
        ({**GOOD, "id": [float(row) for row in range(N)]}, "column 'id' holds decimal numbers"),
        ({**GOOD, "id": [f"x{row}" for row in range(N)]}, "has no id in common with b.parquet"),
        ({**GOOD, "label": [{"of": "cat"}] * N}, "its labels are objects"),
    ],
)
def test_what_is_wrong_with_predictions_is_named(cli: Cli, columns: dict[str, Any], said: str) -> None:
    assert said in refusal(cli, columns)


def test_labels_outside_the_classes(cli: Cli) -> None:
    parquet("b.parquet", **without("label"))
    for label, shown in (("fox", "'fox'"), ("3", "'3'"), ("-1", "'-1'")):
        complaint = refusal(cli, changed("label", 7, label), "--classes", "cat,dog,eel")
        assert f"c.parquet: row 7: the label {shown} is none of the classes cat, dog, eel" in complaint
    complaint = refusal(cli, {**GOOD, "label": [3] * N}, "--classes", "cat,dog,eel")
    assert "c.parquet: row 1: the label 3 is none of the classes" in complaint


def test_two_files_that_disagree_about_a_label(cli: Cli) -> None:
    other = "eel" if MADE.names[6] == "cat" else "cat"
    assert "id 'r6' has another label than in b.parquet" in refusal(cli, changed("label", 7, other))


def test_labels_that_are_equal_but_written_otherwise_agree(cli: Cli) -> None:
    parquet("b.parquet", **{**GOOD, "label": MADE.labels})
    parquet("c.parquet", **{**GOOD, "label": MADE.labels.astype(float)})
    assert cli("evaluate", "--baseline", "b.parquet", "--candidate", "c.parquet").code == 2


def test_soft_labels_that_are_none(cli: Cli) -> None:
    parquet("b.parquet", **without("label"))
    soft = [[0.5, 0.25, 0.25]] * N
    soft[6] = [0.5, 0.5, 0.5]
    classes = ("--classes", "cat,dog,eel")
    assert "id 'r6': the soft label sums to 1.5" in refusal(cli, {**GOOD, "label": soft}, *classes)
    soft[6] = [0.5, 0.5]
    assert "row 7: label has 2 numbers, row 1 has 3" in refusal(cli, {**GOOD, "label": soft}, *classes)
    assert "row 1: the label has 2 numbers for 3 classes" in refusal(cli, {**GOOD, "label": [[0.5, 0.5]] * N}, *classes)
    many = specification("many.yaml", model={"classes": ["cat", "dog", "eel"], "task": "multilabel"})
    assert "give a list of 0 and 1" in refusal(cli, GOOD, "--spec", many)


def test_no_label_anywhere(cli: Cli) -> None:
    parquet("b.parquet", **without("label"))
    complaint = refusal(cli, without("label"), "--classes", "cat,dog,eel")
    assert "b.parquet: has no column 'label', nor has c.parquet; add the column" in complaint
    parquet("l.parquet", id=["other"], label=["cat"])
    files = ("--baseline", "b.parquet", "--candidate", "c.parquet", "--classes", "cat,dog,eel")
    assert (
        "l.parquet: no row that both models answered has a label"
        in cli("evaluate", *files, "--labels", "l.parquet").complaint()
    )
    parquet("l.parquet", id=MADE.ids, truth=MADE.names)
    assert "l.parquet: has no column 'label'" in cli("evaluate", *files, "--labels", "l.parquet").complaint()


def test_negative_scores_and_percentages(cli: Cli) -> None:
    two = {"id": MADE.ids, "label": [row % 2 for row in range(N)]}
    parquet("b.parquet", **two, score=[0.5] * N)
    for value, said in ((-0.25, "is -0.25, below 0"), (40.0, "is 40, above 1"), (float("nan"), "is nan")):
        scores = [0.5] * N
        scores[6] = value
        complaint = refusal(cli, {**two, "score": scores})
        assert "row 7, column 'score'" in complaint and said in complaint


def test_logits_and_log_probabilities_that_are_none(cli: Cli) -> None:
    for name, bad in (("logits", [1.0, float("inf"), 0.0]), ("log_probabilities", [0.5, -1.0, -1.0])):
        rows = np.log(MADE.candidate).tolist()
        rows[6] = bad
        assert f"row 7, column '{name}'" in refusal(cli, {"id": MADE.ids, name: rows})


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("cat,dog", "has 3 numbers per row, and there are 2 classes (cat, dog)"),
        ("cat", "--classes: 'cat' is no list of classes"),
        ("cat,cat", "--classes: 'cat,cat' is no list of classes"),
        ("cat,,dog", "--classes: 'cat,,dog' is no list of classes"),
    ],
)
def test_a_list_of_classes_of_the_wrong_length(cli: Cli, classes: str, said: str) -> None:
    assert said in refusal(cli, GOOD, "--classes", classes)


def test_a_specification_with_the_wrong_number_of_classes(cli: Cli) -> None:
    spec = specification("s.yaml", model={"classes": ["cat", "dog", "eel", "fox"]})
    assert "has 3 numbers per row, and there are 4 classes" in refusal(cli, GOOD, "--spec", spec)
    assert "--classes: s.yaml already gives other classes" in refusal(cli, GOOD, "--spec", spec, "--classes", "a,b")


CSV = "id,p_a,p_b,label\n1,0.5,0.5,a\n2,0.5,0.5,b\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.csv", "", "is empty"),
        ("f.csv", "id,p_a,p_b,label\n", "has no rows"),
        ("f.csv", CSV + "3,x,0.5,b\n", "row 3: p_a is 'x'; give a number"),
        ("f.csv", CSV + "3,nan,0.5,b\n", "row 3, column 'p_...': a probability is nan"),
        ("f.csv", CSV + "3,,0.5,b\n", "row 3: p_a is missing"),
        ("f.csv", CSV + "3,0.5,b\n", "row 3: Expected 4 columns, got 3"),
        ("f.csv", CSV.replace("p_b", "p_a"), "has two columns 'p_a'"),
        ("f.csv", CSV.replace(",", ";"), "has no column 'id' (which row is which); its columns are 'id;p_a;p_b;label'"),
        ("f.csv", (CSV + "3,0.5,0.5,\xe9\n").encode("latin-1"), "row 3 is not UTF-8"),
        (
            "f.csv",
            'id,probabilities,label\n1,"[0.5, 0.5]",a\n2,"0.5 0.5",b\n',
            "row 2: probabilities is '0.5 0.5', not a list",
        ),
        (
            "f.ndjson",
            '{"id": 1, "probabilities": [0.5, 0.5]}\n{"id": 2, "probabilities": [0.5, 0.5]\n',
            "line 2 is not JSON",
        ),
        (
            "f.ndjson",
            '{"id": 1, "probabilities": [0.5, 0.5]}\n\n{"id": 2, "probabilities": "x"}\n',
            "line 3: probabilities is text, and in line 1 it is a list",
        ),
        ("f.json", '[{"id": 1, "probabilities": [0.5, 0.5]}]', "line 1 is a list, not an object"),
        ("f.parquet", "PAR1 and no more", "cannot be read"),
        ("f.parquet", "id,p_a\n", "does not start as a Parquet file does"),
    ],
)
def test_files_that_are_not_what_they_should_be(cli: Cli, name: str, content: str | bytes, said: str) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    complaint = cli("evaluate", "--baseline", name, "--candidate", name).complaint()
    assert complaint.startswith(f"modelcanary: {name}: {said}")


def test_a_file_that_is_cut_off(cli: Cli) -> None:
    whole = parquet("whole.parquet", **GOOD).read_bytes()
    Path("c.parquet").write_bytes(whole[:-50])
    assert "c.parquet: cannot be read" in refusal(cli, {})


def test_files_that_are_not_there(cli: Cli, tmp_path: Path) -> None:
    assert "nothing.csv: cannot be read (No such file or directory)" in refusal(cli, {}, file="nothing.csv")
    assert f"{tmp_path}: cannot be read (Is a directory)" in refusal(cli, {}, file=str(tmp_path))


def test_types_are_not_guessed_from_the_first_rows(cli: Cli) -> None:
    """Numbers that begin as whole ones, and ids with zeros in front."""
    n = 200_000
    rows = [f"{row:07},{int(row % 2 == 0)},{int(row % 2 == 1)},{row % 2}" for row in range(n - 1)]
    rows.append(f"{n - 1:07},0.25,0.75,1")
    Path("b.csv").write_text("id,p_0,p_1,label\n" + "\n".join(rows) + "\n")
    answer = cli("evaluate", "--baseline", "b.csv", "--candidate", "b.csv", "--json")
    assert answer.err == "" and json.loads(answer.out)["labelled"] == n


def test_ids_are_text_whatever_their_type(cli: Cli) -> None:
    columns = without("id")
    parquet("b.parquet", **columns, id=list(range(N)))
    parquet("c.parquet", **columns, id=pa.array([str(row) for row in range(N)]).dictionary_encode())
    assert cli("evaluate", "--baseline", "b.parquet", "--candidate", "c.parquet", "--json").code == 2
    Path("d.ndjson").write_text(
        "\n".join(
            json.dumps({"id": f"2026-11-22T03:00:{row:02}Z", "probabilities": GOOD["probabilities"][row]})
            for row in range(N)
        )
    )
    Path("e.csv").write_text(
        "id,label\n" + "\n".join(f"2026-11-22T03:00:{row:02}Z,{name}" for row, name in enumerate(MADE.names))
    )
    assert cli("evaluate", "--baseline", "d.ndjson", "--candidate", "d.ndjson", "--labels", "e.csv").code == 2
