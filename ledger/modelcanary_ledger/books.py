"""What the ledger has in memory of its store: standings and runs. All of it can be read back.

Called by `core` and `transaction`. A model is entered before it is read or changed: from then to the end of the
transaction it is as the store has it, and nobody else changes it. It must not decide anything.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from modelcanary_ledger.model import Standing
from modelcanary_ledger.references import Relay
from modelcanary_ledger.run import Run
from modelcanary_ledger.store import Store

_NONE = -1  # no version: read it before it is used


class Books:
    """Standings and runs by their numbers and names, with the versions that they were read at."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.relay = Relay()
        self.runs: dict[int, Run] = {}
        self.standings: dict[tuple[str, str], Standing] = {}
        self._by_name: dict[tuple[int, str], Run] = {}
        self._versions: dict[int, int] = {}  # of models
        self._run_versions: dict[int, int] = {}
        self._entered: set[int] = set()
        self._said: dict[int, Standing] = {}  # by the transaction under way
        self._made: list[int] = []  # runs
        self._lost: set[int] = set()  # models of runs that it drops
        self._saved: list[Run] = []
        self._saved_versions: dict[int, int] = {}
        self.refresh()

    # --- a transaction

    def enter(self, model: int, *, wait: bool = True) -> bool:
        """Whether the model is ours until the transaction ends."""
        if model in self._entered:
            return True
        version = self.store.lock(model, wait=wait)
        if version is None:
            return False
        self._entered.add(model)
        if version != self._versions.get(model, _NONE):
            self._load(model)
            self._versions[model] = version
        return True

    def save(self) -> None:
        """Writes what changed. Raises RuntimeError for a run of a model that was not entered: it may be out of date."""
        self._saved = [run for run in self.runs.values() if run.changed]
        strays = [run.no for run in self._saved if run.model not in self._entered]
        if strays:
            raise RuntimeError(f"runs {strays} were changed without their models being entered")
        for model in sorted({run.model for run in self._saved} | set(self._said) | self._lost):
            version = self._saved_versions[model] = self.store.touch(model)
            if model in self._said:
                self.store.save_standing(self._said[model], version)
        for run in self._saved:
            self.store.save_run(run, self._saved_versions[run.model])

    def committed(self) -> None:
        self._versions |= self._saved_versions
        for run in self._saved:
            run.saved()
            self._run_versions[run.no] = self._saved_versions[run.model]
        for standing in self._said.values():
            self._show(standing)
        self._end()

    def distrust(self) -> None:
        """The transaction did not commit: what it has touched is read back before it is used again.

        Until then its runs stay, for they exist and pairs are recorded for them; what they say is never written.
        """
        for number in self._made:
            self._remove(number)
        touched = self._entered | {run.model for run in self.runs.values() if run.changed}
        self._versions |= dict.fromkeys(touched, _NONE)
        for run in self.runs.values():
            if run.model in touched:
                self._run_versions[run.no] = _NONE
                run.changed = False
        self._end()

    @contextmanager
    def reading(self, model: int) -> Iterator[None]:
        """Outside of a transaction: the model as the store has it."""
        with self.store.reading():
            try:
                self.enter(model)
                yield
            finally:
                self._end()

    def refresh(self) -> None:
        """Takes notice of what others were told."""
        for model in self.store.news(self._versions):
            with self.reading(model):
                pass

    # --- what is known

    def models(self) -> list[int]:
        """In an order that is everybody's, so that two that enter several never wait for each other."""
        return [self.standings[key].no for key in sorted(self.standings)]

    def current(self, standing: Standing) -> Standing:
        """Enters the model of a standing that was read a while ago; the one that holds."""
        self.enter(standing.no)
        return self._said.get(standing.no) or self.standings[standing.key]

    def named(self, namespace: str, name: str) -> Standing:
        """Enters a model, which is new where it is not known."""
        known = self.standings.get((namespace, name))
        if known is not None:
            return self.current(known)
        number = self.store.find_model(namespace, name)
        if number is not None and self.enter(number):
            return self.standings[namespace, name]
        number = self.store.new_model()
        self._entered.add(number)
        return Standing(number, namespace, name)

    def standing_no(self, model: int) -> Standing:
        return next(standing for standing in self.standings.values() if standing.no == model)

    def set_standing(self, standing: Standing) -> None:
        """Others, and other threads, see it when the transaction has committed."""
        self._said[standing.no] = standing

    def add_run(self, run: Run) -> None:
        """One that this transaction makes."""
        self._made.append(run.no)
        self._keep(run)

    def drop_run(self, number: int) -> None:
        self.store.drop_run(number)
        self._lost.add(self.runs[number].model)
        self._remove(number)

    def find_run(self, standing: Standing, name: str) -> Run | None:
        """The current run where it has this name, else the newest that has."""
        current = self.runs.get(standing.run)
        if current is not None and current.run == name:
            return current
        return self._by_name.get((standing.no, name))

    # --- inside

    def _load(self, model: int) -> None:
        versions = self.store.run_versions(model)
        for number in [run.no for run in self.runs.values() if run.model == model and run.no not in versions]:
            self._remove(number)
        for number in sorted(versions):
            if versions[number] != self._run_versions.get(number, _NONE):
                self._keep(self.store.load_run(number))
                self._run_versions[number] = versions[number]
        self._show(self.store.standing(model, self.runs))

    def _keep(self, run: Run) -> None:
        self.runs[run.no] = run
        self._by_name[run.model, run.run] = run

    def _show(self, standing: Standing) -> None:
        # A new dictionary: other threads go over the old one.
        self.standings = {**self.standings, standing.key: standing}

    def _remove(self, number: int) -> None:
        run = self.runs.pop(number)
        self._run_versions.pop(number, None)
        if self._by_name.get((run.model, run.run)) is run:
            del self._by_name[run.model, run.run]

    def _end(self) -> None:
        self._entered.clear()
        self._said.clear()
        self._made.clear()
        self._lost.clear()
        self._saved.clear()
        self._saved_versions.clear()
