"""What becomes of every way to frame a request: by the real sidecar, by nginx, and as h11 reads it.

The sidecar does what its table says, however the bytes come. nginx and h11 do the same, but for the differences that
have a reason. And what the sidecar sends on is read by its model (h11, strictly), and by nginx, as the very requests
that it answered: nothing is smuggled.
"""

import socket
from pathlib import Path

import pytest
from tests.sidecar.framing.cases import Request, by_case
from tests.sidecar.framing.conftest import Proxy
from tests.sidecar.framing.observing import alike, observe
from tests.sidecar.framing.peers import Kernel
from tests.sidecar.framing.reading import end_to_end, read_by_h11, render
from tests.sidecar.framing.request_cases import CASES
from tests.sidecar.framing.request_differences import H11, NGINX

BY_H11, BY_NGINX = by_case(H11), by_case(NGINX)
_LONG = 3000  # bytes; what is longer is not sent byte by byte

each = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def same(outcome: str, expected: str) -> bool:
    """`refused` in a table leaves it open how."""
    return outcome == expected or (expected.endswith("refused") and alike(outcome) == expected)


def test_there_are_cases_enough_and_each_has_its_own_name() -> None:
    assert len(CASES) >= 300
    assert len({case.name for case in CASES}) == len(CASES)


@each
def test_the_sidecar_does_what_the_table_says(case: Request, sidecar: Proxy, kernel: Kernel) -> None:
    outcome = observe(sidecar.port, sidecar.model, kernel, case.wire, case.does, socket.socket.sendall)
    assert same(outcome, case.does)


@each
def test_it_does_the_same_when_every_byte_comes_alone(case: Request, sidecar: Proxy, kernel: Kernel) -> None:
    by = 1 if len(case.wire) < _LONG else 997

    outcome = observe(
        sidecar.port, sidecar.model, kernel, case.wire, case.does, lambda end, wire: kernel.send_slowly(end, wire, by)
    )
    assert same(outcome, case.does)


@each
def test_nginx_does_the_same_or_there_is_a_reason(case: Request, rival: Proxy, kernel: Kernel) -> None:
    expected = BY_NGINX.get(case.name, alike(case.does))
    outcome = observe(rival.port, rival.model, kernel, case.wire, expected, socket.socket.sendall)
    assert alike(outcome) in (alike(expected), alike(case.does))


@each
def test_h11_reads_the_same_or_there_is_a_reason(case: Request) -> None:
    assert alike(render(*read_by_h11(case.wire))) == BY_H11.get(case.name, alike(case.does))


@each
def test_what_it_sends_on_is_read_as_the_requests_that_it_answered(
    case: Request, sidecar: Proxy, rival: Proxy, kernel: Kernel
) -> None:
    """By h11 and by nginx, with headers that are the client's, but for those of one connection."""
    observe(sidecar.port, sidecar.model, kernel, case.wire, case.does, socket.socket.sendall)
    model = sidecar.model
    answered = [one for one in zip(model.asked, model.sent, strict=True) if one[0].target != b"/probe"]
    for asked, sent in answered:
        names = [name for name, _ in asked.headers]
        framing = [name for name in names if name in (b"content-length", b"transfer-encoding")]
        assert len(framing) == 1 if asked.body else len(framing) <= 1
        assert not {b"connection", b"upgrade", b"te", b"trailer", b"expect", b"keep-alive"} & set(names)
        assert names.count(b"host") == 1
        assert read_by_h11(sent) == ([asked], "kept")
        if case.name not in BY_NGINX:
            expected = render([asked], "kept")
            assert observe(rival.port, rival.model, kernel, sent, expected, socket.socket.sendall) == expected
    if case.name not in BY_H11 and case.name != "host: absent in HTTP/1.0":  # there Host is ours
        original, _ = read_by_h11(case.wire)
        assert [asked.end_to_end for asked, _ in answered] == [end_to_end(asked.headers) for asked in original]


def test_every_difference_is_of_a_case_and_every_reason_is_written_down() -> None:
    names = {case.name for case in CASES}
    assert set(BY_H11) | set(BY_NGINX) <= names
    document = (Path(__file__).parents[3] / "docs/design/live-path.md").read_text()
    for why in {*H11, *NGINX}:
        assert "| {} | {} |".format(*why.split(": ", 1)) in document
