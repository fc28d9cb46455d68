"""The ledger's promises, one by one, on a clock that the test moves."""

import contextlib
import itertools
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from modelcanary_gate.evidence import BlockRule
from modelcanary_gate.protocol import Answer, FeedbackCounts, Instructions, PutInstructions
from modelcanary_gate.sampling import position
from modelcanary_gate.vocabulary import Outcome
from modelcanary_ledger import catalogue
from modelcanary_ledger.core import KEEP_RUNS
from modelcanary_ledger.errors import BadRequest, NotFound, SettingsError, StaleEpoch
from modelcanary_ledger.held import HOLD_SECONDS
from modelcanary_ledger.join import Posted
from modelcanary_ledger.labels import read_labels
from modelcanary_ledger.pairs import StoreLimits
from modelcanary_ledger.segment import connect_reading
from modelcanary_ledger.store import KEEP_SECONDS


def counts(world: Any) -> SimpleNamespace:
    return SimpleNamespace(**world.evidence().counts)


class TestPairsCountOnce:
    def test_a_batch_sent_again_is_recorded_once(self, world, make_pair):
        batch = world.batch([make_pair("a", world.now)], dropped={"shed": 2})
        assert world.ledger.record([(world.standing, batch)], world.now) == [1]
        assert world.ledger.record([(world.standing, batch), (world.standing, batch)], world.now) == [0, 0]
        assert counts(world).pairs == 1
        assert counts(world).dropped == {"shed": 2}

    def test_a_batch_sent_again_after_a_restart_is_recorded_once(self, world, make_pair):
        batch = world.batch([make_pair("a", world.now)], dropped={"shed": 2})
        world.ledger.record([(world.standing, batch)], world.now)
        world.restart()
        assert world.ledger.record([(world.standing, batch)], world.now) == [0]
        assert counts(world).dropped == {"shed": 2}

    def test_a_pair_sent_again_in_another_batch_is_recorded_once(self, world, make_pair):
        a, b = make_pair("a", world.now), make_pair("b", world.now)
        assert world.record(a) == 1
        assert world.record(a, b, b) == 1
        assert counts(world).pairs == 2

    def test_two_pairs_of_one_id_are_two(self, world, make_pair):
        assert world.record(make_pair("a", world.now)) == 1
        assert world.record(make_pair("a", world.now + 0.001)) == 1

    @pytest.mark.files
    @pytest.mark.parametrize("limits", [StoreLimits(segment_pairs=10)])
    def test_also_when_its_segment_was_sealed_since(self, world, make_pair):
        pairs = [make_pair(f"p{i}", world.now + i / 1000) for i in range(35)]
        for pair in pairs:
            world.record(pair)
        assert world.ledger.segments() == 4
        assert [world.record(pair) for pair in pairs] == [0] * 35
        world.restart()
        assert [world.record(pair) for pair in pairs] == [0] * 35
        assert counts(world).pairs == 35

    def test_a_pair_of_an_unknown_run_is_not_recorded(self, world, make_pair):
        assert world.record(make_pair("a", world.now), run="other") is None


class TestLabelsCountOnce:
    def test_joined_duplicate_conflict(self, world):
        world.record_ids("a", "b")
        assert world.post(("a", 1), ("b", 2), ("a", 1)) == FeedbackCounts(joined=2, duplicate=1)
        assert world.post(("a", 1), ("b", 0)) == FeedbackCounts(duplicate=1, conflict=1)
        world.expect({"a": 1, "b": 2})
        assert (counts(world).labelled, counts(world).duplicate, counts(world).conflict) == (2, 2, 1)

    def test_a_label_before_its_pair_is_held_and_joined(self, world):
        assert world.post(("a", 1), ("a", 1), ("a", 2)) == FeedbackCounts(unmatched=1, duplicate=1, conflict=1)
        assert counts(world).unmatched == 1
        world.restart()
        assert world.post(("a", 1), ("a", 0)) == FeedbackCounts(duplicate=1, conflict=1)
        world.record_ids("a", "b")
        # Not folded yet, and still the first label is the one that was held.
        assert world.post(("a", 2)) == FeedbackCounts(conflict=1)
        world.expect({"a": 1})
        assert counts(world).unmatched == 0
        assert world.post(("a", 1)) == FeedbackCounts(duplicate=1)

    def test_a_label_whose_pair_never_comes_is_let_go(self, world):
        world.post(("a", 1))
        world.now += HOLD_SECONDS + 1
        world.fold()
        assert world.ledger.held() == 0
        assert counts(world).unmatched == 1
        world.record_ids("a")
        world.expect({})
        assert world.post(("a", 1)) == FeedbackCounts(joined=1)

    def test_instances_of_a_request_have_their_own_labels(self, world, make_pair):
        world.record(*(make_pair("a", world.now, index) for index in range(3)))
        assert world.post(Posted("a", 1, 0), Posted("a", 2, 1)) == FeedbackCounts(joined=2)
        assert world.post(Posted("a", 1, 0), Posted("a", 3, 1)) == FeedbackCounts(duplicate=1, unmatched=1)

    def test_an_id_of_several_pairs_is_ambiguous_unless_the_time_tells(self, world, make_pair):
        world.record(make_pair("a", world.now - 500), make_pair("a", world.now))
        assert world.post(("a", 1)) == FeedbackCounts(ambiguous=1)
        assert world.post(Posted("a", 0, 1, ts=world.now - 490)) == FeedbackCounts(joined=1)
        assert world.post(Posted("a", 0, 2, ts=world.now + 1)) == FeedbackCounts(joined=1)
        assert world.post(Posted("a", 0, 1, ts=world.now - 300)) == FeedbackCounts(ambiguous=1)

    @pytest.mark.parametrize("limits", [StoreLimits(segment_pairs=10)])
    def test_pairs_of_sealed_segments_are_found(self, world, make_pair):
        ids = [f"p{i}" for i in range(55)]
        for identifier in ids:
            world.record(make_pair(identifier, world.now))
            world.now += 100
        labels = [Posted(identifier, 0, 1, ts=world.now if i % 2 else None) for i, identifier in enumerate(ids)]
        assert world.post(*labels) == FeedbackCounts(joined=55)
        world.restart()
        assert world.post(*labels) == FeedbackCounts(duplicate=55)
        world.expect(dict.fromkeys(ids, 1))

    def test_a_pair_that_cannot_be_scored_has_no_loss(self, world, make_pair):
        failed = Answer(Outcome.TIMEOUT, 2.0)
        world.record(make_pair("a", world.now, candidate=failed), make_pair("b", world.now))
        assert world.post(("a", 1), ("b", 1)) == FeedbackCounts(joined=1, unscored=1)
        world.expect({"b": 1})
        assert counts(world).scored == 1
        assert counts(world).outcomes == {"baseline": {"ok": 2}, "candidate": {"ok": 1, "timeout": 1}}

    def test_soft_labels_are_scored(self, world):
        world.record_ids("a", "b")
        soft = np.array([0.0, 1.0, 0.0]).tobytes()
        assert world.post(("a", soft), ("b", 2)) == FeedbackCounts(joined=2)
        world.expect({"a": 1, "b": 2})


class TestSampling:
    def test_labels_outside_of_the_share_are_not_looked_up(self, world, monkeypatch):
        world.put(share=0.3)
        world.put(run="r2", share=0.25, model={"classes": ["a", "b"]})
        ids = [f"i{i}" for i in range(200)]
        world.now += 86400.0 + 1  # the share of 1 that was in force at first matters no more
        asked = []
        find = world.ledger._store.find
        monkeypatch.setattr(world.ledger._store, "find", lambda wanted: asked.extend(wanted) or find(wanted))
        found = world.post(*((identifier, 1) for identifier in ids))
        inside = [identifier for identifier in ids if position(identifier) < 0.25]
        assert found == FeedbackCounts(unsampled=200 - len(inside), unmatched=len(inside))
        assert [wanted.id for wanted in asked] == inside

    def test_the_largest_share_within_the_window_counts(self, world):
        world.record_ids("a")
        world.put(share=0.0)
        world.now += 3600
        assert world.post(("a", 1)) == FeedbackCounts(joined=1)


class TestMaturity:
    @pytest.fixture
    def world(self, world):
        world.put(run="late", labels={"maturity": "60s"})
        return world

    def record(self, world, make_pair, *ids):
        world.record(*(make_pair(identifier, world.now) for identifier in ids), run="late")

    def test_a_pair_counts_when_it_is_mature(self, world, make_pair):
        self.record(world, make_pair, "a", "b", "c")
        assert world.post(("a", 1)) == FeedbackCounts(joined=1)
        world.expect({})
        world.now += 59
        assert world.post(("b", 2)) == FeedbackCounts(joined=1)
        world.expect({})
        assert (counts(world).unlabelled, counts(world).missing) == (1, 0)
        world.now += 1
        world.expect({"a": 1, "b": 2})
        assert (counts(world).unlabelled, counts(world).missing) == (0, 1)

    def test_a_label_after_that_is_reported_and_not_counted(self, world, make_pair):
        self.record(world, make_pair, "a")
        world.now += 60.5
        assert world.post(("a", 1)) == FeedbackCounts(expired=1)  # whether the fold was there already or not
        assert world.post(("a", 1), ("a", 2)) == FeedbackCounts(duplicate=1, conflict=1)
        world.expect({})
        assert (counts(world).missing, counts(world).expired, counts(world).labelled) == (1, 1, 0)

    def test_coverage_says_where_labels_are_missing(self, world, make_pair):
        self.record(world, make_pair, *(f"p{i}" for i in range(30)))
        world.post(*((f"p{i}", 0) for i in range(10)))
        world.now += 61
        world.fold()
        coverage = world.run().loss.block.coverage
        assert coverage.baseline.sum(axis=1).tolist() == [30, 20]
        assert coverage.candidate.sum(axis=1).tolist() == [30, 20]

    def test_many_pairs_mature_in_the_order_of_their_requests(self, world, make_pair):
        for second in range(100):
            world.now += 1
            self.record(world, make_pair, *(f"p{i}" for i in range(40 * second, 40 * second + 40)))
        world.now += 1
        world.post(*((f"p{i}", i % 3) for i in range(2000, 4000)))
        world.now += 200
        found = [msgspec.json.decode(block) for block in world.evidence().loss]
        assert [block["seq"] for block in found] == list(range(len(found)))
        for before, after in itertools.pairwise(found):
            assert before["opened"] <= before["closed"] <= after["opened"]
        rule = BlockRule()
        assert all(block["n"] >= rule.minimum for block in found)
        assert all(block["closed"] - block["opened"] >= rule.seconds for block in found)
        assert sum(block["n"] for block in found) + world.run().loss.block.n == 2000

    def test_maturity_is_learned_and_never_shrinks(self, world, make_pair):
        world.put(run="auto", labels={"maturity": "auto", "minCoverage": 0.8})
        ids = [f"p{i}" for i in range(1000)]
        world.record(*(make_pair(identifier, world.now) for identifier in ids), run="auto")
        world.now += 10
        world.post(*((identifier, 1) for identifier in ids[:700]))
        world.now += 50
        world.post(*((identifier, 1) for identifier in ids[700:]))
        world.now += 3600
        world.fold()
        maturity = world.run().progress.maturity
        assert maturity == pytest.approx(60, rel=0.2)
        world.fold()
        world.expect(dict.fromkeys(ids, 1))
        world.restart()
        assert world.run().progress.maturity == maturity
        found = world.run().delays.learn(world.now, 0.8)
        assert found is not None
        assert found.seconds == pytest.approx(maturity)
        world.run().progress.maturity = 2 * maturity
        world.fold()
        assert world.run().progress.maturity == 2 * maturity

    def test_a_label_that_a_maturity_learned_since_makes_late_is_not_counted(self, world, make_pair):
        world.put(run="auto", labels={"maturity": "auto"})
        world.record(*(make_pair(identifier, world.now) for identifier in ("a", "b")), run="auto")
        world.now += 10
        assert world.post(("a", 1)) == FeedbackCounts(joined=1)
        world.now += 90
        assert world.post(("b", 1)) == FeedbackCounts(joined=1)
        world.run().progress.maturity = 60.0
        world.expect({"a": 1})
        assert (counts(world).labelled, counts(world).missing, counts(world).expired) == (1, 1, 1)
        rows = world.ledger._store.labels_between(0, 2**62)
        assert [late for _, _, late in rows.values()] == [0, 1]


class TestAgreement:
    def test_pairs_count_at_once_without_labels(self, world, make_pair):
        labels = {"mode": "Agreement", "agreement": {"rollbackAbove": 0.5}}
        world.put(run="free", labels=labels)
        world.record(*(make_pair(f"p{i}", world.now) for i in range(10)), run="free")
        assert world.counted()[0] == 10
        assert world.post(("p1", 1)) == FeedbackCounts(joined=1)
        assert world.counted()[0] == 10
        assert counts(world).unlabelled == 0  # no label is waited for


class TestRuns:
    def test_an_older_leader_is_refused(self, world):
        world.put(epoch=5)
        with pytest.raises(StaleEpoch):
            world.put(epoch=4)
        assert world.standing.epoch == 5

    def test_a_new_run_or_another_measurement_starts_new_evidence(self, world, make_pair):
        world.record_ids("a")
        first = world.evidence()
        world.put(analysis={"interval": "7s"})
        assert world.evidence().source == first.source
        world.put(analysis={"margin": "5%"})
        second = world.evidence()
        assert (second.source, second.specDigest) != (first.source, first.specDigest)
        assert second.counts["pairs"] == 0
        world.put(run="r2")
        world.record(make_pair("b", world.now), run="r2")
        world.record(make_pair("c", world.now), run="r1")
        assert world.evidence().counts["pairs"] == 1
        assert world.evidence("r1").counts["pairs"] == 1
        world.restart()
        assert world.evidence("r2").counts["pairs"] == 1

    def test_a_spec_that_cannot_be_used_names_its_field(self, world):
        with pytest.raises(BadRequest) as caught:
            world.put(run="r2", analysis={"intervall": "7s"})
        assert caught.value.field == "spec.analysis.intervall"
        assert world.standing.instructions.run == "r1"

    def test_labels_of_an_earlier_run_keep_its_order_of_classes(self, world, make_pair):
        world.record_ids("a")
        world.put(run="r2", model={"classes": ["owl", "cat", "dog"]})
        assert world.post(("a", 0)) == FeedbackCounts(joined=1)
        world.expect({"a": 2}, run="r1")

    @pytest.mark.files
    def test_one_directory_has_one_ledger(self, world):
        with pytest.raises(SettingsError):
            world.open()


class TestBlocks:
    def test_blocks_stay_as_they_were_cut(self, world, make_pair):
        for second in range(60):
            world.now += 1
            ids = [f"p{second}.{i}" for i in range(30)]
            world.record_ids(*ids)
            world.post(*((identifier, 1) for identifier in ids))
        before = world.evidence()
        assert len(before.loss) >= 5
        assert len(before.traffic) >= 5
        assert before.next == f"{len(before.loss)}.{len(before.traffic)}"
        world.restart()
        world.now += 10
        world.record_ids("last")
        world.post(("last", 1))
        after = world.evidence()
        assert [bytes(b) for b in after.loss[:-1]] == [bytes(b) for b in before.loss]
        assert [bytes(b) for b in after.traffic[:-1]] == [bytes(b) for b in before.traffic]
        since = world.evidence(since=(len(before.loss), len(before.traffic)))
        assert since.loss == after.loss[-1:]
        assert world.counted()[0] == 1801


class TestForgetting:
    @pytest.mark.files
    @pytest.mark.parametrize("limits", [StoreLimits(segment_pairs=10)])
    def test_a_segment_is_sealed_whole_while_it_is_read(self, world, make_pair):
        world.record(*(make_pair(f"p{i}", world.now) for i in range(10)))
        (path,) = world.directory.glob("pairs-*.db")
        with contextlib.closing(connect_reading(path, sealed=False)) as reader:
            assert reader.execute("SELECT count(*) FROM pair").fetchone() == (10,)
            world.record(make_pair("next", world.now))
            assert world.post(*((f"p{i}", 1) for i in range(10))) == FeedbackCounts(joined=10)

    @pytest.mark.files
    @pytest.mark.parametrize("limits", [StoreLimits(segment_pairs=10)])
    def test_few_files_are_open_at_a_time(self, world, make_pair, monkeypatch):
        monkeypatch.setattr(catalogue, "OPEN_FILES", 3)
        monkeypatch.setattr(catalogue, "OPEN_INDEXES", 3)
        for i in range(100):
            world.record(make_pair(f"p{i}", world.now))
        assert world.post(*((f"p{i}", 1) for i in range(100))) == FeedbackCounts(joined=100)
        opened = {file.readlink().name for file in Path("/proc/self/fd").iterdir() if file.is_symlink()}
        # Three segments with their indexes, and the open one with its log.
        assert len({name for name in opened if name.startswith("pairs-")}) <= 3 * 2 + 3

    @pytest.mark.files
    @pytest.mark.parametrize("limits", [StoreLimits(segment_pairs=10)])
    def test_segments_are_dropped_whole_with_their_labels(self, world, make_pair):
        for i in range(25):
            world.record(make_pair(f"p{i}", world.now))
        world.post(*((f"p{i}", 1) for i in range(20)))
        world.now += 86400.0 + KEEP_SECONDS - 1
        world.fold()
        assert world.ledger.forget(world.now) == 0
        world.now += 2
        world.fold()
        assert world.ledger.forget(world.now) == 2
        assert world.ledger.segments() == 1
        assert len(list(world.directory.glob("pairs-*.db"))) == 1
        labels = world.ledger._store.state.connection.execute("SELECT count(*) FROM label").fetchone()
        assert labels == (0,)
        assert (counts(world).labelled, counts(world).missing) == (20, 5)
        world.expect({f"p{i}": 1 for i in range(20)})
        world.restart()
        assert world.record(make_pair("new", world.now)) == 1
        world.expect({f"p{i}": 1 for i in range(20)})

    def test_a_label_older_than_the_window_is_expired(self, world):
        assert world.post(Posted("a", 0, 1, ts=world.now - 86401)) == FeedbackCounts(expired=1)

    def test_a_clock_that_is_set_back_stands_still(self, world):
        world.record_ids("a")
        world.post(("a", 1))
        world.now -= 1000
        world.record_ids("b")
        assert world.post(("b", 1)) == FeedbackCounts(joined=1)
        assert world.evidence().now == world.now + 1000


class TestFaults:
    def test_a_transaction_that_fails_leaves_nothing(self, world):
        world.record_ids("a", "b")
        world.post(("a", 1))
        with pytest.raises(sqlite3.OperationalError), world.ledger.transaction(world.now) as change:
            change.feedback(world.standing, [Posted("b", 0, 1), Posted("early", 0, 1)])
            raise sqlite3.OperationalError("a fault")
        assert world.ledger.held() == 0
        world.expect({"a": 1})
        assert world.post(("b", 1)) == FeedbackCounts(joined=1)
        world.expect({"a": 1, "b": 1})

    @pytest.mark.files
    def test_a_group_of_batches_that_fails_leaves_nothing(self, world, make_pair, monkeypatch):
        store = world.ledger._store.pairs
        monkeypatch.setattr(store._open, "append_batch", fail)
        with pytest.raises(sqlite3.OperationalError):
            world.record(make_pair("a", world.now))
        monkeypatch.undo()
        assert world.record(make_pair("a", world.now)) == 1
        assert counts(world).pairs == 1

    @pytest.mark.files
    @pytest.mark.parametrize("limits", [StoreLimits(segment_pairs=10)])
    @pytest.mark.parametrize("cut", ["write_index", "checkpoint", "seal", "announce"])
    def test_a_change_of_segments_that_was_cut_short(self, world, make_pair, monkeypatch, cut):
        store = world.ledger._store.pairs
        pairs = [make_pair(f"p{i}", world.now) for i in range(11)]
        world.record(*pairs[:10])
        target = store._open if cut in ("write_index", "checkpoint") else store.catalogue
        monkeypatch.setattr(target, cut, fail)
        with pytest.raises(sqlite3.OperationalError):
            world.record(pairs[10])
        world.restart()
        assert [world.record(pair) for pair in pairs] == [0] * 10 + [1]
        assert world.post(*((f"p{i}", 1) for i in range(11))) == FeedbackCounts(joined=11)
        assert counts(world).pairs == 11

    @pytest.mark.files
    @pytest.mark.parametrize("limits", [StoreLimits(segment_pairs=10)])
    @pytest.mark.parametrize("damage", ["missing", "short", "empty", "changed"])
    def test_an_index_that_is_damaged_is_written_anew(self, world, make_pair, damage):
        for i in range(15):
            world.record(make_pair(f"p{i}", world.now))
        world.restart()
        (index,) = world.directory.glob("*.ids")
        if damage == "missing":
            index.unlink()
        elif damage == "changed":
            index.write_bytes(index.read_bytes()[:-80] + b"\1" * 80)
        else:
            index.write_bytes(index.read_bytes()[: 100 if damage == "short" else 0])
        assert world.post(*((f"p{i}", 1) for i in range(15))) == FeedbackCounts(joined=15)


@pytest.mark.parametrize("limits", [StoreLimits(segment_pairs=10)])
def test_runs_of_long_ago_are_forgotten(world, make_pair):
    world.record(*(make_pair(f"p{i}", world.now) for i in range(10)))
    for number in range(2, KEEP_RUNS + 5):
        world.put(run=f"r{number}")
    world.record(make_pair("now", world.now), run=world.standing.instructions.run)
    world.fold()
    world.ledger.forget(world.now)
    assert world.evidence("r1").counts["pairs"] == 10  # its pairs are still kept
    with pytest.raises(NotFound):
        world.evidence("r2")
    world.now += 86400 + 2 * KEEP_SECONDS + 3600
    world.fold()
    world.ledger.forget(world.now)
    world.restart()
    with pytest.raises(NotFound):
        world.evidence("r1")
    assert world.evidence().counts["pairs"] == 1
    assert len(world.ledger._books.runs) == KEEP_RUNS


def fail(*_: object) -> None:
    raise sqlite3.OperationalError("a fault")


def test_instructions_without_a_run_mirror_nothing_and_keep_the_last_run(world):
    with world.ledger.transaction(world.now) as change:
        change.put("ns", "m", PutInstructions(1, Instructions(version=2)))
    assert world.standing.run == 1
    assert world.standing.shares[-1].share == 0.0
    assert world.evidence().run == "r1"


@pytest.mark.parametrize("limits", [StoreLimits(segment_pairs=10)])
def test_a_deleted_model_is_forgotten_with_its_last_labels(world, make_pair):
    world.record(*(make_pair(f"p{i}", world.now) for i in range(5)))
    world.post(("early", 1))
    with world.ledger.transaction(world.now) as change:
        with pytest.raises(StaleEpoch):
            change.forget("ns", "m", 0)
        change.forget("ns", "m", 7)
        spec = {"model": {"classes": ["cat", "dog", "owl"]}}
        change.put("ns", "other", PutInstructions(7, Instructions(version=1, run="o1"), spec))
        change.forget("ns", "unknown", 7)
    world.restart()
    assert (world.standing.instructions.version, world.standing.senders) == (0, ())
    assert world.post(("p1", 1)).joined == 1, "of what was mirrored, labels still count"
    world.ledger.forget(world.now)
    assert world.evidence("r1").counts["labelled"] == 1
    world.now += 86400 + 3600 + 2 * KEEP_SECONDS  # a store may keep the pairs of an hour together
    world.fold()
    world.record_for("ns", "other", make_pair("x", world.now), run="o1")  # seals the segment of before
    for _ in range(2):
        world.fold()
        world.ledger.forget(world.now)
    world.restart()
    assert [run.run for run in world.ledger._books.runs.values()] == ["o1"]
    with pytest.raises(NotFound):
        world.evidence("r1")
    assert world.ledger.held() == 0
    world.put(run="r1", epoch=8)
    assert world.evidence("r1").counts["pairs"] == 0, "one of the same name is another"


def test_before_its_first_run_labels_of_a_model_are_of_what_was_not_mirrored(world):
    with world.ledger.transaction(world.now) as change:
        change.put("ns", "new", PutInstructions(1, Instructions(version=1), {}))
    with world.ledger.transaction(world.now) as change:
        standing = world.ledger.standings["ns", "new"]
        labels = read_labels(b'[{"id": "a", "label": "cat"}, {"id": "b", "label": 77}]', {}, standing)
        assert change.feedback(standing, labels) == FeedbackCounts(unsampled=2)
    assert world.ledger.held() == 0
