"""However a message is cut in two, the same comes of it, and it is what the tables say: every case, at every byte.

Without sockets and the live process: by the modules that read for it, in a program of their own.
"""

import struct
import subprocess
from collections.abc import Sequence

import pytest
from tests.sidecar import native
from tests.sidecar.framing import answer_cases, answering, observing, request_cases
from tests.sidecar.framing.cases import Answer, Request
from tests.sidecar.framing.reading import Answer as Read
from tests.sidecar.framing.reading import read_by_h11, render

_LONG = 3000  # bytes; beyond, what is long is one value
REQUESTS = [case for case in request_cases.CASES if len(case.wire) < _LONG]
ANSWERS = [case for case in answer_cases.CASES if 0 < len(case.wire) < _LONG]


def _read(messages: Sequence[tuple[bytes, bytes]]) -> list[list[str]]:
    """What each kind of message is read as; fails where it matters how it was cut."""
    wire = b"".join(struct.pack("<cI", kind, len(message)) + message for kind, message in messages)
    done = subprocess.run([native.cases()], input=wire, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [line.split(" ") for line in done.stdout.decode().splitlines()]


@pytest.fixture(scope="module")
def requests() -> dict[str, list[str]]:
    read = _read([(b"q", case.wire) for case in REQUESTS])
    return {case.name: said for case, said in zip(REQUESTS, read, strict=True)}


@pytest.fixture(scope="module")
def answers() -> dict[str, list[str]]:
    read = _read([(b"h" if case.method == "HEAD" else b"a", case.wire) for case in ANSWERS])
    return {case.name: said for case, said in zip(ANSWERS, read, strict=True)}


@pytest.mark.timeout(900)  # the first one compiles
@pytest.mark.parametrize("case", REQUESTS, ids=[case.name for case in REQUESTS])
def test_a_request_cut_anywhere_is_what_the_table_says(case: Request, requests: dict[str, list[str]]) -> None:
    end, *sent = requests[case.name]
    asked = []
    for one in sent:
        read, after = read_by_h11(bytes.fromhex(one))
        assert after == "kept"
        asked += read
    assert len(asked) == len(sent)
    outcome = render(asked, end)
    assert case.does in (outcome, observing.alike(outcome))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ANSWERS, ids=[case.name for case in ANSWERS])
def test_an_answer_cut_anywhere_is_what_the_table_says(case: Answer, answers: dict[str, list[str]]) -> None:
    end, *read = answers[case.name]
    if not read:
        outcome = "502" if end == "malformed" or case.ends else "504"
    else:
        status, body = read
        whole = end == "whole" or (end == "end" and case.ends)
        outcome = str(Read(int(status), (), bytes.fromhex(body), whole))
    assert answering.alike(outcome) in {answering.alike(does) for does in case.does.split(" or ")}
