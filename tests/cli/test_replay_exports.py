"""`modelcanary replay` of exports: answers missing, labels late, weights, several instances of a request."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.made import CLASSES, Cli, models, parquet, specification

from modelcanary_cli.record import read_record

N = 600
START = 1.79e9
EPSILON = 1e-4
AGREEMENT = {"mode": "Agreement", "agreement": {"rollbackAbove": "5"}}
MADE = models(N, 1.0)


def export(path: str = "pairs.parquet", missing: range = range(0), **more: Any) -> None:
    """`missing`: the rows in which the candidate gave no answer."""
    columns: dict[str, Any] = {
        "run": ["r1"] * N,
        "id": MADE.ids,
        "index": [0] * N,
        "ts": START + np.arange(N),
        "baseline": MADE.baseline.tolist(),
        "candidate": [None if row in missing else p for row, p in enumerate(MADE.candidate.tolist())],
        "label": MADE.labels,
        "late": [False] * N,
        "matured": [True] * N,
        "baselineOutcome": ["ok"] * N,
        "candidateOutcome": ["timeout" if row in missing else "ok" for row in range(N)],
    }
    parquet(path, **{**columns, **more})


def spec_of(**labels: object) -> Path:
    return specification("s.yaml", labels=labels, analysis={"minDuration": "0s", "margin": "100%"}, guards=[])


def looks_of(cli: Cli, file: str, spec: Path, *more: object) -> list[Any]:
    answer = cli("replay", file, "--spec", spec, "--looks", 100, "--record", "r.json", *more)
    assert answer.code == 0, answer.err
    return list(read_record(Path("r.json")).looks)


def recomputed(cli: Cli, file: str, spec: Path) -> Any:
    answer = cli("recompute", file, "--spec", spec, "--record", "again.json", "--exit-zero")
    assert answer.code == 0, answer.err
    return read_record(Path("again.json"))


def losses() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of both models, (2, N)."""
    p = np.stack([MADE.baseline, MADE.candidate])[:, np.arange(N), MADE.labels]
    return np.minimum(-np.log(p), -np.log(EPSILON))


@pytest.mark.parametrize("missing", [range(0), range(150, 450), range(0, 100)])
def test_an_agreement_leaves_out_what_was_not_answered(cli: Cli, missing: range) -> None:
    export(missing=missing)
    spec = spec_of(**AGREEMENT)
    last, again = looks_of(cli, "pairs.parquet", spec)[-1], recomputed(cli, "pairs.parquet", spec)
    assert (last.pairs, last.labelled) == (N, N - len(missing))
    kept = np.setdiff1d(np.arange(N), missing)
    p, q = (np.clip(answers[kept], EPSILON, None) for answers in (MADE.baseline, MADE.candidate))
    assert again.looks[-1].delta == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), abs=1e-3)
    assert last.delta == pytest.approx(again.looks[-1].delta, abs=1e-9)


def test_late_labels_do_not_count(cli: Cli) -> None:
    late = np.arange(N) % 3 == 0
    labels = np.where(late, (MADE.labels + 1) % 3, MADE.labels)  # a late one that counted would show
    export(label=labels, late=late)
    spec = spec_of(maturity="0s", maxDelay="1h")
    last, again = looks_of(cli, "pairs.parquet", spec)[-1], recomputed(cli, "pairs.parquet", spec)
    assert (last.pairs, last.labelled) == (N, N - late.sum()) == (N, again.labelled)
    assert last.delta == pytest.approx(np.diff(losses(), axis=0)[0, ~late].mean(), abs=1e-9)
    assert last.delta == pytest.approx(again.looks[-1].delta, abs=1e-9)
    assert looks_of(cli, "pairs.parquet", spec_of(**AGREEMENT))[-1].labelled == N  # no label, none late


def test_late_labels_in_a_table_of_text(cli: Cli) -> None:
    late = np.arange(N) % 3 == 0
    export(late=late)
    spec = spec_of(maturity="0s", maxDelay="1h")
    rows = ["id,ts,baseline,candidate,label,late,baselineOutcome,candidateOutcome"]
    rows += [
        f'r{row},{START + row},"{p}","{q}",{MADE.labels[row]},{str(bool(late[row])).lower()},ok,ok'
        for row, (p, q) in enumerate(zip(MADE.baseline.tolist(), MADE.candidate.tolist(), strict=True))
    ]
    Path("pairs.csv").write_text("\n".join(rows))
    assert (
        looks_of(cli, "pairs.csv", spec)[-1].labelled == N - late.sum() == recomputed(cli, "pairs.csv", spec).labelled
    )
    Path("pairs.csv").write_text("\n".join([*rows[:3], rows[3].replace("false", "perhaps")]))
    for command in ("replay", "recompute"):
        said = cli(command, "pairs.csv", "--spec", spec).complaint()
        assert said.startswith("modelcanary: pairs.csv: row 3: late is 'perhaps'"), said


def test_a_label_counts_by_its_weight(cli: Cli) -> None:
    weight = np.where(MADE.labels == 0, 0.25, 1.0)
    known = np.arange(N) % 2 == 0
    export(
        label=[label if there else None for label, there in zip(MADE.labels.tolist(), known, strict=True)],
        weight=[w if there else None for w, there in zip(weight.tolist(), known, strict=True)],
        coverage=[1.0] * N,
    )
    spec = spec_of(maturity="0s", maxDelay="1h")
    last, again = looks_of(cli, "pairs.parquet", spec)[-1], recomputed(cli, "pairs.parquet", spec)
    delta = np.diff(losses(), axis=0)[0]
    assert abs(delta[known].mean() - again.looks[-1].delta) > 1e-3  # without the weights it would be another
    assert last.delta == pytest.approx(again.looks[-1].delta, abs=1e-9)


def test_instances_of_a_request_share_its_id(cli: Cli) -> None:
    ids, index = [f"r{row // 3}" for row in range(N)], np.arange(N) % 3
    spec = spec_of(maturity="0s", maxDelay="1h")
    export(id=ids, index=index)
    assert looks_of(cli, "pairs.parquet", spec)[-1].labelled == N
    order = np.random.default_rng(1).permutation(N)
    export(id=[ids[row] for row in order], index=index[order])
    assert looks_of(cli, "pairs.parquet", spec)[-1].labelled == N
    export(id=ids, index=np.where(np.arange(N) == 8, 1, index))
    said = cli("replay", "pairs.parquet", "--spec", spec).complaint()
    assert "row 9: the id 'r2' with index 1 comes twice in run 'r1'" in said
    export(id=ids, index=[None] * N)
    assert "row 2: the id 'r0' with index 0 comes twice" in cli("replay", "pairs.parquet", "--spec", spec).complaint()


def test_only_exports_have_instances(cli: Cli) -> None:
    """In another file a column of that name may be anything, as the row numbers that pandas writes."""
    names = [CLASSES[label] for label in MADE.labels]
    columns = {"baseline": MADE.baseline, "candidate": MADE.candidate, "label": names, "index": np.arange(N)}
    parquet("p.parquet", id=["r1"] * N, **columns)
    assert "row 2: the id 'r1' comes twice" in cli("replay", "p.parquet").complaint()
