"""What becomes of every way to frame an answer: by the real sidecar, by nginx, and as h11 reads it.

The client reads what the model said, or a refusal; never what belongs to another request, on whatever connection.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sidecar.framing import peers
from tests.sidecar.framing.answer_cases import CASES
from tests.sidecar.framing.answer_differences import H11, NGINX
from tests.sidecar.framing.answering import ScriptedModel, Send, alike, ask, read_by_h11
from tests.sidecar.framing.cases import Answer, by_case
from tests.sidecar.framing.peers import Kernel, nginx
from tests.sidecar.framing.reading import REFUSED, end_to_end

BY_H11, BY_NGINX = by_case(H11), by_case(NGINX)
_LONG = 3000  # bytes; what is longer is not sent byte by byte

each = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
Played = tuple[int, ScriptedModel]


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Played]:
    model = ScriptedModel()
    try:
        with peers.sidecar(model.port, "--answer-time", "5s") as port:
            yield port, model
    finally:
        model.stop()


@pytest.fixture(scope="module")
def rival(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    model = ScriptedModel()
    folder: Path = tmp_path_factory.mktemp("nginx")
    try:
        with nginx(model.port, folder) as port:
            yield port, model
    finally:
        model.stop()


def slowly(kernel: Kernel, case: Answer) -> Send:
    by = 1 if len(case.wire) < _LONG else 997
    return lambda end, wire: kernel.send_slowly(end, wire, by)


def test_there_are_cases_enough_and_each_has_its_own_name() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)
    assert set(BY_H11) | set(BY_NGINX) <= {case.name for case in CASES}


@each
def test_the_client_gets_what_the_table_says(case: Answer, sidecar: Played) -> None:
    outcome, answer = ask(*sidecar, case, socket.socket.sendall)
    assert outcome in case.does.split(" or ")
    original = read_by_h11(case)
    if answer is None or original is None or alike(outcome) == REFUSED or case.name in BY_H11:
        return
    assert answer.status == original.status
    assert end_to_end(answer.headers) == end_to_end(original.headers)


@each
def test_it_gets_the_same_when_every_byte_comes_alone(case: Answer, sidecar: Played, kernel: Kernel) -> None:
    assert ask(*sidecar, case, slowly(kernel, case))[0] in case.does.split(" or ")


@each
def test_nginx_says_the_same_or_there_is_a_reason(case: Answer, rival: Played) -> None:
    outcome, _ = ask(*rival, case, socket.socket.sendall)
    allowed = {alike(does) for does in case.does.split(" or ")}
    assert alike(outcome) in allowed | {BY_NGINX.get(case.name, REFUSED if REFUSED in allowed else "")}


@each
def test_h11_reads_the_same_or_there_is_a_reason(case: Answer) -> None:
    read = read_by_h11(case)
    allowed = {alike(does) for does in case.does.split(" or ")}
    found = REFUSED if read is None else str(read)
    if case.name in BY_H11:
        assert found == BY_H11[case.name]
    else:
        assert found in allowed


def test_every_reason_is_written_down() -> None:
    document = (Path(__file__).parents[3] / "docs/design/live-path.md").read_text()
    for why in {*H11, *NGINX}:
        assert "| {} | {} |".format(*why.split(": ", 1)) in document
