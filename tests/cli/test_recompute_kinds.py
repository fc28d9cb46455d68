"""`recompute` where labels are classes in one place and shares of them in another, or have fewer digits there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.made import Cli, models, parquet, specification

N = 300
START = 1.79e9
MADE = models(N, 1.0)
ONE_HOT = np.eye(3)[MADE.labels]
EARLY = np.arange(N) < 200  # those with a label of the ledger's


@pytest.fixture
def spec() -> Path:
    return specification("s.yaml", labels={"maturity": "0s", "maxDelay": "1h"}, guards=[])


def export(labels: Any) -> None:
    """With the ledger's labels of the first 200 pairs."""
    parquet(
        "pairs.parquet",
        id=MADE.ids,
        ts=START + np.arange(N),
        baseline=MADE.baseline,
        candidate=MADE.candidate,
        label=[label if early else None for label, early in zip(labels.tolist(), EARLY, strict=True)],
        labelledAt=[START + row if early else None for row, early in enumerate(EARLY)],
    )


def recomputed(cli: Cli, spec: Path, *files: str) -> Any:
    more = [part for name in files for part in ("--labels", name)]
    answer = cli("recompute", "pairs.parquet", "--spec", spec, "--json", *more)
    assert answer.out, answer.err
    return json.loads(answer.out)


@pytest.mark.parametrize(("own", "theirs"), [(MADE.labels, ONE_HOT), (ONE_HOT, MADE.labels)], ids=["classes", "shares"])
def test_labels_of_the_ledger_stay_beside_those_of_another_kind(cli: Cli, spec: Path, own: Any, theirs: Any) -> None:
    export(own)
    rows = np.arange(150, N)  # 50 of them have one already
    parquet("l.parquet", id=[f"r{row}" for row in rows], label=theirs[rows].tolist())
    found = recomputed(cli, spec, "l.parquet")
    assert (found["labelled"], found["conflict"]) == (N, 0)
    p = np.stack([MADE.baseline, MADE.candidate])[:, np.arange(N), MADE.labels]
    assert found["delta"] == pytest.approx(np.diff(-np.log(np.clip(p, 1e-4, 1)), axis=0).mean(), abs=1e-9)
    other = np.roll(theirs, 1, axis=1) if theirs.ndim == 2 else (theirs + 1) % 3
    parquet("l.parquet", id=[f"r{row}" for row in rows], label=other[rows].tolist(), labelledAt=START + rows + 1)
    assert recomputed(cli, spec, "l.parquet")["conflict"] == 50


def test_the_same_soft_label_in_fewer_digits_is_the_same_everywhere(cli: Cli, spec: Path) -> None:
    """Also where 0.12345649 and 0.12345651 would round to different numbers of 6 digits."""
    exact = np.tile([0.12345649, 0.12345651, 0.753087], (N, 1))
    short = np.tile([0.1234565, 0.1234565, 0.753087], (N, 1))
    export(exact)
    rows = np.arange(100, 300)  # 100 with a label of the ledger's
    ids = [f"r{row}" for row in rows]
    parquet("a.parquet", id=ids, label=exact[rows].tolist())
    parquet("b.parquet", id=ids, label=short[rows].tolist())
    for files in (("a.parquet", "b.parquet"), ("b.parquet", "a.parquet")):
        found = recomputed(cli, spec, *files)
        assert (found["conflict"], found["duplicate"]) == (0, 200)
    far = short + np.array([2e-6, -2e-6, 0])
    parquet("b.parquet", id=ids, label=far[rows].tolist())
    found = recomputed(cli, spec, "a.parquet", "b.parquet")
    assert (found["conflict"], found["duplicate"]) == (200, 0)
