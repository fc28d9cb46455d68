"""`modelcanary replay`: recorded pairs, run by run and look by look."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss
from tests.cli.made import Cli, Models, models, parquet, specification

from modelcanary_cli.record import read_record

N = 3000
START = 1.79e9


def pairs(made: Models, **more: object) -> dict[str, object]:
    return {"id": made.ids, "baseline": made.baseline, "candidate": made.candidate, "label": made.labels, **more}


def losses(made: Models) -> dict[str, object]:
    rows = np.arange(len(made.labels))
    return {
        "baseline_loss": -np.log(made.baseline[rows, made.labels]),
        "candidate_loss": -np.log(made.candidate[rows, made.labels]),
    }


def replayed(cli: Cli, file: object, *more: object) -> list[dict[str, Any]]:
    answer = cli("replay", file, "--json", *more)
    assert (answer.code, answer.err) == (0, "")
    return [json.loads(line) for line in answer.out.splitlines()]


def test_one_line_per_run_with_these_fields_and_no_others(cli: Cli) -> None:
    parquet("shop.parquet", **pairs(models(N, 1.0)))
    (found,) = replayed(cli, "shop.parquet")
    assert list(found) == ["run", "verdict", "reason", "pairs", "labelled", "look"]
    assert (found["run"], found["verdict"], found["reason"]) == ("shop", "RollBack", "LossRegression")
    assert found["pairs"] == found["labelled"] == 100 * found["look"]
    assert 300 <= found["pairs"] < N


def test_an_equal_candidate_is_still_undecided_at_the_end(cli: Cli) -> None:
    parquet("p.parquet", **pairs(models(N - 50, 0.0)))
    (found,) = replayed(cli, "p.parquet")
    assert (found["verdict"], found["pairs"], found["look"]) == ("Continue", N - 50, 30)


def test_a_better_candidate_is_promoted(cli: Cli) -> None:
    made = models(N, 1.0)
    parquet("p.parquet", **pairs(Models(made.candidate, made.baseline, made.labels)))
    (found,) = replayed(cli, "p.parquet")
    assert (found["verdict"], found["reason"]) == ("Promote", "CandidateNoWorse")
    assert 1000 <= found["labelled"] < N


def test_losses_give_the_verdict_of_the_lists_that_they_come_from(cli: Cli) -> None:
    made = models(N, 0.5)
    parquet("p.parquet", **pairs(made))
    parquet("q.parquet", **losses(made))
    of_lists, of_losses = replayed(cli, "p.parquet"), replayed(cli, "q.parquet")
    assert {**of_lists[0], "run": "q"} == of_losses[0]


def test_looks_are_the_pairs_per_look(cli: Cli) -> None:
    parquet("p.parquet", **pairs(models(N, 1.0)))
    hundred, (seven,), (all_,) = (replayed(cli, "p.parquet", "--looks", n) for n in (100, 7, N))
    # a block is cut at the first look with 100 labelled pairs in it: each 15th of 7 pairs
    assert seven["look"] % 15 == 0 and seven["pairs"] == 7 * seven["look"]
    assert abs(seven["pairs"] - hundred[0]["pairs"]) <= 200
    assert (all_["look"], all_["pairs"]) == (1, N)
    # two blocks in a row must say so, and here there is one
    assert (all_["verdict"], all_["reason"]) == ("Continue", "EvidenceBelowThreshold")


def test_rows_without_label_count_as_pairs_only(cli: Cli) -> None:
    made = models(N, 1.0)
    rare = [int(label) if row % 3 == 0 else None for row, label in enumerate(made.labels)]
    parquet("p.parquet", **pairs(made, label=pa.array(rare)))
    (found,) = replayed(cli, "p.parquet", "--looks", 300, "--record", "found.json")
    assert found["pairs"] == 3 * found["labelled"] and found["labelled"] >= 300
    dense = Models(made.baseline[::3], made.candidate[::3], made.labels[::3])
    parquet("q.parquet", **losses(dense))
    (expected,) = replayed(cli, "q.parquet", "--record", "expected.json")
    assert found == {**expected, "run": "p", "pairs": found["pairs"]}
    deltas = [[look.delta for look in read_record(Path(name)).looks] for name in ("found.json", "expected.json")]
    assert deltas[0] == pytest.approx(deltas[1])


def test_no_label_at_all_is_no_error(cli: Cli) -> None:
    made = models(500, 1.0)
    parquet("p.parquet", **pairs(made, label=pa.nulls(500)))
    (found,) = replayed(cli, "p.parquet")
    assert (found["verdict"], found["reason"], found["labelled"]) == ("Continue", "WaitingForLabels", 0)


def test_too_few_labels_for_a_block_wait_for_it(cli: Cli) -> None:
    parquet("p.parquet", **pairs(models(60, 1.0), ts=START + np.arange(60.0)))
    assert replayed(cli, "p.parquet")[0]["reason"] == "TooFewSamples"
    assert replayed(cli, "p.parquet", "--timed")[0]["reason"] == "WaitingForMaturity"
    assert "60 labelled pairs wait until their block is full" in cli("replay", "p.parquet", "--timed").out


def test_missing_losses_are_missing_labels(cli: Cli) -> None:
    columns = {}
    for name, values in losses(models(N, 1.0)).items():
        columns[name] = pa.array([None if row % 2 else value for row, value in enumerate(np.asarray(values))])
    parquet("p.parquet", **columns)
    (found,) = replayed(cli, "p.parquet")
    assert found["verdict"] == "RollBack" and found["pairs"] == 2 * found["labelled"]


def test_interleaved_runs_are_each_judged_by_themselves(cli: Cli) -> None:
    parts = {"bad": models(N, 1.0), "same": models(N, 0.0, seed=2), "worse": models(N, 2.0, seed=3)}
    alone = {}
    for name, made in parts.items():
        parquet(f"{name}.parquet", **pairs(made))
        (alone[name],) = replayed(cli, f"{name}.parquet")
    one = {
        key: np.concatenate([np.asarray(pairs(made)[key]) for made in parts.values()]) for key in pairs(models(1, 0))
    }
    runs = np.repeat(list(parts), N)
    kept_order = np.argsort(np.tile(np.arange(N), 3), kind="stable")
    parquet("mixed.parquet", **{key: column[kept_order] for key, column in one.items()}, run=runs[kept_order])
    found = {row["run"]: row for row in replayed(cli, "mixed.parquet")}
    assert found == alone
    parquet("blocks.parquet", **one, run=pa.array(runs).dictionary_encode())
    assert replayed(cli, "blocks.parquet") == list(alone.values())


def test_pairs_are_judged_in_order_of_time(cli: Cli) -> None:
    """The candidate is fine at first and bad afterwards: in another order the verdict comes elsewhere."""
    good, bad = models(1500, 0.0), models(1500, 3.0, seed=2)
    rows = [np.concatenate(two) for two in ((good.baseline, bad.baseline), (good.candidate, bad.candidate))]
    made = Models(rows[0], rows[1], np.concatenate([good.labels, bad.labels]))
    times = START + np.arange(N)
    parquet("sorted.parquet", **pairs(made, ts=times))
    (expected,) = replayed(cli, "sorted.parquet")
    assert 1500 < expected["pairs"] < 2500
    order = np.random.default_rng(1).permutation(N)
    mixed = {name: np.asarray(column)[order] for name, column in pairs(made, ts=times).items()}
    parquet("sorted.parquet", **mixed)
    assert replayed(cli, "sorted.parquet") == [expected]
    iso = [f"{np.datetime64(int(t), 's')}Z" for t in mixed["ts"]]
    for written in (iso, pa.array((mixed["ts"] * 1e6).astype(np.int64), pa.timestamp("us", tz="UTC"))):
        parquet("sorted.parquet", **{**mixed, "ts": written})
        assert replayed(cli, "sorted.parquet") == [expected]
    mixed.pop("ts")
    parquet("sorted.parquet", **mixed)
    assert replayed(cli, "sorted.parquet") != [expected]


def test_a_clock_only_where_it_is_asked_for(cli: Cli) -> None:
    made = models(N, 1.0)
    better = Models(made.candidate, made.baseline, made.labels)
    parquet("p.parquet", **pairs(better, ts=START + 0.1 * np.arange(N)))  # five minutes
    assert replayed(cli, "p.parquet")[0]["verdict"] == "Promote"
    (held,) = replayed(cli, "p.parquet", "--timed")
    assert (held["verdict"], held["reason"], held["pairs"]) == ("Continue", "TooEarly", N)  # minDuration: 15m
    parquet("p.parquet", **pairs(better, ts=START + 1.0 * np.arange(N)))
    (late,) = replayed(cli, "p.parquet", "--timed")
    assert late["verdict"] == "Promote" and late["pairs"] >= 900


def test_a_run_ends_with_its_time(cli: Cli) -> None:
    made = models(N, 0.0)
    parquet("p.parquet", **pairs(made, ts=START + 60.0 * np.arange(N)))
    hold = specification("hold.yaml", analysis={"maxDuration": "10h"})
    (found,) = replayed(cli, "p.parquet", "--timed", "--spec", hold)
    assert (found["verdict"], found["reason"]) == ("Continue", "Held")
    assert found["pairs"] == 700  # the first look after 600 minutes
    back = specification("back.yaml", analysis={"maxDuration": "10h", "onTimeout": "Rollback"})
    (found,) = replayed(cli, "p.parquet", "--timed", "--spec", back)
    assert (found["verdict"], found["reason"], found["look"]) == ("RollBack", "AnalysisTimedOut", 7)
    assert replayed(cli, "p.parquet", "--spec", back)[0]["reason"] == "EvidenceBelowThreshold"


def test_blocks_are_cut_by_seconds_with_a_clock(cli: Cli) -> None:
    made = models(N, 1.5)
    # 100 pairs a second: without a clock a block has 100 pairs, with it five seconds and 500 pairs
    parquet("p.parquet", **pairs(made, ts=START + 0.01 * np.arange(N)))
    cli("replay", "p.parquet", "--record", "without.json")
    cli("replay", "p.parquet", "--timed", "--record", "with.json")
    without, timed = read_record(Path("without.json")), read_record(Path("with.json"))
    assert len({look.delta for look in without.looks if look.delta}) == len(without.looks)
    assert timed.looks[3].delta is None and timed.looks[6].delta is not None
    assert timed.pairs >= 1000 > without.pairs


def test_what_people_read_shows_each_look(cli: Cli) -> None:
    made = models(N, 1.0)
    parquet("p.parquet", **pairs(made))
    (expected,) = replayed(cli, "p.parquet")
    answer = cli("replay", "p.parquet")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].split() == ["look", "labelled", "delta", "95%", "bounds", "roll-back", "promotion"]
    looks = [line.split() for line in lines[1 : 1 + expected["look"]]]
    assert [int(look[0]) for look in looks] == list(range(1, expected["look"] + 1))
    first = [log_loss(made.labels[:100], p[:100], labels=[0, 1, 2]) for p in (made.baseline, made.candidate)]
    assert float(looks[0][2]) == pytest.approx(first[1] - first[0], abs=1e-4)
    assert f"RollBack (LossRegression) at look {expected['look']}: " in answer.out
    assert "decided at" in answer.out and "2,000" in answer.out
    assert max(map(len, lines)) <= 80


def test_what_people_read_of_many_runs_is_a_table(cli: Cli) -> None:
    parts = [models(N, noise, seed=seed) for seed, noise in enumerate((1.0, 0.0, 1.0))]
    one = {key: np.concatenate([np.asarray(losses(made)[key]) for made in parts]) for key in losses(parts[0])}
    parquet("p.parquet", **one, run=np.repeat(["a", "b", "[red]c"], N))
    answer = cli("replay", "p.parquet")
    rows = [line.split() for line in answer.out.splitlines()]
    assert rows[0] == ["run", "verdict", "reason", "labelled", "look"]
    assert [row[:3] for row in rows[1:4]] == [
        ["a", "RollBack", "LossRegression"],
        ["b", "Continue", "EvidenceBelowThreshold"],
        ["[red]c", "RollBack", "LossRegression"],
    ]
    assert answer.out.splitlines()[-1] == "RollBack 2, Continue 1"


def test_one_run_of_many_can_be_chosen_and_recorded(cli: Cli) -> None:
    made = models(2 * N, 1.0)
    parquet("p.parquet", **losses(made), ts=START + np.arange(2 * N), run=np.repeat(["a", "b"], N))
    (found,) = replayed(cli, "p.parquet", "--run", "b", "--record", "r.json", "--report", "r.html")
    record = read_record(Path("r.json"))
    assert (record.run, record.verdict, record.pairs) == ("b", found["verdict"], found["pairs"])
    assert record.startedAt == START + N and len(record.looks) == found["look"]
    assert Path("r.html").read_text().startswith("<!doctype html>")
    assert "--run" in cli("replay", "p.parquet", "--record", "r2.json").complaint()
    assert "'c'" in cli("replay", "p.parquet", "--run", "c").complaint()
    assert not Path("r2.json").exists()


def test_a_bad_row_in_the_last_run_leaves_no_line(cli: Cli) -> None:
    made = models(N, 1.0)
    columns = losses(made)
    columns["candidate_loss"] = np.array(columns["candidate_loss"])
    columns["candidate_loss"][-1] = -1.0
    parquet("p.parquet", **columns, run=np.repeat(["a", "b", "c"], N // 3))
    assert f"row {N}: the candidate's loss is -1" in cli("replay", "p.parquet", "--json").complaint()


def test_rows_are_named_by_their_place_in_the_file(cli: Cli) -> None:
    """Whatever order they are judged in."""
    made = models(600, 1.0)
    order = np.random.default_rng(1).permutation(600)
    candidate = made.candidate.copy()
    candidate[437] = (0.5, 0.4, 0.4)
    parquet("p.parquet", **pairs(Models(made.baseline, candidate, made.labels)), ts=order, run=np.tile(["a", "b"], 300))
    complaint = cli("replay", "p.parquet").complaint()
    assert "p.parquet: row 438, column 'candidate': the probabilities sum to 1.3, 0.3 above 1" in complaint


def test_a_pair_that_comes_twice_is_refused_within_a_run_only(cli: Cli) -> None:
    made = models(600, 1.0)
    ids = [f"r{row % 300}" for row in range(600)]
    parquet("p.parquet", **pairs(made, id=ids, run=np.repeat(["a", "b"], 300)))
    assert len(replayed(cli, "p.parquet")) == 2
    parquet("p.parquet", **pairs(made, id=ids))
    assert "row 301: the id 'r0' comes twice" in cli("replay", "p.parquet").complaint()


def test_other_formats_hold_the_same_pairs(cli: Cli) -> None:
    made = models(1200, 1.0)
    parquet("p.parquet", **pairs(made))
    (expected,) = replayed(cli, "p.parquet")
    rows = pq.read_table("p.parquet").to_pylist()
    Path("p.ndjson").write_text("\n".join(map(json.dumps, rows)))
    head = "id,baseline,candidate,label\n"
    lines = [f'{row["id"]},"{row["baseline"]}","{row["candidate"]}",{row["label"]}' for row in rows]
    Path("p.csv").write_text(head + "\n".join(lines) + "\n")
    for name in ("p.ndjson", "p.csv"):
        assert replayed(cli, name) == [expected]


def test_a_specification_is_followed(cli: Cli) -> None:
    made = models(N, 1.0)
    parquet("p.parquet", **pairs(made))
    patient = specification("s.yaml", analysis={"minSamples": {"rollback": 2000}})
    assert replayed(cli, "p.parquet", "--spec", patient)[0]["labelled"] >= 2000
