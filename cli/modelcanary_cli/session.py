"""One `modelcanary run` from its first process to its verdict: the loop around ledger, sidecar and gate.

Called by `run` with options that are checked. What a verdict rests on is in the ledger's folder and `run.json`:
killed at any moment, the next session of the same state goes on.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from modelcanary_cli import instruct
from modelcanary_cli.addresses import Address
from modelcanary_cli.errors import ExitCode, InputError
from modelcanary_cli.ledger_client import Ledger, LedgerError
from modelcanary_cli.metrics import MetricGuards
from modelcanary_cli.progress import Progress
from modelcanary_cli.record import read_record, write_record
from modelcanary_cli.report import write_report
from modelcanary_cli.specs import LoadedSpec
from modelcanary_cli.state import RunFile, StateFolder
from modelcanary_cli.supervise import Part, Supervisor
from modelcanary_cli.usage import read_users
from modelcanary_cli.view import View
from modelcanary_cli.watch import Watch, finished
from modelcanary_gate.decision import Decision
from modelcanary_gate.protocol import Instructions, PutInstructions
from modelcanary_gate.record import Record
from modelcanary_gate.vocabulary import Verdict
from modelcanary_operator.prometheus import Asked

#: Seconds between two questions for newer counts; looks come at `analysis.interval`.
_TICK = 1.0
#: A ledger that does not answer for so long ends the run; it is restarted before, when it has died.
_PATIENCE = 60.0
#: Instructions of one epoch are numbered within it.
_VERSIONS = 1000

EXIT_CODES = {
    Verdict.PROMOTE: ExitCode.PROMOTE,
    Verdict.ROLL_BACK: ExitCode.ROLL_BACK,
    Verdict.CONTINUE: ExitCode.UNDECIDED,
}


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, checked."""

    loaded: LoadedSpec
    baseline: str
    candidate: str
    listen: Address
    feedback: Address
    admin: Address
    report: Path | None
    keep_serving: bool
    new_run: bool
    endpoints: Mapping[str, str] = field(default_factory=dict)  # of guards on metrics: name to URL


class Session:
    """Use `play` once."""

    def __init__(self, options: Options, state: StateFolder, show: Progress, stopping: threading.Event) -> None:
        self._options = options
        self._state = state
        self._show = show
        self._stopping = stopping
        self._watch = Watch(options.loaded.spec)
        self._ledger = Ledger(options.feedback.url, options.loaded.namespace, options.loaded.name)
        self._sent = 0
        self._source = ""  # of the evidence that was folded so far
        self._decision: Decision | None = None
        fresh = RunFile(
            run=f"{options.loaded.name}-{int(time.time()):x}",
            digest=self._watch.digest,
            baseline=options.baseline,
            candidate=options.candidate,
            startedAt=time.time(),
        )
        self._run, self._why = state.begin(fresh, new=options.new_run)
        about = Asked(options.loaded.namespace, options.loaded.name, self._run.run)
        self._metrics = MetricGuards(options.loaded.spec, options.endpoints, about)

    def play(self) -> ExitCode:
        """Raises CliError when a part does not start or stay."""
        decided = self._decided_before()
        if decided is not None and not self._options.keep_serving:
            self._show.say(
                f"run {decided.run} was decided before: {decided.verdict} ({decided.reason}): {decided.message}; "
                "--new-run starts another"
            )
            return EXIT_CODES[decided.verdict]
        try:
            with self._metrics, Supervisor(self._state.lock, self._show.say, self._stopping.is_set) as parts:
                self._start(parts, mirror=decided is None)
                verdict = decided.verdict if decided is not None else self._judge(parts)
                while self._options.keep_serving and not self._stopping.wait(_TICK):
                    self._revive(parts, self._serving)
            return EXIT_CODES[verdict]
        finally:
            self._ledger.close()

    def _decided_before(self) -> Record | None:
        if self._why or not self._state.record.exists():
            return None
        record = read_record(self._state.record)
        return record if record.run == self._run.run and record.verdict is not Verdict.CONTINUE else None

    # processes

    def _start(self, parts: Supervisor, *, mirror: bool) -> None:
        options, state, loaded = self._options, self._state, self._options.loaded
        parts.start(
            Part(
                "ledger",
                "modelcanary_ledger",
                ["--listen", str(options.feedback), "--state", str(state.ledger)],
                f"{options.feedback.url}/readyz",
                state.log("ledger"),
            )
        )
        self._put(self._mirroring if mirror else self._serving)
        parts.start(
            Part(
                "sidecar",
                "modelcanary_sidecar",
                [
                    *("--listen", str(options.listen), "--upstream", options.baseline),
                    *("--admin", str(options.admin), "--ledger", options.feedback.url),
                    *("--namespace", loaded.namespace, "--name", loaded.name),
                    # Ctrl-C: there is no other proxy that new connections could find meanwhile.
                    *("--identity", "run", "--drain-delay", "200ms", "--drain-time", "5s"),
                ],
                f"{options.admin.url}/readyz",
                state.log("sidecar"),
            )
        )
        self._show.started(
            {
                "run": self._run.run,
                "resumed": not self._why,
                "why": self._why,
                "listen": options.listen.url,
                "feedback": f"{options.feedback.url}/v1/feedback",
                "state": str(state.path),
                "baseline": options.baseline,
                "candidate": options.candidate,
            }
        )

    def _mirroring(self, version: int) -> Instructions:
        return instruct.mirroring(
            self._options.loaded.spec, version=version, run=self._run.run, candidate=self._run.candidate
        )

    def _serving(self, version: int) -> Instructions:
        return instruct.serving(self._options.loaded.spec, version=version)

    def _put(self, instructions: Callable[[int], Instructions]) -> None:
        self._sent += 1
        version = self._run.epoch * _VERSIONS + self._sent
        loaded = self._options.loaded
        self._ledger.put(
            PutInstructions(
                self._run.epoch,
                instructions(version),
                dict(loaded.written),
                sources=list(loaded.spec.labels.sources),
            )
        )

    def _revive(self, parts: Supervisor, instructions: Callable[[int], Instructions]) -> None:
        for part in parts.check():
            if part.name == "ledger":
                self._put(instructions)

    # the loop

    def _judge(self, parts: Supervisor) -> Verdict:
        """Looks until there is a verdict, no time left, or the user ends it; the verdict is on disk then."""
        interval = self._options.loaded.spec.analysis.interval
        next_look = heard = time.monotonic()
        while not self._stopping.wait(min(_TICK, interval)):
            self._revive(parts, self._mirroring)
            try:
                self._take()
            except LedgerError as error:
                if time.monotonic() - heard > _PATIENCE:
                    raise
                self._show.warn(str(error))
                continue
            heard = time.monotonic()
            if heard < next_look:
                self._show.refresh(self._view())
                continue
            next_look = heard + interval
            self._decision = self._watch.decide(self._metrics.latest())
            view = self._view()
            for warning in self._watch.warnings(view.users.requests):
                self._show.warn(warning)
            if finished(self._decision):
                break  # shown as the verdict, once all is written
            self._show.look(view)
        return self._end()

    def _take(self) -> None:
        evidence = self._ledger.evidence(self._run.run, self._watch.cursor)
        if evidence.specDigest != self._watch.digest:
            raise LedgerError("the ledger measures by another specification; start with an empty --state")
        self._source = self._source or evidence.source
        if evidence.source != self._source:
            raise LedgerError("the ledger has lost the run's evidence and begun anew; see ledger.log, use --new-run")
        self._watch.take(evidence)

    def _view(self) -> View:
        if self._decision is None:
            self._decision = self._watch.decide(self._metrics.latest())
        options = self._options
        return View(
            run=self._run.run,
            name=options.loaded.name,
            baseline=options.baseline,
            candidate=options.candidate,
            listen=options.listen.url,
            feedback=options.feedback.url,
            elapsed=self._watch.elapsed,
            counts=self._watch.counts,
            maturity=self._watch.maturity,
            users=read_users(f"{options.admin.url}/metrics"),
            decision=self._decision,
        )

    def _end(self) -> Verdict:
        """Record and report are written; mirroring ends. First the record: nothing after it can lose the verdict."""
        view = self._view()
        record = self._record(view.decision)
        write_record(record, self._state.record)
        try:
            self._put(self._serving)
        except LedgerError as error:
            self._show.warn(f"requests are mirrored until the proxy ends: {error}")
        files = {"record": str(self._state.record)}
        if self._options.report is not None:
            try:
                write_report(record, self._options.report)
                files["report"] = str(self._options.report)
            except InputError as error:  # the verdict stands, and the record can be drawn later
                self._show.warn(str(error))
        self._show.verdict(view, files)
        if self._stopping.is_set() and not finished(view.decision):
            self._show.say(f"stopped; the same command goes on with run {self._run.run}")
        return view.decision.verdict

    def _record(self, decision: Decision) -> Record:
        counts, loaded = self._watch.counts, self._options.loaded
        named = ("scored", "unlabelled", "missing", "duplicate", "conflict", "unmatched")
        more = ("unsampled", "ambiguous", "expired")
        return self._watch.recorder.record(
            decision,
            run=self._run.run,
            command="run",
            version=version("modelcanary"),
            pairs=counts.pairs,
            labelled=counts.labelled,
            baseline=self._options.baseline,
            candidate=self._options.candidate,
            name=loaded.name,
            started=self._watch.started,
            ended=self._watch.now,
            counts={name: getattr(counts, name) for name in (*named, *more)}
            | {f"dropped.{reason}": number for reason, number in sorted(counts.dropped.items())},
            spec=loaded.written,
        )
