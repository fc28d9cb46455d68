import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.live_end import pack

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import Captured, LiveAnswer, header, unpack
from modelcanary_sidecar.errors import FrameError

FAILURES = [None, Outcome.TIMEOUT, Outcome.REFUSED, Outcome.TOO_LARGE, Outcome.UNDECODABLE]

answers = st.builds(
    LiveAnswer,
    failure=st.sampled_from(FAILURES),
    status=st.integers(0, 999),
    latency=st.floats(0, 1e6),
    headers=st.binary(max_size=50),
    body=st.binary(max_size=300),
)
captures = st.builds(
    Captured,
    id=st.text(max_size=40),
    minted=st.booleans(),
    time=st.floats(0, 1e11),
    run=st.text(max_size=20),
    method=st.binary(max_size=8),
    target=st.binary(max_size=90),
    headers=st.binary(max_size=90),
    body=st.binary(max_size=300),
    baseline=answers,
    candidate=st.none() | answers,
)


@given(captures)
def test_what_is_packed_is_what_is_unpacked(captured: Captured) -> None:
    assert unpack(pack(captured)) == [captured]


@given(st.lists(captures, min_size=1, max_size=4))
def test_several_are_read_one_behind_the_other(several: list[Captured]) -> None:
    assert unpack(b"".join(map(pack, several))) == several


@given(captures, st.data())
def test_a_message_cut_anywhere_is_refused(captured: Captured, data: st.DataObject) -> None:
    message = pack(captured)
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(FrameError):
        unpack(message[:cut])


def test_bytes_behind_a_message_are_refused() -> None:
    answer = LiveAnswer(None, 200, 0.01, b"", b"{}")
    message = pack(Captured("a", False, 1.0, "r", b"POST", b"/", b"", b"{}", answer))
    with pytest.raises(FrameError, match="cannot be read"):
        unpack(message + b"xyz")


def test_a_header_is_found_by_its_lower_case_name() -> None:
    lines = b"Content-Type:  application/json \r\nInference-Header-Content-Length: 12\r\n"
    assert header(lines, b"content-type") == b"application/json"
    assert header(lines, b"inference-header-content-length") == b"12"
    assert header(lines, b"content-encoding") is None
