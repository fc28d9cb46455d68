import os
import random
from collections import deque

import pytest

from modelcanary_sidecar.errors import FrameError
from modelcanary_sidecar.room import SIZE, Place, Readable, Written, make_file


@pytest.fixture
def file() -> int:
    return make_file()


def resident(file: int) -> int:
    return os.fstat(file).st_blocks * 512


def test_what_waits_is_never_written_over(file: int) -> None:
    """Messages of all sizes, read in order and late: each is what it was."""
    source = random.Random(1)
    live, scorer = Written(file), Readable(file)
    waiting: deque[tuple[Place, bytes]] = deque()
    refused = 0
    for _ in range(1500):
        if source.random() < 0.55:
            message = source.randbytes(16) * source.choice([3000, 16_000, 70_000, 200_000])
            place = live.write(message)
            refused += place is None
            if place is not None:
                waiting.append((place, message))
        elif waiting:
            place, message = waiting.popleft()
            assert scorer.memory[place.start : scorer.end_of(place.start, place.size)] == message
            if source.random() < 0.8:  # else it is told with the next
                live.read(place.number)
        assert live.waiting <= SIZE
    assert refused > 50
    for place, message in waiting:
        assert scorer.memory[place.start : scorer.end_of(place.start, place.size)] == message
    live.read(waiting[-1][0].number)
    assert live.waiting == 0
    assert live.write(bytes(SIZE)) is not None


def test_what_is_read_soon_takes_little_memory(file: int) -> None:
    live = Written(file)
    places: deque[Place] = deque()
    for _ in range(200):
        place = live.write(b"x" * (256 << 10))
        assert place is not None
        places.append(place)
        if len(places) == 3:  # there is always one that waits
            live.read(places.popleft().number)
    assert resident(file) <= 2 << 20


def test_what_a_burst_took_is_given_back(file: int) -> None:
    live = Written(file)
    while (place := live.write(b"x" * 1_000_001)) is not None:
        last = place
    assert resident(file) > SIZE - (2 << 20)
    live.read(last.number)
    assert resident(file) <= 2 << 20
    assert live.write(b"y") == Place(last.number + 1, 0, 1)


def test_what_was_not_sent_takes_no_room(file: int) -> None:
    live = Written(file)
    for _ in range(100):
        assert live.write(bytes(SIZE)) is not None
        live.forget()
    assert live.waiting == 0


def test_nothing_is_read_beyond_the_room(file: int) -> None:
    with pytest.raises(FrameError, match="beyond what is shared"):
        Readable(file).end_of(SIZE - 5, 6)
    assert Readable(file).end_of(SIZE - 5, 5) == SIZE


def test_a_burst_finds_all_of_the_room_wherever_the_others_lie(file: int) -> None:
    live = Written(file)
    size = 256 << 10
    places = deque[Place]()
    for _ in range(50):
        place = live.write(bytes(size))
        assert place is not None
        places.append(place)
        if len(places) == 5:
            live.read(places.popleft().number)
    while live.write(bytes(size)) is not None:
        pass
    assert live.waiting == SIZE
