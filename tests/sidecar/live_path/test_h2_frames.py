"""Where a frame of ours may come between those of an HTTP/2 server."""

import pytest

from modelcanary_sidecar.h2_frames import GOAWAY, Frames


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


SETTINGS = frame(4, bytes(6))
ACK = frame(4, flags=1)
HEADERS = frame(1, b"abc", flags=4, stream=1)
OPEN_HEADERS = frame(1, b"abc", stream=1)
CONTINUATION = frame(9, b"de", stream=1)
LAST_CONTINUATION = frame(9, b"f", flags=4, stream=1)
DATA = frame(0, bytes(70_000), stream=1)
EMPTY = frame(0, flags=1, stream=1)
TALK = [SETTINGS, ACK, HEADERS, DATA, OPEN_HEADERS, CONTINUATION, LAST_CONTINUATION, EMPTY]


def test_the_frame_that_is_added_is_one_of_its_own() -> None:
    assert frame(7, b"\x7f\xff\xff\xff" + bytes(4)) == GOAWAY


def test_a_frame_may_come_after_each_but_those_whose_headers_go_on() -> None:
    frames = Frames()
    assert not frames.between  # the server's settings are first
    places = [frames.passed(piece) == len(piece) and frames.between for piece in TALK]
    assert places == [True, True, True, True, False, False, True, True]


@pytest.mark.parametrize("by", [1, 2, 5, 8, 9, 10, 13, 4096, 10**9])
def test_places_are_the_same_however_the_bytes_come(by: int) -> None:
    whole = b"".join(TALK)
    frames, found = Frames(), set()
    for start in range(0, len(whole), by):
        place = frames.passed(whole[start : start + by])
        if place >= 0:
            found.add(start + place)
    ends = {sum(map(len, TALK[:count])) for count in (1, 2, 3, 4, 7, 8)}
    assert found <= ends
    assert len(whole) in found
    assert by > 1 or found == ends


def test_nothing_is_added_to_what_is_no_http2() -> None:
    for talk in (b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100_000), ACK + DATA, HEADERS, frame(4, stream=1)):
        frames = Frames()
        assert frames.passed(talk) == -1
        assert frames.passed(SETTINGS) == -1
        assert not frames.between


def test_an_answer_is_one_on_a_stream() -> None:
    frames = Frames()
    frames.passed(SETTINGS + ACK)
    assert not frames.answered
    frames.passed(HEADERS)
    assert frames.answered
