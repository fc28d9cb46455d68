"""Whatever comes twice, late, early, in another order or after a crash: the evidence is the same."""

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelcanary_ledger.join import Posted

IDS = [f"id{i}" for i in range(20)]
LABELS = st.tuples(st.sampled_from(IDS), st.integers(0, 2))
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.sampled_from(["one", "two", ""]), st.lists(st.sampled_from(IDS), max_size=9)),
        st.tuples(st.just("post"), st.lists(LABELS, min_size=1, max_size=9)),
        st.tuples(st.just("fault"), st.lists(LABELS, min_size=1, max_size=9)),
        st.tuples(st.just("fold")),
        st.tuples(st.just("crash")),
    ),
    max_size=25,
)


SETTINGS = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("maturity", ["0s", "60s"])
@settings(SETTINGS, max_examples=200)
@given(events=EVENTS)
def test_the_evidence_is_that_of_first_labels_of_recorded_pairs(new_world, make_pair, maturity, events):
    # In memory where that is possible: what syncing promises is not what is asked here.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        follow(new_world(Path(directory)), make_pair, maturity, events)


@pytest.mark.parametrize("maturity", ["0s", "60s"])
@settings(SETTINGS, max_examples=6)
@given(events=EVENTS)
def test_so_it_is_in_postgresql(new_world, make_pair, postgres, maturity, events):
    follow(new_world(postgres.schema()), make_pair, maturity, events)


def follow(world, make_pair, maturity, events):
    world.put(labels={"maturity": maturity})
    recorded: set[str] = set()
    names: set[str] = set()
    first: dict[str, int] = {}
    contradicted: set[str] = set()
    counts = dict.fromkeys(("joined", "unmatched", "duplicate", "conflict"), 0)
    posted = 0
    try:
        for event, *values in events:
            if event == "batch":
                name, ids = values
                world.record(*(make_pair(i, world.now) for i in ids), name=name)
                if name not in names:  # a name stands for one batch, whatever comes under it later
                    recorded |= set(ids)
                names |= {name} - {""}
            elif event == "post":
                found = world.post(*values[0])
                posted += len(values[0])
                for key in counts:
                    counts[key] += getattr(found, key)
                for identifier, label in values[0]:
                    if first.setdefault(identifier, label) != label:
                        contradicted.add(identifier)
            elif event == "fault":
                with pytest.raises(sqlite3.OperationalError), world.ledger.transaction(world.now) as change:
                    change.feedback(world.standing, [Posted(i, 0, label) for i, label in values[0]])
                    change.fold(2)
                    raise sqlite3.OperationalError("a fault")
            elif event == "fold":
                world.fold()
            else:
                world.crash()
        world.fold()
        world.now += 61
        world.expect({i: label for i, label in first.items() if i in recorded})
        assert sum(counts.values()) == posted
        assert counts["joined"] + counts["unmatched"] == len(first)
        evidence = world.evidence().counts
        assert evidence["pairs"] == len(recorded)
        assert evidence["labelled"] == len(recorded & set(first))
        assert evidence["conflict"] == len(recorded & contradicted)
        assert evidence["unmatched"] == len(set(first) - recorded)
    finally:
        world.close()
