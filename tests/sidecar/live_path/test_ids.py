"""The id of a request: the client's, or one that is minted; and what is mirrored follows from it."""

import re

import pytest
from tests.sidecar.live_path.two_models import BASELINE, Stage, post, reply

from modelcanary_gate.sampling import position


def head_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[0] + b"\r\n"


def test_a_minted_id_goes_to_both_models_and_back(stage: Stage) -> None:
    stage.baseline.always = None
    stage.mirror()
    ids = []
    for _ in range(2):
        user = stage.asks(post(id=None))
        asked = stage.baseline.next()
        asked.send(reply(b"{}", "X-Request-Id: mine", "X-Kept: 1"))
        answer = head_of(user.gets())
        captured = stage.captured()
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


def test_ids_are_minted_for_what_is_not_mirrored_too(stage: Stage) -> None:
    user = stage.asks(post(id=None, method="PUT"))
    asked = stage.baseline.next()
    asked.send(BASELINE)
    (id,) = re.findall(rb"X-Request-Id: (\w+)\r\n", head_of(user.gets()))
    assert b"X-Request-Id: %b\r\n" % id in asked.request


def test_a_clients_own_id_is_not_added_to_the_answer_and_the_models_passes(stage: Stage) -> None:
    stage.mirror()
    user = stage.asks(post(id="mine"))
    stage.baseline.next().send(reply(b"{}", "X-Request-Id: the model's"))
    answer = head_of(user.gets())
    assert b"X-Request-Id: the model's\r\n" in answer
    assert b"mine" not in answer
    captured = stage.captured()
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
def test_the_id_is_the_id_headers_else_ce_id(stage: Stage, headers: list[bytes], id: str) -> None:
    stage.baseline.always = BASELINE
    stage.mirror()
    lines = b"".join(line + b"\r\n" for line in headers)
    stage.asks(b"POST /x HTTP/1.1\r\nHost: a\r\n%bContent-Length: 2\r\n\r\n{}" % lines).gets()
    captured = stage.captured()
    assert (captured.id, captured.minted) == (id, False)


def test_an_empty_id_is_none(stage: Stage) -> None:
    stage.baseline.always = BASELINE
    stage.mirror()
    answer = head_of(stage.asks(post("/x", b"", "X-Request-Id:", "Ce-Id:", id=None)).gets())
    captured = stage.captured()
    assert captured.minted
    assert f"X-Request-Id: {captured.id}\r\n".encode() in answer


def test_instructions_may_name_another_id_header(stage: Stage) -> None:
    stage.baseline.always = BASELINE
    stage.mirror(idHeader="X-Trace")
    stage.asks(post("/x", b"", "x-trace: t1")).gets()
    assert stage.captured().id == "t1"
    answer = stage.asks(post("/x", b"")).gets()
    assert f"X-Trace: {stage.captured().id}\r\n".encode() in head_of(answer)


@pytest.mark.parametrize("id", [b"a" * 257, b"a\xc2\xa0" * 100, b"a\tb"])
def test_an_id_that_cannot_be_one_is_served_and_counted(stage: Stage, id: bytes) -> None:
    stage.baseline.always = BASELINE
    stage.mirror(weight=1.0)
    user = stage.asks(b"POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: %b\r\nContent-Length: 0\r\n\r\n" % id)
    assert user.gets().startswith(b"HTTP/1.1 200 ")
    assert stage.all_captured() == []
    stage.counts("dropped", {"id": 1})
    stage.counts("canary", {})


@pytest.mark.parametrize("share", [0.3, 0.97])
def test_the_share_is_chosen_by_the_hash_of_the_id(stage: Stage, share: float) -> None:
    stage.baseline.always = BASELINE
    stage.mirror(share=share)
    user = stage.user()
    ids = [f"id-{n}" for n in range(300)] + [f"\u00e9-{n}" for n in range(20)]
    for id in ids:
        user.sends(post("/x", b"", f"X-Request-Id: {id}", id=None))
        user.gets()
    expected = [id for id in ids if position(id) < share]
    assert [stage.captured().id for _ in expected] == expected
    assert 0 < len(expected) < len(ids)
    assert stage.all_captured() == []
    stage.counts("dropped", {})


def test_minted_ids_are_chosen_by_their_hash_too(stage: Stage) -> None:
    stage.baseline.always = BASELINE
    stage.mirror(share=0.5)
    user = stage.user()
    minted = []
    for _ in range(60):
        user.sends(post("/x", b"", id=None))
        minted += re.findall(rb"X-Request-Id: (\w+)\r\n", head_of(user.gets()))
    expected = [id.decode() for id in minted if position(id.decode()) < 0.5]
    assert [stage.captured().id for _ in expected] == expected
    assert stage.all_captured() == []
    assert 10 < len(expected) < 50
