"""However a message is cut in two, the same comes of it: every case, at every byte, without sockets."""

import pytest
from tests.sidecar.framing import answer_cases, request_cases
from tests.sidecar.framing.cases import Answer, Request
from tests.sidecar.framing.seam import converse, pieces_of, relay

_LONG = 600  # bytes; beyond, what is long is one value
REQUESTS = [case for case in request_cases.CASES if len(case.wire) < _LONG]
#: Whether something was passed on before the fault came depends on how the bytes come, and is said in the table.
ANSWERS = [case for case in answer_cases.CASES if 0 < len(case.wire) < _LONG and " or " not in case.does]


@pytest.mark.parametrize("case", REQUESTS, ids=[case.name for case in REQUESTS])
def test_a_request_cut_anywhere_is_the_same_request(case: Request) -> None:
    whole = converse([case.wire])
    assert len(whole.asked) == case.does.count("; ")
    for cut in range(1, len(case.wire)):
        assert converse(pieces_of(case.wire, [cut])) == whole, cut


@pytest.mark.parametrize("case", ANSWERS, ids=[case.name for case in ANSWERS])
def test_an_answer_cut_anywhere_is_the_same_answer(case: Answer) -> None:
    method, version = case.method.encode(), case.version.encode()
    whole = relay(method, version, [case.wire], case.ends)
    for cut in range(1, len(case.wire)):
        assert relay(method, version, pieces_of(case.wire, [cut]), case.ends) == whole, cut
