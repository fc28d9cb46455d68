"""What may be done within one transaction of the main file: labels, instructions, drops, folding.

Made by `core`. A method that raises has changed nothing, so the others of its group go on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.errors import SpecError
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.protocol import FeedbackCounts, Instructions, LabelSender, PutInstructions
from modelcanary_gate.spec import Spec
from modelcanary_ledger.books import Books
from modelcanary_ledger.errors import BadRequest, StaleEpoch
from modelcanary_ledger.fold import fold_arrivals, fold_matured
from modelcanary_ledger.join import Joiner, Posted
from modelcanary_ledger.model import Standing
from modelcanary_ledger.run import Progress, Run
from modelcanary_ledger.segment import first_pid

#: Of epochs and versions: what every reader of JSON holds exactly.
_MOST = 2**53 - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Transaction:
    """Between BEGIN and COMMIT."""

    def __init__(self, books: Books, now: float) -> None:
        self._books = books
        self._now = now
        self._joiner = Joiner(books.state, books.pairs, books.held, books.runs, now)
        self._saved: list[Run] = []

    def feedback(self, standing: Standing, labels: Sequence[Posted], sender: str = "") -> FeedbackCounts:
        """`sender`: the name of who sends them; empty where nobody had to say."""
        return self._joiner.post(standing, labels, sender)

    def dropped(self, standing: Standing, reasons: Mapping[str, int]) -> None:
        """Pairs that came and cannot be recorded, by reason; counted with the current run."""
        run = self._books.runs.get(standing.run)
        if run is not None:
            _add(run, reasons)

    def put(self, namespace: str, name: str, request: PutInstructions) -> Instructions:
        """Takes instructions of a leader; another run, or another measurement, starts new evidence."""
        standing = self._books.standings.get((namespace, name))
        if standing is None:
            numbers = (known.no for known in self._books.standings.values())
            standing = Standing(max(numbers, default=0) + 1, namespace, name)
        if request.epoch < standing.epoch:
            raise StaleEpoch(
                f"epoch {request.epoch} is older than {standing.epoch}, which has written since",
                field="epoch",
                remedy="only the present leader may write",
            )
        instructions = request.instructions
        for field, number in (("epoch", request.epoch), ("instructions.version", instructions.version)):
            if not 0 <= number <= _MOST:
                raise BadRequest(f"{field} is {number}", field=field, remedy=f"write a number from 0 to {_MOST}")
        for field, value in (("share", instructions.share), ("weight", instructions.weight)):
            if not 0.0 <= value <= 1.0:
                raise BadRequest(
                    f"{field} is {value:g}", field=f"instructions.{field}", remedy="write a number from 0 to 1"
                )
        senders = _checked(request.senders)
        standing = replace(standing, epoch=request.epoch, instructions=instructions, senders=senders)
        if instructions.run:
            run = self._run_for(standing, instructions.run, request.spec)
            standing = replace(standing, run=run.no, spec=run.spec, class_index=run.class_index)
        standing = standing.with_share(instructions.share if instructions.run else 0.0, self._now)
        self._books.add_standing(standing)
        self._books.state.save_standing(standing)
        return instructions

    def fold(self, steps: int) -> bool:
        """Up to so many steps over what was recorded and what has matured; whether more is left."""
        books = self._books
        self._fold_drops()
        for run in books.runs.values():
            while fold_arrivals(run, books.pairs, books.held, self._joiner):
                steps -= 1
                if steps <= 0:
                    return True
        self._joiner.finish()
        for run in books.runs.values():
            while fold_matured(run, books.pairs, books.state, self._now):
                steps -= 1
                if steps <= 0:
                    return True
        return False

    def learn(self) -> None:
        """Lets go of labels that were held too long; learns how long labels take."""
        self._joiner.give_up(self._books.held.expired(self._now))
        for run in self._books.runs.values():
            run.learn(self._now)

    def finish(self) -> None:
        """Writes all that changed."""
        self._joiner.finish()
        for run in self._books.runs.values():
            if run.changed:
                self._books.state.save_run(run)
                self._saved.append(run)
        self._books.held.save(self._books.state)

    def committed(self) -> None:
        for run in self._saved:
            run.saved()
        self._books.held.saved()

    def _run_for(self, standing: Standing, name: str, written: dict[str, object]) -> Run:
        known = self._books.find_run(standing, name)
        if not written and known is not None:
            return known
        try:
            spec = parse_spec(written, require_target=False)
        except SpecError as error:
            raise BadRequest(str(error), field=error.field, remedy=error.remedy) from error
        if known is None or known.plan.digest != EvidencePlan.of(spec).digest:
            known = self._new_run(standing, name, spec)
        known.use(spec)
        self._books.state.save_spec(known, written)
        return known

    def _new_run(self, standing: Standing, name: str, spec: Spec) -> Run:
        number = max(self._books.runs, default=0) + 1
        before = first_pid(number)
        run = Run(number, standing.no, name, spec, self._now, Progress(before, before))
        self._books.add_runs([run])
        return run

    def _fold_drops(self) -> None:
        books = self._books
        last = books.pairs.last_batch
        if last <= books.batches:
            return
        for _, run, reasons in books.pairs.dropped_since(books.batches):
            _add(books.runs[run], msgspec.json.decode(reasons, type=dict[str, int]))
        books.batches = last
        books.state.set_batch_cursor(last)


def _checked(senders: Sequence[LabelSender]) -> tuple[LabelSender, ...]:
    for number, sender in enumerate(senders):
        if not _SHA256.fullmatch(sender.tokenSHA256):
            raise BadRequest(
                "a sender's hash is no SHA-256",  # not shown: it may be the token
                field=f"senders[{number}].tokenSHA256",
                remedy="write 64 hexadecimal digits, lower case",
            )
    return tuple(senders)


def _add(run: Run, reasons: Mapping[str, int]) -> None:
    dropped = run.progress.counts.dropped
    for reason, count in reasons.items():
        dropped[reason] = dropped.get(reason, 0) + count
    run.changed = True
