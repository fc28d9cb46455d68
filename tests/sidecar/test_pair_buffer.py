from hypothesis import given
from hypothesis import strategies as st

from modelcanary_gate.protocol import Answer, Pair
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.pair_buffer import BufferLimits, PairBuffer, size_of


def pair(number: int, size: int = 0) -> Pair:
    answer = Answer(Outcome.OK, 0.1, b"\0" * size)
    return Pair(number.to_bytes(16, "big"), f"id-{number}", 0, float(number), answer, answer)


def numbers(pairs: list[Pair]) -> list[int]:
    return [int.from_bytes(one.key, "big") for one in pairs]


def test_a_batch_is_of_one_run_in_order_with_an_id_of_its_own() -> None:
    buffer = PairBuffer("pod-1", BufferLimits())
    for number in range(5):
        buffer.add("old" if number < 3 else "new", pair(number))
    first, second = buffer.cut(), buffer.cut()
    assert first is not None
    assert second is not None
    assert (first.run, numbers(first.pairs)) == ("old", [0, 1, 2])
    assert (second.run, numbers(second.pairs)) == ("new", [3, 4])
    assert first.batch != second.batch
    assert first.sidecar == "pod-1"
    assert buffer.cut() is None


def test_batches_are_bounded_in_pairs_and_bytes() -> None:
    size = size_of(pair(0, 1000))
    buffer = PairBuffer("s", BufferLimits(batch_pairs=4, batch_bytes=3 * size))
    for number in range(8):
        buffer.add("r", pair(number, 1000))
    assert buffer.full_batch
    batches = [batch.pairs for _ in range(3) if (batch := buffer.cut())]
    assert [len(pairs) for pairs in batches] == [3, 3, 2]
    assert buffer.bytes == 0


def test_a_pair_larger_than_a_batch_goes_alone() -> None:
    buffer = PairBuffer("s", BufferLimits(batch_bytes=10))
    buffer.add("r", pair(0, 1000))
    buffer.add("r", pair(1, 1000))
    batch = buffer.cut()
    assert batch is not None
    assert numbers(batch.pairs) == [0]


def test_the_oldest_are_dropped_and_counted_with_their_run() -> None:
    buffer = PairBuffer("s", BufferLimits(pairs=3))
    buffer.add("old", pair(0))
    for number in range(1, 6):
        buffer.add("new", pair(number))
    batch = buffer.cut()
    assert batch is not None
    assert numbers(batch.pairs) == [3, 4, 5]
    assert batch.dropped == {"buffer": 2}
    rest = buffer.cut()
    assert rest is not None
    assert (rest.run, rest.pairs, rest.dropped) == ("old", [], {"buffer": 1})


def test_drops_travel_once_even_without_pairs() -> None:
    buffer = PairBuffer("s", BufferLimits())
    buffer.drop("r", "rate", 3)
    buffer.drop("r", "rate")
    buffer.drop("", "rate")  # no run: nobody asks
    batch = buffer.cut()
    assert batch is not None
    assert (batch.run, batch.pairs, batch.dropped) == ("r", [], {"rate": 4})
    assert buffer.cut() is None


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 400), st.booleans()), max_size=60))
def test_nothing_is_lost_uncounted(steps: list[tuple[str, int, bool]]) -> None:
    limits = BufferLimits(pairs=7, bytes=3000, batch_pairs=3, batch_bytes=1500)
    buffer = PairBuffer("s", limits)
    sent: list[int] = []
    dropped = 0
    batches = []
    for number, (run, size, cut) in enumerate(steps):
        buffer.add(run, pair(number, size))
        assert len(buffer) <= limits.pairs
        assert buffer.bytes <= limits.bytes
        if cut and (batch := buffer.cut()):
            batches.append(batch)
    while batch := buffer.cut():
        batches.append(batch)
    for batch in batches:
        sent += numbers(batch.pairs)
        dropped += sum(batch.dropped.values())
    assert sent == sorted(set(sent))
    assert len(sent) + dropped == len(steps)
    assert len({batch.batch for batch in batches}) == len(batches)
