import json
import math
import struct
from dataclasses import replace

import pytest

from modelcanary_gate.protocol import Instructions, MirrorLimits, ModelReading, Pair
from modelcanary_gate.sampling import position
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.decoding import Cause, ReadingError, Unread
from modelcanary_sidecar.pairing import KeyMint, Pairing

INSTRUCTIONS = Instructions(
    3,
    "run-1",
    "http://candidate",
    1.0,
    model=ModelReading(classes=["a", "b"], candidateClasses=["b", "a"]),
    mirror=MirrorLimits(maxBodyBytes=1000),
)


def said(*rows: list[float] | None, latency: float = 0.5) -> LiveAnswer:
    return LiveAnswer(None, 200, latency, b"", json.dumps({"predictions": rows}).encode())


def captured(baseline: LiveAnswer, *, body: bytes = b"{}", minted: bool = False) -> Captured:
    return Captured("req-1", minted, 1_700_000_000.123, "run-1", b"POST", b"/p", b"", body, baseline)


class Made:
    def __init__(self, instructions: Instructions = INSTRUCTIONS) -> None:
        self.unread: list[tuple[Role, Unread]] = []
        self.pairing = Pairing(instructions, KeyMint(b"proc"), lambda role, why: self.unread.append((role, why)))

    def pairs(self, baseline: LiveAnswer, candidate: LiveAnswer) -> list[Pair]:
        return self.pairing.pairs([(captured(baseline), "req-1", candidate)])


def probabilities(row: bytes | None) -> list[float]:
    assert row is not None
    return [math.exp(log) for (log,) in struct.iter_unpack("<f", row)]


def test_a_pair_per_instance_each_model_in_the_baselines_order() -> None:
    pairs = Made().pairs(said([0.75, 0.25], [0.5, 0.5]), said([0.25, 0.75], [0.125, 0.875], latency=0.25))
    assert [(pair.id, pair.index, pair.time) for pair in pairs] == [
        ("req-1", 0, 1_700_000_000.123),
        ("req-1", 1, 1_700_000_000.123),
    ]
    assert probabilities(pairs[0].baseline.log_probabilities) == pytest.approx([0.75, 0.25])
    assert probabilities(pairs[0].candidate.log_probabilities) == pytest.approx([0.75, 0.25])
    assert probabilities(pairs[1].candidate.log_probabilities) == pytest.approx([0.875, 0.125])
    assert (pairs[1].baseline.latency, pairs[1].candidate.latency) == (0.5, 0.25)


def test_keys_begin_with_the_time_and_are_unique() -> None:
    made = Made()
    keys = [pair.key for _ in range(3) for pair in made.pairs(said([0.5, 0.5]), said([0.5, 0.5]))]
    assert len(set(keys)) == 3
    assert all(len(key) == 16 for key in keys)
    assert int.from_bytes(keys[0][:6], "big") == 1_700_000_000_123
    assert keys == sorted(keys)


def test_processes_that_start_alike_mint_different_keys() -> None:
    assert KeyMint().mint(1.0) != KeyMint().mint(1.0)


def test_a_failure_of_the_candidate_is_a_datum_for_each_instance() -> None:
    made = Made()
    pairs = made.pairs(said([0.5, 0.5], [0.5, 0.5]), LiveAnswer(Outcome.TIMEOUT, 0, 2.0, b"", b""))
    assert [pair.candidate.outcome for pair in pairs] == [Outcome.TIMEOUT] * 2
    assert [pair.baseline.outcome for pair in pairs] == [Outcome.OK] * 2
    assert pairs[0].candidate.log_probabilities is None
    assert [(role, why.cause) for role, why in made.unread] == [(Role.CANDIDATE, Cause.NO_ANSWER)]


def test_a_failure_of_the_baseline_too() -> None:
    pairs = Made().pairs(LiveAnswer(None, 500, 0.1, b"", b"no"), said([0.5, 0.5], [0.5, 0.5]))
    assert [(pair.baseline.outcome, pair.candidate.outcome) for pair in pairs] == [
        (Outcome.ERROR_STATUS, Outcome.OK)
    ] * 2


def test_where_neither_answer_is_read_there_are_as_many_pairs_as_the_request_has_instances() -> None:
    request = captured(LiveAnswer(None, 503, 0.1, b"", b""), body=b'{"instances":[[1],[2],[3]]}')
    pairs = Made().pairing.pairs([(request, "req-1", LiveAnswer(Outcome.TIMEOUT, 0, 2.0, b"", b""))])
    assert [pair.index for pair in pairs] == [0, 1, 2]
    assert {(pair.baseline.outcome, pair.candidate.outcome) for pair in pairs} == {
        (Outcome.ERROR_STATUS, Outcome.TIMEOUT)
    }


def test_the_model_that_answers_as_many_as_were_asked_is_believed() -> None:
    made = Made()
    request = captured(said([0.5, 0.5]), body=b'{"instances":[[1],[2]]}')
    pairs = made.pairing.pairs([(request, "req-1", said([0.5, 0.5], [0.5, 0.5]))])
    assert [(pair.baseline.outcome, pair.candidate.outcome) for pair in pairs] == [
        (Outcome.UNDECODABLE, Outcome.OK)
    ] * 2
    assert "1 instances, 2 were asked" in made.unread[0][1].message


@pytest.mark.parametrize(
    ("body", "lacks"),
    [
        (b'{"predictions":[1]}', True),
        (b'{"outputs":[{"name":"p","shape":[1,1],"datatype":"INT64","data":[1]}]}', True),
        (b'{"predictions":[{"a":0.9}]}', True),  # the top classes only
        (b'{"predictions":[[0.5,0.5]]}', False),
        (b'{"predictions":[[0.5,0.5],[1,0]]}', False),
        (b"<html>", False),
    ],
)
def test_whether_the_baseline_said_less_than_it_knows(body: bytes, lacks: bool) -> None:
    made = Made()
    assert made.pairing.lacks_probabilities(captured(LiveAnswer(None, 200, 0.1, b"", body))) is lacks
    assert made.unread == []
    assert made.pairing.lacks_probabilities(captured(LiveAnswer(Outcome.REFUSED, 0, 0.1, b"", b""))) is False


def test_where_no_instance_is_seen_the_request_is_one_pair() -> None:
    pairs = Made().pairs(LiveAnswer(None, 503, 0.1, b"", b""), LiveAnswer(None, 200, 0.1, b"", b"<html>"))
    assert [(pair.baseline.outcome, pair.candidate.outcome, pair.index) for pair in pairs] == [
        (Outcome.ERROR_STATUS, Outcome.UNDECODABLE, 0)
    ]


def test_one_bad_row_is_one_bad_pair() -> None:
    pairs = Made().pairs(said([0.5, 0.5], [0.5, 0.5]), said([0.5, 0.5], [math.nan, 0.5]))
    assert [pair.candidate.outcome for pair in pairs] == [Outcome.OK, Outcome.NON_FINITE]


def test_another_number_of_instances_pairs_nothing() -> None:
    made = Made()
    pairs = made.pairs(said([0.5, 0.5], [0.5, 0.5]), said([0.5, 0.5]))
    assert [pair.candidate.outcome for pair in pairs] == [Outcome.UNDECODABLE] * 2
    assert made.unread[0][1].cause is Cause.ROW_COUNT
    assert "1 instances, the baseline answered 2" in made.unread[0][1].message


def test_each_model_is_read_by_its_own_shape() -> None:
    v2 = b'{"outputs":[{"name":"p","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}]}'
    pairs = Made().pairs(said([0.75, 0.25]), LiveAnswer(None, 200, 0.1, b"", v2))
    assert probabilities(pairs[0].candidate.log_probabilities) == pytest.approx([0.75, 0.25])


def test_the_body_cap_is_of_the_instructions() -> None:
    pairs = Made().pairs(said([0.5, 0.5]), LiveAnswer(None, 200, 0.1, b"", b" " * 1001))
    assert pairs[0].candidate.outcome is Outcome.TOO_LARGE


def test_a_way_of_reading_that_cannot_be_followed_is_refused_at_once() -> None:
    with pytest.raises(ReadingError):
        Made(replace(INSTRUCTIONS, model=ModelReading()))


@pytest.mark.parametrize(
    ("minted", "body", "id"),
    [
        (True, b'{"id":"req-42","inputs":[{"name":"id"}]}', "req-42"),
        (False, b'{"id":"req-42"}', "req-1"),  # the header is what the client chose
        (True, b'{"inputs":[{"id":"inner"}]}', "req-1"),
        (True, b'{"meta":{"puid":"req-43"},"data":{"ndarray":[[1]]}}', "req-43"),  # Seldon
        (True, b'{"meta":"puid","id":"req-44"}', "req-44"),
        (True, b'{"meta":{"puid":7}}', "req-1"),
        (True, b'{"id":42}', "req-1"),
        (True, b'{"id":""}', "req-1"),
        (True, b'{"id":"' + b"x" * 257 + b'"}', "req-1"),
        (True, b'{"id":"cut', "req-1"),
        (True, b'{"id":"\xff"}', "req-1"),
        (True, b'{"id":"a\\u0000b"}', "req-1"),
        (True, '{"id":"größe-1"}'.encode(), "größe-1"),
        (True, b"[" * 5000 + b'"id"', "req-1"),
        (True, b"1,2,3\n", "req-1"),
    ],
)
def test_a_bodys_id_counts_where_no_header_came(minted: bool, body: bytes, id: str) -> None:
    assert Made().pairing.id_of(captured(said([0.5, 0.5]), body=body, minted=minted)) == id


def test_a_bodys_id_outside_the_share_makes_no_pair() -> None:
    pairing = Made(replace(INSTRUCTIONS, share=0.3)).pairing
    kept = 0
    for number in range(400):
        id = f"req-{number}"
        request = captured(said([0.5, 0.5]), body=json.dumps({"id": id}).encode(), minted=True)
        found = pairing.id_of(request)
        assert found == (id if position(id) < 0.3 else None)
        kept += found is not None
    assert 80 < kept < 160


def test_roles_stay_when_the_candidate_serves_and_the_baseline_is_its_shadow() -> None:
    """What answered the user is the candidate then, and is read in the candidate's order of classes."""
    live, shadow = said([0.25, 0.75], latency=0.1), said([0.75, 0.25], [0.5, 0.5], latency=0.2)
    made = Made(replace(INSTRUCTIONS, observing=True))
    (pair,) = made.pairs(live, said([0.5, 0.5], latency=0.2))
    assert probabilities(pair.candidate.log_probabilities) == pytest.approx([0.75, 0.25])
    assert probabilities(pair.baseline.log_probabilities) == pytest.approx([0.5, 0.5])
    assert (pair.baseline.latency, pair.candidate.latency) == (0.2, 0.1)
    made.pairs(live, shadow)
    assert [role for role, _ in made.unread] == [Role.CANDIDATE], "it is what was promoted that fails"
