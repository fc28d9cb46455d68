"""What the store in PostgreSQL promises beyond what every store does: several ledgers, partitions, lost connections."""

import threading
import time
from dataclasses import replace

import psycopg
import pytest
from tests.ledger.conftest import CLASSES, World, pair_of
from tests.ledger.postgres_server import Server, server

from modelcanary_gate.protocol import FeedbackCounts, Instructions, PairBatch, PutInstructions
from modelcanary_ledger.core import Ledger
from modelcanary_ledger.errors import SettingsError, StaleEpoch, StoreError
from modelcanary_ledger.join import Posted
from modelcanary_ledger.model import Standing
from modelcanary_ledger.pairs import StoreLimits
from modelcanary_ledger.postgres.schema import HOUR
from modelcanary_ledger.postgres.store import PostgresStore
from modelcanary_ledger.store import KEEP_SECONDS, Arrival


@pytest.fixture
def place(postgres: Server) -> str:
    return postgres.schema()


@pytest.fixture
def world(place):
    made = World(place, StoreLimits())
    made.put()
    yield made
    made.close()


@pytest.fixture
def other(place, world):
    """A second ledger over the same tables."""
    ledger = Ledger(PostgresStore(place, world.now), world.now)
    yield ledger
    ledger.close()


def post(ledger: Ledger, now: float, *labels: tuple[str, int]) -> FeedbackCounts:
    ledger.refresh()
    with ledger.transaction(now) as change:
        return change.feedback(ledger.standings["ns", "m"], [Posted(name, 0, label) for name, label in labels])


def fold(ledger: Ledger, now: float) -> None:
    with ledger.transaction(now) as change:
        change.learn()
        while change.fold(3):
            pass


class TestTwoLedgers:
    def test_what_one_records_the_other_joins(self, world, other):
        world.record_ids("a", "b", "c")
        assert post(other, world.now, ("a", 1)) == FeedbackCounts(joined=1)
        assert world.post(("a", 1), ("b", 2)) == FeedbackCounts(joined=1, duplicate=1)
        assert post(other, world.now, ("b", 0), ("c", 0)) == FeedbackCounts(joined=1, conflict=1)
        world.expect({"a": 1, "b": 2, "c": 0})
        found = other.evidence(other.standings["ns", "m"], None, (0, 0), world.now)
        assert (found.counts["labelled"], found.counts["conflict"]) == (3, 1)
        assert found.source == world.evidence().source

    def test_a_batch_and_a_pair_count_once_whoever_takes_them(self, world, other):
        batch = world.batch([pair_of("a", world.now), pair_of("b", world.now)], dropped={"shed": 2})
        assert world.ledger.record([(world.standing, batch)], world.now) == [2]
        assert other.record([(world.standing, batch)], world.now) == [0]
        again = world.batch([pair_of("b", world.now), pair_of("c", world.now)])
        assert other.record([(world.standing, again)], world.now) == [1]
        counts = world.evidence().counts
        assert (counts["pairs"], counts["dropped"]) == (3, {"shed": 2})

    def test_a_label_that_one_holds_the_other_joins(self, world, other):
        assert world.post(("a", 1)) == FeedbackCounts(unmatched=1)
        assert post(other, world.now, ("a", 1), ("a", 0)) == FeedbackCounts(duplicate=1, conflict=1)
        other.record([(world.standing, world.batch([pair_of("a", world.now)]))], world.now)
        fold(other, world.now)
        assert other.held() == 0
        world.expect({"a": 1})

    def test_instructions_of_an_older_leader_are_refused_by_both(self, world, other):
        world.put(epoch=5, run="r2")
        with pytest.raises(StaleEpoch), other.transaction(world.now) as change:
            change.put("ns", "m", PutInstructions(4, Instructions(version=1, run="r3")))
        other.refresh()
        assert other.standings["ns", "m"].instructions.run == "r2"
        assert other.classes_of(other.standings["ns", "m"], "r2") == len(CLASSES)

    def test_a_model_and_its_run_are_the_same_to_both(self, world, other):
        request = PutInstructions(1, Instructions(version=1, run="r1", share=1.0), {"model": {"classes": CLASSES}})
        with other.transaction(world.now) as change:
            change.put("ns", "new", request)
        with world.ledger.transaction(world.now) as change:
            change.put("ns", "new", request)  # before it has heard of it
        assert world.ledger.standings["ns", "new"].run == other.standings["ns", "new"].run

    def test_a_model_that_another_changes_now_is_left_to_it(self, world, other):
        world.record_ids("a")
        with world.ledger.transaction(world.now) as change:
            change.feedback(world.standing, [Posted("a", 0, 1)])
            with other.transaction(world.now) as theirs:
                theirs.fold(5, wait=False)
        assert other.behind() == 1
        world.expect({"a": 1})

    def test_a_commit_that_failed_here_does_not_overwrite_what_the_other_summed(self, world, other, monkeypatch):
        request = PutInstructions(1, Instructions(version=1, run="o1", share=1.0), {"model": {"classes": CLASSES}})
        with world.ledger.transaction(world.now) as change:
            change.put("ns", "other", request)
        world.record_ids("a", "b", "c")
        world.fold()

        def refuse() -> None:
            raise StoreError("the connection is lost")

        with monkeypatch.context() as patched, pytest.raises(StoreError):
            patched.setattr(world.ledger._store, "commit", refuse)
            world.post(("a", 1))
        assert post(other, world.now, ("b", 2), ("c", 0)) == FeedbackCounts(joined=2)
        with world.ledger.transaction(world.now) as change:  # of the other model
            change.dropped(world.ledger.standings["ns", "other"], {"shed": 1})
        world.expect({"b": 2, "c": 0})
        assert world.post(("a", 1)) == FeedbackCounts(joined=1)
        world.expect({"a": 1, "b": 2, "c": 0})
        assert world.evidence().counts["labelled"] == 3

    @pytest.mark.parametrize("maturity", ["0s", "60s"])
    def test_both_at_once_sum_what_one_would(self, world, place, maturity):
        """Two threads with the same batches and labels, in orders of their own."""
        world.put(run="r2", labels={"maturity": maturity})
        batches = [
            world.batch([pair_of(f"{n}.{i}", world.now + n) for i in range(40)], run="r2", dropped={"shed": 1})
            for n in range(30)
        ]
        joined = [0, 0]
        failed: list[Exception] = []

        def work(who: int) -> None:
            ledger = Ledger(PostgresStore(place, world.now), world.now)
            standing = ledger.standings["ns", "m"]
            try:
                for n in range(30)[:: 1 if who else -1]:
                    for label in ((1, 2) if n % 2 else (2, 1))[who:]:
                        posted = [Posted(f"{n}.{i}", 0, label) for i in range(0, 40, 2)]
                        # As the writer does it: what another ledger was in the way of is done again.
                        while True:
                            try:
                                with ledger.transaction(world.now + 30) as change:
                                    found = change.feedback(standing, posted)
                                break
                            except StoreError:
                                continue
                        joined[who] += found.joined + found.unmatched
                    ledger.record([(standing, batches[n])], world.now + 30)
                    fold(ledger, world.now + 30)
            except Exception as error:  # noqa: BLE001 - a thread's failure is the test's
                failed.append(error)
            finally:
                ledger.close()

        threads = [threading.Thread(target=work, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert sum(joined) == 30 * 20
        world.now += 100
        rows = [row for part in world.slices() for row in part.rows]
        labels = {pid: label[1] for part in world.slices() for pid, label in part.labels.items()}
        assert len(rows) == len({row[1] for row in rows}) == 1200
        world.expect({row[1]: labels[row[0]] for row in rows if row[0] in labels})
        counts = world.evidence().counts
        assert (counts["pairs"], counts["labelled"], counts["dropped"]) == (1200, 600, {"shed": 30})


class TestDroppedRuns:
    """A run is dropped by one ledger while the other, which does not know it yet, still gets batches of it."""

    @pytest.fixture
    def two(self, world, other):
        world.put(run="r2")
        other.refresh()
        return world

    def batch(self, world: World, *ids: str) -> tuple[Standing, PairBatch]:
        pairs = [pair_of(identifier, world.now) for identifier in ids]
        return world.standing, world.batch(pairs, dropped={"shed": 3})

    def forget(self, world: World) -> None:
        with world.ledger.transaction(world.now) as change:
            change.forget_runs(world.standing.no, 1)

    @pytest.mark.parametrize("ids", [(), ("late",)])
    def test_what_comes_for_one_that_is_gone_is_nothing(self, two, other, ids):
        standing, batch = self.batch(two, *ids)
        self.forget(two)
        assert other.record([(standing, batch)], two.now) == [0]
        assert rows_of(two.place) == (0, 0)
        self.goes_on(two, other)

    def test_what_it_had_not_counted_yet_goes_with_it(self, two, other):
        two.fold()
        assert other.record([self.batch(two)], two.now) == [0]
        self.forget(two)
        assert rows_of(two.place) == (0, 0)
        self.goes_on(two, other)

    def test_a_count_of_none_that_is_known_stops_nothing(self, two, other):
        with psycopg.connect(two.place) as connection:
            connection.execute("INSERT INTO dropped VALUES ('x', %s, 99, '{\"shed\": 1}')", [two.standing.no])
        self.goes_on(two, other)
        assert rows_of(two.place) == (0, 0)

    def test_one_to_which_pairs_come_at_that_moment_stays(self, two, other):
        standing, batch = self.batch(two, "late")
        forgetting = threading.Thread(target=self.forget, args=(two,))
        (run,) = [run for run in other._books.runs.values() if run.run == "r1"]
        with other._store._database.transaction():
            arrival = Arrival(run.no, standing.no, batch, run.progress.recorded)
            assert other._store._pairs.record([arrival], two.now) == [1]
            forgetting.start()
            until_somebody_waits(two.place)
        forgetting.join()
        assert post(other, two.now, ("late", 1)) == FeedbackCounts(joined=1)
        self.goes_on(two, other)
        assert two.evidence("r1").counts["dropped"] == {"shed": 3}
        two.expect({"late": 1}, "r1")

    def goes_on(self, two: World, other: Ledger) -> None:
        """Both fold what comes for the present run, and join its labels."""
        for number, ledger in enumerate((two.ledger, other)):
            name = f"now{number}"
            batch = two.batch([pair_of(name, two.now)], run="r2", dropped={"shed": 1})
            assert ledger.record([(two.standing, batch)], two.now) == [1]
            fold(ledger, two.now)
            assert post(ledger, two.now, (name, 1)) == FeedbackCounts(joined=1)
        two.expect({"now0": 1, "now1": 1})
        assert two.evidence().counts["dropped"] == {"shed": 2}


def rows_of(place: str) -> tuple[int, int]:
    """What is left of a first run: pairs, and notes of what was dropped."""
    with psycopg.connect(place) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM pair WHERE pid >> 40 = 1), (SELECT count(*) FROM dropped)"
        ).fetchone()
    assert found is not None
    return found[0], found[1]


def until_somebody_waits(place: str) -> None:
    """For a lock of this very schema's tables: each test has its own."""
    with psycopg.connect(place, autocommit=True) as connection:
        deadline = time.monotonic() + 30
        while not connection.execute(
            "SELECT 1 FROM pg_locks w WHERE NOT w.granted AND EXISTS (SELECT 1 FROM pg_locks t "
            "WHERE t.pid = w.pid AND t.relation = 'arrival'::regclass)"
        ).fetchone():
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.01)


class TestPartitions:
    def test_an_hour_is_dropped_whole_with_its_labels_when_nobody_needs_it(self, world, other):
        world.record_ids("a", "b")
        world.post(("a", 1))
        before = other.segments()
        world.now += HOUR + 86400.0 + KEEP_SECONDS - 1
        world.fold()
        assert world.ledger.forget(world.now) == 3  # the hour before and those after, without a pair
        world.now += 2
        world.fold()
        assert world.ledger.forget(world.now) == 1
        assert other.forget(world.now) == 0
        assert other.segments() == before
        assert world.post(("a", 1)) == FeedbackCounts(unmatched=1)
        world.expect({"a": 1})

    def test_an_hour_whose_pairs_are_not_in_the_evidence_is_kept(self, world):
        world.record_ids("a")
        world.now += 2 * 86400.0
        world.ledger.forget(world.now)
        world.expect({})
        assert world.evidence().counts["pairs"] == 1
        world.fold()
        world.ledger.forget(world.now)
        assert [row for part in world.slices() for row in part.rows] == []

    def test_pairs_of_clocks_that_are_far_off_count_once_and_go_too(self, world):
        far = [pair_of("ahead", world.now + 10 * HOUR), pair_of("behind", world.now - 100 * HOUR)]
        assert world.record(*far) == 2
        assert world.record(*far) == 0
        assert world.post(("ahead", 1), ("behind", 2)) == FeedbackCounts(joined=1, expired=1)
        # The hour comes for which no partition can be made any more.
        world.now += 10 * HOUR
        world.ledger.forget(world.now)
        assert world.record(*far) == 0
        assert world.record(pair_of("now", world.now)) == 1
        assert world.post(("now", 1)) == FeedbackCounts(joined=1)
        world.now += 100 * HOUR
        world.fold()
        world.ledger.forget(world.now)
        with psycopg.connect(world.place) as connection:
            rows = connection.execute("SELECT (SELECT count(*) FROM pair), (SELECT count(*) FROM label)").fetchone()
        assert rows == (0, 0)


class TestWhatClientsSend:
    def test_ids_that_postgresql_would_not_take_as_text(self, world):
        ids = ["nul\0l", "\ud800 alone", "é" * 1000]
        world.record(*(replace(pair_of(str(i), world.now), id=one) for i, one in enumerate(ids)))
        assert world.post(*((one, 1) for one in ids)) == FeedbackCounts(joined=3)
        assert [row[1] for part in world.slices() for row in part.rows] == ids


class TestLostConnections:
    def test_a_connection_that_broke_is_made_again_with_nothing_half_done(self, world, place):
        world.record_ids("a", "b")
        with pytest.raises(StoreError), world.ledger.transaction(world.now) as change:
            change.feedback(world.standing, [Posted("a", 0, 1), Posted("early", 0, 1)])
            _end_sessions(place)
            change.feedback(world.standing, [Posted("b", 0, 1)])
        assert world.post(("a", 2), ("b", 2)) == FeedbackCounts(joined=2)
        world.expect({"a": 2, "b": 2})

    def test_while_the_server_is_away_everything_is_refused_and_goes_on_after(self, tmp_path):
        with server() as own:
            world = World(own.schema(), StoreLimits())
            world.put()
            world.record_ids("a")
            own.stop()
            with pytest.raises(StoreError):
                world.record_ids("b")
            with pytest.raises(StoreError):
                world.post(("a", 1))
            own.start(own.port)
            world.record_ids("b")
            assert world.post(("a", 1), ("b", 1)) == FeedbackCounts(joined=2)
            world.expect({"a": 1, "b": 1})
            world.close()


class TestStarting:
    def test_tables_of_another_version_are_left_alone(self, world, place):
        with psycopg.connect(place) as connection:
            connection.execute("UPDATE meta SET value = '0' WHERE name = 'schema'")
        with pytest.raises(SettingsError, match="another version"):
            PostgresStore(place, world.now)

    def test_an_error_never_shows_the_url(self):
        for url in ("postgresql://me:hunter2@127.0.0.1:1/x", "hunter2", "postgresql://me:hunter2@[/x"):
            with pytest.raises(SettingsError) as caught:
                PostgresStore(url, 0.0)
            assert "hunter2" not in str(caught.value)

    def test_ledgers_that_start_at_once_make_one_set_of_tables(self, postgres):
        place = postgres.schema()
        sources: list[str] = []

        def start() -> None:
            store = PostgresStore(place, 1.8e9)
            sources.append(store.source)
            store.close()

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(sources) == 4
        assert len(set(sources)) == 1


def _end_sessions(place: str) -> None:
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'modelcanary-ledger' AND pid <> pg_backend_pid()"
        )
