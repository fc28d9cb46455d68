"""`modelcanary recompute`: a run's evidence once more, from its exported pairs and all labels that there are.

For labels that come by batch jobs, later than a run is kept: the verdict that the run would have had, and a
check of what the ledger has counted.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click
import msgspec

from modelcanary_cli import text
from modelcanary_cli.errors import ExitCode, InputError
from modelcanary_cli.exported import read_exported
from modelcanary_cli.files import refuse_unwritable
from modelcanary_cli.ledger_client import Evidence
from modelcanary_cli.options import PATH, record_options
from modelcanary_cli.rebuild import Difference, Rebuild, compare, rebuilt
from modelcanary_cli.record import write_record
from modelcanary_cli.rejoin import Joined, join, read_labels
from modelcanary_cli.report import write_report
from modelcanary_cli.specs import LoadedSpec, load_spec
from modelcanary_gate.decision import Decision, Facts
from modelcanary_gate.errors import SpecError
from modelcanary_gate.evidence import LossBlock, TrafficBlock
from modelcanary_gate.gate import Gate
from modelcanary_gate.quantities import duration
from modelcanary_gate.record import Record
from modelcanary_gate.recording import Recorder
from modelcanary_gate.vocabulary import Verdict

#: Sums in another order differ in their last digits.
TOLERANCE = 1e-9
_CODES = {
    Verdict.PROMOTE: ExitCode.PROMOTE,
    Verdict.ROLL_BACK: ExitCode.ROLL_BACK,
    Verdict.CONTINUE: ExitCode.UNDECIDED,
}


@click.command()
@click.argument("pairs", nargs=-1, required=True, type=PATH)
@click.option("--spec", "spec_path", required=True, type=PATH, metavar="FILE", help="The run's ModelCanary as YAML.")
@click.option("--labels", multiple=True, type=PATH, metavar="FILE", help="id, label, index?, labelledAt?; repeatable.")
@click.option("--maturity", metavar="TIME", help="Labels that came within it count.")
@click.option("--against", type=PATH, metavar="FILE", help="A ledger's evidence, to compare with.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@click.option("--exit-zero", is_flag=True, help="End with 0 whatever the verdict: for jobs that count codes.")
@record_options
def recompute(
    pairs: tuple[Path, ...],
    spec_path: Path,
    labels: tuple[Path, ...],
    maturity: str | None,
    against: Path | None,
    as_json: bool,
    exit_zero: bool,
    record: Path | None,
    report: Path | None,
) -> ExitCode:
    """Compute a run's evidence and verdict anew.

    PAIRS are files that `modelcanary export` wrote, of one run, in order. Labels in files join by id and index;
    the first of a pair counts, if it came within the run's maturity. With --against, exit code 4 says that the
    ledger's evidence differs by more than 1e-9.
    """
    refuse_unwritable(record, report)
    loaded = load_spec(spec_path)
    live = None if against is None else _read_evidence(against)
    task = _Task(loaded, pairs, labels, _maturity(maturity, loaded, live), maturity is None, live)
    done = task.compute()
    if record is not None:
        write_record(done.record, record)
    if report is not None:
        write_report(done.record, report)
    click.echo(done.as_json() if as_json else done.as_text())
    if done.difference is not None and done.difference.largest > TOLERANCE:
        return ExitCode.DIFFERS
    return ExitCode.PROMOTE if exit_zero else _CODES[done.record.verdict]


@dataclass(frozen=True, slots=True)
class _Task:
    loaded: LoadedSpec
    pairs: tuple[Path, ...]
    labels: tuple[Path, ...]
    maturity: float | None
    as_counted: bool  # by the maturity that the ledger had
    live: Evidence | None

    def compute(self) -> "_Done":
        spec = self.loaded.spec
        joined = None
        if self.labels:
            joined = join(self.pairs, read_labels(self.labels, spec))
        started = self.live.startedAt if self.live is not None else self._started()
        now = None if self.live is None else self.live.now
        rebuild = Rebuild(spec, started=started, maturity=self.maturity, now=now)
        batches = (batch for source in self.pairs for batch in read_exported(source, spec))
        rebuilt(rebuild, batches, joined, as_counted=self.as_counted)
        difference = None
        blocks = list(rebuild.blocks())
        if self.live is not None:
            if self.live.specDigest != rebuild.plan.digest:
                raise InputError(
                    self.loaded.source, "measures otherwise than the ledger did", "give the run's own spec"
                )
            theirs: list[LossBlock | TrafficBlock] = [*self.live.loss_blocks(rebuild.plan)]
            theirs += self.live.traffic_blocks(rebuild.plan)
            difference = compare(rebuild.plan, theirs, blocks)
        decision, recorder = _judge(rebuild, blocks, started)
        return _Done(self._record(decision, recorder, rebuild, joined, started), difference)

    def _started(self) -> float:
        """Of a run of which nothing else is known: its first pair."""
        batch = next(read_exported(self.pairs[0], self.loaded.spec))
        return float(batch.times[0])

    def _record(
        self,
        decision: Decision,
        recorder: Recorder,
        rebuild: Rebuild,
        joined: Joined | None,
        started: float,
    ) -> Record:
        counts = {"expired": rebuild.expired, "unscored": rebuild.unscored, "conflict": rebuild.conflict}
        if joined is not None:
            counts |= {"duplicate": joined.duplicate, "unmatched": joined.unmatched}
        return recorder.record(
            decision,
            run=self.live.run if self.live is not None else self.pairs[0].stem,
            command="recompute",
            version=version("modelcanary"),
            pairs=rebuild.pairs,
            labelled=rebuild.labelled,
            name=self.loaded.name,
            started=started,
            ended=rebuild.last,
            counts=counts,
            notes=["Computed anew from recorded pairs; a run's own verdict may have come earlier."],
            spec=self.loaded.written,
        )


@dataclass(frozen=True, slots=True)
class _Done:
    record: Record
    difference: Difference | None

    def as_json(self) -> str:
        look = self.record.looks[-1]
        row: dict[str, object] = {
            "run": self.record.run,
            "verdict": self.record.verdict,
            "reason": self.record.reason,
            "pairs": self.record.pairs,
            "labelled": self.record.labelled,
            "delta": look.delta,
            **self.record.counts,
        }
        if self.difference is not None:
            row["difference"] = self.difference.largest
        return msgspec.json.encode(row).decode()

    def as_text(self) -> str:
        record, look = self.record, self.record.looks[-1]
        rows = [
            ("verdict", f"{record.verdict} ({record.reason})"),
            ("delta", f"{text.nats(look.delta)} {record.unit}, 95% within {text.bounds(look.lower, look.upper)}"),
            ("pairs", f"{record.pairs:,}"),
            ("labelled", f"{record.labelled:,} in time"),
            *((name, f"{count:,}") for name, count in record.counts.items()),
        ]
        if self.difference is not None:
            rows.append(("ledger's evidence", self._compared(self.difference)))
        lines = [f"{name:<20}{value}" for name, value in rows]
        return "\n".join([*lines, text.wrapped(record.message)])

    def _compared(self, found: Difference) -> str:
        if found.largest <= TOLERANCE:
            return f"the same to {max(found.largest, 1e-16):.0e}"
        return f"differs by {found.largest:.1e} at {found.place}: {found.live:g}, here {found.rebuilt:g}"


def _judge(rebuild: Rebuild, blocks: list[LossBlock | TrafficBlock], started: float) -> tuple[Decision, Recorder]:
    """One look, at all the evidence: what there is to know by now."""
    gate, recorder = Gate(rebuild.spec), Recorder(rebuild.plan)
    for block in blocks:
        if isinstance(block, LossBlock):
            recorder.add_loss(block)
            if block.n:
                gate.add_loss(block)
        else:
            recorder.add_traffic(block)
            gate.add_traffic(block)
    elapsed = max(0.0, rebuild.last - started)
    labels = rebuild.labelled + rebuild.expired + rebuild.unscored
    decision = gate.decide(Facts(elapsed, rebuild.pairs, rebuild.labelled, labels, rebuild.conflict))
    recorder.look(decision, pairs=rebuild.pairs, labelled=rebuild.labelled, time=rebuild.last)
    return decision, recorder


def _maturity(given: str | None, loaded: LoadedSpec, live: Evidence | None) -> float | None:
    if given is None:
        declared = loaded.spec.labels.maturity
        return declared if declared is not None or live is None else live.maturity
    try:
        return duration(given, "--maturity")
    except SpecError as error:
        raise InputError("--maturity", error.problem, error.remedy) from error


def _read_evidence(path: Path) -> Evidence:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evidence)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "give a ledger's evidence") from error
    except msgspec.DecodeError as error:
        raise InputError(path, f"is no evidence: {error}", "give what `modelcanary export --evidence` wrote") from error
