"""What the ledger has in memory of its main file: standings, runs, held labels. All of it can be read back.

Called by `core` and `transaction`. It must not decide anything.
"""

from collections.abc import Iterable

from modelcanary_ledger.held import Held, HeldLabel
from modelcanary_ledger.idindex import id_hash, id_salt
from modelcanary_ledger.model import Standing
from modelcanary_ledger.pairs import PairStore
from modelcanary_ledger.run import Run
from modelcanary_ledger.state import State


class Books:
    """The main file and the segments, with what is kept in memory of the former."""

    def __init__(self, state: State, pairs: PairStore) -> None:
        self.state = state
        self.pairs = pairs
        self.read_back()

    def read_back(self) -> None:
        """As the file has it: at the start, and after a transaction that did not commit."""
        self.runs: dict[int, Run] = {}
        self._by_name: dict[tuple[int, str], Run] = {}
        self.add_runs(self.state.runs())
        self.standings = {(standing.namespace, standing.name): standing for standing in self.state.standings(self.runs)}
        self.held = Held(
            (id_hash(identifier, id_salt(model, index)), HeldLabel(model, identifier, index, at, value, sender))
            for model, identifier, index, at, value, sender in self.state.held()
        )
        self.batches = self.state.batch_cursor()

    def add_runs(self, runs: Iterable[Run]) -> None:
        for run in runs:
            self.runs[run.no] = run
            self._by_name[run.model, run.run] = run

    def drop_run(self, number: int) -> None:
        run = self.runs.pop(number)
        if self._by_name.get((run.model, run.run)) is run:
            del self._by_name[run.model, run.run]

    def add_standing(self, standing: Standing) -> None:
        # A new dictionary: other threads go over the old one.
        self.standings = {**self.standings, (standing.namespace, standing.name): standing}

    def find_run(self, standing: Standing, name: str) -> Run | None:
        """The current run where it has this name, else the newest that has."""
        current = self.runs.get(standing.run)
        if current is not None and current.run == name:
            return current
        return self._by_name.get((standing.no, name))
