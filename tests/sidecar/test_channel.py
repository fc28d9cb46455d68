import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.sidecar.live_end import LiveEnd

from modelcanary_gate.protocol import Instructions, ModelReading
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.channel import LARGE, Dropped, News, ScorerEnd, socket_pair
from modelcanary_sidecar.errors import FrameError

SMALL = Captured("a", True, 1.5, "r", b"POST", b"/p", b"host: a\r\n", b"{}", LiveAnswer(None, 200, 0.1, b"", b"[]"))


@pytest.fixture
def ends() -> Iterator[tuple[LiveEnd, ScorerEnd]]:
    live, scorer = socket_pair()
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
    news = News(Instructions(2, "r", "http://c", model=reading), 12.5, True)
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


def test_it_is_said_what_was_taken_of_the_large_messages(ends: tuple[LiveEnd, ScorerEnd]) -> None:
    live, scorer = ends
    assert live.receive() is None  # the scorer's greeting, which begins the count anew
    for _ in range(3):
        assert live.offer(replace(SMALL, body=bytes(4 << 20)))
    assert live.large_waiting > 12 << 20
    assert scorer.receive() is not None
    live.receive()
    assert 8 << 20 < live.large_waiting < 9 << 20
    while scorer.receive() is not None:
        pass
    live.receive()
    assert live.large_waiting == 0


def test_a_new_scorer_starts_without_the_old_ones_debts() -> None:
    live_socket, scorer_socket = socket_pair()
    live = LiveEnd(live_socket)
    live.offer(replace(SMALL, body=bytes(1 << 20)))
    assert live.large_waiting > 0
    scorer = ScorerEnd(scorer_socket)
    live.receive()
    assert live.large_waiting == 0
    scorer.close()
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
    live_socket, scorer_socket = socket_pair()
    live, scorer = LiveEnd(live_socket), ScorerEnd(scorer_socket)
    live.receive()
    live_socket.send(b"Zjunk")
    live_socket.send(b"Djunk")
    live_socket.send(b"Cjunk")
    for _ in range(3):
        with pytest.raises(FrameError):
            scorer.receive()
    live.close()
    scorer.close()


def test_what_the_live_process_could_not_be_told_is_told_with_the_next(
    ends: tuple[LiveEnd, ScorerEnd], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, scorer = ends
    large = replace(SMALL, body=bytes(LARGE))
    assert live.receive() is None  # the scorer's greeting, which begins the count anew
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


def test_several_in_one_message_are_received_together(ends: tuple[LiveEnd, ScorerEnd]) -> None:
    live, scorer = ends
    several = [replace(SMALL, id=str(number)) for number in range(5)]
    assert live.offer(*several)
    assert scorer.receive() == several
    assert scorer.receive() is None
