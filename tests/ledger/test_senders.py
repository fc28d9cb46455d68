"""Whose labels they were: counted by sender, in the file with the labels, and whose are disputed."""

import json

import msgspec
import pytest

from modelcanary_gate.protocol import Instructions, LabelSender, PutInstructions
from modelcanary_ledger import run as runs
from modelcanary_ledger.errors import BadRequest, StaleEpoch
from modelcanary_ledger.export import export_lines
from modelcanary_ledger.join import Posted

BILLING = LabelSender("billing", "a" * 64)


def post(world, sender: str, *labels: tuple[str, int]) -> None:
    with world.ledger.transaction(world.now) as change:
        change.feedback(world.standing, [Posted(identifier, 0, value) for identifier, value in labels], sender)


def counted(world) -> dict[str, dict[str, int]]:
    senders = world.evidence().counts["senders"]
    return {name: {what: n for what, n in counts.items() if n} for name, counts in senders.items()}


def put(world, *senders: LabelSender, epoch: int = 1, run: str = "") -> None:
    request = PutInstructions(epoch, Instructions(version=2, run=run), {}, list(senders))
    with world.ledger.transaction(world.now) as change:
        change.put("ns", "m", request)


def test_each_sender_is_counted_and_the_one_that_was_first_is_disputed(world):
    world.record_ids("i1", "i2", "i3")
    post(world, "billing", ("i1", 0), ("i2", 1))
    post(world, "desk", ("i1", 0), ("i2", 2), ("i3", 0))
    post(world, "desk", ("i3", 1))  # it says otherwise than itself: nobody else is wronged
    assert counted(world) == {
        "billing": {"joined": 2, "disputed": 1},
        "desk": {"joined": 1, "duplicate": 1, "conflict": 2},
    }
    assert world.evidence().counts["conflict"] == 2


def test_a_pair_counts_as_one_conflict_however_often_it_is_told(world):
    """Whoever reads a source anew sends all of it again: delivered four times, a label contradicts one pair."""
    world.record_ids("i1", "i2")
    post(world, "billing", ("i1", 0), ("i2", 0))
    post(world, "billing", ("i1", 1), ("i1", 1))
    for _ in range(4):
        post(world, "desk", ("i1", 1), ("i2", 0))
    world.crash()
    post(world, "third", ("i1", 2))
    post(world, "desk", ("i1", 1))
    assert world.evidence().counts["conflict"] == 1
    assert counted(world) == {
        "billing": {"joined": 2, "conflict": 2, "disputed": 1},  # what it was answered, and of how many of its labels
        "desk": {"duplicate": 4, "conflict": 5},
        "third": {"conflict": 1},
    }


def test_so_it_is_while_the_label_waits_for_its_pair(world):
    for label in (0, 1, 1, 0):
        post(world, "billing", ("i1", label), ("i2", 0), ("i3", label))
    world.crash()
    for _ in range(3):
        post(world, "desk", ("i1", 2), ("i2", 0))
    world.crash()
    assert world.evidence().counts["conflict"] == 0  # there is no pair yet
    world.record_ids("i1", "i2", "i3")
    world.fold()
    post(world, "desk", ("i1", 2), ("i3", 1))
    assert world.evidence().counts["conflict"] == 2
    assert counted(world)["billing"]["disputed"] == 2


def test_a_label_that_waits_for_its_pair_keeps_its_sender(world):
    post(world, "billing", ("i1", 0))
    post(world, "desk", ("i1", 1))
    world.crash()
    world.record_ids("i1")
    world.fold()
    post(world, "third", ("i1", 2))
    assert counted(world) == {
        "billing": {"unmatched": 1, "disputed": 1},
        "desk": {"conflict": 1},
        "third": {"conflict": 1},
    }
    lines = [json.loads(line) for line in b"".join(export_lines(world.slices(), "r1")).splitlines()]
    assert [(line["id"], line["label"], line["sender"]) for line in lines] == [("i1", 0, "billing")]


def test_who_takes_back_what_still_waits_for_its_pair_wrongs_nobody(world):
    post(world, "billing", ("i1", 0))
    post(world, "billing", ("i1", 1))
    assert counted(world) == {"billing": {"unmatched": 1, "conflict": 1}}


def test_senders_and_their_counts_outlive_the_process(world):
    put(world, BILLING, run="r1")
    world.record_ids("i1")
    post(world, "billing", ("i1", 0))
    before = counted(world)
    world.crash()
    assert world.standing.senders == (BILLING,)
    post(world, "desk", ("i1", 1))
    assert counted(world) == {"billing": {**before["billing"], "disputed": 1}, "desk": {"conflict": 1}}


def test_labels_without_a_sender_are_nobodys(world):
    world.record_ids("i1")
    post(world, "", ("i1", 0))
    post(world, "desk", ("i1", 1))
    assert counted(world) == {"desk": {"conflict": 1}}


def test_beyond_a_number_senders_are_not_told_apart(world, monkeypatch):
    monkeypatch.setattr(runs, "MAX_SENDERS", 2)
    world.record_ids("i1", "i2", "i3")
    for sender, identifier in (("a", "i1"), ("b", "i2"), ("c", "i3")):
        post(world, sender, (identifier, 0))
    assert set(counted(world)) == {"a", "b"}
    assert world.evidence().counts["labelled"] == 3


def test_the_list_is_replaced_whole_also_without_a_run_and_by_the_leader_alone(world):
    other = LabelSender("desk", "b" * 64)
    put(world, BILLING, other, epoch=2)
    assert world.standing.senders == (BILLING, other)
    with pytest.raises(StaleEpoch):
        put(world, epoch=1)
    assert world.standing.senders == (BILLING, other)
    put(world, other, epoch=2)
    world.restart()
    assert world.standing.senders == (other,)
    put(world, epoch=3)
    assert world.standing.senders == ()


@pytest.mark.parametrize("digest", ["", "secret", "A" * 64, "a" * 63])
def test_what_is_no_hash_is_refused_and_not_repeated(world, digest):
    with pytest.raises(BadRequest) as refused:
        put(world, BILLING, LabelSender("x", digest))
    assert refused.value.field == "senders[1].tokenSHA256"
    assert not digest or digest not in refused.value.detail
    assert world.standing.senders == ()


@pytest.mark.files
def test_a_row_of_a_label_is_no_larger_for_a_sender_than_a_byte_or_two(world):
    """The name is kept once per run, not with each label."""
    world.record_ids("i1")
    post(world, "n" * 200, ("i1", 0))
    row = world.ledger._store.state.connection.execute("SELECT sender FROM label").fetchall()
    assert row == [(0,)]
    assert msgspec.json.encode(world.run().progress).count(b"n" * 200) == 1
