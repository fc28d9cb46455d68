"""`modelcanary evaluate`: real files in, a verdict and an exit code out."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss
from tests.cli.made import CLASSES, Cli, Models, models, parquet, specification

from modelcanary_cli.record import read_record

N = 3000


def files(made: Models, *, labelled: bool = True) -> tuple[str, str]:
    extra = {"label": made.names} if labelled else {}
    parquet("b.parquet", id=made.ids, probabilities=made.baseline, **extra)
    parquet("c.parquet", id=made.ids, probabilities=made.candidate)
    return "b.parquet", "c.parquet"


def evaluated(cli: Cli, *more: object) -> tuple[int, dict[str, Any]]:
    answer = cli("evaluate", "--baseline", "b.parquet", "--candidate", "c.parquet", "--json", *more)
    assert answer.err == ""
    return answer.code, json.loads(answer.out)


def test_a_worse_candidate_is_rolled_back_with_the_losses_of_scikit_learn(cli: Cli) -> None:
    made = models(N, 1.0)
    files(made)
    code, found = evaluated(cli)
    assert (code, found["verdict"], found["reason"]) == (1, "RollBack", "LossRegression")
    assert (found["pairs"], found["labelled"]) == (N, N)
    last = found["looks"][-1]
    baseline, candidate = (log_loss(made.labels, p, labels=[0, 1, 2]) for p in (made.baseline, made.candidate))
    assert last["baselineLoss"] == pytest.approx(baseline, abs=1e-9)
    assert last["delta"] == pytest.approx(candidate - baseline, abs=1e-9)
    assert last["lower"] < candidate - baseline < last["upper"]
    for index, row in enumerate(found["classes"]):
        own = made.labels == index
        assert row["name"] == CLASSES[index] and row["labelled"] == own.sum()
        assert row["baselineLoss"] == pytest.approx(log_loss(made.labels[own], made.baseline[own], labels=[0, 1, 2]))
        assert row["candidateAccuracy"] == pytest.approx((made.candidate[own].argmax(axis=1) == index).mean())
        assert row["lower"] < row["candidateLoss"] - row["baselineLoss"] < row["upper"]


def test_a_better_candidate_is_promoted(cli: Cli) -> None:
    worse = models(N, 0.8)
    files(Models(worse.candidate, worse.baseline, worse.labels))
    code, found = evaluated(cli)
    assert (code, found["verdict"]) == (0, "Promote")
    # all rows are one test: with restarts, which look for a change within the run, half of the stake is kept back
    assert found["looks"][-1]["rollbackEvidence"] < 0.1


def test_an_equal_candidate_on_few_rows_is_undecided(cli: Cli) -> None:
    files(models(400, 0.0))
    code, found = evaluated(cli)
    assert (code, found["verdict"], found["reason"]) == (2, "Continue", "TooFewSamples")
    assert found["looks"][-1]["delta"] == 0.0


def test_each_form_of_the_same_predictions_gives_the_same_verdict(cli: Cli) -> None:
    made = models(N, 1.0)
    files(made)
    expected = evaluated(cli)[1]
    logs = np.log(made.candidate)
    with open("columns.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "p_eel", "p_cat", "p_dog"])  # in an order of their own
        writer.writerows(
            [id_, repr(p[2]), repr(p[0]), repr(p[1])] for id_, p in zip(made.ids, made.candidate.tolist(), strict=True)
        )
    with open("lists.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "probabilities"])
        writer.writerows([id_, json.dumps(p)] for id_, p in zip(made.ids, made.candidate.tolist(), strict=True))
    shifted = (logs - logs.mean(axis=1, keepdims=True) + 3).tolist()  # a softmax does not see it
    lines = [json.dumps({"id": id_, "logits": row}) for id_, row in zip(made.ids, shifted, strict=True)]
    Path("logits.ndjson").write_text("\n".join(lines) + "\n")
    parquet("logs.parquet", id=made.ids, log_probabilities=logs)
    parquet("shuffled.parquet", id=made.ids[::-1], probabilities=made.candidate[::-1])
    for name in ("columns.csv", "lists.csv", "logits.ndjson", "logs.parquet", "shuffled.parquet"):
        answer = cli("evaluate", "--baseline", "b.parquet", "--candidate", name, "--classes", "cat,dog,eel", "--json")
        assert answer.code == 1, (name, answer.err)
        found = json.loads(answer.out)
        for measure in ("delta", "baselineLoss", "rollbackEvidence"):
            assert found["looks"][-1][measure] == pytest.approx(expected["looks"][-1][measure], rel=1e-6), name


def test_the_order_of_rows_does_not_matter(cli: Cli) -> None:
    """A file sorted by class, in which the candidate is bad at one class only, is no drift."""
    made = models(N, 0.0)
    candidate = np.where((made.labels == 2)[:, None], 0.5 * made.candidate + 0.5 / 3, made.candidate)
    order = np.argsort(made.labels, kind="stable")
    found = []
    for rows in (np.arange(N), order):
        parquet(
            "b.parquet",
            id=np.array(made.ids)[rows],
            probabilities=made.baseline[rows],
            label=np.array(made.names)[rows],
        )
        parquet("c.parquet", id=made.ids, probabilities=candidate)
        found.append(evaluated(cli)[1])
    assert found[0] == found[1]
    assert found[0]["verdict"] == "RollBack"


def test_labels_come_from_either_file_or_a_third(cli: Cli) -> None:
    made = models(N, 1.0)
    files(made)
    expected = evaluated(cli)[1]
    files(made, labelled=False)
    parquet("labels.parquet", id=made.ids, label=made.names)
    assert evaluated(cli, "--labels", "labels.parquet")[1]["looks"] == expected["looks"]
    parquet("labels.parquet", id=made.ids, label=made.labels)
    assert evaluated(cli, "--labels", "labels.parquet", "--classes", ",".join(CLASSES))[1]["looks"] == expected["looks"]
    some, others = made.names, list[str | None](made.names)
    some = [name if row % 2 else None for row, name in enumerate(some)]
    others = [None if row % 3 else name for row, name in enumerate(others)]
    parquet("b.parquet", id=made.ids, probabilities=made.baseline, label=some)
    parquet("c.parquet", id=made.ids, probabilities=made.candidate, label=others)
    found = evaluated(cli)[1]
    assert found["labelled"] == sum(a is not None or b is not None for a, b in zip(some, others, strict=True))
    assert found["counts"]["unlabelled"] == N - found["labelled"]


def test_ids_without_a_partner_are_counted_and_reported(cli: Cli) -> None:
    made = models(N, 1.0)
    files(made)
    parquet("c.parquet", id=[*made.ids[10:], "more"], probabilities=np.vstack([made.candidate[10:], [[0.2, 0.3, 0.5]]]))
    _, found = evaluated(cli)
    assert found["pairs"] == N - 10
    assert (found["counts"]["onlyBaseline"], found["counts"]["onlyCandidate"]) == (10, 1)
    said = cli("evaluate", "--baseline", "b.parquet", "--candidate", "c.parquet").out
    assert "10 ids are in the baseline's file only" in said and "1 ids are in the candidate's file only" in said


def test_a_score_is_the_probability_of_the_second_class(cli: Cli) -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(2000)
    labels = (rng.random(2000) < truth).astype(int)
    ids = list(range(2000))
    parquet("b.parquet", id=ids, score=np.clip(truth, 0.01, 0.99), label=labels)
    parquet("c.parquet", id=[str(i) for i in ids], score=np.full(2000, 0.5))
    code, found = evaluated(cli)
    assert code == 1
    assert found["looks"][-1]["baselineLoss"] == pytest.approx(log_loss(labels, np.clip(truth, 0.01, 0.99)))
    assert found["looks"][-1]["delta"] == pytest.approx(np.log(2) - log_loss(labels, np.clip(truth, 0.01, 0.99)))


def test_soft_and_multilabel_targets(cli: Cli) -> None:
    rng = np.random.default_rng(6)
    target = rng.dirichlet([1, 1, 1], 1500)
    ids = list(range(1500))
    flat = np.full((1500, 3), 1 / 3)
    parquet("b.parquet", id=ids, probabilities=target, label=target)
    parquet("c.parquet", id=ids, probabilities=flat)
    code, found = evaluated(cli, "--classes", "a,b,c")
    clipped = np.maximum(target, 1e-4)
    entropy = -(target * np.log(clipped)).sum(axis=1).mean()
    assert code == 1 and found["looks"][-1]["baselineLoss"] == pytest.approx(entropy, rel=1e-3)
    assert found["looks"][-1]["delta"] == pytest.approx(np.log(3) - entropy, rel=1e-3)

    holds = (rng.random((1500, 3)) < target).astype(float)
    parquet("b.parquet", id=ids, probabilities=target, label=holds)
    spec = specification("many.yaml", model={"classes": ["a", "b", "c"], "task": "multilabel"})
    parquet("c.parquet", id=ids, probabilities=np.full((1500, 3), 0.5))
    code, found = evaluated(cli, "--spec", spec)
    assert found["looks"][-1]["baselineLoss"] == pytest.approx(
        np.mean([log_loss(holds[:, i], clipped[:, i]) for i in range(3)]), rel=1e-3
    )


def test_agreement_needs_no_labels(cli: Cli) -> None:
    made = models(N, 1.0)
    files(made, labelled=False)
    spec = specification("agree.yaml", labels={"mode": "Agreement", "agreement": {"rollbackAbove": "0.01"}})
    code, found = evaluated(cli, "--spec", spec)
    divergence = (made.baseline * np.log(made.baseline / made.candidate)).sum(axis=1).mean()
    assert (code, found["reason"]) == (1, "AgreementTooLow")
    assert found["looks"][-1]["delta"] == pytest.approx(divergence, rel=1e-3)


def test_each_models_own_order_of_classes(cli: Cli) -> None:
    made = models(N, 1.0)
    files(made)
    expected = evaluated(cli)[1]
    parquet("c.parquet", id=made.ids, probabilities=made.candidate[:, [2, 0, 1]])
    spec = specification("s.yaml", model={"classes": list(CLASSES), "candidateClasses": ["eel", "cat", "dog"]})
    assert evaluated(cli, "--spec", spec)[1]["looks"] == expected["looks"]


def test_the_specification_decides(cli: Cli) -> None:
    made = models(N, 0.25)
    files(made)
    assert evaluated(cli)[0] != 0
    assert (
        evaluated(cli, "--spec", specification("wide.yaml", analysis={"margin": "30%", "rollbackMargin": "25%"}))[0]
        == 0
    )
    guarded = specification(
        "guard.yaml",
        analysis={"margin": "30%", "rollbackMargin": "25%"},
        guards=[{"name": "cal", "type": "calibrationError", "max": "0.0001"}],
    )
    code, found = evaluated(cli, "--spec", guarded)
    assert (code, found["reason"]) == (2, "GuardVeto")


def test_what_people_read_fits_80_columns_and_shows_names_as_they_are(cli: Cli) -> None:
    made = models(N, 1.0)
    names = np.array(["[bold]cat", "[/x]", ":smile:" + "y" * 70])
    parquet("b.parquet", id=made.ids, probabilities=made.baseline, label=names[made.labels])
    parquet("c.parquet", id=made.ids, probabilities=made.candidate)
    answer = cli(
        "evaluate", "--baseline", "b.parquet", "--candidate", "c.parquet", "--classes", ",".join(names.tolist())
    )
    assert answer.code == 1 and answer.err == ""
    assert max(map(len, answer.out.splitlines())) <= 80
    assert "\x1b" not in answer.out
    assert "[bold]cat" in answer.out and "[/x]" in answer.out and ":smile:" in answer.out
    assert answer.out.startswith("RollBack (LossRegression)\n")
    assert "Guards on live answers were left out: errors, invalid." in answer.out


def test_record_and_report_are_written(cli: Cli) -> None:
    files(models(N, 1.0))
    code, found = evaluated(cli, "--record", "out.json", "--report", "out.html")
    assert code == 1
    record = read_record(Path("out.json"))
    assert record.run == found["run"] and record.looks[-1].delta == found["looks"][-1]["delta"]
    assert (record.baseline, record.candidate, record.command) == ("b.parquet", "c.parquet", "evaluate")
    assert "LossRegression" in Path("out.html").read_text()


@pytest.mark.parametrize("option", ["--record", "--report"])
def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is(cli: Cli, option: str) -> None:
    files(models(N, 1.0))
    first = cli("evaluate", "--baseline", "b.parquet", "--candidate", "c.parquet", option, "missing/out")
    assert "missing/out" in first.complaint() and "folder" in first.err
    other = {"--record": "--report", "--report": "--record"}[option]
    both = ("--record", "r", "--report", "h")
    cli("evaluate", "--baseline", "b.parquet", "--candidate", "c.parquet", other, "kept", option, "missing/out")
    assert sorted(path.name for path in Path().iterdir()) == ["b.parquet", "c.parquet"], both
