"""The ledger without HTTP, threads or a clock: what is recorded, joined, folded and forgotten, at a given `now`.

Called by `writer`, from its one thread, and by tests. Where it is kept is the store's matter (`store`).
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import msgspec

from modelcanary_gate.blocks_json import loss_block_to_json, traffic_block_to_json
from modelcanary_gate.errors import GateError
from modelcanary_gate.protocol import PairBatch, References
from modelcanary_ledger.books import Books
from modelcanary_ledger.errors import NotFound, SettingsError
from modelcanary_ledger.model import Standing
from modelcanary_ledger.run import Run
from modelcanary_ledger.store import LOSS, TRAFFIC, Arrival, Slice, Store
from modelcanary_ledger.transaction import Transaction

#: Runs of a model whose evidence is kept; older ones go when their pairs are gone.
KEEP_RUNS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """`GET …/evidence`: blocks from `since` on, and counts as of `now`."""

    run: str
    source: str
    specDigest: str
    startedAt: float
    now: float
    maturity: float | None
    counts: dict[str, object]
    loss: list[msgspec.Raw]
    traffic: list[msgspec.Raw]
    next: str


class Ledger:
    """Everything in one store."""

    def __init__(self, store: Store, now: float) -> None:
        """Takes the store over. Raises SettingsError where it cannot be read."""
        self._store = store
        self._clock = now
        try:
            self._books = Books(store)
        except (sqlite3.Error, OSError, GateError, msgspec.MsgspecError) as error:
            store.close()
            raise SettingsError(
                f"the store cannot be read ({error})", remedy="use the version that wrote it, or name an empty one"
            ) from error

    @property
    def standings(self) -> dict[tuple[str, str], Standing]:
        """By (namespace, name). Other threads may read it: it is only ever replaced."""
        return self._books.standings

    # --- one group of batches

    def record(self, batches: Sequence[tuple[Standing, PairBatch]], now: float) -> list[int | None]:
        """Appends batches in one transaction: new pairs of each, None where its run is not known here.

        Raises what the store raises, with nothing recorded.
        """
        runs = [self._books.find_run(standing, batch.run) for standing, batch in batches]
        arrivals = [
            Arrival(run.no, standing.no, batch, run.progress.recorded)
            for run, (standing, batch) in zip(runs, batches, strict=True)
            if run is not None
        ]
        recorded = iter(self._store.record(arrivals, self._now(now)))
        return [None if run is None else next(recorded) for run in runs]

    # --- one transaction

    @contextlib.contextmanager
    def transaction(self, now: float) -> Iterator[Transaction]:
        """All of it commits, or none: then what is in memory is read back."""
        self._store.begin()
        try:
            transaction = Transaction(self._books, self._now(now))
            yield transaction
            transaction.finish()
            self._store.commit()
        except BaseException:
            self._books.distrust()
            self._store.rollback()
            raise
        self._books.committed()

    # --- reading

    def evidence(
        self, standing: Standing, name: str | None, since: tuple[int, int], now: float, *, unclosed: bool = False
    ) -> Evidence:
        """`unclosed`: with the two blocks that still grow, at the end: all that was counted, not what is judged."""
        with self._books.reading(standing.no):
            return self._evidence(self._books.current(standing), name, since, now, unclosed=unclosed)

    def _evidence(
        self, standing: Standing, name: str | None, since: tuple[int, int], now: float, *, unclosed: bool
    ) -> Evidence:
        run = self._named(standing, name)
        loss = self._store.blocks(run.no, LOSS, since[0])
        traffic = self._store.blocks(run.no, TRAFFIC, since[1])
        if unclosed:
            loss.append(msgspec.Raw(msgspec.json.encode(loss_block_to_json(run.plan, run.loss.block))))
            traffic.append(msgspec.Raw(msgspec.json.encode(traffic_block_to_json(run.plan, run.traffic.block))))
        counts = msgspec.to_builtins(run.progress.counts)
        known = run.progress.counts
        # Without labels nothing is waited for.
        counts["unlabelled"] = 0 if run.agreement else known.scored - known.labelled - known.missing
        counts["unmatched"] = known.unmatched
        counts["senders"] = {
            sender.name: {name: count for name, count in asdict(sender).items() if name != "name"}
            for sender in run.progress.senders
        }
        if run.no == standing.run:
            counts["unmatched"] += self._store.held.count(standing.no)
        return Evidence(
            run.run,
            f"{self._store.source}.{run.no}",
            run.plan.digest,
            run.started,
            self._now(now),
            run.progress.maturity,
            counts,
            loss,
            traffic,
            f"{run.loss.block.seq}.{run.traffic.block.seq}",
        )

    def evidence_version(self, standing: Standing, name: str | None) -> str:
        """Another one as soon as anything that readers see has changed, within this process."""
        with self._books.reading(standing.no):
            run = self._named(self._books.current(standing), name)
        return f"{self._store.source}.{run.no}.{run.version}"

    def classes_of(self, standing: Standing, name: str) -> int | None:
        """How many classes a run has; None where it is not known. Safe from other threads."""
        run = self._books.find_run(standing, name)
        return None if run is None else run.classes

    def references(self, standing: Standing, after: str) -> References:
        """What sidecars are to score a language model's prompts by. Safe from other threads."""
        return self._books.relay.since(standing.no, after)

    def run_number(self, standing: Standing, name: str | None) -> int:
        with self._books.reading(standing.no):
            return self._named(self._books.current(standing), name).no

    def slices(self, run: int) -> Iterator[Slice]:
        """For the export, in another thread."""
        return self._store.slices(run)

    def held(self) -> int:
        with self._store.reading():
            return sum(self._store.held.count(model) for model in self._books.models())

    def segments(self) -> int:
        return self._store.segments()

    def behind(self) -> int:
        """Pairs recorded and not folded yet."""
        return self._store.behind(self._books.runs)

    # --- upkeep

    def refresh(self) -> None:
        """Takes notice of what other ledgers were told."""
        self._books.refresh()

    def forget(self, now: float) -> int:
        """Drops segments whose labels are not waited for any more; returns how many."""
        now = self._now(now)
        dropped = self._store.forget(self._books.runs, now)
        runs = Counter(run.model for run in self._books.runs.values())
        deleted = {standing.no for standing in self._books.standings.values() if standing.forgotten}
        for model in [model for model, count in runs.items() if count > KEEP_RUNS or model in deleted]:
            with self.transaction(now) as transaction:
                transaction.forget_runs(model, KEEP_RUNS)
        return dropped

    def close(self) -> None:
        self._store.close()

    # --- inside

    def _named(self, standing: Standing, name: str | None) -> Run:
        books = self._books
        run = books.runs.get(standing.run) if name is None else books.find_run(standing, name)
        if run is None:
            raise NotFound(
                f"{standing.namespace}/{standing.name} has no run {name or 'yet'}",
                field="run",
                remedy="put its instructions first",
            )
        return run

    def _now(self, now: float) -> float:
        """A clock that was set back stands still for us."""
        self._clock = max(self._clock, now)
        return self._clock
