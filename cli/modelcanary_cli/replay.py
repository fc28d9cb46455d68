"""`modelcanary replay`: recorded pairs through the gate, look by look, each run by itself.

It gives the verdict that a live run would have given on the same pairs, and at which look.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from modelcanary_cli import text
from modelcanary_cli.errors import InputError
from modelcanary_cli.files import refuse_unwritable
from modelcanary_cli.groups import Places
from modelcanary_cli.judge import JudgedLook, look_by_look
from modelcanary_cli.options import PATH, chosen_spec, classes_option, record_options, spec_option
from modelcanary_cli.pairs import PairFile, RecordedRun, read_pairs
from modelcanary_cli.record import write_record
from modelcanary_cli.report import write_report
from modelcanary_cli.specs import LoadedSpec
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.record import Record
from modelcanary_gate.recording import Recorder, guards_left_out
from modelcanary_gate.vocabulary import Verdict


@click.command()
@click.argument("file", type=PATH)
@spec_option
@classes_option
@click.option("--looks", default=100, show_default=True, type=click.IntRange(min=1), help="Pairs per look.")
@click.option("--timed", is_flag=True, help="Keep the rules that need a clock; the clock is the column ts.")
@click.option("--run", "only", metavar="RUN", help="Judge this run alone.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON per run.")
@record_options
def replay(
    file: Path,
    spec_path: Path | None,
    classes: str | None,
    looks: int,
    timed: bool,
    only: str | None,
    as_json: bool,
    record: Path | None,
    report: Path | None,
) -> None:
    """Judge recorded pairs, look by look.

    FILE is Parquet, CSV or NDJSON with one pair per row: baseline and candidate as lists of numbers with label,
    or baseline_loss and candidate_loss; ts, id and run are optional. Without --timed, minDuration, time-outs and
    blocks by seconds are left out. Maturity always is: each label counts with its pair. What `modelcanary export`
    wrote is read as the ledger had it: late labels are left out, and each label counts by its weight.
    """
    refuse_unwritable(record, report)
    spec, loaded = chosen_spec(spec_path, classes)
    # a file need not say when a label came: each counts with its pair
    spec = replace(spec, labels=replace(spec.labels, maturity=0.0))
    pairs = read_pairs(file, spec)
    pairs = replace(pairs, groups=_chosen(pairs, only))
    if timed and pairs.times is None:
        raise InputError(file, "has no column 'ts', which --timed needs", "add the time of each pair")
    if (record or report) and len(pairs.groups) > 1:
        raise InputError(file, f"holds {len(pairs.groups)} runs, and a record is of one", "choose it with --run")
    task = _Task(pairs, EvidencePlan.of(pairs.spec), loaded, looks, timed)
    if as_json:
        # all lines or none: a bad row in the last run must not leave half of an answer
        lines, kept = [], None
        for run in pairs.runs():
            last, kept = task.judge(run)
            lines.append(_line(run.run, last))
        _write(kept, record, report)
        click.echo("\n".join(lines))
        return
    out = text.console()
    for note in pairs.notes:
        out.print(text.wrapped(note), style="yellow")
    if len(pairs.groups) == 1:
        for run in pairs.runs():
            _write(_show_looks(out, task, run), record, report)
    else:
        _show_runs(out, task)


@dataclass(frozen=True, slots=True)
class _Task:
    """How runs are judged."""

    pairs: PairFile
    plan: EvidencePlan
    loaded: LoadedSpec | None
    every: int
    timed: bool

    def looks(self, run: RecordedRun) -> Iterator[JudgedLook]:
        return look_by_look(self.pairs.spec, self.plan, run, self.every, timed=self.timed)

    def judge(self, run: RecordedRun) -> tuple[JudgedLook, Record | None]:
        """The last look; a record is kept only where the file is one run."""
        recorder = Recorder(self.plan) if len(self.pairs.groups) == 1 else None
        last = None
        for last in self.looks(run):
            if recorder is not None:
                keep(recorder, last)
        if last is None:
            raise InputError(self.pairs.source, f"run {run.run!r} has no pairs", "leave it out")
        return last, None if recorder is None else self.record(recorder, run, last)

    def record(self, recorder: Recorder, run: RecordedRun, last: JudgedLook) -> Record:
        clock = "with" if self.timed else "without"
        return recorder.record(
            last.decision,
            run=run.run,
            command="replay",
            version=version("modelcanary"),
            pairs=last.pairs,
            labelled=last.labelled,
            baseline=f"{self.pairs.source.name}, column {_column(self.pairs, 0)}",
            candidate=f"{self.pairs.source.name}, column {_column(self.pairs, 1)}",
            name="" if self.loaded is None else self.loaded.name,
            started=None if run.times is None else float(run.times[0]),
            ended=last.time,
            counts={"pairsInFile": len(run.labelled), "labelledInFile": len(run.scored)},
            notes=[
                f"A replay of recorded pairs, {clock} the rules that need a clock.",
                *self.pairs.notes,
                *guards_left_out(self.pairs.spec),
            ],
            spec={} if self.loaded is None else self.loaded.written,
        )


def keep(recorder: Recorder, look: JudgedLook) -> None:
    if look.block is not None:
        recorder.add_loss(look.block)
    recorder.look(look.decision, pairs=look.pairs, labelled=look.labelled, time=look.time)


def _chosen(pairs: PairFile, only: str | None) -> list[tuple[str, Places]]:
    if only is None:
        return pairs.groups
    groups = [(run, rows) for run, rows in pairs.groups if run == only]
    if not groups:
        raise InputError(pairs.source, f"has no run {only!r}", "give one of the values of the column run")
    return groups


def _column(pairs: PairFile, role: int) -> str:
    return ("baseline", "candidate")[role] + ("" if pairs.losses is None else "_loss")


def _line(run: str, last: JudgedLook) -> str:
    row = {
        "run": run,
        "verdict": last.decision.verdict,
        "reason": last.decision.reason,
        "pairs": last.pairs,
        "labelled": last.labelled,
        "look": last.look,
    }
    return json.dumps(row, ensure_ascii=False)


def _write(kept: Record | None, record: Path | None, report: Path | None) -> None:
    if kept is not None and record is not None:
        write_record(kept, record)
    if kept is not None and report is not None:
        write_report(kept, report)


def _show_looks(out: Console, task: _Task, run: RecordedRun) -> Record:
    recorder = Recorder(task.plan)
    heads = ("look", "labelled", "delta", "95% bounds", "roll-back", "promotion")
    widths = (6, 9, 9, 20, 12, 12)
    out.print("".join(head.rjust(width) for head, width in zip(heads, widths, strict=True)), style="bold")
    last = None
    for last in task.looks(run):
        keep(recorder, last)
        if last.block is None:
            continue
        measures = last.decision.measures
        cells = (
            str(last.look),
            f"{last.labelled:,}",
            text.nats(measures.delta),
            text.bounds(measures.lower, measures.upper),
            text.evidence(measures.rollback_evidence),
            text.evidence(measures.promotion_evidence),
        )
        out.print("".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))
    if last is None:
        raise InputError(task.pairs.source, "has no pairs", "give a file with at least one pair")
    measures = last.decision.measures
    out.print(
        f"{'decided at':>44}"
        + text.evidence(measures.rollback_threshold).rjust(12)
        + text.evidence(measures.promotion_threshold).rjust(12),
        style="dim",
    )
    out.print()
    out.print(
        text.verdict(last.decision.verdict),
        f"({last.decision.reason}) at look {last.look:,}: {last.pairs:,} pairs, {last.labelled:,} labelled",
    )
    out.print(text.wrapped(last.decision.message))
    return task.record(recorder, run, last)


def _show_runs(out: Console, task: _Task) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, side in (("run", "left"), ("verdict", "left"), ("reason", "left"), ("labelled", "right")):
        table.add_column(head, justify=side, overflow="fold")  # type: ignore[arg-type]
    table.add_column("look", justify="right")
    verdicts: Counter[Verdict] = Counter()
    for run in task.pairs.runs():
        last, _ = task.judge(run)
        decision = last.decision
        verdicts[decision.verdict] += 1
        table.add_row(
            run.run, text.verdict(decision.verdict), str(decision.reason), f"{last.labelled:,}", f"{last.look:,}"
        )
    out.print(table)
    out.print()
    out.print(", ".join(f"{verdict} {count:,}" for verdict, count in verdicts.most_common()))
