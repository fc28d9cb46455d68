"""`modelcanary evaluate`: a gate for CI - two files of predictions in, a verdict and an exit code out.

All rows are known at once, so the run is tested as a whole: no restarts, no clock, no waiting for consistency
between looks. Margins, error rates, minimum samples and guards are those of a live run.
"""

import json
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from modelcanary_cli import text
from modelcanary_cli.errors import ExitCode, InputError
from modelcanary_cli.files import refuse_unwritable
from modelcanary_cli.options import PATH, chosen_spec, classes_option, record_options, spec_option
from modelcanary_cli.predictions import Joined, read_predictions
from modelcanary_cli.record import write_record
from modelcanary_cli.report import write_report
from modelcanary_cli.specs import LoadedSpec
from modelcanary_gate.confidence import mean_interval
from modelcanary_gate.decision import Decision, Facts
from modelcanary_gate.eprocess import Discount
from modelcanary_gate.errors import DataError
from modelcanary_gate.evidence import loss_blocks
from modelcanary_gate.gate import Gate
from modelcanary_gate.record import ClassRow, Record, finite
from modelcanary_gate.recording import NEEDS_TRAFFIC, Recorder, guards_left_out
from modelcanary_gate.scoring import LabelledPairs, score, score_agreement
from modelcanary_gate.spec import Hysteresis, Restarts, Spec
from modelcanary_gate.vocabulary import Reason, Verdict

#: At most as many blocks as the gate takes for 'recent': then its rule on recent blocks is about all rows.
_BLOCKS = 20
_BLOCK_PAIRS = 100
#: Rows in the order of a hash are as good as independent, so nothing is discounted before it is seen.
_INDEPENDENT = Discount(prior=1.0)

EXIT_CODES = {
    Verdict.PROMOTE: ExitCode.PROMOTE,
    Verdict.ROLL_BACK: ExitCode.ROLL_BACK,
    Verdict.CONTINUE: ExitCode.UNDECIDED,
}


@click.command(short_help="Judge a candidate on two files of predictions.")
@click.option("--baseline", required=True, type=PATH, metavar="FILE", help="Predictions of the model that serves.")
@click.option("--candidate", required=True, type=PATH, metavar="FILE", help="Predictions of the model to be judged.")
@click.option("--labels", type=PATH, metavar="FILE", help="id and label, where the predictions have none.")
@spec_option
@classes_option
@click.option("--json", "as_json", is_flag=True, help="The decision record as JSON, and nothing else.")
@record_options
def evaluate(
    baseline: Path,
    candidate: Path,
    labels: Path | None,
    spec_path: Path | None,
    classes: str | None,
    as_json: bool,
    record: Path | None,
    report: Path | None,
) -> int:
    """Judge a candidate on two files of predictions, before it is deployed.

    Each FILE is Parquet, CSV or NDJSON with id and one of: probabilities, logits, log_probabilities (a list per
    row), p_<class> (a column per class), score (probability of the second class).

    Ends with 0 to promote, 1 to roll back, 2 if undecided, 3 on bad input.
    """
    refuse_unwritable(record, report)
    spec, loaded = chosen_spec(spec_path, classes)
    joined = read_predictions(baseline, candidate, labels, spec)
    spec = _for_files(replace(spec, model=replace(spec.model, classes=joined.classes)))
    scored = _scored(spec, joined, labels or baseline)
    decision, kept = _judged(spec, joined, scored, loaded, (baseline, candidate))
    if record is not None:
        write_record(kept, record)
    if report is not None:
        write_report(kept, report)
    if as_json:
        click.echo(json.dumps(asdict(finite(kept)), ensure_ascii=False))
    else:
        _show(text.console(), decision, kept)
    return EXIT_CODES[decision.verdict]


def _for_files(spec: Spec) -> Spec:
    once = Hysteresis(rollback_after=1, promote_after=1, cooldown=spec.analysis.hysteresis.cooldown)
    return replace(spec, analysis=replace(spec.analysis, restarts=Restarts.DISABLED, hysteresis=once))


def _scored(spec: Spec, joined: Joined, source: Path) -> LabelledPairs:
    if joined.labels is None:
        return score_agreement(spec, joined.baseline, joined.candidate)
    known = joined.labelled
    if not known.any():
        raise InputError(source, "no row that both models answered has a label", "give labels for the same ids")
    ids = np.flatnonzero(known)
    try:
        return score(spec, joined.baseline[known], joined.candidate[known], joined.labels[known])
    except DataError as error:
        place = "" if error.row is None else f"id {joined.ids[ids[error.row]]!r}: "
        raise InputError(source, f"{place}{error.problem}", "correct the label") from error


def _judged(
    spec: Spec, joined: Joined, scored: LabelledPairs, loaded: LoadedSpec | None, files: tuple[Path, Path]
) -> tuple[Decision, Record]:
    gate = Gate(spec, timed=False, discount=_INDEPENDENT)
    recorder = Recorder(gate.plan)
    count = min(_BLOCKS, max(1, len(scored) // _BLOCK_PAIRS))
    starts = np.linspace(0, len(scored), count, endpoint=False).astype(np.intp)
    ends = [*starts[1:].tolist(), len(scored)]
    share = len(joined.ids) / len(scored)
    for block, end in zip(loss_blocks(gate.plan, scored, starts, 0, [(0.0, 0.0)] * count), ends, strict=True):
        gate.add_loss(block)
        recorder.add_loss(block)
        decision = gate.decide(Facts(pairs=round(end * share), labelled=end))
        recorder.look(decision, pairs=round(end * share), labelled=end)
    record = recorder.record(
        decision,
        run=f"{files[0].name} / {files[1].name}",
        command="evaluate",
        version=version("modelcanary"),
        pairs=len(joined.ids),
        labelled=len(scored),
        baseline=str(files[0]),
        candidate=str(files[1]),
        name="" if loaded is None else loaded.name,
        classes=class_rows(joined.classes, scored),
        counts=joined.counts,
        notes=[*joined.notes, *_notes(joined.counts), *guards_left_out(spec)],
        spec={} if loaded is None else loaded.written,
    )
    return decision, record


def class_rows(classes: tuple[str, ...], pairs: LabelledPairs) -> list[ClassRow]:
    """One row per class of the labels. The bounds are of each class by itself, not of all at once."""
    rows = []
    for index, name in enumerate(classes):
        own = pairs.take(pairs.label == index)
        if len(own) == 0:
            rows.append(ClassRow(name, 0))
            continue
        delta = own.candidate_loss - own.baseline_loss
        lower, upper = mean_interval(len(own), float(delta.mean()), float(delta.var()), 1.0)
        accuracies = [float((p == index).mean()) for p in (own.baseline_predicted, own.candidate_predicted)]
        losses = float(own.baseline_loss.mean()), float(own.candidate_loss.mean())
        rows.append(ClassRow(name, len(own), *losses, accuracies[0], accuracies[1], lower, upper))
    return rows if any(row.labelled for row in rows) else []


def _notes(counts: dict[str, int]) -> list[str]:
    words = {
        "onlyBaseline": "ids are in the baseline's file only, and were left out",
        "onlyCandidate": "ids are in the candidate's file only, and were left out",
        "unlabelled": "rows have no label, and were not judged",
        "unmatchedLabels": "labels are for ids that were not compared",
    }
    return [f"{counts[key]:,} {words[key]}" for key in words if counts.get(key)]


def _show(out: Console, decision: Decision, record: Record) -> None:
    measures = decision.measures
    out.print(text.verdict(decision.verdict), f"({decision.reason})")
    out.print(text.wrapped(decision.message))
    out.print()
    rows = [
        ("pairs", f"{record.pairs:,}, of which {record.labelled:,} are labelled"),
        ("baseline's loss", f"{text.plain(measures.baseline_loss)} {measures.unit}"),
        ("candidate's loss", f"{text.plain(measures.candidate_loss)} {measures.unit}"),
        ("delta", f"{text.nats(measures.delta)}, 95% within {text.bounds(measures.lower, measures.upper)}"),
        ("margin", f"{text.nats(measures.margin)}: up to here a candidate is as good"),
        ("roll-back", _against(measures.rollback_evidence, measures.rollback_threshold)),
        ("promotion", _against(measures.promotion_evidence, measures.promotion_threshold)),
    ]
    if decision.reason in (Reason.TOO_FEW_SAMPLES, Reason.EVIDENCE_BELOW_THRESHOLD):
        rows.append(("labels to go", f"{text.count(measures.pairs_to_promotion)} to promote at this delta"))
        rows.append(("", f"{text.count(measures.pairs_to_rollback)} to roll back"))
    for name, value in rows:
        out.print(f"{name:<18}{value}")
    for guard in record.guards:
        if guard.type in NEEDS_TRAFFIC:
            continue
        out.print(f"{'guard ' + guard.name:<18}{guard.state}, limit {guard.limit or '-'} {guard.message}".rstrip())
    if record.classes:
        out.print()
        out.print(_class_table(record.classes))
    for note in record.notes:
        out.print(text.wrapped(note), style="yellow")


def _against(evidence: float, threshold: float) -> str:
    return f"evidence {text.evidence(evidence)} of {text.evidence(threshold)}"


def _class_table(rows: list[ClassRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="fold")
    for head in ("labelled", "baseline", "candidate", "delta", "95% bounds"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        delta = None
        if row.candidateLoss is not None and row.baselineLoss is not None:
            delta = row.candidateLoss - row.baselineLoss
        table.add_row(
            row.name,
            f"{row.labelled:,}",
            text.plain(row.baselineLoss),
            text.plain(row.candidateLoss),
            text.nats(delta),
            text.bounds(finite(row.lower), finite(row.upper)),
        )
    return table
