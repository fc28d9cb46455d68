import gzip
import json
from dataclasses import replace

import pytest

from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.mirrored import copy_of, merge_patch

CAPTURED = Captured(
    "a",
    False,
    1.5,
    "r",
    b"POST",
    b"/v2/models/m/infer?x=1",
    b"host: users.example\r\nx-request-id: a\r\n",
    b'{"id":"b","inputs":[]}',
    LiveAnswer(None, 200, 0.1, b"", b"[]"),
)


def test_the_copy_is_the_request_with_our_framing() -> None:
    head, body = copy_of(CAPTURED, b"", None, 100)
    assert head == (
        b"POST /v2/models/m/infer?x=1 HTTP/1.1\r\nhost: users.example\r\nx-request-id: a\r\nContent-Length: 22\r\n\r\n"
    )
    assert body is CAPTURED.body  # large ones are in memory once


def test_the_candidates_path_goes_before_the_requests() -> None:
    assert copy_of(CAPTURED, b"/models/next", None, 100)[0].startswith(b"POST /models/next/v2/models/m/infer?x=1 HTTP")


def test_a_patch_changes_the_body_and_its_length() -> None:
    patch = {"outputs": [{"name": "predict_proba"}], "id": None}
    head, body = copy_of(CAPTURED, b"", patch, 100)
    assert json.loads(body) == {"inputs": [], "outputs": [{"name": "predict_proba"}]}
    assert head.endswith(b"Content-Length: %d\r\n\r\n" % len(body))


def test_a_compressed_body_is_patched_and_sent_plain() -> None:
    captured = replace(
        CAPTURED,
        headers=b"host: a\r\nContent-Encoding: gzip\r\nx-a: 1\r\n",
        body=gzip.compress(CAPTURED.body),
    )
    head, body = copy_of(captured, b"", {"id": "c"}, 100)
    assert head.endswith(b"\r\nhost: a\r\nx-a: 1\r\nContent-Length: 22\r\n\r\n")
    assert body == b'{"id":"c","inputs":[]}'


def test_of_a_binary_request_the_head_is_patched() -> None:
    head = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}'
    headers = b"host: a\r\nInference-Header-Content-Length: %d\r\nx-a: 1\r\n" % len(head)
    captured = replace(CAPTURED, headers=headers, body=head + b"\xff\0\0{")
    copy, body = copy_of(captured, b"", {"outputs": [{"name": "p"}]}, 1000)
    said = [int(line.split(b": ")[1]) for line in copy.split(b"\r\n") if line.lower().startswith(b"inference-")]
    assert said == [len(body) - 4]
    assert json.loads(body[: said[0]]) == {**json.loads(head), "outputs": [{"name": "p"}]}
    assert body[said[0] :] == b"\xff\0\0{"
    assert copy.endswith(b"Content-Length: %d\r\n\r\n" % len(body))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"1,2,3\n", b""),
        (b"[1,2]", b""),
        (b"", b""),
        (b'{"a":"\xff"}', b""),
        (b"[" * 5000, b""),
        (b"nope", b"gzip"),
        (b"{}", b"br"),
    ],
)
def test_what_cannot_be_patched_is_sent_as_it_came(body: bytes, encoding: bytes) -> None:
    headers = b"host: a\r\n" + (b"content-encoding: %b\r\n" % encoding if encoding else b"")
    captured = replace(CAPTURED, body=body, headers=headers)
    assert copy_of(captured, b"", {"id": "c"}, 10_000) == copy_of(captured, b"", None, 10_000)


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [  # the test cases of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: object, patch: object, merged: object) -> None:
    assert merge_patch(target, patch) == merged
