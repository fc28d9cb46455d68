"""What a changed specification does to the evidence."""

import pytest


@pytest.mark.parametrize(("before", "after"), [("0s", "1h"), ("1h", "0s"), ("0s", "auto")])
def test_no_pair_counts_twice_or_never_when_it_is_said_anew_when_pairs_count(world, before, after):
    world.put(labels={"maturity": before, "maxDelay": "2h"})
    world.record_ids("a", "b")
    world.post(("a", 0), ("b", 1))
    old = world.evidence().source
    world.put(labels={"maturity": after, "maxDelay": "2h"}, epoch=2)
    world.record_ids("c")
    world.post(("c", 2))
    world.now += 7201.0
    assert world.evidence().source != old
    world.expect({"c": 2})


def test_another_time_to_mature_goes_on_with_the_evidence(world):
    world.put(labels={"maturity": "1h", "maxDelay": "3h"})
    world.record_ids("a")
    world.post(("a", 0))
    world.put(labels={"maturity": "2h", "maxDelay": "3h"}, epoch=2)
    world.now += 3700.0
    world.expect({})
    world.now += 3700.0
    world.expect({"a": 0})


def test_what_counted_with_its_label_stays_counted_when_labels_are_waited_for_less_long(world):
    world.put(labels={"maturity": "0s", "maxDelay": "2h"})
    world.record_ids("a")
    world.now += 5000.0
    world.post(("a", 0))
    world.put(labels={"maturity": "0s", "maxDelay": "1h"}, epoch=2)
    counts = world.evidence().counts
    assert (counts["labelled"], counts["expired"], counts["missing"]) == (1, 0, 0)
    world.expect({"a": 0})
