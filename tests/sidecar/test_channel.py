import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from modelcanary_gate.protocol import Instructions, ModelReading
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.channel import LARGE, Dropped, LiveEnd, News, ScorerEnd, make_ends
from modelcanary_sidecar.errors import FrameError
from modelcanary_sidecar.room import SIZE

SMALL = Captured("a", True, 1.5, "r", b"POST", b"/p", b"host: a\r\n", b"{}", LiveAnswer(None, 200, 0.1, b"", b"[]"))


@pytest.fixture
def ends() -> Iterator[tuple[LiveEnd, ScorerEnd]]:
    live, scorer = make_ends()
    pair = LiveEnd(live), ScorerEnd(scorer)
    yield pair
    for end in pair:
        end.close()


def test_captured_requests_and_counts_arrive_in_order(ends: tuple[LiveEnd, ScorerEnd]) -> None:
    live, scorer = ends
    assert live.offer(SMALL)
    assert live.report_dropped("r", {"rate": 3})
    assert scorer.receive() == [SMALL]
    assert scorer.receive() == Dropped("r", {"rate": 3})
    assert scorer.receive() is None


def test_news_arrive_whole(ends: tuple[LiveEnd, ScorerEnd]) -> None:
    live, scorer = ends
    reading = ModelReading(classes=["a", "b"], requestPatch={"outputs": [{"name": "predict_proba"}]})
    news = News(Instructions(2, "r", "http://c", model=reading), 12.5, True, {"pairs:timeout": 2.0})
    assert scorer.tell(news)
    assert live.receive() == news
    assert live.receive() is None


def test_no_room_is_said_at_once_and_never_waited_for(ends: tuple[LiveEnd, ScorerEnd]) -> None:
    live, scorer = ends
    sent = 0
    while live.offer(replace(SMALL, body=bytes(20_000))):
        sent += 1
        assert sent < 10_000
    assert sent > 5
    got = 0
    while scorer.receive() is not None:
        got += 1
    assert got == sent


@pytest.mark.parametrize("size", [LARGE - 1000, LARGE, LARGE + 1, 1 << 20, 3 << 20])
def test_messages_of_every_size_pass(ends: tuple[LiveEnd, ScorerEnd], size: int) -> None:
    live, scorer = ends
    large = replace(SMALL, body=os.urandom(size))
    assert live.offer(large)
    assert scorer.receive() == [large]


def test_large_messages_are_bounded_until_the_scorer_takes_them(ends: tuple[LiveEnd, ScorerEnd]) -> None:
    live, scorer = ends
    large = replace(SMALL, body=bytes(4 << 20))
    sent = 0
    while live.offer(large):
        sent += 1
        assert sent < 10
    assert sent == SIZE // (4 << 20) - 1  # what surrounds the bodies does not fit any more
    assert live.offer(SMALL)  # the small ones still pass
    while scorer.receive() is not None:
        pass
    live.receive()
    assert live.large_waiting == 0
    assert live.offer(large)


def test_a_new_scorer_goes_on_where_the_old_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    end, scorer_end = make_ends()
    live, old = LiveEnd(end), ScorerEnd(scorer_end)
    several = [replace(SMALL, body=os.urandom(1 << 20)) for _ in range(3)]
    assert all(live.offer(captured) for captured in several)
    with monkeypatch.context() as patch:
        patch.setattr(old, "_try_send", lambda message: False)  # it ends before it says so
        assert old.receive() == several[:1]
    new = ScorerEnd(scorer_end)
    assert live.receive() is None
    assert live.large_waiting > 3 << 20, "what the old one read is known to be read when the new one has read more"
    assert [new.receive(), new.receive()] == [several[1:2], several[2:]]
    assert live.receive() is None
    assert live.large_waiting == 0
    new.close()
    assert not live.offer(SMALL)  # nobody there: dropped, no error
    assert live.receive() is None
    live.close()


def test_no_file_descriptor_is_left_behind(ends: tuple[LiveEnd, ScorerEnd]) -> None:
    live, scorer = ends
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        live.offer(replace(SMALL, body=bytes(1 << 20)))
        scorer.receive()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_is_not_a_message_of_ours_is_an_error_of_ours() -> None:
    live_end, scorer_end = make_ends()
    live, scorer = LiveEnd(live_end), ScorerEnd(scorer_end)
    junk = [b"Zjunk", b"Djunk", b"Cjunk", b"Rjunk", b"R" + struct.pack("<QII", 1, SIZE - 5, 6)]
    for message in junk:
        live_end.messages.send(message)
    for _ in junk:
        with pytest.raises(FrameError):
            scorer.receive()
    scorer_end.messages.send(b"Njunk")
    with pytest.raises(FrameError):
        live.receive()
    live.close()
    scorer.close()


def test_what_the_live_process_could_not_be_told_is_told_with_the_next(
    ends: tuple[LiveEnd, ScorerEnd], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, scorer = ends
    large = replace(SMALL, body=bytes(LARGE))
    with monkeypatch.context() as patch:
        patch.setattr(scorer, "_try_send", lambda message: False)
        assert live.offer(large)
        assert scorer.receive() == [large]
    assert live.receive() is None
    assert live.large_waiting > LARGE
    assert live.offer(large)
    assert scorer.receive() == [large]
    assert live.receive() is None
    assert live.large_waiting == 0


def test_what_is_captured_in_one_turn_goes_as_one_message(ends: tuple[LiveEnd, ScorerEnd]) -> None:
    _, scorer = ends
    due: list[Callable[[], None]] = []
    live = LiveEnd(ends[0]._end, due.append)
    several = [replace(SMALL, id=str(number)) for number in range(5)]
    assert all(live.offer(captured) for captured in several)
    assert scorer.receive() is None
    assert len(due) == 1
    due.pop()()
    assert scorer.receive() == several
    assert scorer.receive() is None
    assert live.offer(SMALL)
    assert len(due) == 1  # for those that come after


def test_what_has_both_answers_waits_for_others_and_goes_with_what_must_be_asked_for(
    ends: tuple[LiveEnd, ScorerEnd],
) -> None:
    _, scorer = ends
    soon: list[Callable[[], None]] = []
    later: list[Callable[[], None]] = []
    live = LiveEnd(ends[0]._end, soon.append, later=later.append)
    answered = replace(SMALL, candidate=SMALL.baseline)
    assert live.offer(answered)
    assert live.offer(answered)
    assert (len(soon), len(later)) == (0, 1)
    assert live.offer(SMALL)
    assert (len(soon), len(later)) == (1, 1)
    soon.pop()()
    assert [scorer.receive() for _ in range(2)] == [[answered, answered, SMALL], None]
    later.pop()()  # finds nothing
    assert scorer.receive() is None
    assert live.offer(answered)
    later.pop()()
    assert scorer.receive() == [answered]


def test_what_waits_is_bounded_and_what_finds_no_room_is_told(ends: tuple[LiveEnd, ScorerEnd]) -> None:
    _, scorer = ends
    lost: list[int] = []
    live = LiveEnd(ends[0]._end, lambda call: None, lost.append)
    offered = 0
    while not lost:
        assert live.offer(replace(SMALL, body=bytes(5000)))
        offered += 1
        assert offered < 100_000
    got = 0
    while isinstance(message := scorer.receive(), list):
        got += len(message)
    assert got + sum(lost) == offered - 1  # the last one waits
    assert lost == [206]  # of 5 KB each, in a message below the limit
    live.flush()
    assert scorer.receive() is not None
