"""What may be done within one transaction of the store: labels, instructions, drops, folding.

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
from modelcanary_ledger.model import IDLE, Standing
from modelcanary_ledger.run import Progress, Run
from modelcanary_ledger.store import first_pid

#: Of epochs and versions: what every reader of JSON holds exactly.
_MOST = 2**53 - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Transaction:
    """Between BEGIN and COMMIT."""

    def __init__(self, books: Books, now: float) -> None:
        self._books = books
        self._now = now
        self._joiner = Joiner(books.store, books.relay, books.runs, now)

    def feedback(self, standing: Standing, labels: Sequence[Posted], sender: str = "") -> FeedbackCounts:
        """`sender`: the name of who sends them; empty where nobody had to say."""
        return self._joiner.post(self._books.current(standing), labels, sender)

    def dropped(self, standing: Standing, reasons: Mapping[str, int]) -> None:
        """Pairs that came and cannot be recorded, by reason; counted with the current run."""
        run = self._books.runs.get(self._books.current(standing).run)
        if run is not None:
            _add(run, reasons)

    def put(self, namespace: str, name: str, request: PutInstructions) -> Instructions:
        """Takes instructions of a leader; another run, or another measurement, starts new evidence."""
        standing = self._books.named(namespace, name)
        _check_epoch(standing, request.epoch)
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
        standing = replace(
            standing,
            epoch=request.epoch,
            instructions=instructions,
            senders=senders,
            sources=tuple(request.sources),
        )
        if instructions.run:
            run = self._run_for(standing, instructions.run, request.spec)
            standing = replace(standing, run=run.no, spec=run.spec, class_index=run.class_index)
        standing = standing.with_share(instructions.share if instructions.run else 0.0, self._now)
        self._books.set_standing(standing)
        return instructions

    def forget(self, namespace: str, name: str, epoch: int) -> None:
        """A model was deleted: nobody sends labels for it, and its runs go when no label is waited for any more."""
        if (namespace, name) not in self._books.standings:
            return
        standing = self._books.named(namespace, name)
        _check_epoch(standing, epoch)
        standing = replace(standing, epoch=epoch, instructions=IDLE, senders=(), sources=())
        self._books.set_standing(standing.with_share(0.0, self._now))

    def fold(self, steps: int, *, wait: bool = True) -> bool:
        """Up to so many steps over what was recorded and what has matured; whether more is left.

        Without `wait`, models that another ledger changes now are left to it.
        """
        books, store = self._books, self._books.store
        models = [model for model in store.waiting(books.models(), self._now) if books.enter(model, wait=wait)]
        for number, reasons in store.take_drops(models):
            run = books.runs.get(number)
            if run is not None:  # else it was dropped since, and its counts with it
                _add(run, msgspec.json.decode(reasons, type=dict[str, int]))
        runs = [run for run in books.runs.values() if run.model in models]
        for run in runs:
            while fold_arrivals(run, store, self._joiner):
                steps -= 1
                if steps <= 0:
                    return True
        self._joiner.finish()
        for run in runs:
            while fold_matured(run, store, self._now):
                steps -= 1
                if steps <= 0:
                    return True
        return False

    def learn(self) -> None:
        """Lets go of labels that were held too long; learns how long labels take."""
        books, store = self._books, self._books.store
        models = [model for model in store.neglected(books.models(), self._now) if books.enter(model, wait=False)]
        self._joiner.give_up(store.held.expired(models, self._now))
        earlier: dict[int, Run] = {}
        for run in sorted(books.runs.values(), key=lambda run: run.no):
            if run.model in models:
                before = earlier.get(run.model)
                run.learn(self._now, () if before is None else (before,))
                earlier[run.model] = run

    def forget_runs(self, model: int, keep: int) -> None:
        """Of a model, all but the last runs, those with pairs and the present one; of a deleted one, that as well."""
        books = self._books
        books.enter(model)
        standing = books.standing_no(model)
        numbers = sorted(run.no for run in books.runs.values() if run.model == model)
        for number in numbers if standing.forgotten else numbers[:-keep]:
            # Of all runs the newest stays, so that no number is given twice.
            needed = max(books.runs) if standing.forgotten else standing.run
            if number == needed or books.store.has_pairs(number):
                continue
            if number == standing.run:
                books.set_standing(replace(standing, run=0, spec=None, class_index={}))
            books.drop_run(number)

    def finish(self) -> None:
        """Writes all that changed."""
        self._joiner.finish()
        self._books.save()

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
        self._books.store.save_spec(known, written)
        known.changed = True
        return known

    def _new_run(self, standing: Standing, name: str, spec: Spec) -> Run:
        number = self._books.store.new_run()
        before = first_pid(number)
        run = Run(number, standing.no, name, spec, self._now, Progress(before, before))
        self._books.add_run(run)
        return run


def _check_epoch(standing: Standing, epoch: int) -> None:
    if epoch < standing.epoch:
        raise StaleEpoch(
            f"epoch {epoch} is older than {standing.epoch}, which has written since",
            field="epoch",
            remedy="only the present leader may write",
        )


def _checked(senders: Sequence[LabelSender]) -> tuple[LabelSender, ...]:
    for number, sender in enumerate(senders):
        if sender.certificateSAN and not sender.tokenSHA256:
            continue
        if sender.certificateSAN or not _SHA256.fullmatch(sender.tokenSHA256):
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
