"""The id of a request: the client's, or one that is minted; and what is mirrored follows from it."""

import re

import pytest
from tests.sidecar.live_path.two_models import BASELINE, Stage, post, reply

from modelcanary_gate.sampling import position


def head_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[0] + b"\r\n"


def test_a_minted_id_goes_to_both_models_and_back(played: Stage) -> None:
    played.baseline.always = None
    played.mirror()
    ids = []
    for _ in range(2):
        user = played.asks(post(id=None))
        asked = played.baseline.next()
        asked.send(reply(b"{}", "X-Request-Id: mine", "X-Kept: 1"))
        answer = head_of(user.gets())
        captured = played.captured()
        assert captured.minted
        line = f"X-Request-Id: {captured.id}\r\n".encode()
        assert line in asked.request
        assert line in captured.headers
        assert line in answer
        assert answer.count(b"X-Request-Id") == 1  # labels come with ours
        assert b"X-Kept: 1\r\n" in answer
        assert captured.baseline.headers == b"Content-Type: application/json\r\nX-Kept: 1\r\n"
        assert re.fullmatch("[0-9a-f]{32}", captured.id)
        assert abs(int(captured.id[:12], 16) / 1000.0 - captured.time) < 1.0
        ids.append(captured.id)
    assert ids[0][12:20] == ids[1][12:20]  # the process
    assert int(ids[1][20:], 16) == int(ids[0][20:], 16) + 1


def test_ids_are_minted_for_what_is_not_mirrored_too(played: Stage) -> None:
    user = played.asks(post(id=None, method="PUT"))
    asked = played.baseline.next()
    asked.send(BASELINE)
    (id,) = re.findall(rb"X-Request-Id: (\w+)\r\n", head_of(user.gets()))
    assert b"X-Request-Id: %b\r\n" % id in asked.request


def test_a_clients_own_id_is_not_added_to_the_answer_and_the_models_passes(played: Stage) -> None:
    played.mirror()
    user = played.asks(post(id="mine"))
    played.baseline.next().send(reply(b"{}", "X-Request-Id: the model's"))
    answer = head_of(user.gets())
    assert b"X-Request-Id: the model's\r\n" in answer
    assert b"mine" not in answer
    captured = played.captured()
    assert (captured.id, captured.minted) == ("mine", False)


@pytest.mark.parametrize(
    ("headers", "id"),
    [
        ([b"X-Request-Id: a", b"Ce-Id: b"], "a"),
        ([b"Ce-Id: b", b"X-Request-Id: a"], "a"),
        ([b"Ce-Id: b"], "b"),
        ([b"X-Request-Id:", b"Ce-Id: b"], "b"),
        ([b"X-Request-Id: a", b"X-Request-Id: b"], "a"),
        ([b"X-Request-Id:   a b"], "a b"),
        (["x-request-id: caf\u00e9".encode()], "caf\u00e9"),
        (["x-request-id: caf\u00e9".encode("latin-1")], "caf\u00e9"),
        ([b"X-Request-Id: " + b"a" * 256], "a" * 256),
    ],
)
def test_the_id_is_the_id_headers_else_ce_id(played: Stage, headers: list[bytes], id: str) -> None:
    played.baseline.always = BASELINE
    played.mirror()
    lines = b"".join(line + b"\r\n" for line in headers)
    played.asks(b"POST /x HTTP/1.1\r\nHost: a\r\n%bContent-Length: 2\r\n\r\n{}" % lines).gets()
    captured = played.captured()
    assert (captured.id, captured.minted) == (id, False)


def test_an_empty_id_is_none(played: Stage) -> None:
    played.baseline.always = BASELINE
    played.mirror()
    answer = head_of(played.asks(post("/x", b"", "X-Request-Id:", "Ce-Id:", id=None)).gets())
    captured = played.captured()
    assert captured.minted
    assert f"X-Request-Id: {captured.id}\r\n".encode() in answer


def test_instructions_may_name_another_id_header(played: Stage) -> None:
    played.baseline.always = BASELINE
    played.mirror(idHeader="X-Trace")
    played.asks(post("/x", b"", "x-trace: t1")).gets()
    assert played.captured().id == "t1"
    answer = played.asks(post("/x", b"")).gets()
    assert f"X-Trace: {played.captured().id}\r\n".encode() in head_of(answer)


@pytest.mark.parametrize("id", [b"a" * 257, b"a\xc2\xa0" * 100])
def test_an_id_that_cannot_be_one_is_served_and_counted(played: Stage, id: bytes) -> None:
    played.baseline.always = BASELINE
    played.mirror(weight=1.0)
    user = played.asks(b"POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: %b\r\nContent-Length: 0\r\n\r\n" % id)
    assert user.gets().startswith(b"HTTP/1.1 200 ")
    assert played.all_captured() == []
    played.counts("dropped", {"id": 1})
    played.counts("canary", {})


@pytest.mark.parametrize("share", [0.3, 0.97])
def test_the_share_is_chosen_by_the_hash_of_the_id(played: Stage, share: float) -> None:
    played.baseline.always = BASELINE
    played.mirror(share=share)
    user = played.user()
    ids = [f"id-{n}" for n in range(300)] + [f"\u00e9-{n}" for n in range(20)]
    for id in ids:
        user.sends(post("/x", b"", f"X-Request-Id: {id}", id=None))
        user.gets()
    expected = [id for id in ids if position(id) < share]
    assert [played.captured().id for _ in expected] == expected
    assert 0 < len(expected) < len(ids)
    assert played.all_captured() == []
    played.counts("dropped", {})


def test_minted_ids_are_chosen_by_their_hash_too(played: Stage) -> None:
    played.baseline.always = BASELINE
    played.mirror(share=0.5)
    user = played.user()
    minted = []
    for _ in range(60):
        user.sends(post("/x", b"", id=None))
        minted += re.findall(rb"X-Request-Id: (\w+)\r\n", head_of(user.gets()))
    expected = [id.decode() for id in minted if position(id.decode()) < 0.5]
    assert [played.captured().id for _ in expected] == expected
    assert played.all_captured() == []
    assert 10 < len(expected) < 50
