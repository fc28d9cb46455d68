"""A ledger on a clock that the tests move, and what has to be true of it, computed another way."""

import hashlib
import math
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from tests.ledger.postgres_server import Server, server

from modelcanary_gate.protocol import (
    Answer,
    FeedbackCounts,
    Instructions,
    Pair,
    PairBatch,
    PutInstructions,
)
from modelcanary_gate.vocabulary import Outcome
from modelcanary_ledger.core import Evidence, Ledger
from modelcanary_ledger.join import Posted
from modelcanary_ledger.model import Standing
from modelcanary_ledger.pairs import StoreLimits
from modelcanary_ledger.postgres.store import PostgresStore
from modelcanary_ledger.run import Run
from modelcanary_ledger.sqlite_store import SqliteStore
from modelcanary_ledger.store import Slice, Store

CLASSES = ["cat", "dog", "owl"]
START = 1_800_000_000.0
EPSILON = 1e-4


def answer_of(text: str, classes: int = len(CLASSES)) -> Answer:
    """Probabilities that depend on the text alone."""
    rng = random.Random(text)
    weights = [rng.random() + 0.01 for _ in range(classes)]
    values = [math.log(weight / sum(weights)) for weight in weights]
    return Answer(Outcome.OK, 0.002, struct.pack(f"<{classes}f", *values))


def loss_of(answer: Answer, label: int) -> float:
    """Cross-entropy as a user would write it."""
    assert answer.log_probabilities is not None
    log_p = struct.unpack_from("<f", answer.log_probabilities, 4 * label)[0]
    return min(-log_p, -math.log(EPSILON))


def pair_of(identifier: str, time: float, index: int = 0, **changes: Answer) -> Pair:
    unique = hashlib.sha256(f"{identifier}/{index}".encode()).digest()[:10]
    return Pair(
        int(time * 1000).to_bytes(6, "big") + unique,
        identifier,
        index,
        time,
        changes.get("baseline", answer_of(f"b{identifier}/{index}")),
        changes.get("candidate", answer_of(f"c{identifier}/{index}")),
    )


class World:
    """One model, one store; `now` is moved by hand. The store is a directory, or the URL of a PostgreSQL."""

    def __init__(self, place: Path | str, limits: StoreLimits) -> None:
        self.place = place
        self.limits = limits
        self.now = START
        self.batches = 0
        self.crashed: list[Ledger] = []
        self.ledger = self.open()

    def open(self) -> Ledger:
        return Ledger(self.store(), self.now)

    def store(self) -> Store:
        if isinstance(self.place, str):
            return PostgresStore(self.place, self.now)
        return SqliteStore(self.place, self.now, self.limits)

    @property
    def directory(self) -> Path:
        """Of a store in files."""
        assert isinstance(self.place, Path)
        return self.place

    def restart(self) -> None:
        self.ledger.close()
        self.ledger = self.open()

    def crash(self) -> None:
        """The process ends here: nothing is folded, flushed or closed; the system lets go of lock and connection."""
        store = self.ledger._store
        (store._lock if isinstance(store, SqliteStore) else store._database._connection).close()
        self.crashed.append(self.ledger)
        self.ledger = self.open()

    def close(self) -> None:
        for ledger in (*self.crashed, self.ledger):
            ledger.close()

    def put(
        self,
        run: str = "r1",
        *,
        epoch: int = 1,
        share: float = 1.0,
        labels: dict[str, object] | None = None,
        **spec: object,
    ) -> None:
        written: dict[str, object] = {"model": {"classes": CLASSES}, "labels": labels or {"maturity": "0s"}, **spec}
        request = PutInstructions(epoch, Instructions(version=1, run=run, share=share), written)
        with self.ledger.transaction(self.now) as change:
            change.put("ns", "m", request)

    @property
    def standing(self) -> Standing:
        return self.ledger.standings["ns", "m"]

    def run(self, name: str | None = None) -> Run:
        books = self.ledger._books
        number = self.standing.run if name is None else self.ledger.run_number(self.standing, name)
        return books.runs[number]

    def batch(
        self, pairs: Sequence[Pair], *, run: str = "r1", name: str = "", dropped: dict[str, int] | None = None
    ) -> PairBatch:
        self.batches += 1
        return PairBatch(name or f"b{self.batches}", "sidecar", run, list(pairs), dropped or {})

    def record(self, *pairs: Pair, run: str = "r1", name: str = "") -> int | None:
        return self.ledger.record([(self.standing, self.batch(pairs, run=run, name=name))], self.now)[0]

    def record_for(self, namespace: str, name: str, *pairs: Pair, run: str) -> int | None:
        return self.ledger.record([(self.ledger.standings[namespace, name], self.batch(pairs, run=run))], self.now)[0]

    def record_ids(self, *ids: str) -> None:
        self.record(*(pair_of(identifier, self.now) for identifier in ids))

    def post(self, *labels: tuple[str, int | bytes] | Posted) -> FeedbackCounts:
        posted = [label if isinstance(label, Posted) else Posted(label[0], 0, label[1]) for label in labels]
        with self.ledger.transaction(self.now) as change:
            return change.feedback(self.standing, posted)

    def slices(self) -> Iterator[Slice]:
        """Of the present run, for the export."""
        return self.ledger.slices(self.run().no)

    def fold(self) -> None:
        more = True
        while more:
            with self.ledger.transaction(self.now) as change:
                change.learn()
                more = change.fold(3)

    def evidence(self, run: str | None = None, since: tuple[int, int] = (0, 0)) -> Evidence:
        self.fold()
        return self.ledger.evidence(self.standing, run, since, self.now)

    def counted(self, run: str | None = None) -> tuple[int, float, float]:
        """Pairs in all loss blocks, open and closed, and the sums of both losses."""
        found = self.evidence(run)
        total, baseline, candidate = 0, 0.0, 0.0
        for raw in found.loss:
            block = msgspec.json.decode(raw)
            total += block["n"]
            baseline += block["moments"]["b"]
            candidate += block["moments"]["c"]
        block = self.run(run).loss.block
        return total + block.n, baseline + float(block.moments[0]), candidate + float(block.moments[1])

    def expect(self, labels: dict[str, int], run: str | None = None) -> None:
        """The losses of exactly these ids, whose pairs `pair_of` made, are in the evidence."""
        n, baseline, candidate = self.counted(run)
        assert n == len(labels)
        assert baseline == pytest.approx(
            math.fsum(loss_of(answer_of(f"b{i}/0"), label) for i, label in labels.items()), rel=1e-9
        )
        assert candidate == pytest.approx(
            math.fsum(loss_of(answer_of(f"c{i}/0"), label) for i, label in labels.items()), rel=1e-9
        )


@pytest.fixture
def limits() -> StoreLimits:
    return StoreLimits()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What a ledger promises it promises over each store; what is about files alone says so."""
    if "kind" in metafunc.fixturenames:
        files = metafunc.definition.get_closest_marker("files")
        metafunc.parametrize("kind", ["files"] if files else ["files", "postgres"])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for all tests of a session; each takes a schema of its own."""
    with server() as started:
        yield started


@pytest.fixture
def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Path | str:
    return tmp_path / "state" if kind == "files" else request.getfixturevalue("postgres").schema()


@pytest.fixture
def world(place: Path | str, limits: StoreLimits) -> Iterator[World]:
    made = World(place, limits)
    made.put()
    yield made
    made.close()


@pytest.fixture
def new_world() -> Callable[[Path | str], World]:
    """For tests that need many of them."""
    return lambda place: World(place, StoreLimits(segment_pairs=7))


@pytest.fixture
def make_pair():  # type: ignore[no-untyped-def]
    return pair_of


@pytest.fixture
def answer_loss() -> Callable[[str, int], float]:
    return lambda text, label: loss_of(answer_of(text), label)
