"""What the ledger needs of the place where everything is kept: an interface with two makes behind it.

`sqlite_store` keeps files of one process, `postgres` tables that several ledgers share. Called by `core` and its
parts, from the writer's thread; what they mean by a label or by evidence, a store need not know.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from modelcanary_gate.protocol import PairBatch
from modelcanary_ledger.model import Standing
from modelcanary_ledger.run import Progress, Run

LOSS, TRAFFIC = 0, 1
#: What others have said of a label that stands: nothing else; its own sender said otherwise; another one did.
AGREED, TAKEN_BACK, DISPUTED = 0, 1, 2
#: A pair's number: the run's number above, its place in the run's order of arrival below.
RUN_SHIFT = 40
#: How far a label's `ts`, or the time in an id, may be from the request's time for the search to begin there.
SLACK = 60.0
#: A segment is kept this much longer than the labels of its pairs are waited for.
KEEP_SECONDS = 60.0


class JoinRow(NamedTuple):
    """What a label needs to know of its pair."""

    pid: int
    id: str
    instance: int  # of the request, from 0
    time: float
    baseline: bytes | None
    candidate: bytes | None
    place: int = 0  # where the store has it; means something to the store alone


@dataclass(frozen=True, slots=True)
class Wanted:
    """One instance that a label is for."""

    hash: int
    id: str
    index: int
    around: float | None = None  # when the request was made, if known


@dataclass(frozen=True, slots=True)
class Arrival:
    """A batch for a run that is known."""

    run: int
    model: int
    batch: PairBatch
    after: int  # numbers of its pairs go on after this one, which pairs that are dropped by now may have had


class HeldLabel(NamedTuple):
    """A label that came before its pair."""

    model: int
    id: str
    instance: int
    at: float
    value: int | bytes
    sender: str
    against: int = AGREED


class Slice(NamedTuple):
    """A part of a run for the export."""

    #: (pid, id, index, time, then outcome, latency, log-probabilities of the baseline, the same of the candidate)
    rows: list[tuple[Any, ...]]
    #: pid → (at, value, late, sender, what others have said of it)
    labels: dict[int, tuple[float, int | bytes, bool, int | None, int]]
    progress: Progress | None  # as it was with these labels; None where the run is gone by then


#: (pair, when the label came, class index or float64 per class, whether it came too late to count, who sent it: the
#: place in the run's list of senders; what others have said of it)
LabelRow = tuple[JoinRow, float, int | bytes, bool, int | None, int]
#: (pid, hash, time, outcome and latency of the baseline, of the candidate, id, index, log-probabilities of both, place)
ArrivedRow = tuple[int, int, float, int, float, int, float, str, int, bytes | None, bytes | None, int]
#: (pid, time, outcome of the baseline, of the candidate, log-probabilities of both)
MaturedRow = tuple[int, float, int, int, bytes | None, bytes | None]


def first_pid(run: int) -> int:
    return run << RUN_SHIFT


def run_of(pid: int) -> int:
    return pid >> RUN_SHIFT


class HeldLabels(Protocol):
    """Labels that wait for their pair, by the hash of model, id and index. Changes commit with the transaction."""

    def any(self, model: int) -> bool: ...

    def count(self, model: int) -> int: ...

    def seek(self, model: int, hashes: Sequence[int]) -> None:
        """From now on in this transaction, `get` answers for these."""

    def get(self, hashed: int) -> HeldLabel | None: ...

    def add(self, hashed: int, label: HeldLabel) -> HeldLabel | None:
        """Keeps a label; returns another one where it had to make room."""

    def remove(self, hashed: int) -> HeldLabel: ...

    def contradict(self, hashed: int, against: int) -> None:
        """Notes what was said of a label that waits."""

    def expired(self, models: Collection[int], now: float) -> list[HeldLabel]:
        """Removes and returns what has waited too long."""


class Store(Protocol):
    """Where pairs, labels and evidence are. `begin` … `commit` or `rollback` frame all but `record` and reading.

    Foreign errors come as they are from files, and as `StoreError` from a server.
    """

    @property
    def source(self) -> str:
        """The name of this ledger; another one after all was lost."""

    @property
    def held(self) -> HeldLabels: ...

    # --- pairs

    def record(self, arrivals: Sequence[Arrival], now: float) -> list[int]:
        """Appends batches in one transaction of its own; how many pairs of each are new. All of it, or nothing.

        A batch counts once by its name, a pair once by its key. What a batch says it dropped is kept for `take_drops`.
        """

    def find(self, wanted: Sequence[Wanted]) -> list[list[JoinRow]]:
        """The pairs with each id and index: none, one, or several where an id was used more than once."""

    def arrived(self, run: int, after: int, limit: int) -> list[ArrivedRow]:
        """Up to `limit` pairs of a run after a number, in the order of arrival."""

    def matured(self, run: int, after: int, limit: int) -> list[MaturedRow]: ...

    def last_pid(self, run: int) -> int:
        """The last pair of a run, or one below its first where it has none."""

    def has_pairs(self, run: int) -> bool:
        """Within a transaction, until whose end nobody records any for the run."""

    def behind(self, runs: Mapping[int, Run]) -> int:
        """Pairs recorded and not folded yet."""

    def segments(self) -> int: ...

    def forget(self, runs: Mapping[int, Run], now: float) -> int:
        """Drops whole segments whose labels are not waited for any more; returns how many."""

    def slices(self, run: int) -> Iterator[Slice]:
        """A run in order of arrival, through connections of its own: called in another thread."""

    # --- transactions

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None:
        """Also after an error that has ended the transaction already."""

    def reading(self) -> AbstractContextManager[None]:
        """Frames `enter` and reading where nothing is changed."""

    # --- models and runs

    def news(self, known: Mapping[int, int]) -> list[int]:
        """Models of which others know instructions that are newer than the versions known here."""

    def waiting(self, models: Sequence[int], now: float) -> list[int]:
        """Those of the models that may have something to fold."""

    def neglected(self, models: Sequence[int], now: float) -> list[int]:
        """Those of the models whose held labels and delays were not looked after lately."""

    def lock(self, model: int, *, wait: bool) -> int | None:
        """Nobody else changes the model until the transaction ends; the version it has.

        None where another has it now and `wait` is False.
        """

    def touch(self, model: int) -> int:
        """Something of the model or its runs is changed by this transaction; the version that says so."""

    def find_model(self, namespace: str, name: str) -> int | None:
        """One that another ledger has made, and that is not known here yet."""

    def new_model(self) -> int: ...

    def new_run(self) -> int: ...

    def standing(self, model: int, runs: Mapping[int, Run]) -> Standing: ...

    def save_standing(self, standing: Standing, version: int) -> None: ...

    def run_versions(self, model: int) -> dict[int, int]: ...

    def load_run(self, run: int) -> Run: ...

    def save_spec(self, run: Run, spec: dict[str, object]) -> None:
        """Makes the run, or replaces its specification by one that measures the same."""

    def save_run(self, run: Run, version: int) -> None:
        """Progress, open blocks, blocks that were cut, delays: all that changed."""

    def drop_run(self, run: int) -> None: ...

    def blocks(self, run: int, stream: int, since: int) -> list[msgspec.Raw]:
        """Immutable blocks from `since` on, as JSON text."""

    def take_drops(self, models: Collection[int]) -> list[tuple[int, str]]:
        """(run, reasons as JSON) of batches since they were last taken."""

    # --- labels

    def labels_of(self, pids: Sequence[int]) -> dict[int, tuple[int | bytes, int | None, int]]:
        """pid → (value, sender, what others have said of it)."""

    def labels_between(self, after: int, last: int) -> dict[int, tuple[float, int | bytes, int]]:
        """pid → (at, value, late) with after < pid ≤ last."""

    def add_labels(self, rows: Sequence[LabelRow]) -> None: ...

    def mark_late(self, pids: Sequence[int]) -> None: ...

    def contradict(self, pids: Mapping[int, int]) -> None:
        """pid → what was said of its label now."""

    def close(self) -> None: ...
