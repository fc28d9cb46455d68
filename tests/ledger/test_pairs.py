"""Pairs and batches are numbered on, however many segments were dropped meanwhile."""

import pytest

from modelcanary_ledger.pairs import StoreLimits

pytestmark = pytest.mark.files

SHORT = {"labels": {"maturity": "0s", "maxDelay": "10m"}}


@pytest.fixture
def limits() -> StoreLimits:
    return StoreLimits(segment_seconds=60.0)


def _all_dropped(world) -> None:
    """Its segments are sealed, by a batch without pairs, and dropped."""
    world.now += 3600.0
    world.record()
    world.fold()
    assert world.ledger.forget(world.now) == 1


class TestWhenEveryPairOfARunIsDropped:
    def test_later_pairs_are_counted_and_joined(self, world):
        world.put(**SHORT)
        world.record_ids("a", "b", "c")
        world.post(("a", 0), ("b", 1))
        _all_dropped(world)
        world.record_ids("d")
        assert world.post(("d", 2)).joined == 1
        world.expect({"a": 0, "b": 1, "d": 2})
        assert world.evidence().counts["pairs"] == 4

    def test_later_pairs_are_counted_after_a_restart_too(self, world):
        world.put(labels={"maturity": "60s", "maxDelay": "10m"})
        world.record_ids("a", "b", "c")
        _all_dropped(world)
        world.restart()
        world.record_ids("d")
        world.post(("d", 2))
        world.now += 61.0
        world.expect({"d": 2})

    def test_drops_reported_later_are_counted(self, world, make_pair):
        world.put(**SHORT)
        for number in range(5):
            world.record(make_pair(f"p{number}", world.now))
        # the change to a new segment was cut short: it is there, without a batch
        world.now += 3600.0
        pairs = world.ledger._store.pairs
        pairs.begin(world.now)
        pairs.rollback()
        world.fold()
        assert world.ledger.forget(world.now) == 1
        world.restart()
        world.ledger.record([(world.standing, world.batch([], dropped={"shed": 2}))], world.now)
        assert world.evidence().counts["dropped"] == {"shed": 2}

    def test_their_labels_go_also_where_a_crash_came_between(self, world):
        world.put(**SHORT)
        world.record_ids("a", "b")
        world.post(("a", 0), ("b", 1))
        world.fold()
        world.ledger._store.pairs.begin(world.now + 60.0)
        world.ledger._store.pairs.rollback()
        world.record_ids("c")
        world.post(("c", 0))
        (sealed,) = world.ledger._store.pairs.catalogue.sealed
        world.ledger._store.pairs.catalogue.drop(sealed)
        world.crash()
        rows = world.ledger._store.state.connection.execute("SELECT pid FROM label").fetchall()
        assert len(rows) == 1
        world.expect({"a": 0, "b": 1, "c": 0})
