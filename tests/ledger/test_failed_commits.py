"""What a transaction that did not commit leaves: nothing, also when one of another model commits next."""

import pytest
from tests.ledger.conftest import CLASSES, World, pair_of

from modelcanary_gate.protocol import FeedbackCounts, Instructions, PutInstructions
from modelcanary_ledger.errors import StoreError
from modelcanary_ledger.join import Posted


@pytest.fixture
def two(world: World) -> World:
    """Beside ns/m a second model, ns/other, with a pair each."""
    request = PutInstructions(1, Instructions(version=1, run="o1", share=1.0), world_spec())
    with world.ledger.transaction(world.now) as change:
        change.put("ns", "other", request)
    world.record_ids("a", "b")
    world.record_for("ns", "other", pair_of("x", world.now), run="o1")
    world.fold()
    return world


def world_spec() -> dict[str, object]:
    return {"model": {"classes": CLASSES}, "labels": {"maturity": "0s"}}


def post(world: World, name: str, *labels: tuple[str, int]) -> FeedbackCounts:
    with world.ledger.transaction(world.now) as change:
        standing = world.ledger.standings["ns", name]
        return change.feedback(standing, [Posted(identifier, 0, label) for identifier, label in labels], "billing")


def fails(world: World, monkeypatch: pytest.MonkeyPatch, name: str, *labels: tuple[str, int]) -> None:
    """Labels whose commit is refused, as by a full disk."""

    def refuse() -> None:
        raise StoreError("no room")

    with monkeypatch.context() as patched, pytest.raises(StoreError):
        patched.setattr(world.ledger._store, "commit", refuse)
        post(world, name, *labels)


def test_it_is_not_committed_by_the_next_one_of_another_model(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(two, monkeypatch, "m", ("a", 1), ("nobody", 0))
    assert post(two, "other", ("x", 2)) == FeedbackCounts(joined=1)
    two.expect({})
    assert post(two, "m", ("a", 1), ("b", 2)) == FeedbackCounts(joined=2)
    two.expect({"a": 1, "b": 2})
    counts = two.evidence().counts
    assert (counts["labelled"], counts["unmatched"], counts["duplicate"]) == (2, 0, 0)
    assert counts["senders"]["billing"]["joined"] == 2  # type: ignore[index]
    two.restart()
    two.expect({"a": 1, "b": 2})


def test_pairs_are_recorded_until_it_is_read_back(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(two, monkeypatch, "m", ("a", 1))
    assert two.ledger.classes_of(two.standing, "r1") == len(CLASSES)
    assert two.record(pair_of("c", two.now)) == 1
    post(two, "other", ("x", 2))
    assert post(two, "m", ("a", 1), ("c", 0)) == FeedbackCounts(joined=2)
    two.expect({"a": 1, "c": 0})


def test_a_run_that_was_changed_without_its_model_is_never_written(two: World) -> None:
    run = two.run()
    run.progress.counts.duplicate += 7
    run.changed = True
    with pytest.raises(RuntimeError, match="without their models"):
        post(two, "other", ("x", 2))
    assert post(two, "other", ("x", 2)) == FeedbackCounts(joined=1)
    assert two.evidence().counts["duplicate"] == 0
