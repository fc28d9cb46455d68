"""Labels in the forms that others write, read into the same labels as in the ledger's own form."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcanary_gate.parse import parse_spec
from modelcanary_ledger.errors import LedgerError
from modelcanary_ledger.join import Posted
from modelcanary_ledger.labels import read_labels
from modelcanary_ledger.model import Standing

CLASSES = ["legit", "fraud", "7"]
STANDING = Standing(
    1,
    "ns",
    "m",
    spec=parse_spec({"model": {"classes": CLASSES}}, require_target=False),
    class_index={name: index for index, name in enumerate(CLASSES)},
)


def read(body: object, headers: dict[str, str] | None = None) -> list[tuple[str, int, object]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [(label.id, label.index, label.value) for label in read_labels(raw, headers or {}, STANDING)]


def truth(data: object, encoding: str = "CSV", **metadata: object) -> dict[str, object]:
    return {
        "groundTruthData": {"data": data, "encoding": encoding},
        "eventMetadata": metadata or {"eventId": "req-1"},
        "eventVersion": "0",
    }


def feedback(said: object, **message: object) -> dict[str, object]:
    return {"request": {}, "response": {"meta": {"puid": "req-1"}}, "reward": 1.0, "truth": said, **message}


def event(data: object, **attributes: object) -> dict[str, object]:
    made = {"specversion": "1.0", "id": "e-9", "source": "/billing", "type": "label", "subject": "req-1", "data": data}
    return {name: value for name, value in {**made, **attributes}.items() if value is not None}


SOFT = np.array([0.0, 1.0, 0.0]).tobytes()


@pytest.mark.parametrize(
    ("body", "labels"),
    [
        (truth("fraud"), [("req-1", 0, 1)]),
        (truth("1"), [("req-1", 0, 1)]),
        (truth("1.0"), [("req-1", 0, 1)]),
        (truth("7"), [("req-1", 0, 2)]),  # a class is called so: a name comes before an index
        (truth("fraud\nlegit\n"), [("req-1", 0, 1), ("req-1", 1, 0)]),
        (truth('[1, "legit"]', "JSON"), [("req-1", 0, 1), ("req-1", 1, 0)]),
        (truth("1", eventId="e", inferenceId="req-2"), [("req-2", 0, 1)]),
        ([truth("1"), {"id": "req-3", "label": 0}], [("req-1", 0, 1), ("req-3", 0, 0)]),
        (feedback({"data": {"ndarray": [1]}}), [("req-1", 0, 1)]),
        (feedback({"data": {"ndarray": [[1.0], ["legit"]]}}), [("req-1", 0, 1), ("req-1", 1, 0)]),
        (feedback({"data": {"ndarray": [[0, 1, 0]]}}), [("req-1", 0, SOFT)]),
        (feedback({"data": {"tensor": {"shape": [2, 1], "values": [1, 0]}}}), [("req-1", 0, 1), ("req-1", 1, 0)]),
        (feedback({"data": {"tensor": {"shape": [1, 3], "values": [0, 1, 0]}}}), [("req-1", 0, SOFT)]),
        (feedback({"strData": "fraud"}), [("req-1", 0, 1)]),
        (feedback({"data": {"ndarray": [1]}}, response={}, request={"meta": {"puid": "req-4"}}), [("req-4", 0, 1)]),
        (feedback({"data": {"ndarray": [1]}}, request={"meta": {"puid": "req-9"}}), [("req-1", 0, 1)]),
        (event({"label": "fraud", "index": 2}), [("req-1", 2, 1)]),
        (event("fraud"), [("req-1", 0, 1)]),
        (event(1), [("req-1", 0, 1)]),
        (event({"id": "req-5", "label": "fraud"}), [("req-5", 0, 1)]),
        (event(truth("fraud")), [("req-1", 0, 1)]),
        ([event("fraud"), event("legit", subject="req-6")], [("req-1", 0, 1), ("req-6", 0, 0)]),
    ],
)
def test_each_form(body: object, labels: list[tuple[str, int, object]]) -> None:
    assert read(body) == labels
    records = body if isinstance(body, list) else [body]
    lines = "\n".join(map(json.dumps, records)).encode()
    assert read(lines) == labels


def test_a_cloud_event_in_binary_mode_is_known_by_its_headers() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "e-9", "ce-subject": "req-1", "ce-source": "/billing"}
    assert read({"label": "fraud"}, headers) == [("req-1", 0, 1)]
    assert read([{"label": "fraud"}, {"label": 0, "index": 1}], headers) == [("req-1", 0, 1), ("req-1", 1, 0)]
    assert read("legit", headers) == [("req-1", 0, 0)]


def test_the_events_own_id_and_time_are_not_the_requests() -> None:
    (label,) = read_labels(json.dumps(event("fraud", time="2001-01-01T00:00:00Z")).encode(), {}, STANDING)
    assert (label.id, label.ts) == ("req-1", None)


def test_a_word_in_a_text_makes_no_other_form_of_a_label() -> None:
    assert read({"id": "a", "label": "fraud", "source": '"truth"'}) == [("a", 0, 1)]


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        (truth("fraud", eventVersion=1), "eventMetadata.eventId", "no eventMetadata.eventId"),
        (truth(1), "groundTruthData.data", "no text"),
        (truth("1,0"), "groundTruthData.data", "several columns"),
        (truth("{", "JSON"), "groundTruthData.data", "not JSON"),
        (truth(base64.b64encode(b"1").decode(), "BASE64"), "groundTruthData.encoding", "'BASE64'"),
        (truth(""), None, "no label in it"),
        (truth("x" * 200_000), "groundTruthData.data", "not CSV"),
        (truth("perhaps"), "label", "'perhaps' is none of the classes"),
        (truth("12"), "label", "label 12 is none of the classes"),
        (feedback({"data": {"ndarray": [1]}}, response={}), "response.meta.puid", "no response.meta.puid"),
        (feedback(None), "truth.data", "no truth.data"),
        (feedback({"data": {"tensor": {"shape": [2, 2], "values": [1, 0, 1]}}}), "truth.data", "no truth.data"),
        (event(None), "data", "without data"),
        (event("fraud", subject=None), "subject", "without subject"),
        (event({"index": 1}), None, "label"),
        (event({"label": "fraud", "more": 1}), None, "more"),
        (event({"label": None}), "label", "Expected"),
        ([event("fraud"), 3], None, "row 1: not an object"),
        (b'{"specversion":"1.0"}\nnope', None, "row 1: not JSON"),
        (b'["truth",' + b"[" * 100_000, None, "row 0:"),
    ],
)
def test_what_is_wrong_names_the_row_and_the_field(body: object, field: str | None, says: str) -> None:
    with pytest.raises(LedgerError) as caught:
        read(body)
    assert says in caught.value.detail
    assert caught.value.field == field
    assert caught.value.remedy
    assert caught.value.status in (400, 422)


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["fraud", "1", "x", ""]))
KEYS = (
    "groundTruthData",
    "eventMetadata",
    "data",
    "encoding",
    "eventId",
    "truth",
    "response",
    "meta",
    "puid",
    "tensor",
)
MORE = ("tensor", "shape", "values", "ndarray", "strData", "specversion", "subject", "id", "label", "index")
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS + MORE), inner, max_size=5)
    ),
    max_leaves=15,
)


@given(JSON, st.booleans())
def test_whatever_is_sent_is_labels_or_an_error_of_ours(body: object, binary: bool) -> None:
    headers = {"ce-specversion": "1.0", "ce-subject": "a"} if binary else {}
    try:
        found = read_labels(json.dumps(body).encode(), headers, STANDING)
    except LedgerError:
        return
    assert all(isinstance(label, Posted) for label in found)


@pytest.mark.parametrize(
    ("classes", "label", "found"),
    [
        (["legit", "fraud"], "1", 1),
        (["legit", "fraud"], "1.0", 1),
        (["legit", "fraud"], "fraud", 1),
        (["1", "2", "3"], "2", 1),  # a name comes before an index
        (["1", "2", "3"], "2.0", 1),
        (["1", "2", "3"], "0", None),  # would be taken for 1
        (["legit", "fraud"], "2", None),
        (["legit", "fraud"], "1.5", None),
    ],
)
def test_labels_from_where_there_are_no_types(classes: list[str], label: str, found: int | None) -> None:
    spec = parse_spec({"model": {"classes": classes}}, require_target=False)
    standing = Standing(1, "ns", "m", spec=spec, class_index={name: index for index, name in enumerate(classes)})
    body = json.dumps({"id": "a", "label": label}).encode()
    if found is None:
        with pytest.raises(LedgerError, match="none of the classes"):
            read_labels(body, {}, standing, untyped=True)
        return
    (posted,) = read_labels(body, {}, standing, untyped=True)
    assert posted.value == found
    if label not in classes:
        with pytest.raises(LedgerError, match="none of the classes"):
            read_labels(body, {}, standing)
